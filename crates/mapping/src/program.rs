//! A compiled mapping.

use std::sync::LazyLock;

use bytes::Bytes;
use thiserror::Error;
use vrl::compiler::runtime::{Runtime, Terminate};
use vrl::compiler::state::{ExternalEnv, RuntimeState};
use vrl::compiler::{CompileConfig, ExpressionError, SecretTarget, Target, TimeZone, compile_with_external};
use vrl::diagnostic::{DiagnosticList, DiagnosticMessage, Formatter, Span};
use vrl::path::{OwnedTargetPath, PathPrefix};
use vrl::value::kind::Collection;
use vrl::value::{Kind, ObjectMap, Value};

use crate::json::{self, JsonError};
use crate::wanted::{Looks, Wanted};

/// Times without an offset are UTC: the machine's time zone must not decide what a mapping gives.
static UTC: LazyLock<TimeZone> = LazyLock::new(|| TimeZone::parse("UTC").unwrap_or_default());

/// A mapping that compiled: it runs on many threads at once and changes nothing but its own input.
#[derive(Debug)]
pub struct Program {
    name: String,
    source: String,
    compiled: vrl::compiler::Program,
    wanted: Wanted,
    warnings: Vec<CompileError>,
}

/// Why a mapping does not compile, or what is doubtful about it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{name}:{line}:{column}: {message}")]
pub struct CompileError {
    /// The mapping's name, usually its file.
    pub name: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong, in one sentence.
    pub message: String,
    /// All that the compiler says, with the lines of the source, without colour.
    pub rendered: String,
}

/// Why a mapping failed on an input.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct RunError {
    /// The mapping's name, usually its file.
    pub name: String,
    /// The line that failed, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong, in one sentence.
    pub message: String,
}

impl RunError {
    /// The place: `name:line`, or only the name.
    pub fn at(&self) -> String {
        self.line.map_or_else(|| self.name.clone(), |line| format!("{}:{line}", self.name))
    }
}

impl Program {
    /// Compiles a mapping. The name is that of its file; it stands in every error.
    pub fn compile(name: &str, source: &str) -> Result<Self, CompileError> {
        // A body may be any JSON, not only an object; what is known about it is an object.
        let external = ExternalEnv::new_with_kind(Kind::json(), Kind::object(Collection::json()));
        let mut config = CompileConfig::default();
        config.set_custom(Looks::default());
        let result = compile_with_external(source, crate::functions::all(), &external, config);
        let compiled = result.map_err(|list| compile_error(name, source, list))?;
        let none = Looks::default();
        let looks = compiled.config.get_custom().unwrap_or(&none);
        let wanted = Wanted::by(&compiled.program.info().target_queries, looks);
        let warnings = compiled.warnings.into_iter();
        let warnings = warnings.map(|one| compile_error(name, source, one.into())).collect();
        Ok(Self { name: name.to_owned(), source: source.to_owned(), compiled: compiled.program, wanted, warnings })
    }

    /// The name given when it was compiled.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is doubtful about the mapping, such as a result that nobody uses.
    pub fn warnings(&self) -> &[CompileError] {
        &self.warnings
    }

    /// Reads of a JSON body what this program looks at. The whole body must be JSON all the same.
    pub fn parse(&self, body: &[u8]) -> Result<Value, JsonError> {
        json::read(body, None, &self.wanted)
    }

    /// The same without a copy of its text, as far as there are no escapes in it: the value holds the body.
    pub fn parse_shared(&self, body: &Bytes) -> Result<Value, JsonError> {
        json::read(body, Some(body), &self.wanted)
    }

    /// Runs the program with `target` at `.` and nothing at `%`.
    pub fn run(&self, target: Value) -> Result<Value, RunError> {
        self.run_with(target, Value::Object(ObjectMap::new()))
    }

    /// Runs the program with `target` at `.` and `meta` at `%`.
    pub fn run_with(&self, target: Value, meta: Value) -> Result<Value, RunError> {
        let mut target = Input { value: target, meta };
        let mut runtime = Runtime::new(RuntimeState::default());
        runtime.resolve(&mut target, &self.compiled, &UTC).map_err(|end| self.run_error(end))
    }

    #[cold]
    fn run_error(&self, end: Terminate) -> RunError {
        let error = end.get_expression_error();
        let (message, span) = match error {
            // The label of the innermost call comes first and has the plain message.
            ExpressionError::Error { message, labels, .. } => match labels.first() {
                Some(label) => (label.message.clone(), Some(label.span)),
                None => (message, None),
            },
            ExpressionError::Abort { message, span } => {
                (message.unwrap_or_else(|| "the mapping gave up on this input".to_owned()), Some(span))
            }
            other => {
                let span = other.labels().first().map(|label| label.span);
                (other.message(), span)
            }
        };
        let line = span.map(|span| place(&self.source, span).0);
        RunError { name: self.name.clone(), line, message }
    }
}

/// The input of one run. A mapping that touches secrets does not compile, so there are none.
#[derive(Debug)]
struct Input {
    value: Value,
    meta: Value,
}

impl Input {
    fn root(&self, prefix: PathPrefix) -> &Value {
        match prefix {
            PathPrefix::Event => &self.value,
            PathPrefix::Metadata => &self.meta,
        }
    }

    fn root_mut(&mut self, prefix: PathPrefix) -> &mut Value {
        match prefix {
            PathPrefix::Event => &mut self.value,
            PathPrefix::Metadata => &mut self.meta,
        }
    }
}

impl Target for Input {
    fn target_insert(&mut self, path: &OwnedTargetPath, value: Value) -> Result<(), String> {
        self.root_mut(path.prefix).insert(&path.path, value);
        Ok(())
    }

    fn target_get(&self, path: &OwnedTargetPath) -> Result<Option<&Value>, String> {
        Ok(self.root(path.prefix).get(&path.path))
    }

    fn target_get_mut(&mut self, path: &OwnedTargetPath) -> Result<Option<&mut Value>, String> {
        Ok(self.root_mut(path.prefix).get_mut(&path.path))
    }

    fn target_remove(&mut self, path: &OwnedTargetPath, compact: bool) -> Result<Option<Value>, String> {
        Ok(self.root_mut(path.prefix).remove(&path.path, compact))
    }
}

impl SecretTarget for Input {
    fn get_secret(&self, _key: &str) -> Option<&str> {
        None
    }

    fn insert_secret(&mut self, _key: &str, _value: &str) {}

    fn remove_secret(&mut self, _key: &str) {}
}

fn compile_error(name: &str, source: &str, list: DiagnosticList) -> CompileError {
    let worst = list.iter().find(|one| one.is_problem()).or_else(|| list.iter().next());
    let (message, (line, column)) = match worst {
        Some(one) => {
            let label = one.labels().iter().find(|label| label.primary).or_else(|| one.labels().first());
            let at = label.map_or((1, 1), |label| place(source, label.span));
            let detail = label.map(|label| label.message.as_str()).filter(|text| *text != one.message());
            (detail.map_or_else(|| one.message().to_owned(), |text| format!("{}: {text}", one.message())), at)
        }
        None => ("the mapping does not compile".to_owned(), (1, 1)),
    };
    let rendered = Formatter::new(source, list).to_string().trim().to_owned();
    CompileError { name: name.to_owned(), line, column, message, rendered }
}

/// The line and column of a span's beginning, both from 1.
fn place(source: &str, span: Span) -> (usize, usize) {
    let before = source.get(..span.start().min(source.len())).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{from_json, to_json};

    fn run(source: &str, body: &str) -> Result<serde_json::Value, RunError> {
        let program = Program::compile("t.vrl", source).unwrap();
        program.run(from_json(body.as_bytes()).unwrap()).map(|value| to_json(&value))
    }

    #[test]
    fn one_program_runs_on_many_threads() {
        let program = Program::compile(
            "t.vrl",
            "out = []\nfor_each(array!(.)) -> |_i, item| { out = push(out, to_string!(item)) }\nout",
        )
        .unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let program = &program;
                scope.spawn(move || {
                    for n in 0..100 {
                        let body = format!("[{n},{thread}]");
                        let out = program.run(program.parse(body.as_bytes()).unwrap()).unwrap();
                        assert_eq!(to_json(&out), serde_json::json!([n.to_string(), thread.to_string()]));
                    }
                });
            }
        });
    }

    #[test]
    fn a_mapping_that_can_fail_unhandled_does_not_compile() {
        let error = Program::compile("maps/a.vrl", "x = 1\n  y = to_int(.amount)\ny").unwrap_err();
        assert_eq!((error.line, error.column), (2, 7));
        assert!(error.to_string().starts_with("maps/a.vrl:2:7: unhandled fallible assignment"), "{error}");
        assert!(error.rendered.contains("to_int(.amount)") && !error.rendered.contains('\u{1b}'), "{}", error.rendered);
        let error = Program::compile("a.vrl", "a = \"é\" + b").unwrap_err();
        assert_eq!((error.line, error.column), (1, 11));
        assert!(Program::compile("a.vrl", "{").is_err());
    }

    #[test]
    fn a_failure_names_its_line_and_says_only_what_is_wrong() {
        let error = run("a = 1\nb = money!(.total,\n  \"EUR\")\nb", r#"{"total":"1.005"}"#).unwrap_err();
        assert_eq!(error.at(), "t.vrl:2");
        assert_eq!(error.to_string(), "amount `1.005` has more than the 2 decimal digits of EUR");
        let error = run("if .a == null {\n  abort \"a is missing\"\n}\n1", "{}").unwrap_err();
        assert_eq!((error.at().as_str(), error.message.as_str()), ("t.vrl:2", "a is missing"));
    }

    #[test]
    fn unused_results_are_warned_of() {
        let program = Program::compile("t.vrl", "upcase(\"a\")\n1").unwrap();
        assert_eq!(program.warnings().len(), 1);
        assert_eq!(program.warnings()[0].line, 1);
    }

    #[test]
    fn what_is_known_about_the_input_is_at_the_percent_sign() {
        let program = Program::compile("t.vrl", "[.a, %channel, %none]").unwrap();
        let meta = from_json(br#"{"channel":"web"}"#).unwrap();
        let out = program.run_with(from_json(br#"{"a":1}"#).unwrap(), meta).unwrap();
        assert_eq!(to_json(&out), serde_json::json!([1, "web", null]));
    }

    #[test]
    fn times_without_an_offset_are_utc() {
        let out = run(r#"stamp!(parse_timestamp!(.t, "%Y-%m-%d %H:%M"))"#, r#"{"t":"1970-01-01 00:01"}"#);
        assert_eq!(out, Ok(serde_json::json!(60_000_000)));
    }
}

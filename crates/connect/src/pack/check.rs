//! Whether a pack does what it says: its mappings compile, its samples give what is expected.

use std::sync::Arc;

use lockstep_core::entity::DELETED_FIELD;
use lockstep_core::{Change, InputBody, path};
use serde_json::{Value, json};

use super::{ANY_TOPIC, Pack};
use crate::schema::Schemas;
use crate::time::format_rfc3339;
use crate::translate::{Options, Translator};

/// When every sample is received: 2026-01-01T00:00:00Z.
const RECEIVED_AT_US: i64 = 1_767_225_600_000_000;

/// Something that is wrong with a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// What became of a sample.
#[derive(Clone, Debug)]
pub struct SampleRun {
    /// The sample's file within the pack.
    pub file: String,
    /// The file within the pack that says what is expected.
    pub expected_file: String,
    /// What is expected, where the pack says it.
    pub expected: Option<Value>,
    /// What came of it.
    pub got: Value,
}

impl Pack {
    /// Compiles every mapping and runs every sample. Empty where all is well.
    pub fn check(&self) -> Vec<Finding> {
        self.check_with(&Arc::new(Schemas::builtin()))
    }

    /// The same with more kinds than those that are built in.
    pub fn check_with(&self, schemas: &Arc<Schemas>) -> Vec<Finding> {
        let runs = match self.run_samples(schemas) {
            Ok(runs) => runs,
            Err(findings) => return findings,
        };
        let mut findings = Vec::new();
        for run in &runs {
            let Some(expected) = &run.expected else {
                let message = format!("the sample needs {} beside it: what must come of it", run.expected_file);
                findings.push(self.finding(&run.file, 1, message));
                continue;
            };
            let mut differences = Vec::new();
            differ("", expected, &run.got, &mut differences);
            if !differences.is_empty() {
                let message = format!("{} gives something else:\n  {}", run.file, differences.join("\n  "));
                findings.push(self.finding(&run.expected_file, 1, message));
            }
        }
        for topic in self.topics.keys().filter(|topic| *topic != ANY_TOPIC) {
            if !self.folder.is_empty() && !self.samples.iter().any(|sample| sample.topic == *topic) {
                findings.push(self.finding("pack.toml", 1, format!("topic `{topic}` needs a sample")));
            }
        }
        findings
    }

    /// Runs every sample; the findings are the mappings that do not compile.
    pub fn run_samples(&self, schemas: &Arc<Schemas>) -> Result<Vec<SampleRun>, Vec<Finding>> {
        let options = Options {
            source: self.name.clone(),
            system: self.name.clone(),
            channel: self.sample_options.channel.clone(),
            currency: self.sample_options.currency.clone(),
        };
        let translator = Translator::new(self, schemas.clone(), options).map_err(|errors| {
            errors
                .into_iter()
                .map(|e| self.finding(&e.name, e.line, format!("{}\n{}", e.message, e.rendered)))
                .collect::<Vec<_>>()
        })?;
        let run = |sample: &super::Sample| {
            let got = translator.translate(&sample.topic, &sample.headers, &sample.body, RECEIVED_AT_US);
            SampleRun {
                file: sample.file.clone(),
                expected_file: format!("{}.expected.json", sample.file.strip_suffix(".json").unwrap_or(&sample.file)),
                expected: sample.expected.clone(),
                got: shown(&got),
            }
        };
        Ok(self.samples.iter().map(run).collect())
    }

    fn finding(&self, file: &str, line: usize, message: String) -> Finding {
        let file = if self.folder.is_empty() { file.to_owned() } else { format!("{}/{file}", self.folder) };
        Finding { file, line, message }
    }
}

/// A result as an expectation is written.
fn shown(body: &InputBody) -> Value {
    match body {
        InputBody::Changes(changes) => changes.iter().map(shown_change).collect(),
        InputBody::Quarantine(reason) => {
            json!({"quarantine": {"code": reason.code, "at": reason.at, "detail": reason.detail}})
        }
        // No mapping makes commands: what it says of stock are changes.
        InputBody::Stock(_) | InputBody::Retry { .. } => Value::Null,
    }
}

fn shown_change(change: &Change) -> Value {
    if change.fields.iter().any(|field| field.name == DELETED_FIELD) {
        return json!({
            "kind": change.kind,
            "key": change.key,
            "sequence": change.sequence,
            "occurred_at": format_rfc3339(change.occurred_at_us),
            "deleted": true,
        });
    }
    let mut fields = Vec::new();
    path::assemble(&mut fields, &change.fields.iter().collect::<Vec<_>>());
    json!({
        "kind": change.kind,
        "key": change.key,
        "sequence": change.sequence,
        "occurred_at": format_rfc3339(change.occurred_at_us),
        "fields": serde_json::from_slice::<Value>(&fields).unwrap_or_default(),
    })
}

/// Every place at which two results differ, each in a line.
fn differ(pointer: &str, expected: &Value, got: &Value, differences: &mut Vec<String>) {
    let place = if pointer.is_empty() { "the result" } else { pointer };
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            for (name, value) in expected {
                let inner = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                match got.get(name) {
                    Some(other) => differ(&inner, value, other, differences),
                    None => differences.push(format!("{inner} is missing; expected {value}")),
                }
            }
            for (name, value) in got.iter().filter(|(name, _)| !expected.contains_key(*name)) {
                differences.push(format!("{pointer}/{name} is not expected; got {value}"));
            }
        }
        (Value::Array(expected), Value::Array(got)) => {
            for (index, (value, other)) in expected.iter().zip(got).enumerate() {
                differ(&format!("{pointer}/{index}"), value, other, differences);
            }
            if expected.len() != got.len() {
                differences.push(format!("{place} has {} items; expected {}", got.len(), expected.len()));
            }
        }
        _ if expected == got => {}
        _ => differences.push(format!("{place} is {got}; expected {expected}")),
    }
}

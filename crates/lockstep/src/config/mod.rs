//! The configuration: one `lockstep.toml`, with mappings and packs beside it.
//!
//! It goes through three steps, and each reports all that it finds (the last only where the shape is right): the text is parsed with the place of
//! everything in it (`document`), its shape is compared with the types' own JSON Schema (`shape`), and what it
//! names is looked up and compiled (`resolve`).

mod degrade;
mod delivery;
mod destination;
mod document;
mod event_types;
mod flow;
mod oversight;
mod packs;
mod problem;
mod resolve;
mod secret;
mod shape;
mod stock;
mod types;
mod wait;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

pub use delivery::Retry;
pub use destination::{Delivery, DestinationConfig, Start};
pub use document::Document;
pub use packs::check_packs;
pub use problem::{Level, Problem, line_column, nearest, suggestion};
pub use resolve::{Resolution, Resolved, ResolvedDestination, Secrets, check_listen, examine, resolve};
pub use secret::{SecretError, SecretRef};
pub use stock::{FeedBasis, StockConfig};
pub use types::{
    Config, DomainConfig, FieldConfig, GrpcConfig, HttpConfig, HubConfig, PolicyName, SourceConfig, SystemConfig,
};

/// The name under which the configuration is looked for.
pub const CONFIG_FILE: &str = "lockstep.toml";

/// A commented example, which `lockstep check` accepts.
pub const EXAMPLE: &str = include_str!("example.toml");

/// A configuration as far as it could be read.
#[derive(Debug)]
pub struct Loaded {
    /// The file.
    pub file: PathBuf,
    /// Its folder, to which every path of it is relative.
    pub folder: PathBuf,
    /// Its text with the place of everything.
    pub document: Document,
    /// The configuration, where its shape is right.
    pub config: Option<Config>,
    /// What is wrong with its shape.
    pub problems: Vec<Problem>,
}

impl Loaded {
    /// Parses the text of a file and compares it with the types.
    pub fn parse(file: &Path, text: String) -> Self {
        let (document, mut problems) = Document::parse(file, text);
        // After an error of syntax tables may be cut off and fields may stand in the wrong one: only what comes
        // before it can be judged, and not what is missing there.
        let broken_at = problems.iter().map(|problem| problem.line).min();
        let judged = |problem: &Problem| match broken_at {
            Some(line) => problem.line < line && !problem.message.contains("needs the field"),
            None => true,
        };
        problems.extend(shape::check(&document, &SCHEMA).into_iter().filter(judged));
        problems.sort_by_key(|problem| (problem.line, problem.column));
        let mut config = None;
        if problems.is_empty() {
            match toml::Deserializer::parse(document.text()).and_then(Config::deserialize) {
                Ok(read) => config = Some(read),
                // What the schema does not say but the types do, such as a number's largest value.
                Err(error) => {
                    let message = error.message().trim().replace('\n', "; ");
                    problems.push(document.problem_at(error.span().unwrap_or(0..0), message));
                }
            }
        }
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        Self { file: file.to_owned(), folder, document, config, problems }
    }

    /// A path of the configuration, made whole.
    pub fn path(&self, path: &Path) -> PathBuf {
        // `./x` for a file of this folder would only be longer.
        if self.folder == Path::new(".") { path.to_owned() } else { self.folder.join(path) }
    }

    /// The data folder.
    pub fn data_dir(&self, config: &Config) -> PathBuf {
        self.path(&config.hub.data_dir)
    }
}

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = schemars::schema_for!(Config).to_value();
    without_null(&mut schema);
    schema
});

/// The JSON Schema of the configuration.
pub fn schema() -> Value {
    SCHEMA.clone()
}

/// The JSON Schema as text, as it is kept in `docs/config.schema.json`.
pub fn schema_text() -> String {
    format!("{:#}\n", *SCHEMA)
}

/// TOML has no null: what is not given is left out.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|name| name != "null");
                if let [one] = types.as_slice() {
                    members["type"] = one.clone();
                }
            }
            if let Some(Value::Array(variants)) = members.get_mut("anyOf") {
                variants.retain(|variant| variant.get("type").is_none_or(|name| name != "null"));
                if let [Value::Object(one)] = variants.as_slice() {
                    let one = one.clone();
                    members.remove("anyOf");
                    for (name, value) in one {
                        members.entry(name).or_insert(value);
                    }
                }
            }
            if members.get("default").is_some_and(Value::is_null) {
                members.remove("default");
            }
            members.values_mut().for_each(without_null);
        }
        Value::Array(entries) => entries.iter_mut().for_each(without_null),
        _ => {}
    }
}

#[cfg(test)]
mod tests;

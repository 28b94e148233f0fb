//! A pack from its files: built in, or in a folder.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use http::{HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

use super::file::PackFile;
use super::{ANY_TOPIC, Pack, Sample};

/// Names with their files.
type Builtin = &'static [(&'static str, &'static [(&'static str, &'static [u8])])];

/// What the build script found in the folder `packs`.
static BUILTIN: Builtin = include!(concat!(env!("OUT_DIR"), "/packs.rs"));

/// The most bytes of a file of a pack.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Why a pack can't be used.
#[derive(Debug, Error)]
pub enum PackError {
    /// No pack has that name.
    #[error("there is no pack `{name}`; built in are {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names of the built-in packs.
        known: String,
    },
    /// A file can't be read.
    #[error("{} can't be read", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `pack.toml` is not what it must be.
    #[error("{file}:{line}:{column}: {message}")]
    Invalid {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What would be right.
        message: String,
    },
}

/// The names of the packs that are built in.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    BUILTIN.iter().map(|(name, _)| *name)
}

/// The files of a pack by their name within it.
type Files<'f> = BTreeMap<String, Cow<'f, [u8]>>;

impl Pack {
    /// A pack that is built in.
    pub fn builtin(name: &str) -> Result<Self, PackError> {
        let Some((_, files)) = BUILTIN.iter().find(|(known, _)| *known == name) else {
            let known = builtin_names().collect::<Vec<_>>().join(", ");
            return Err(PackError::Unknown { name: name.to_owned(), known });
        };
        let files = files.iter().map(|(file, bytes)| ((*file).to_owned(), Cow::Borrowed(*bytes))).collect();
        Self::from_files(&format!("packs/{name}"), name, &files)
    }

    /// A pack from a folder.
    pub fn load(folder: &Path) -> Result<Self, PackError> {
        let mut files = Files::new();
        read(&mut files, folder, "pack.toml")?;
        for (inner, ends) in [("mappings", &["vrl"][..]), ("samples", &["json", "headers"])] {
            let path = folder.join(inner);
            let unreadable = |source| PackError::Read { path: path.clone(), source };
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(unreadable(error)),
            };
            for entry in entries {
                let name = entry.map_err(unreadable)?.file_name();
                let Some(name) = name.to_str() else { continue };
                if ends.iter().any(|end| Path::new(name).extension().is_some_and(|given| given == *end)) {
                    read(&mut files, folder, &format!("{inner}/{name}"))?;
                }
            }
        }
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        Self::from_files(&folder.display().to_string(), name, &files)
    }

    /// The pack of that name: from a folder of packs, where it has one of that name, or else built in.
    pub fn find(name: &str, folder: Option<&Path>) -> Result<Self, PackError> {
        match folder.map(|folder| folder.join(name)).filter(|own| own.join("pack.toml").is_file()) {
            Some(own) => Self::load(&own),
            None => Self::builtin(name),
        }
    }

    fn from_files(folder: &str, name: &str, files: &Files<'_>) -> Result<Self, PackError> {
        let in_toml = |line: usize, column: usize, message: String| PackError::Invalid {
            file: format!("{folder}/pack.toml"),
            line,
            column,
            message,
        };
        let toml = text(folder, files, "pack.toml")?;
        let pack: PackFile = toml::from_str(toml).map_err(|error| {
            let (line, column) = error.span().map_or((1, 1), |span| place(toml, span.start));
            in_toml(line, column, error.message().to_owned())
        })?;
        let at_key = |key: &str| toml.lines().position(|line| line.contains(key)).map_or(1, |line| line + 1);
        if pack.name != name {
            return Err(in_toml(
                at_key("name"),
                1,
                format!("`name` must be that of its folder, `{name}`, not `{}`", pack.name),
            ));
        }
        if pack.topics.is_empty() {
            return Err(in_toml(
                at_key("[topics]"),
                1,
                "`topics` must name at least one topic with its mapping".to_owned(),
            ));
        }
        let mut mappings = BTreeMap::new();
        for (topic, file) in &pack.topics {
            if !files.contains_key(file) || !file.starts_with("mappings/") {
                let message = format!(
                    "the mapping `{file}` of topic `{topic}` must be a file of the pack, such as `mappings/order.vrl`"
                );
                return Err(in_toml(at_key(file), 1, message));
            }
            mappings.insert(file.clone(), text(folder, files, file)?.to_owned());
        }
        let mut pack = Self {
            name: pack.name,
            title: pack.title,
            folder: folder.to_owned(),
            signature: pack.signature,
            keep_raw: pack.keep_raw,
            unsigned_ping: pack.unsigned_ping,
            topic: pack.headers.topic.map(|header| header.0),
            triggered_at: pack.headers.triggered_at.map(|header| header.0),
            delivery_id: pack.headers.delivery_id.into_iter().map(|id| id.0).collect(),
            meta: pack.meta.into_iter().map(|(name, header)| (name, header.0)).collect(),
            topics: pack.topics,
            mappings,
            samples: Vec::new(),
            sample_options: pack.samples,
        };
        for file in files.keys() {
            let is_sample =
                file.starts_with("samples/") && file.ends_with(".json") && !file.ends_with(".expected.json");
            if is_sample {
                pack.samples.push(pack.sample(files, file)?);
            }
        }
        Ok(pack)
    }

    fn sample(&self, files: &Files<'_>, file: &str) -> Result<Sample, PackError> {
        let stem = file.strip_suffix(".json").unwrap_or(file);
        let base = stem.strip_prefix("samples/").unwrap_or(stem);
        let base = base.split('.').next().unwrap_or(base);
        let named = self.topics.keys().find(|topic| *topic != ANY_TOPIC && as_file_name(topic) == base);
        let topic = named.cloned().unwrap_or_else(|| base.to_owned());
        let expected_file = format!("{stem}.expected.json");
        let expected = match files.get(&expected_file) {
            None => None,
            Some(bytes) => Some(serde_json::from_slice(bytes).map_err(|error| PackError::Invalid {
                file: format!("{}/{expected_file}", self.folder),
                line: error.line(),
                column: error.column(),
                message: "the expected result must be JSON".to_owned(),
            })?),
        };
        let headers_file = format!("{stem}.headers");
        let headers = match files.contains_key(&headers_file) {
            true => headers(&format!("{}/{headers_file}", self.folder), text(&self.folder, files, &headers_file)?)?,
            false => HeaderMap::new(),
        };
        let body = files.get(file).map(|bytes| bytes::Bytes::copy_from_slice(bytes)).unwrap_or_default();
        Ok(Sample { file: file.to_owned(), topic, headers, body, expected })
    }
}

/// A topic as the name of a file: everything but letters and digits is `_`.
fn as_file_name(topic: &str) -> String {
    topic.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// Headers as `Name: value`, one a line; empty lines and lines with `#` say nothing.
fn headers(file: &str, text: &str) -> Result<HeaderMap, PackError> {
    let mut headers = HeaderMap::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        let Some((name, value)) = pair else {
            let message = "a header must be `Name: value`".to_owned();
            return Err(PackError::Invalid { file: file.to_owned(), line: index + 1, column: 1, message });
        };
        headers.append(name, value);
    }
    Ok(headers)
}

fn read(files: &mut Files<'_>, folder: &Path, name: &str) -> Result<(), PackError> {
    let path = folder.join(name);
    let whole = fs::metadata(&path).and_then(|about| {
        if about.len() > FILE_BYTES_MAX {
            let message =
                format!("{} bytes are more than the {FILE_BYTES_MAX} that a file of a pack may have", about.len());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        fs::read(&path)
    });
    let bytes = whole.map_err(|source| PackError::Read { path: path.clone(), source })?;
    files.insert(name.to_owned(), Cow::Owned(bytes));
    Ok(())
}

fn text<'f>(folder: &str, files: &'f Files<'_>, name: &str) -> Result<&'f str, PackError> {
    let invalid = |line, message: &str| PackError::Invalid {
        file: format!("{folder}/{name}"),
        line,
        column: 1,
        message: message.to_owned(),
    };
    let bytes = files.get(name).ok_or_else(|| invalid(1, "the file is missing"))?;
    std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        invalid(line, "the file must be UTF-8")
    })
}

/// The line and column of a byte, both from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

//! The packs that a configuration can name: folders of `packs/` beside it, and the built-in ones.

use std::path::PathBuf;
use std::sync::Arc;

use lockstep_connect::pack::{Finding, Pack, PackError, builtin_names};
use lockstep_connect::schema::Schemas;

use super::problem::Problem;
use super::{Config, Loaded};

/// The folder beside the configuration.
const FOLDER: &str = "packs";

/// Where packs are looked for.
pub(super) struct Packs {
    folder: PathBuf,
    /// The names of the user's own, sorted.
    own: Vec<String>,
}

impl Packs {
    /// The packs of a configuration.
    pub(super) fn of(loaded: &Loaded) -> Self {
        let folder = loaded.path(FOLDER.as_ref());
        // No folder, no packs of one's own; one that can't be read is told of when a pack of it is asked for.
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut own: Vec<_> = entries
            .filter(|entry| entry.path().join("pack.toml").is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        own.sort();
        Self { folder, own }
    }

    /// The pack of that name: the user's own stands before a built-in one.
    pub(super) fn get(&self, name: &str) -> Result<Pack, PackError> {
        if self.is_own(name) { Pack::load(&self.folder.join(name)) } else { Pack::builtin(name) }
    }

    /// Whether it is one of the user's own.
    pub(super) fn is_own(&self, name: &str) -> bool {
        self.own.iter().any(|own| own == name)
    }

    /// All names.
    pub(super) fn names(&self) -> Vec<&str> {
        let own = self.own.iter().map(String::as_str);
        own.chain(builtin_names().map(|name| -> &str { name })).collect()
    }

    /// A file of a pack, for messages.
    pub(super) fn file(&self, pack: &str, file: &str) -> PathBuf {
        if self.is_own(pack) { self.folder.join(pack).join(file) } else { PathBuf::from(FOLDER).join(pack).join(file) }
    }
}

/// A pack's error as a problem at its own place, where it has one.
pub(super) fn problem(error: &PackError) -> Option<Problem> {
    match error {
        PackError::Invalid { file, line, column, message } => {
            Some(Problem::new(file, *line, *column, message.as_str()))
        }
        PackError::Unknown { .. } | PackError::Read { .. } => None,
    }
}

/// Runs the samples of the user's own packs and of the built-in ones that a source uses. The second value
/// says how many samples ran.
pub fn check_packs(loaded: &Loaded, config: &Config, schemas: &Arc<Schemas>) -> (Vec<Problem>, usize) {
    let packs = Packs::of(loaded);
    let used = config.sources.values().filter_map(|source| source.pack.as_deref());
    let mut names: Vec<&str> = packs.own.iter().map(String::as_str).chain(used).collect();
    names.sort_unstable();
    names.dedup();
    let (mut problems, mut samples) = (Vec::new(), 0);
    for name in names {
        let pack = match packs.get(name) {
            Ok(pack) => pack,
            Err(error) => {
                // What has no place of its own is reported at the source that names the pack.
                problems.extend(problem(&error));
                continue;
            }
        };
        samples += pack.run_samples(schemas).map_or(0, |runs| runs.len());
        problems.extend(pack.check_with(schemas).iter().map(of_finding));
    }
    (problems, samples)
}

fn of_finding(finding: &Finding) -> Problem {
    let mut lines = finding.message.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    // Below a compiler's sentence there is only the source again; below a sample's all the differences.
    let message = if finding.file.ends_with(".vrl") {
        first.to_owned()
    } else {
        let rest: Vec<_> = lines.collect();
        if rest.is_empty() { first.to_owned() } else { format!("{first} {}", rest.join("; ")) }
    };
    Problem::new(&finding.file, finding.line, 1, message)
}

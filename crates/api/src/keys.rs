//! API keys: who may do what. The file has only hashes; a key is shown once, when it is made.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use lockstep_hub::now_us;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

const FORMAT: u32 = 1;
const PREFIX: &str = "lsk_";
/// A change of the file is noticed after at most this long.
const CHECK_INTERVAL_US: i64 = 1_000_000;

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Reading everything.
    Read,
    /// Writing events and fields for the key's system.
    Write,
    /// Releasing, retrying, discarding, deciding conflicts; and reading.
    Operate,
    /// Everything.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Operate, Self::Admin];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }

    /// The scope of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }

    fn implies(self, other: Self) -> bool {
        self == other || self == Self::Admin || (self == Self::Operate && other == Self::Read)
    }
}

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its public part.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// The way in that its writes count under; empty where it speaks for no system.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// The system that its writes speak for; empty where it speaks for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub system: String,
    /// When it was made, microseconds since 1970 UTC.
    pub created_at_us: i64,
}

impl Key {
    /// Whether it allows this.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|s| s.implies(scope))
    }
}

#[derive(Serialize, Deserialize)]
struct KeyFile {
    format: u32,
    keys: Vec<Stored>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    #[serde(flatten)]
    key: Arc<Key>,
    /// The SHA-256 of the secret, in hex.
    hash: String,
}

/// What can go wrong with the keys.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The file can't be read or written.
    #[error("the file of API keys {} can't be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what this version writes.
    #[error("the file of API keys {} can't be understood", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The file is of another format.
    #[error("the file of API keys {} has format {found}, this version knows {FORMAT}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The key's name is taken.
    #[error("there is a key with the name `{0}` already: revoke it or choose another name")]
    NameTaken(String),
    /// The key's name is not fit.
    #[error("a key's name must be 1 to 64 characters without control characters, not `{0}`")]
    Name(String),
    /// A key without scopes allows nothing.
    #[error("a key needs at least one scope of read, write, operate, admin")]
    NoScope,
    /// Writes speak for a system.
    #[error("a key with the scope `write` needs the system that it speaks for")]
    NoSystem,
    /// The system's name is not fit.
    #[error("a system's name must be 1 to 64 characters of a-z, 0-9, ., _ and -, not `{0}`")]
    System(String),
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes: {0}")]
    Random(String),
}

/// Why a key is not taken.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyRefused {
    /// It is not written like a key.
    #[error("an API key is written `lsk_<id>_<secret>`")]
    Malformed,
    /// There is none like it: revoked, of another hub, or guessed.
    #[error("this API key is not known here: it may have been revoked")]
    Unknown,
}

/// Whether a system can have this name: 1 to 64 characters of a-z, 0-9, `.`, `_` and `-`.
pub fn is_system_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

/// The keys of a data folder. Cheap to clone. Changes that another process makes to the file are noticed.
#[derive(Clone)]
pub struct Keys(Arc<Shared>);

struct Shared {
    path: PathBuf,
    table: RwLock<Table>,
    checked_at_us: AtomicI64,
    /// The file as an unknown key last made the hub read it. Locked while it reads: whoever comes meanwhile with
    /// the same new key must find it too.
    read_for_unknown: Mutex<Option<Stamp>>,
}

#[derive(Default)]
struct Table {
    keys: HashMap<String, Stored>,
    stamp: Option<Stamp>,
}

/// What tells one content of the file from another: it is always replaced by a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: u64,
    length: u64,
    modified_ns: i128,
}

impl Keys {
    /// The keys of this file; none where it does not exist yet.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, KeysError> {
        let path = path.into();
        let table = load(&path)?;
        let (table, checked_at_us) = (RwLock::new(table), AtomicI64::new(now_us()));
        Ok(Self(Arc::new(Shared { path, table, checked_at_us, read_for_unknown: Mutex::new(None) })))
    }

    /// Makes a key and gives its text, which is kept nowhere.
    ///
    /// `system` is what its writes speak for. They count under `source`, `api:<system>` where it is not given:
    /// a key that takes the place of another keeps the memory of what that one has sent.
    pub fn create(
        &self,
        name: &str,
        scopes: &[Scope],
        system: Option<&str>,
        source: Option<&str>,
    ) -> Result<String, KeysError> {
        if name.is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control) {
            return Err(KeysError::Name(name.to_owned()));
        }
        if scopes.is_empty() {
            return Err(KeysError::NoScope);
        }
        if let Some(system) = system
            && !is_system_name(system)
        {
            return Err(KeysError::System(system.to_owned()));
        }
        let system = system.unwrap_or_default();
        if system.is_empty() && scopes.contains(&Scope::Write) {
            return Err(KeysError::NoSystem);
        }
        let source = match source {
            Some(source) => source.to_owned(),
            None if system.is_empty() => String::new(),
            None => format!("api:{system}"),
        };
        let id: [u8; 6] = random()?;
        let secret: [u8; 32] = random()?;
        let (id, secret) = (hex::encode(id), hex::encode(secret));
        let mut scopes = scopes.to_vec();
        scopes.sort_by_key(|s| s.name());
        scopes.dedup();
        let key = Key {
            id: id.clone(),
            name: name.to_owned(),
            scopes,
            source,
            system: system.to_owned(),
            created_at_us: now_us(),
        };
        let stored = Stored { key: Arc::new(key), hash: hash(&secret) };
        self.change(move |keys| {
            if keys.iter().any(|k| k.key.name == stored.key.name) {
                return Err(KeysError::NameTaken(stored.key.name.clone()));
            }
            keys.push(stored);
            Ok(())
        })?;
        Ok(format!("{PREFIX}{id}_{secret}"))
    }

    /// Takes a key back, by its id or name. `false` where there is none.
    pub fn revoke(&self, id_or_name: &str) -> Result<bool, KeysError> {
        self.change(|keys| {
            let before = keys.len();
            keys.retain(|k| k.key.id != id_or_name && k.key.name != id_or_name);
            Ok(keys.len() != before)
        })
    }

    /// All keys by name, without their secrets.
    pub fn list(&self) -> Result<Vec<Key>, KeysError> {
        let table = load(&self.0.path)?;
        let mut keys: Vec<Key> = table.keys.into_values().map(|k| Arc::unwrap_or_clone(k.key)).collect();
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(keys)
    }

    /// The key of this text.
    pub fn verify(&self, text: &str) -> Result<Arc<Key>, KeyRefused> {
        self.look_for_changes();
        let (id, secret) = text.strip_prefix(PREFIX).and_then(|t| t.split_once('_')).ok_or(KeyRefused::Malformed)?;
        let key = self.find(id).or_else(|| self.find_new(id)).ok_or(KeyRefused::Unknown)?;
        let same = bool::from(hash(secret).as_bytes().ct_eq(key.hash.as_bytes()));
        if same { Ok(key.key) } else { Err(KeyRefused::Unknown) }
    }

    fn find(&self, id: &str) -> Option<Stored> {
        self.0.table.read().unwrap_or_else(PoisonError::into_inner).keys.get(id).cloned()
    }

    /// A key that was made a moment ago is valid at once. Guessing does not become reading: each content of the
    /// file is read once, also one that can't be understood.
    fn find_new(&self, id: &str) -> Option<Stored> {
        let mut read = self.0.read_for_unknown.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.0.path).ok().flatten();
        if now.is_some() && now != *read {
            *read = now;
            self.look();
        }
        self.find(id)
    }

    fn look_for_changes(&self) {
        let (now, checked) = (now_us(), self.0.checked_at_us.load(Ordering::Relaxed));
        // A clock set back must not stop the looking.
        if (0..CHECK_INTERVAL_US).contains(&(now - checked)) {
            return;
        }
        let mine = self.0.checked_at_us.compare_exchange(checked, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if mine {
            self.look();
        }
    }

    /// Reads the file again where it is another than the one that was read.
    fn look(&self) {
        if stamp(&self.0.path).ok() == Some(self.stamp()) {
            return;
        }
        match load(&self.0.path) {
            Ok(table) => *self.0.table.write().unwrap_or_else(PoisonError::into_inner) = table,
            // The keys known so far stay valid: a half-edited file must not lock everybody out.
            Err(error) => tracing::error!(error = crate::problem::chain(&error), "API keys could not be read again"),
        }
    }

    fn stamp(&self) -> Option<Stamp> {
        self.0.table.read().unwrap_or_else(PoisonError::into_inner).stamp
    }

    /// Changes the file: under a lock, since another process may do the same, and by replacing it whole.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Stored>) -> Result<T, KeysError>) -> Result<T, KeysError> {
        let path = &self.0.path;
        let failed = |source| KeysError::File { path: path.clone(), source };
        let lock = private().create(true).truncate(false).open(path.with_extension("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let mut keys: Vec<Stored> = load(path)?.keys.into_values().collect();
        keys.sort_by(|a, b| (a.key.created_at_us, &a.key.id).cmp(&(b.key.created_at_us, &b.key.id)));
        let done = change(&mut keys)?;
        replace(path, &KeyFile { format: FORMAT, keys }).map_err(failed)?;
        *self.0.table.write().unwrap_or_else(PoisonError::into_inner) = load(path)?;
        Ok(done)
    }
}

fn load(path: &Path) -> Result<Table, KeysError> {
    let failed = |source| KeysError::File { path: path.to_owned(), source };
    let seen = stamp(path).map_err(failed)?;
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Table::default()),
        Err(error) => return Err(failed(error)),
    };
    let file: KeyFile =
        serde_json::from_slice(&text).map_err(|source| KeysError::Content { path: path.to_owned(), source })?;
    if file.format != FORMAT {
        return Err(KeysError::Format { path: path.to_owned(), found: file.format });
    }
    let keys = file.keys.into_iter().map(|k| (k.key.id.clone(), k)).collect();
    Ok(Table { keys, stamp: seen })
}

fn stamp(path: &Path) -> std::io::Result<Option<Stamp>> {
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let modified = meta.modified()?.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i128);
    #[cfg(unix)]
    let file = std::os::unix::fs::MetadataExt::ino(&meta);
    #[cfg(not(unix))]
    let file = 0;
    Ok(Some(Stamp { file, length: meta.len(), modified_ns: modified }))
}

fn replace(path: &Path, file: &KeyFile) -> std::io::Result<()> {
    let mut text = serde_json::to_vec_pretty(file)?;
    text.push(b'\n');
    let new = path.with_extension("new");
    let mut out = private().create(true).truncate(true).open(&new)?;
    out.write_all(&text)?;
    out.sync_all()?;
    std::fs::rename(&new, path)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

fn random<const N: usize>() -> Result<[u8; N], KeysError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| KeysError::Random(e.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> (tempfile::TempDir, Keys) {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(folder.path().join("keys.json")).unwrap();
        (folder, keys)
    }

    #[test]
    fn a_key_is_shown_once_and_kept_hashed() {
        let (folder, keys) = keys();
        let text = keys.create("erp", &[Scope::Write, Scope::Read], Some("erp"), None).unwrap();
        let key = keys.verify(&text).unwrap();
        assert_eq!((key.name.as_str(), key.system.as_str(), key.source.as_str()), ("erp", "erp", "api:erp"));
        let file = std::fs::read_to_string(folder.path().join("keys.json")).unwrap();
        assert!(!file.contains(text.rsplit('_').next().unwrap()));
    }

    #[test]
    #[cfg(unix)]
    fn the_file_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, keys) = keys();
        keys.create("a", &[Scope::Read], None, None).unwrap();
        for name in ["keys.json", "keys.lock"] {
            let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_wrong_secret_an_unknown_id_and_other_text_are_refused() {
        let (_folder, keys) = keys();
        let text = keys.create("a", &[Scope::Read], None, None).unwrap();
        let mut wrong = text.clone();
        wrong.pop();
        wrong.push(if text.ends_with('0') { '1' } else { '0' });
        assert_eq!(keys.verify(&wrong), Err(KeyRefused::Unknown));
        assert_eq!(keys.verify("lsk_000000000000_00"), Err(KeyRefused::Unknown));
        assert_eq!(keys.verify("secret"), Err(KeyRefused::Malformed));
        assert_eq!(keys.verify("lsk_x"), Err(KeyRefused::Malformed));
    }

    #[test]
    fn scopes_imply_others() {
        let (_folder, keys) = keys();
        let key = |name, scope| keys.verify(&keys.create(name, &[scope], Some("s"), None).unwrap()).unwrap();
        let allowed = |key: Arc<Key>| Scope::ALL.into_iter().filter(|s| key.allows(*s)).collect::<Vec<_>>();
        assert_eq!(allowed(key("r", Scope::Read)), [Scope::Read]);
        assert_eq!(allowed(key("w", Scope::Write)), [Scope::Write]);
        assert_eq!(allowed(key("o", Scope::Operate)), [Scope::Read, Scope::Operate]);
        assert_eq!(allowed(key("a", Scope::Admin)), Scope::ALL);
    }

    #[test]
    fn what_makes_no_sense_is_not_made() {
        let (_folder, keys) = keys();
        keys.create("a", &[Scope::Read], None, None).unwrap();
        assert!(matches!(keys.create("a", &[Scope::Read], None, None), Err(KeysError::NameTaken(_))));
        assert!(matches!(keys.create("", &[Scope::Read], None, None), Err(KeysError::Name(_))));
        assert!(matches!(keys.create("b", &[], None, None), Err(KeysError::NoScope)));
        assert!(matches!(keys.create("b", &[Scope::Write], None, None), Err(KeysError::NoSystem)));
        for system in ["", "ERP", "er p", "é", &"x".repeat(65)] {
            assert!(
                matches!(keys.create("b", &[Scope::Write], Some(system), None), Err(KeysError::System(_))),
                "{system}"
            );
        }
        assert!(keys.create("b", &[Scope::Write], Some("erp.eu_1-2"), None).is_ok());
    }

    #[test]
    fn a_key_made_by_another_process_is_valid_at_once() {
        let (folder, keys) = keys();
        let path = folder.path().join("keys.json");
        let other = Keys::open(&path).unwrap();
        let guess = "lsk_000000000000_00";
        for name in ["a", "b"] {
            assert_eq!(keys.verify(guess), Err(KeyRefused::Unknown));
            let text = other.create(name, &[Scope::Read], None, None).unwrap();
            assert_eq!(keys.verify(&text).unwrap().name, name);
        }
        // A file that can't be understood costs nobody a key, and is not read for every guess.
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, "{").unwrap();
        assert_eq!(keys.verify(guess), Err(KeyRefused::Unknown));
        assert_eq!(*keys.0.read_for_unknown.lock().unwrap(), stamp(&path).unwrap());
        std::fs::write(&path, good).unwrap();
        let text = other.create("c", &[Scope::Read], None, None).unwrap();
        assert!(keys.verify(&text).is_ok());
    }

    #[test]
    fn a_change_by_another_process_is_noticed() {
        let (folder, keys) = keys();
        let other = Keys::open(folder.path().join("keys.json")).unwrap();
        let text = other.create("a", &[Scope::Read], None, None).unwrap();
        assert!(keys.verify(&text).is_ok());
        assert!(other.revoke("a").unwrap());
        assert!(!other.revoke("a").unwrap());
        keys.0.checked_at_us.store(0, Ordering::Relaxed);
        assert_eq!(keys.verify(&text), Err(KeyRefused::Unknown));
    }

    #[test]
    fn a_file_that_is_not_understood_is_refused_at_the_start_and_kept_out_later() {
        let (folder, keys) = keys();
        let text = keys.create("a", &[Scope::Read], None, None).unwrap();
        let path = folder.path().join("keys.json");
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(Keys::open(&path), Err(KeysError::Content { .. })));
        keys.0.checked_at_us.store(0, Ordering::Relaxed);
        assert!(keys.verify(&text).is_ok());
        std::fs::write(&path, r#"{"format":9,"keys":[]}"#).unwrap();
        assert!(matches!(Keys::open(&path), Err(KeysError::Format { found: 9, .. })));
    }
}

//! What writes: one thread for a destination. Lines that wait while the disk syncs are written together, and share the
//! next sync.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::config::FileConfig;
use super::names;

/// The most that is written with one sync, so that nobody waits for much more than their own line.
const BATCH_BYTES_MAX: u64 = 1_024 * 1_024;
/// How much is read at a time while the end of the last whole line is looked for.
const TAIL_BYTES: u64 = 64 * 1_024;

/// A line, and who waits for it: told the file's name, or what went wrong.
pub(super) struct Job {
    pub(super) line: Bytes,
    pub(super) done: oneshot::Sender<Result<String, String>>,
}

/// The file that is appended to.
struct Current {
    file: File,
    path: PathBuf,
    name: String,
    began_ms: i64,
    /// Up to here it has whole lines.
    len: u64,
}

pub(super) struct Writer {
    config: FileConfig,
    current: Option<Current>,
    /// The last file is not to be gone on with.
    begin_anew: bool,
}

impl Writer {
    pub(super) fn new(config: FileConfig) -> Self {
        Self { config, current: None, begin_anew: false }
    }

    /// Writes until nobody can send lines any more.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let batch_max = BATCH_BYTES_MAX.min(self.config.rotate_bytes_max);
        let mut held = None;
        while let Some(first) = held.take().or_else(|| jobs.blocking_recv()) {
            let mut bytes = first.line.len() as u64 + 1;
            let mut batch = vec![first];
            while let Ok(job) = jobs.try_recv() {
                bytes += job.line.len() as u64 + 1;
                if bytes > batch_max {
                    held = Some(job);
                    break;
                }
                batch.push(job);
            }
            let result = self.write(&batch).map_err(|error| said(&error));
            for job in batch {
                // Who waited may have given up.
                let _ = job.done.send(result.clone());
            }
        }
    }

    /// Appends the lines and has them on the disk, all or none. Returns the name of their file.
    fn write(&mut self, batch: &[Job]) -> io::Result<String> {
        let mut lines = Vec::with_capacity(batch.iter().map(|job| job.line.len() + 1).sum());
        for job in batch {
            lines.extend_from_slice(&job.line);
            lines.push(b'\n');
        }
        let mut current = self.open(lines.len() as u64)?;
        if let Err(error) = current.file.write_all(&lines) {
            // What has got there is no whole line. Where it cannot be taken back, opening the file anew repairs it.
            if current.file.set_len(current.len).is_ok() && current.file.seek(SeekFrom::End(0)).is_ok() {
                self.current = Some(current);
            }
            return Err(error);
        }
        if let Err(error) = current.file.sync_data() {
            // After a sync that failed, the system may take for written what is not. So these lines do not count, and
            // nothing is written behind them.
            let _ = current.file.set_len(current.len);
            self.begin_anew = true;
            return Err(error);
        }
        current.len += lines.len() as u64;
        let name = current.name.clone();
        self.current = Some(current);
        Ok(name)
    }

    /// The file that takes so many bytes now. Where it is taken out, it has to be put back.
    fn open(&mut self, bytes: u64) -> io::Result<Current> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let folder = PathBuf::from(&self.config.folder);
        if let Some(current) = self.current.take().filter(is_there)
            && self.takes(&current, bytes, now_ms)
        {
            return Ok(current);
        }
        fs::create_dir_all(&folder)?;
        let last = names::last(&folder, &self.config.prefix)?;
        let after_ms = last.as_ref().map_or(i64::MIN, |(_, began_ms)| *began_ms);
        if let Some((name, began_ms)) = last.filter(|_| !self.begin_anew) {
            let current = resume(&folder, name, began_ms)?;
            if self.takes(&current, bytes, now_ms) {
                return Ok(current);
            }
        }
        // Names sort by age also where the clock was set back, or two begin in one millisecond.
        let began_ms = now_ms.max(after_ms.saturating_add(1));
        let name = names::name(&self.config.prefix, began_ms);
        let path = folder.join(&name);
        let file = OpenOptions::new().append(true).create_new(true).open(&path)?;
        lock(&file, &name)?;
        // The name itself has to be on the disk, too.
        File::open(&folder)?.sync_all()?;
        self.begin_anew = false;
        Ok(Current { file, path, name, began_ms, len: 0 })
    }

    /// Whether so many bytes may still go into this file.
    fn takes(&self, current: &Current, bytes: u64, now_ms: i64) -> bool {
        let age_ms = u64::try_from(now_ms.saturating_sub(current.began_ms)).unwrap_or(0);
        let is_young = self.config.rotate_after_s == 0 || age_ms < self.config.rotate_after_s.saturating_mul(1_000);
        current.len == 0 || is_young && current.len + bytes <= self.config.rotate_bytes_max
    }
}

/// Goes on with a file, without the half of a line that a crash has left at its end.
fn resume(folder: &Path, name: String, began_ms: i64) -> io::Result<Current> {
    let path = folder.join(&name);
    let mut file = OpenOptions::new().read(true).append(true).open(&path)?;
    lock(&file, &name)?;
    let whole = file.metadata()?.len();
    let len = whole_lines(&mut file, whole)?;
    if len < whole {
        tracing::warn!(file = %path.display(), bytes = whole - len, "the torn end of the last line is cut off");
        file.set_len(len)?;
        file.sync_all()?;
    }
    Ok(Current { file, path, name, began_ms, len })
}

/// Two that write to one file would tear each other's lines.
fn lock(file: &File, name: &str) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("somebody else writes {name}: give each destination a `folder` or `prefix` of its own"),
        )),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// How many of the file's bytes are whole lines.
fn whole_lines(file: &mut File, len: u64) -> io::Result<u64> {
    let mut end = len;
    let mut part = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(start))?;
        part.clear();
        part.resize((end - start) as usize, 0);
        file.read_exact(&mut part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Whether the file is still the one that has its name: somebody may have removed it, and lines would go nowhere.
fn is_there(current: &Current) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let (open, named) = (current.file.metadata(), fs::metadata(&current.path));
        matches!((open, named), (Ok(open), Ok(named)) if open.ino() == named.ino() && open.dev() == named.dev())
    }
    #[cfg(not(unix))]
    current.path.exists()
}

/// What went wrong, in one sentence.
fn said(error: &io::Error) -> String {
    let text = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!("the disk is full: {error}"),
        _ => format!("the file can't be written: {error}"),
    };
    text.replace(['\r', '\n'], " ")
}

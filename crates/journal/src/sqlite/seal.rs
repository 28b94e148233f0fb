//! Moves the logs of segments into their main files, on a thread of its own, so that the writer never waits for it.
//!
//! It does so in small steps while a segment is still written, and the rest when it is full: one sync of a whole
//! segment would make every append meanwhile wait for the disk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use super::reader::Shared;
use super::segment::{self, Segment};
use crate::{Error, Position};

/// When to try again what a full disk or a reader stopped.
const RETRY: Duration = Duration::from_secs(1);
/// How many segments may wait, each with an open file. One more is left to the next open.
const JOBS_MAX: usize = 64;

/// A segment whose last record has been written.
pub(super) struct Job {
    pub(super) segment: Arc<Segment>,
    pub(super) db: Connection,
    /// Where the segment that follows begins.
    pub(super) next: Position,
}

/// What the thread is asked for.
enum Work {
    /// Move what the log of the live segment has by now.
    Step(Arc<Segment>),
    Seal(Job),
}

/// The thread. Dropping it ends it after one last try of what is left.
pub(super) struct Sealer {
    work: Option<SyncSender<Work>>,
    /// A step is asked for and not done: the next one would find little to do.
    stepping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sealer {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, Error> {
        let (work, queue) = sync_channel(JOBS_MAX);
        let stepping = Arc::new(AtomicBool::new(false));
        let steps = stepping.clone();
        let thread = std::thread::Builder::new()
            .name("journal-seal".to_owned())
            .spawn(move || run(&shared, &queue, &steps))
            .map_err(|error| Error::io("start the journal's second thread", error))?;
        Ok(Self { work: Some(work), stepping, thread: Some(thread) })
    }

    /// Has what is in the live segment's log moved into its main file, without waiting. False where the step before
    /// is not done yet.
    pub(super) fn step(&self, segment: &Arc<Segment>) -> bool {
        let Some(work) = &self.work else { return false };
        if self.stepping.swap(true, Ordering::AcqRel) {
            return false;
        }
        let asked = work.try_send(Work::Step(segment.clone())).is_ok();
        if !asked {
            self.stepping.store(false, Ordering::Release);
        }
        asked
    }

    /// Whether a step is asked for and not done.
    pub(super) fn is_stepping(&self) -> bool {
        self.stepping.load(Ordering::Acquire)
    }

    /// Takes over a segment, without waiting. Where too many wait, its log stays as it is, which is
    /// as good: the next open takes care of it.
    pub(super) fn seal(&self, job: Job) {
        if self.work.as_ref().is_none_or(|work| work.try_send(Work::Seal(job)).is_err()) {
            tracing::warn!("too many journal segments wait; one keeps its log until the next open");
        }
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        self.work = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the journal's second thread panicked");
        }
    }
}

fn run(shared: &Shared, queue: &Receiver<Work>, stepping: &AtomicBool) {
    let mut waiting: Vec<Job> = Vec::new();
    let mut live: Option<(Position, Connection)> = None;
    loop {
        let received = if waiting.is_empty() {
            queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            queue.recv_timeout(RETRY)
        };
        let ending = matches!(received, Err(RecvTimeoutError::Disconnected));
        match received {
            Ok(Work::Step(segment)) => {
                step(shared, &segment, &mut live);
                stepping.store(false, Ordering::Release);
            }
            Ok(Work::Seal(job)) => {
                // The last connection to a segment is the job's.
                live = live.filter(|(first, _)| *first != job.segment.first);
                waiting.push(job);
            }
            Err(_) => {}
        }
        waiting = waiting.into_iter().filter_map(|job| seal(shared, job)).collect();
        if ending {
            return;
        }
    }
}

/// Moves what the log has so far. Readers and the writer go on meanwhile; what they still need stays in the log.
fn step(shared: &Shared, segment: &Segment, live: &mut Option<(Position, Connection)>) {
    if segment.dropped.load(Ordering::Acquire) || shared.poison.get().is_some() {
        return;
    }
    let db = match live.take().filter(|(first, _)| *first == segment.first) {
        Some((_, db)) => db,
        None => match segment::open_writable(&segment.path, segment.first) {
            Ok(db) => db,
            Err(error) => {
                // Nothing is lost: the log keeps it until the segment is full.
                tracing::warn!(error = error.chain(), "cannot open the live journal segment a second time");
                return;
            }
        },
    };
    match segment::checkpoint_beside(&db) {
        Ok(()) => {}
        Err(error) if passes(&error) => {}
        Err(error) => return poison(shared, segment, "move the log of", error),
    }
    *live = Some((segment.first, db));
}

/// After a failed sync a second try may succeed without anything having reached the disk, and would then empty the
/// log. The log stays; the next open reads it.
pub(super) fn poison(shared: &Shared, segment: &Segment, what: &str, error: rusqlite::Error) {
    let path = segment.path.display().to_string();
    let error = segment::writing(&segment.path, segment.first, format!("{what} {path}"), error);
    tracing::error!(path, error = error.chain(), "cannot {what} a journal segment");
    let _ = shared.poison.set(error.chain());
}

/// Gives the job back where it is to be tried again.
fn seal(shared: &Shared, job: Job) -> Option<Job> {
    let path = job.segment.path.display().to_string();
    if job.segment.dropped.load(Ordering::Acquire) || shared.poison.get().is_some() {
        return None;
    }
    // Whoever reads it is waited for between two tries, since the live segment's steps come in between.
    let impatient = job.db.busy_timeout(Duration::ZERO);
    let marked = impatient.and_then(|()| segment::set_sealed(&job.db, job.next));
    match marked.and_then(|()| segment::checkpoint(&job.db)) {
        Ok(true) => {}
        Ok(false) => return Some(job),
        Err(error) if passes(&error) => {
            tracing::warn!(path, %error, "cannot seal a journal segment yet; it is tried again");
            return Some(job);
        }
        Err(error) => {
            poison(shared, &job.segment, "seal", error);
            return None;
        }
    }
    // The log is empty: closing may now remove it.
    let closed = job
        .db
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
        .and_then(|_| job.db.close().map_err(|(_, error)| error));
    if let Err(error) = closed {
        tracing::warn!(path, %error, "cannot close a journal segment");
    }
    job.segment.sealed.store(true, Ordering::Release);
    None
}

pub(super) fn passes(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether every segment but the live one is sealed.
pub(super) fn all_sealed(shared: &Shared) -> bool {
    let segments = shared.segments.read().unwrap_or_else(PoisonError::into_inner);
    segments.iter().rev().skip(1).all(|s| s.sealed.load(Ordering::Acquire))
}

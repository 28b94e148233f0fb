//! Moves the logs of segments that are no longer written into their main files, on a thread of its
//! own, so that the writer never waits for it.

use std::sync::atomic::Ordering;
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

/// The thread. Dropping it ends it after one last try of what is left.
pub(super) struct Sealer {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Sealer {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, Error> {
        let (jobs, queue) = sync_channel(JOBS_MAX);
        let thread = std::thread::Builder::new()
            .name("journal-seal".to_owned())
            .spawn(move || run(&shared, &queue))
            .map_err(|error| Error::io("start the journal's second thread", error))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Takes over a segment, without waiting. Where too many wait, its log stays as it is, which is
    /// as good: the next open takes care of it.
    pub(super) fn seal(&self, job: Job) {
        if self.jobs.as_ref().is_none_or(|jobs| jobs.try_send(job).is_err()) {
            tracing::warn!("too many journal segments wait; one keeps its log until the next open");
        }
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        self.jobs = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the journal's second thread panicked");
        }
    }
}

fn run(shared: &Shared, queue: &Receiver<Job>) {
    let mut waiting: Vec<Job> = Vec::new();
    loop {
        let received = if waiting.is_empty() {
            queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            queue.recv_timeout(RETRY)
        };
        let ending = matches!(received, Err(RecvTimeoutError::Disconnected));
        waiting.extend(received);
        waiting = waiting.into_iter().filter_map(|job| seal(shared, job)).collect();
        if ending {
            return;
        }
    }
}

/// Gives the job back where it is to be tried again.
fn seal(shared: &Shared, job: Job) -> Option<Job> {
    let path = job.segment.path.display().to_string();
    if job.segment.dropped.load(Ordering::Acquire) || shared.poison.get().is_some() {
        return None;
    }
    match segment::set_sealed(&job.db, job.next).and_then(|()| segment::checkpoint(&job.db)) {
        Ok(true) => {}
        Ok(false) => return Some(job),
        Err(error) if passes(&error) => {
            tracing::warn!(path, %error, "cannot seal a journal segment yet; it is tried again");
            return Some(job);
        }
        Err(error) => {
            // After a failed sync a second try may succeed without anything having reached the disk,
            // and would then empty the log. The log stays; the next open reads it.
            let error = segment::writing(&job.segment.path, job.segment.first, format!("seal {path}"), error);
            tracing::error!(path, error = error.chain(), "cannot seal a journal segment");
            let _ = shared.poison.set(error.chain());
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

fn passes(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether every segment but the live one is sealed.
pub(super) fn all_sealed(shared: &Shared) -> bool {
    let segments = shared.segments.read().unwrap_or_else(PoisonError::into_inner);
    segments.iter().rev().skip(1).all(|s| s.sealed.load(Ordering::Acquire))
}

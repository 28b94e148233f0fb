//! Events as lines of a file.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_connect::destination::{Destination, Outlet, PrepareError, Prepared, Sent};
use lockstep_core::Event;
use lockstep_core::delivery::AttemptResult;
use tokio::sync::{mpsc, oneshot};

use super::config::{FileConfig, FileConfigError};
use super::writer::{Job, Writer};

/// A file destination. It touches the disk when the first line is sent, so that checking a configuration leaves nothing.
pub struct FileDestination {
    outlet: Outlet,
    config: FileConfig,
    jobs: OnceLock<mpsc::Sender<Job>>,
}

impl FileDestination {
    /// A destination with a thread of its own that writes. The outlet says what is kept.
    pub fn new(config: &FileConfig, outlet: Outlet) -> Result<Self, FileConfigError> {
        config.check()?;
        Ok(Self { outlet, config: config.clone(), jobs: OnceLock::new() })
    }

    /// The way to the thread, which ends when the destination does.
    fn jobs(&self) -> &mpsc::Sender<Job> {
        self.jobs.get_or_init(|| {
            let (jobs, waiting) = mpsc::channel(self.config.concurrency_max as usize);
            let writer = Writer::new(self.config.clone());
            // Where there is no thread, the channel is closed, and each line is told so.
            let started = std::thread::Builder::new().name("file-writer".to_owned()).spawn(move || writer.run(waiting));
            if let Err(error) = started {
                tracing::error!(error = &error as &dyn std::error::Error, "no thread can be started to write files");
            }
            jobs
        })
    }

    async fn write(&self, line: Bytes) -> Result<String, String> {
        let (done, written) = oneshot::channel();
        let ended = || "the thread that writes has ended".to_owned();
        self.jobs().send(Job { line, done }).await.map_err(|_| ended())?;
        written.await.unwrap_or_else(|_| Err(ended()))
    }
}

#[async_trait]
impl Destination for FileDestination {
    fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError> {
        let Some(mut prepared) = self.outlet.prepare(event)? else { return Ok(None) };
        if self.config.mapping.is_some() {
            // A CloudEvent has the id itself; what a mapping makes may be anything.
            let mut line = Vec::with_capacity(prepared.body.len() + 40);
            line.extend_from_slice(format!(r#"{{"id":"{}","data":"#, prepared.id).as_bytes());
            line.extend_from_slice(&prepared.body);
            line.push(b'}');
            prepared.body = line.into();
        }
        Ok(Some(prepared))
    }

    fn keeps_own_word(&self, event: &Event) -> bool {
        self.outlet.keeps_own_word(event)
    }

    fn is_incomplete(&self, event: &Event) -> bool {
        self.outlet.is_incomplete(event)
    }

    async fn send(&self, prepared: &Prepared, _attempt: u32) -> Sent {
        let started = Instant::now();
        let timeout_ms = self.config.timeout_ms;
        let written = tokio::time::timeout(Duration::from_millis(timeout_ms), self.write(prepared.body.clone())).await;
        // A disk cannot be interrupted: the line may yet get there, and then comes a second time with the same id.
        let written = written.unwrap_or_else(|_| Err(format!("the line was not on the disk within {timeout_ms} ms")));
        let (result, detail) = match written {
            Ok(name) => (AttemptResult::Delivered, format!("written to {name}")),
            Err(problem) => (AttemptResult::Transient, problem),
        };
        let duration_us = started.elapsed().as_micros() as u64;
        Sent { result, status: 0, detail, response_head: String::new(), duration_us }
    }
}

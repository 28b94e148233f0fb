//! The real binary as a process of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};

/// A running `lockstep serve`.
pub(super) struct Serving {
    child: Child,
    /// Where it listens.
    pub(super) address: std::net::SocketAddr,
    /// How long it took from its start until it was ready.
    pub(super) ready_after: Duration,
    out: Option<BufReader<ChildStdout>>,
}

/// This binary.
pub(super) fn binary() -> Result<PathBuf> {
    std::env::current_exe().context("can't find the running binary")
}

impl Serving {
    /// Starts it and waits until it is ready.
    pub(super) async fn start(config: &Path, data_dir: &Path) -> Result<Self> {
        let began = Instant::now();
        let mut child = Command::new(binary()?)
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(config)
            .arg("--data-dir")
            .arg(data_dir)
            .env("LOCKSTEP_LOG", "warn")
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .context("can't start `lockstep serve`")?;
        let out = child.stdout.take().context("`lockstep serve` has no output")?;
        let line = tokio::task::spawn_blocking(move || {
            let (mut line, mut out) = (String::new(), BufReader::new(out));
            out.read_line(&mut line).map(|_| (line, out))
        });
        let (line, out) = line.await??;
        let Some(address) = line.trim().strip_prefix("lockstep listens on http://") else {
            // A process that ended by itself has said why on the error stream.
            let status = child.wait()?;
            bail!("`lockstep serve` did not start ({status})");
        };
        let address = address.parse().with_context(|| format!("`{address}` is no address"))?;
        let mut serving = Self { child, address, ready_after: Duration::ZERO, out: Some(out) };
        loop {
            if let Ok(mut client) = super::client::Client::connect(address).await
                && client.get("/healthz/ready").await.is_ok_and(|status| status == 200)
            {
                serving.ready_after = began.elapsed();
                return Ok(serving);
            }
            if let Some(status) = serving.child.try_wait()? {
                bail!("`lockstep serve` ended ({status}) before it was ready");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Where it listens for gRPC, which its second line says.
    pub(super) async fn grpc(&mut self) -> Result<std::net::SocketAddr> {
        let mut out = self.out.take().context("where it listens for gRPC was asked before")?;
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            out.read_line(&mut line).map(|_| line)
        });
        let line = line.await??;
        let address = line.trim().strip_prefix("lockstep listens for gRPC on ");
        address.context("`lockstep serve` does not listen for gRPC")?.parse().context("its address is no address")
    }

    /// The most memory it has had.
    pub(super) fn memory_peak_bytes(&self) -> u64 {
        super::memory::peak_bytes_of(self.child.id())
    }

    /// CPU time used so far, seconds.
    pub(super) fn cpu_seconds(&self) -> f64 {
        super::memory::cpu_seconds_of(self.child.id())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // A benchmark needs no orderly end; the data folder is thrown away or meant to be found as it is.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

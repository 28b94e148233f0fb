//! `bench-postgres`: a PostgreSQL of its own below `target/`, and `lockstep bench reserve` beside it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{metadata, run, services};

/// Where Debian has the programs of the version that is compared with.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// The account that its package makes: the server refuses to run as root.
const ACCOUNT: &str = "postgres";
/// How long it may take until it answers. A limit, never a wait.
const DEADLINE: Duration = Duration::from_secs(60);
/// As people set it up who know it: memory for all of the data, and no checkpoint while it is measured. What makes it
/// durable stays as it is.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    "shared_buffers=512MB",
    "max_wal_size=8GB",
    "checkpoint_timeout=1h",
];

/// Installs and starts PostgreSQL, builds the hub, and compares; `arguments` go to `lockstep bench reserve`.
pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<bool> {
    services::ensure_postgres()?;
    let target = metadata::load(root)?.target_folder;
    let mut build = Command::new("cargo");
    build.args(["build", "--release", "-p", "lockstep", "--features", "postgres"]).current_dir(root);
    if !run::succeeds(&mut build)? {
        return Ok(false);
    }
    let server = Server::start(target.join("services").join("postgres"))?;
    let mut bench = Command::new(target.join("release").join("lockstep"));
    bench.args(["bench", "reserve", "--postgres"]).arg(server.url()).args(arguments).current_dir(root);
    run::succeeds(&mut bench)
}

/// A server of its own, stopped when it is dropped.
struct Server {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Server {
    fn start(folder: PathBuf) -> Result<Self> {
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        std::fs::create_dir_all(&folder)?;
        if is_root() {
            let mut own = Command::new("chown");
            own.arg(ACCOUNT).arg(&folder);
            if !run::succeeds(&mut own)? {
                bail!("`{}` failed", run::display(&own));
            }
        }
        let mut init = program("initdb");
        init.args(["--auth=trust", "--username=bench", "--no-locale", "--encoding=UTF8", "--pgdata"]).arg(&folder);
        if !run::succeeds(init.stdout(Stdio::null()))? {
            bail!("`{}` failed", run::display(&init));
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut serve = program("postgres");
        serve.arg("-D").arg(&folder).args(["-p", &port.to_string()]);
        for setting in SETTINGS {
            serve.args(["-c", setting]);
        }
        let log = std::fs::File::create(folder.with_extension("log"))?;
        let child = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let mut server = Self { child, folder, port };
        let began = Instant::now();
        let ready = |port: u16| {
            let mut ready = program("pg_isready");
            ready.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
            ready.status().is_ok_and(|status| status.success())
        };
        while !ready(port) {
            if server.child.try_wait()?.is_some() || began.elapsed() > DEADLINE {
                bail!("PostgreSQL does not start: {} says why", server.folder.with_extension("log").display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    fn url(&self) -> String {
        format!("postgresql://bench@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut stop = program("pg_ctl");
        stop.args(["stop", "--silent", "--mode=immediate", "--pgdata"]).arg(&self.folder);
        if !run::succeeds(&mut stop).unwrap_or(false) {
            // What is left is then only the process that was started here.
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// One of its programs, as the account that may run it.
fn program(name: &str) -> Command {
    let path = Path::new(PROGRAMS).join(name);
    // Its working folder must be one that the account may enter.
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", ACCOUNT, "--"]).arg(path);
        command
    } else {
        Command::new(path)
    };
    command.current_dir("/").stdin(Stdio::null());
    command
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").stdin(Stdio::null()).output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

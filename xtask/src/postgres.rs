//! `bench-postgres`: a PostgreSQL of its own in a folder of its own, and `lockstep bench reserve` beside it.

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
/// As people set it up who know it. What makes it durable stays as it is: `fsync`, `full_page_writes` and
/// `synchronous_commit` are on, and the WAL is synced as the platform does it best. Not set is `commit_delay`: 64 clients
/// share syncs without it, and each holder of the hot row would wait for it.
const SETTINGS: &[&str] = &[
    // As the hub is spoken to; not over a unix socket, which the hub's clients do not have either.
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    // Memory for all of the data.
    "shared_buffers=512MB",
    // No checkpoint while it is measured, nor new WAL files with each lap.
    "max_wal_size=8GB",
    "min_wal_size=1GB",
    "checkpoint_timeout=1h",
    // For solid disks; and a plan is made once, not again for every array of SKUs.
    "random_page_cost=1.1",
    "plan_cache_mode=force_generic_plan",
];

/// Installs and starts PostgreSQL, builds the hub, and compares; `arguments` go to `lockstep bench reserve`. With
/// `--debug` before them it is the debug build: quick to make, and its figures say nothing.
pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<bool> {
    let (profile, arguments) = match arguments.split_first() {
        Some((first, rest)) if first == "--debug" => ("debug", rest),
        _ => ("release", arguments),
    };
    services::ensure_postgres()?;
    let target = metadata::load(root)?.target_folder;
    let mut build = run::cargo(root);
    build.args(["build", "-p", "lockstep", "--features", "postgres"]);
    if profile == "release" {
        build.arg("--release");
    }
    if !run::succeeds(&mut build)? {
        return Ok(false);
    }
    // Both on the same disk: below the folder that was asked for, else below that of the build, which, unlike the
    // system's temporary one, is never in memory only.
    let folder = match dir_of(arguments) {
        Some(dir) => root.join(dir),
        None => target.join("services"),
    };
    let folder = folder.join(format!("bench-postgres-{}", std::process::id()));
    let server = Server::start(folder.join("postgres"))?;
    let mut bench = Command::new(target.join(profile).join("lockstep"));
    bench.args(["bench", "reserve", "--postgres", &server.url()]).args(arguments).current_dir(root);
    if dir_of(arguments).is_none() {
        bench.arg("--dir").arg(folder.join("hub"));
    }
    let succeeded = run::succeeds(&mut bench)?;
    drop(server);
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    Ok(succeeded)
}

/// The folder in which the hub shall work, where one is given.
fn dir_of(arguments: &[String]) -> Option<&str> {
    let at = arguments.iter().position(|argument| argument == "--dir" || argument.starts_with("--dir="))?;
    arguments[at].strip_prefix("--dir=").or_else(|| arguments.get(at + 1).map(String::as_str))
}

/// A server of its own, stopped when it is dropped.
struct Server {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Server {
    fn start(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_found_in_both_forms() {
        let of = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
            dir_of(&arguments).map(str::to_owned)
        };
        assert_eq!(of(&["--seconds", "1"]), None);
        assert_eq!(of(&["--seconds", "1", "--dir", "/data"]).as_deref(), Some("/data"));
        assert_eq!(of(&["--dir=/data", "--json"]).as_deref(), Some("/data"));
        assert_eq!(of(&["--dir"]), None);
    }
}

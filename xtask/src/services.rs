//! What the tests need besides Rust, and how it gets onto a Debian machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{python, run};

/// One program that tests start or that building them needs.
struct Service {
    /// The program; it is there when `<name> --version` succeeds.
    name: &'static str,
    /// What it is for.
    why: &'static str,
    /// The Debian packages that bring it.
    packages: &'static [&'static str],
    /// The daemon that comes in the same package and that nobody here wants to run.
    daemon: Option<Daemon>,
}

struct Daemon {
    /// Its name as a system service.
    name: &'static str,
    /// Where it would listen.
    port: u16,
}

const SERVICES: &[Service] = &[
    Service {
        name: "cc",
        why: "SQLite and zstd are compiled from their C sources, and a test compiles a shim that makes syncs fail",
        packages: &["gcc", "libc6-dev"],
        daemon: None,
    },
    Service {
        name: "promtool",
        why: "a test has it judge the text of /metrics",
        packages: &["prometheus"],
        daemon: Some(Daemon { name: "prometheus", port: 9090 }),
    },
    Service {
        name: "python3",
        why: "the example in Python is run against a real hub, and libraries in Python judge what destinations are sent",
        packages: &["python3", "python3-venv"],
        daemon: None,
    },
];

/// Only `bench-postgres` needs it.
const POSTGRES: Service = Service {
    name: "/usr/lib/postgresql/15/bin/postgres",
    why: "`lockstep bench reserve` is compared with it",
    packages: &["postgresql-15"],
    daemon: Some(Daemon { name: "postgresql", port: 5432 }),
};

/// Debian's hook that is asked before a package starts or stops its daemon.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// The answer "forbidden by policy".
const POLICY_FORBIDS: i32 = 101;

/// Installs what is missing; true when everything is there afterwards.
pub(crate) fn command(root: &Path) -> Result<bool> {
    let mut complete = true;
    for service in SERVICES {
        if detected(service) {
            println!("services: {} is there", service.name);
            continue;
        }
        match install(service) {
            Ok(()) => println!("services: {} is installed", service.name),
            Err(error) => {
                complete = false;
                println!(
                    "services: {} is missing ({}) and cannot be installed: {error:#}; by hand: install {}",
                    service.name,
                    service.why,
                    service.packages.join(" ")
                );
            }
        }
    }
    match python::ensure(root) {
        Ok(folder) => println!("services: {} has what examples and tests in Python need", folder.display()),
        Err(error) => {
            complete = false;
            println!("services: what examples and tests in Python need is missing and cannot be installed: {error:#}");
        }
    }
    Ok(complete)
}

/// Installs PostgreSQL where it is not there.
pub(crate) fn ensure_postgres() -> Result<()> {
    if detected(&POSTGRES) {
        return Ok(());
    }
    install(&POSTGRES).with_context(|| format!("{} is missing ({})", POSTGRES.packages.join(" "), POSTGRES.why))
}

fn detected(service: &Service) -> bool {
    let version = Command::new(service.name)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

fn install(service: &Service) -> Result<()> {
    if !Path::new("/usr/bin/apt-get").is_file() {
        bail!("there is no apt-get here");
    }
    let root = Root::find()?;
    let listened_before = service.daemon.as_ref().is_some_and(|daemon| listens(daemon.port));

    // An image often comes without package lists. One mirror that does not answer is no reason to
    // stop: the lists at hand may do, and the install says so if they do not.
    let mut update = root.command("apt-get");
    update.args(["update", "-q", "-o", "DPkg::Lock::Timeout=120"]);
    if !run::succeeds(&mut update)? {
        println!("services: `apt-get update` failed; trying with the package lists that are there");
    }
    let mut install = root.command("apt-get");
    install.args(["install", "-q", "-y", "--no-install-recommends"]);
    install.args(["-o", "DPkg::Lock::Timeout=120"]);
    install.args(service.packages);
    let installed = {
        let _quiet = match service.daemon {
            Some(_) => Some(DaemonsForbidden::begin(&root)?),
            None => None,
        };
        run::succeeds(&mut install)?
    };
    if !installed {
        bail!("`{}` failed", run::display(&install));
    }
    if let Some(daemon) = &service.daemon {
        // The package also asks for a start at the next boot.
        let mut disable = root.command("update-rc.d");
        disable.args([daemon.name, "disable"]);
        if !run::succeeds(&mut disable)? {
            bail!("`{}` failed: the daemon would start at the next boot", run::display(&disable));
        }
        if !listened_before && listens(daemon.port) {
            bail!(
                "something listens on port {} since {} was installed; stop it with `service {} stop`",
                daemon.port,
                service.packages.join(" "),
                daemon.name
            );
        }
    }
    if !detected(service) {
        bail!("`{} --version` still fails after the install", service.name);
    }
    Ok(())
}

/// The right to change the system, without ever asking for a password.
struct Root {
    sudo: bool,
}

impl Root {
    fn find() -> Result<Self> {
        let id = Command::new("id").arg("-u").stdin(Stdio::null()).output();
        if id.is_ok_and(|output| output.stdout.trim_ascii() == b"0") {
            return Ok(Self { sudo: false });
        }
        let sudo = Command::new("sudo")
            .args(["-n", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if sudo.is_ok_and(|status| status.success()) {
            return Ok(Self { sudo: true });
        }
        bail!("this user is not root, and `sudo -n` does not work without a password")
    }

    fn command(&self, program: &str) -> Command {
        // `env` because sudo passes no variables on; the path because a plain user's lacks sbin.
        let mut command = if self.sudo {
            let mut command = Command::new("sudo");
            command.args(["-n", "env"]);
            command
        } else {
            Command::new("env")
        };
        command
            .arg("DEBIAN_FRONTEND=noninteractive")
            .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .arg(program)
            .stdin(Stdio::null());
        command
    }
}

/// While it lives, installing a package starts no daemon. A machine that forbids it anyway (most
/// container images do) is left as it is; another policy is put aside and comes back.
struct DaemonsForbidden<'a> {
    root: &'a Root,
    placed: bool,
    put_aside: Option<PathBuf>,
}

impl<'a> DaemonsForbidden<'a> {
    fn begin(root: &'a Root) -> Result<Self> {
        let mut guard = Self { root, placed: false, put_aside: None };
        if Path::new(POLICY).exists() {
            let answer =
                Command::new(POLICY).args(["prometheus", "start"]).stdin(Stdio::null()).stdout(Stdio::null()).status();
            if answer.is_ok_and(|status| status.code() == Some(POLICY_FORBIDS)) {
                return Ok(guard);
            }
            let aside = PathBuf::from(format!("{POLICY}.lockstep-aside"));
            if !run::succeeds(root.command("mv").arg(POLICY).arg(&aside))? {
                bail!("cannot put {POLICY} aside");
            }
            guard.put_aside = Some(aside);
        }
        guard.placed = true;
        let script = format!("printf '#!/bin/sh\\nexit {POLICY_FORBIDS}\\n' > {POLICY} && chmod 755 {POLICY}");
        if !run::succeeds(root.command("sh").args(["-c", &script]))? {
            bail!("cannot write {POLICY}");
        }
        Ok(guard)
    }
}

impl Drop for DaemonsForbidden<'_> {
    fn drop(&mut self) {
        if !self.placed {
            return;
        }
        let mut undo = match &self.put_aside {
            Some(aside) => {
                let mut undo = self.root.command("mv");
                undo.arg(aside).arg(POLICY);
                undo
            }
            None => {
                let mut undo = self.root.command("rm");
                undo.args(["-f", POLICY]);
                undo
            }
        };
        if !run::succeeds(&mut undo).unwrap_or(false) {
            eprintln!("services: {POLICY} could not be put back; it now keeps daemons from starting");
        }
    }
}

/// Whether some process of this machine accepts connections on the port.
fn listens(port: u16) -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        // No table, no such protocol: then nothing listens by it.
        std::fs::read_to_string(table).is_ok_and(|table| table_has_listener(&table, port))
    })
}

/// Reads the kernel's table: `sl local_address rem_address st ...`, numbers in hexadecimal.
fn table_has_listener(table: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().and_then(|address| address.rsplit_once(':'));
        let state = fields.nth(1);
        state == Some(LISTEN) && local.is_some_and(|(_, hex)| u16::from_str_radix(hex, 16) == Ok(port))
    })
}

/// Runs `command` and turns a refusal outside CI into a sentence: there, tests that need what is
/// missing skip and say so.
pub(crate) fn ensure(root: &Path) -> Result<bool> {
    let complete = command(root).context("the services of the tests")?;
    if !complete && !run::in_ci() {
        println!("services: going on without; the tests that need it skip and say so");
    }
    Ok(complete || !run::in_ci())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_seen_and_a_connection_is_not() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
                     \x20  0: 0100007F:2382 00000000:0000 0A 00000000:00000000 00:00000000\n\
                     \x20  1: 0100007F:1F90 0100007F:2383 01 00000000:00000000 00:00000000\n";
        assert!(table_has_listener(table, 0x2382));
        assert!(!table_has_listener(table, 0x1F90));
        assert!(!table_has_listener(table, 0x2383));
        assert!(!table_has_listener("", 0x2382));
    }

    #[test]
    fn a_real_listener_is_seen_in_the_kernels_table() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        if !Path::new("/proc/net/tcp").is_file() {
            println!("skipped: there is no /proc/net/tcp on this system");
            return;
        }
        assert!(listens(port));
    }

    #[test]
    fn a_program_that_is_not_there_is_not_detected() {
        let service = |name| Service { name, why: "a test", packages: &[], daemon: None };
        assert!(!detected(&service("lockstep-no-such-program")));
        assert!(detected(&service("rustc")));
    }
}

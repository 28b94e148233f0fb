//! What the tests share: the real binary, a running hub of it, and a plain HTTP client.

#![allow(dead_code, unreachable_pub, reason = "a module of each test file, which uses a part of it")]

pub mod kills;
pub mod sign;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take before a test gives up. It is a limit, never a wait.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The secret of every source in these tests.
pub const SECRET: &str = "a-secret-of-these-tests";

/// The binary with a clean environment of its own.
pub fn lockstep() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    for name in ["LOCKSTEP_CONFIG", "LOCKSTEP_URL", "LOCKSTEP_KEY", "LOCKSTEP_LOG", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.env("SHOP_SECRET", SECRET);
    command
}

/// Runs the binary to its end in a folder.
#[track_caller]
pub fn run(folder: &Path, args: &[&str]) -> Ended {
    finish(lockstep().current_dir(folder).args(args))
}

/// Runs a command to its end; one that goes on past the deadline is killed, and the test fails.
#[track_caller]
pub fn finish(command: &mut Command) -> Ended {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let errors = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        err.read_to_end(&mut bytes).map(|_| bytes).unwrap()
    });
    let output = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        out.read_to_end(&mut bytes).map(|_| bytes).unwrap()
    });
    let began = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if began.elapsed() > DEADLINE => {
                let _ = child.kill();
                panic!("it does not end: {command:?}\n{}", String::from_utf8_lossy(&errors.join().unwrap()));
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    Ended::of(Output { status, stdout: output.join().unwrap(), stderr: errors.join().unwrap() })
}

/// How a run of the binary ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code; output:\n{}\nerrors:\n{}", self.out, self.err);
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }

    pub fn json_lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A folder with a configuration.
pub fn folder(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "lockstep.toml", config);
    folder
}

/// Writes a file, with the folders above it.
pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

/// Asks again and again until there is an answer, at most until the deadline.
#[track_caller]
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(began.elapsed() < DEADLINE, "it did not come to this: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A running hub. Killed when it is dropped.
pub struct Hub {
    child: Option<Child>,
    pub address: SocketAddr,
    pub folder: PathBuf,
    pub key: String,
    logs: Option<std::thread::JoinHandle<String>>,
    output: BufReader<ChildStdout>,
}

impl Hub {
    /// Starts the hub of the folder's configuration on a free port, with an admin key, and waits until it is ready.
    pub fn start(folder: &Path) -> Self {
        let made = run(folder, &["key", "create", "--name", "tests", "--scopes", "admin", "--system", "tests"]);
        // A second start of the same folder has its key already.
        if made.code == 0 {
            std::fs::write(folder.join("tests.key"), made.out.trim()).unwrap();
        }
        let mut command = lockstep();
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        Self::of(folder, command)
    }

    /// Starts a hub by a command of the test's own, which leaves an admin key in `tests.key` before the hub listens.
    pub fn of(folder: &Path, mut command: Command) -> Self {
        let mut child = command
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut errors = child.stderr.take().unwrap();
        let logs = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            text
        });
        let mut first = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut first).unwrap();
        let Some(address) = first.trim().strip_prefix("lockstep listens on http://") else {
            let _ = child.kill();
            panic!("the first line is `{first}`; logs:\n{}", logs.join().unwrap());
        };
        let address = address.parse().unwrap();
        let key = std::fs::read_to_string(folder.join("tests.key")).unwrap().trim().to_owned();
        let hub = Self { child: Some(child), address, folder: folder.to_owned(), key, logs: Some(logs), output };
        until("the hub is ready", || (hub.http("GET", "/healthz/ready", &[], b"").0 == 200).then_some(()));
        hub
    }

    /// Where it listens for gRPC, which its second line says.
    pub fn grpc(&mut self) -> SocketAddr {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("lockstep listens for gRPC on ");
        address.unwrap_or_else(|| panic!("the second line is `{line}`")).parse().unwrap()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Runs a command that speaks to this hub, with its admin key.
    pub fn ask(&self, args: &[&str]) -> Ended {
        self.ask_with(&self.key, args)
    }

    /// Runs a command that speaks to this hub, with another key.
    pub fn ask_with(&self, key: &str, args: &[&str]) -> Ended {
        let mut command = lockstep();
        command.current_dir(&self.folder).env("LOCKSTEP_URL", self.url()).env("LOCKSTEP_KEY", key);
        finish(command.args(args))
    }

    /// One request, with the connection closed after it.
    pub fn http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
        http(self.address, method, path, headers, body).unwrap()
    }

    /// Posts a body to a source, signed by `lockstep webhook sign`.
    pub fn deliver(&self, source: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
        let file = write(&self.folder, "delivery.json", body);
        let signed = run(
            &self.folder,
            &["webhook", "sign", "--scheme", "shopify", "--secret", "env:SHOP_SECRET", file.to_str().unwrap()],
        )
        .expect(0);
        let mut all: Vec<(&str, &str)> = signed.out.lines().map(|line| line.split_once(": ").unwrap()).collect();
        all.extend(headers);
        let (status, answer) = self.http("POST", &format!("/v1/webhooks/{source}"), &all, body.as_bytes());
        (status, serde_json::from_str(&answer).unwrap_or_default())
    }

    /// Posts a body as a shop does, with its signature in that header.
    pub fn webhook(&self, source: &str, signature: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
        let signed = sign::hmac(SECRET.as_bytes(), body.as_bytes());
        let mut all = vec![(signature, signed.as_str()), ("content-type", "application/json")];
        all.extend(headers);
        let (status, answer) = self.http("POST", &format!("/v1/webhooks/{source}"), &all, body.as_bytes());
        (status, serde_json::from_str(&answer).unwrap_or_default())
    }

    /// What the hub answers to a reader, which must be 200.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let (status, answer) = self.http("GET", path, &[("authorization", &format!("Bearer {}", self.key))], b"");
        assert_eq!(status, 200, "{path}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    /// One CloudEvent, with an admin key; gives the outcome of it.
    #[track_caller]
    pub fn event(&self, key: &str, event: &Value) -> Value {
        let authorization = format!("Bearer {key}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/cloudevents+json")];
        let (status, answer) = self.http("POST", "/v1/events", &headers, event.to_string().as_bytes());
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["results"][0].clone()
    }

    /// All events published so far.
    pub fn events(&self) -> Vec<Value> {
        self.ask(&["events", "tail", "--after", "0", "--once", "--json"]).expect(0).json_lines()
    }

    /// The types of the events published of an entity, in their order.
    pub fn types_of(&self, subject: &str) -> Vec<String> {
        let events = self.events();
        let own = events.iter().filter(|event| event["subject"] == subject);
        own.map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }

    /// Writes fields of an entity through the API.
    pub fn set(&self, key: &str, entity: &str, request: &str, fields: &str) -> (u16, Value) {
        let authorization = format!("Bearer {key}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("idempotency-key", request),
            ("content-type", "application/json"),
        ];
        let (status, answer) = self.http("PATCH", &format!("/v1/entities/{entity}"), &headers, fields.as_bytes());
        (status, serde_json::from_str(&answer).unwrap_or_default())
    }

    /// The process.
    pub fn process(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Waits for the end, and gives the exit code and the logs.
    pub fn ended(mut self) -> (i32, String) {
        let mut child = self.child.take().unwrap();
        let code = until("the hub has ended", || child.try_wait().unwrap()).code().unwrap_or(-1);
        (code, self.logs.take().unwrap().join().unwrap())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One request to an address. An error where the connection breaks.
pub fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let (Some(status), Some((_, body))) = (status, text.split_once("\r\n\r\n")) else {
        return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the answer is not whole"));
    };
    Ok((status, body.to_owned()))
}

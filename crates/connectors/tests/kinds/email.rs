//! The e-mail destination against a real mail server.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Mutex;

use async_trait::async_trait;
use base64::Engine;
use lockstep_connect::destination::kit::{self, Behaviour, Peer, Received};
use lockstep_connect::destination::{Destination, Filter, Outlet, Prepared, Sent};
use lockstep_connect::signature::Secret;
use lockstep_connectors::DestinationConfig;
use lockstep_connectors::email::{EmailConfig, EmailDestination};
use lockstep_connectors::webhook::chain;
use lockstep_core::delivery::AttemptResult;
use lockstep_mapping::Program;
use serde_json::{Value, json};

use crate::python;

const AUTHORITY: &[u8] = include_bytes!("../fixtures/authority.der");
const LOCALHOST: &[u8] = include_bytes!("../fixtures/localhost.der");
const LOCALHOST_KEY: &[u8] = include_bytes!("../fixtures/localhost.key.der");

const MAPPING: &str = r#"
    {
      "subject": "Order " + string!(.data.key) + " – für Sie",
      "text": "It is " + string!(.data.document.lifecycle) + ".\n.\nA line with a dot before.",
    }
"#;

/// The mail server, a process of its own.
struct MailServer {
    child: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    port: u16,
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl MailServer {
    /// `None` where there is no Python.
    fn start(arguments: &[&std::path::Path]) -> Option<Self> {
        let mut command = python::script("smtp.py")?;
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        told.read_line(&mut line).unwrap();
        let pipes = Mutex::new((child.stdin.take().unwrap(), told));
        Some(Self { child, pipes, port: line.trim().parse().unwrap() })
    }

    fn order(&self, order: &Value) -> Value {
        let mut pipes = self.pipes.lock().unwrap();
        writeln!(pipes.0, "{order}").unwrap();
        let mut line = String::new();
        pipes.1.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn mails(&self) -> Vec<Value> {
        self.order(&json!({"received": true})).as_array().unwrap().clone()
    }

    fn config(&self, more: Value) -> EmailConfig {
        let mut config = json!({"host": "localhost", "port": self.port, "tls": "none", "from": "Hub <hub@example.com>",
            "to": ["desk@example.com"], "mapping": "maps/mail.vrl", "allow_private_addresses": true,
            "timeout_ms": 60_000});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(config).unwrap()
    }
}

#[async_trait]
impl Peer for MailServer {
    async fn behave(&self, behaviour: Behaviour) {
        let word = match behaviour {
            Behaviour::Accept => "accept",
            Behaviour::Fail => "fail",
            Behaviour::Throttle { .. } => panic!("SMTP has no word for it"),
            Behaviour::Reject => "reject",
            Behaviour::Cut => "cut",
            Behaviour::Silent => "silent",
        };
        assert_eq!(self.order(&json!({"behave": word})), "ok");
    }

    async fn received(&self) -> Vec<Received> {
        let received =
            |mail: &Value| Received { id: mail["id"].as_str().unwrap().to_owned(), body: mail.to_string().into() };
        self.mails().iter().map(received).collect()
    }

    fn can(&self, behaviour: Behaviour) -> bool {
        !matches!(behaviour, Behaviour::Throttle { .. })
    }

    fn is_same(&self, prepared: &Prepared, received: &Received) -> bool {
        let asked: Value = serde_json::from_slice(&prepared.body).unwrap();
        let mail: Value = serde_json::from_slice(&received.body).unwrap();
        let text = mail["text"].as_str().unwrap().replace("\r\n", "\n");
        received.id == prepared.id
            && asked["subject"] == mail["headers"]["subject"]
            && asked["message_id"] == mail["headers"]["message-id"]
            && asked["text"].as_str().unwrap().trim_end() == text.trim_end()
    }
}

fn outlet(mapping: &str) -> Outlet {
    Outlet::new("/hubs/test", Filter::default()).with_mapping(Program::compile("maps/mail.vrl", mapping).unwrap())
}

fn secrets(texts: &[&str]) -> Vec<Secret> {
    texts.iter().map(|text| Secret::new(*text)).collect()
}

async fn send(destination: &dyn Destination) -> Sent {
    let event = kit::event(41, "order", "web:7", &[("lifecycle", r#""confirmed""#)]);
    let prepared = destination.prepare(&event).unwrap().unwrap();
    destination.send(&prepared, 1).await
}

#[tokio::test]
async fn keeps_to_the_contract_of_all_destinations() {
    let Some(server) = MailServer::start(&[]) else { return };
    let config = server.config(json!({"timeout_ms": 3_000, "concurrency_max": 8}));
    let destination = DestinationConfig::Email(config).build(&[], outlet(MAPPING)).unwrap();
    kit::check(destination.as_ref(), &server).await;
}

#[tokio::test]
async fn a_mail_has_what_the_mapping_says() {
    let Some(server) = MailServer::start(&[]) else { return };
    let destination = EmailDestination::new(&server.config(json!({})), &[], outlet(MAPPING)).unwrap();
    let sent = send(&destination).await;
    assert_eq!(sent.result, AttemptResult::Delivered, "{sent:?}");
    assert_eq!(sent.response_head, "2.0.0 taken");
    send(&destination).await;
    let [first, again] = &server.mails()[..] else { panic!("two mails") };
    assert_eq!(first, again, "every attempt is the same mail");
    let headers = &first["headers"];
    assert_eq!((&first["from"], &first["to"]), (&json!("hub@example.com"), &json!(["desk@example.com"])));
    assert_eq!((&headers["from"], &headers["to"]), (&json!("Hub <hub@example.com>"), &json!("desk@example.com")));
    assert_eq!(headers["subject"], "Order web:7 – für Sie");
    assert_eq!(headers["message-id"], "<lockstep.41.1790000000000500@example.com>");
    assert_eq!((&headers["auto-submitted"], &headers["lockstep-event"]), (&json!("auto-generated"), &json!("41")));
    assert_eq!(
        first["text"].as_str().unwrap().replace("\r\n", "\n").trim_end(),
        "It is confirmed.\n.\nA line with a dot before."
    );

    let several =
        r#"{ "subject": "a\nBcc: other@example.com", "text": "", "to": ["a@example.com", "B <b@example.com>"] }"#;
    let destination = EmailDestination::new(&server.config(json!({"to": []})), &[], outlet(several)).unwrap();
    assert_eq!(send(&destination).await.result, AttemptResult::Delivered);
    let mail = server.mails().pop().unwrap();
    assert_eq!(mail["to"], json!(["a@example.com", "b@example.com"]));
    assert_eq!(mail["headers"]["subject"], "a Bcc: other@example.com", "no header comes in by the subject");

    for (mapping, part) in [
        (r#"{ "subject": "a" }"#, "missing field `text`"),
        (r#"{ "subject": "a", "text": "b", "to": "nobody" }"#, "`to` must be an address"),
        (r#"{ "subject": "a", "text": "b", "to": [] }"#, "nobody gets the mail"),
    ] {
        let destination = EmailDestination::new(&server.config(json!({})), &[], outlet(mapping)).unwrap();
        let error = destination.prepare(&kit::event(1, "order", "1", &[])).unwrap_err();
        assert!(error.to_string().contains(part) && error.at.as_deref() == Some("maps/mail.vrl"), "{error}");
    }
}

/// A server that wants STARTTLS and a login; its folder has its certificate.
fn guarded() -> Option<(tempfile::TempDir, MailServer)> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, label: &str, der: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let path = folder.path().join(name);
        std::fs::write(&path, format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")).unwrap();
        path
    };
    let certificate = write("localhost.pem", "CERTIFICATE", LOCALHOST);
    let key = write("localhost.key", "PRIVATE KEY", LOCALHOST_KEY);
    let server = MailServer::start(&[&certificate, &key])?;
    Some((folder, server))
}

#[tokio::test]
async fn a_login_goes_over_tls_only_with_each_password_of_a_rotation() {
    let Some((_folder, server)) = guarded() else { return };
    let config = server.config(json!({"tls": "starttls", "user": "hub"}));
    let roots = [AUTHORITY.to_vec()];
    let with = |passwords: &[&str], roots: &[Vec<u8>]| {
        EmailDestination::with_roots(&config, &secrets(passwords), outlet(MAPPING), roots).unwrap()
    };
    let sent = send(&with(&["new one", "s3cret"], &roots)).await;
    assert_eq!(sent.result, AttemptResult::Delivered, "{sent:?}");
    let mail = server.mails().pop().unwrap();
    assert_eq!((&mail["login"], &mail["encrypted"]), (&json!("hub"), &json!(true)));

    let sent = send(&with(&["wrong"], &roots)).await;
    assert_ne!(sent.result, AttemptResult::Delivered);
    assert!(sent.detail.contains("does not let `hub` in") && !sent.detail.contains("wrong"), "{}", sent.detail);
    let sent = send(&with(&["s3cret"], &[])).await;
    assert_eq!(sent.result, AttemptResult::Transient);
    assert!(sent.detail.contains("certificate"), "{}", sent.detail);
    assert_eq!(server.mails().len(), 1);

    let Some(open) = MailServer::start(&[]) else { return };
    let config = open.config(json!({"tls": "starttls"}));
    let sent = send(&EmailDestination::new(&config, &[], outlet(MAPPING)).unwrap()).await;
    assert!(sent.detail.contains("offers no STARTTLS"), "{}", sent.detail);
    assert_eq!(open.mails().len(), 0, "nothing goes out in the clear");
}

#[tokio::test]
async fn a_private_address_is_refused_unless_it_is_meant() {
    let config: EmailConfig = serde_json::from_value(json!({"host": "localhost", "tls": "none", "mapping": "m",
        "from": "hub@example.com", "to": ["a@example.com"]}))
    .unwrap();
    let sent = send(&EmailDestination::new(&config, &[], outlet(MAPPING)).unwrap()).await;
    assert_eq!(sent.result, AttemptResult::Rejected);
    assert!(sent.detail.contains("allow_private_addresses"), "{}", sent.detail);
}

#[test]
fn configuration_says_what_would_be_right() {
    let check = |more: Value, passwords: &[&str], part: &str| {
        let mut config =
            json!({"kind": "email", "host": "smtp.example.com", "from": "hub@example.com", "mapping": "m"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config: DestinationConfig = serde_json::from_value(config).unwrap();
        let error = config.build(&secrets(passwords), outlet(MAPPING)).err().unwrap_or_else(|| panic!("{more}"));
        assert!(chain(&error).contains(part), "{more}: {error}");
    };
    check(json!({"host": "smtp example"}), &[], "`host` must be the name");
    check(json!({"from": "hub"}), &[], "`from` must be an address");
    check(json!({"to": ["a@b@c"]}), &[], "`to` must be an address");
    check(json!({"user": "hub"}), &[], "`secrets` must have the password");
    check(json!({}), &["s"], "`secrets` has a password, and `user` is missing");
    check(json!({"user": "hub", "tls": "none"}), &["s"], "`user` must not be given with");
    check(json!({"hello_name": "a b"}), &[], "`hello_name` must be a name");
    check(json!({"timeout_ms": 0}), &[], "`timeout_ms` must be from 1");
}

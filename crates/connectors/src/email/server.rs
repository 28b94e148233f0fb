//! Connections to the mail server: opened with the same care as those for HTTP, and used again.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lettre::Message;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use lockstep_connect::signature::Secret;
use thiserror::Error;
use tokio::time::Instant;

use super::config::{EmailConfig, EmailConfigError, Tls, mailbox};
use crate::webhook::client::connect_timeout_ms;
use crate::webhook::{PrivateAddress, is_public};

/// How long a connection is kept that nobody uses: servers close them after some minutes.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Why a mail was not taken.
#[derive(Debug, Error)]
pub(super) enum SendError {
    #[error(transparent)]
    PrivateAddress(#[from] PrivateAddress),
    #[error("the name of {server} can't be looked up")]
    Resolve {
        server: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{0} has no address")]
    NoAddress(String),
    #[error("cannot connect to {server}")]
    Connect {
        server: String,
        #[source]
        source: Error,
    },
    #[error("{server} offers no STARTTLS: set `tls` to what it has")]
    NoStarttls { server: String },
    #[error("{server} does not let `{user}` in")]
    Login {
        server: String,
        user: String,
        #[source]
        source: Error,
    },
    #[error("{server} did not take the mail")]
    Send {
        server: String,
        #[source]
        source: Error,
    },
}

/// The mail server.
pub(super) struct Server {
    host: String,
    port: u16,
    tls: Tls,
    parameters: TlsParameters,
    hello: ClientId,
    user: Option<String>,
    secrets: Vec<Secret>,
    allow_private_addresses: bool,
    timeout: Duration,
    idle_max: usize,
    idle: Mutex<Vec<(AsyncSmtpConnection, Instant)>>,
}

impl Server {
    /// `roots_der` are the certificate authorities to trust instead of the public ones.
    pub(super) fn new(
        config: &EmailConfig,
        secrets: &[Secret],
        roots_der: &[Vec<u8>],
    ) -> Result<Self, EmailConfigError> {
        let mut parameters = TlsParameters::builder(config.host.clone());
        if !roots_der.is_empty() {
            parameters = parameters.certificate_store(CertificateStore::None);
        }
        for der in roots_der {
            let root = Certificate::from_der(der.clone()).map_err(EmailConfigError::Tls)?;
            parameters = parameters.add_root_certificate(root);
        }
        let domain = mailbox(&config.from).map(|from| from.email.domain().to_owned()).unwrap_or_default();
        Ok(Self {
            host: config.host.clone(),
            port: config.port(),
            tls: config.tls,
            parameters: parameters.build_rustls().map_err(EmailConfigError::Tls)?,
            hello: ClientId::Domain(config.hello_name.clone().unwrap_or(domain)),
            user: config.user.clone(),
            secrets: secrets.to_vec(),
            allow_private_addresses: config.allow_private_addresses,
            timeout: Duration::from_millis(connect_timeout_ms(config.timeout_ms)),
            idle_max: config.concurrency_max as usize,
            idle: Mutex::default(),
        })
    }

    /// Host and port.
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Has the server take a message.
    pub(super) async fn send(&self, message: &Message) -> Result<Response, SendError> {
        let mut connection = match self.kept().await {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let sent = connection.send(message.envelope(), &message.formatted()).await;
        let response = sent.map_err(|source| SendError::Send { server: self.name(), source })?;
        if !connection.has_broken() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < self.idle_max {
                idle.push((connection, Instant::now()));
            }
        }
        Ok(response)
    }

    /// A connection that is kept and still answers.
    async fn kept(&self) -> Option<AsyncSmtpConnection> {
        loop {
            let (mut connection, since) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if since.elapsed() < IDLE_MAX && connection.test_connected().await {
                return Some(connection);
            }
        }
    }

    /// A connection on which mails can be sent: with each password in turn, while one is being replaced.
    async fn connect(&self) -> Result<AsyncSmtpConnection, SendError> {
        let Some(user) = &self.user else { return self.open().await };
        let mut refusal = None;
        for secret in &self.secrets {
            let mut connection = self.open().await?;
            let credentials = Credentials::new(user.clone(), secret.expose().to_owned());
            match connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await {
                Ok(_) => return Ok(connection),
                Err(source) => {
                    let is_final = !source.is_permanent();
                    let error = SendError::Login { server: self.name(), user: user.clone(), source };
                    if is_final {
                        return Err(error);
                    }
                    refusal.get_or_insert(error);
                }
            }
        }
        Err(refusal.unwrap_or_else(|| SendError::NoAddress(self.name())))
    }

    /// An encrypted connection, as far as the configuration wants it.
    async fn open(&self) -> Result<AsyncSmtpConnection, SendError> {
        let implicit = (self.tls == Tls::Implicit).then(|| self.parameters.clone());
        let connect = |source| SendError::Connect { server: self.name(), source };
        let mut failed = None;
        for address in self.addresses().await? {
            let timeout = Some(self.timeout);
            let opened =
                AsyncSmtpConnection::connect_tokio1(address, timeout, &self.hello, implicit.clone(), None).await;
            match opened {
                Ok(mut connection) => {
                    if self.tls == Tls::Starttls {
                        if !connection.can_starttls() {
                            return Err(SendError::NoStarttls { server: self.name() });
                        }
                        connection.starttls(self.parameters.clone(), &self.hello).await.map_err(connect)?;
                    }
                    return Ok(connection);
                }
                Err(source) => {
                    failed.get_or_insert(source);
                }
            }
        }
        Err(failed.map_or_else(|| SendError::NoAddress(self.name()), connect))
    }

    /// Exactly these are connected to, so a name that changes its address after the check gains nothing.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, SendError> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let all: Vec<SocketAddr> =
            found.map_err(|source| SendError::Resolve { server: self.name(), source })?.collect();
        let good = |address: &SocketAddr| self.allow_private_addresses || is_public(address.ip());
        let allowed: Vec<_> = all.iter().copied().filter(good).collect();
        match (allowed.is_empty(), all.first()) {
            (true, Some(first)) => Err(PrivateAddress { host: self.host.clone(), address: first.ip() }.into()),
            _ => Ok(allowed),
        }
    }
}

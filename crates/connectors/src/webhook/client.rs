//! An HTTP client that takes no risks: no redirects, no private addresses unless allowed, verified TLS, bounded
//! responses, a time limit on everything. Connections are kept and used again.

use std::error::Error;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::GaiResolver;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::address::{Guarded, PrivateAddress, is_public};

/// The most that the head of a response may take.
const RESPONSE_HEADERS_BYTES_MAX: usize = 64 * 1_024;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Whether addresses that are not of the public internet may be connected to.
    pub allow_private_addresses: bool,
    /// How long connecting may take, as a part of a request's whole time.
    pub connect_timeout_ms: u64,
    /// How many idle connections are kept for each host.
    pub idle_connections_max: usize,
    /// How long an idle connection is kept.
    pub idle_timeout_ms: u64,
    /// The longest response body that [`HttpClient::request`] takes.
    pub response_bytes_max: usize,
    /// The certificate authorities to trust instead of the public ones, each in DER form; empty for the public ones.
    pub roots_der: Vec<Vec<u8>>,
}

/// How long connecting may take of a request's whole time. What does not even connect is known not to have arrived, so that
/// ends first.
pub(crate) fn connect_timeout_ms(timeout_ms: u64) -> u64 {
    timeout_ms - timeout_ms / 10
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            allow_private_addresses: false,
            connect_timeout_ms: 3_000,
            idle_connections_max: 64,
            idle_timeout_ms: 30_000,
            response_bytes_max: 16 * 1_024 * 1_024,
            roots_der: Vec::new(),
        }
    }
}

/// Why a request has no usable answer.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The URL cannot be called.
    #[error("`{url}` must be a URL such as https://shop.example/hooks: {problem}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// TLS cannot be set up: above all where a certificate authority to trust is no certificate.
    #[error("TLS cannot be set up")]
    Tls {
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The host is not a public one.
    #[error(transparent)]
    PrivateAddress(#[from] PrivateAddress),
    /// There is no connection: the name is unknown, nobody listens, or TLS does not come about.
    #[error("cannot connect to {authority}")]
    Connect {
        /// Host and port.
        authority: String,
        /// Why.
        #[source]
        source: hyper_util::client::legacy::Error,
    },
    /// There was no answer in time.
    #[error("no answer from {authority} within {timeout_ms} ms")]
    TimedOut {
        /// Host and port.
        authority: String,
        /// The time that was given.
        timeout_ms: u64,
    },
    /// The connection ended before the answer did.
    #[error("the connection to {authority} broke before the answer was complete")]
    Broken {
        /// Host and port.
        authority: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The answer is longer than allowed.
    #[error("the answer of {authority} is longer than {bytes_max} bytes")]
    TooLarge {
        /// Host and port.
        authority: String,
        /// The most that is taken.
        bytes_max: usize,
    },
}

/// The error with everything behind it, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(source) = at {
        let more = source.to_string();
        // Some libraries repeat the cause in their own text.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        at = source.source();
    }
    text.replace(['\r', '\n'], " ")
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// The beginning of an answer whose end does not matter.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) end: End,
}

/// How a body ended.
#[derive(Debug)]
pub(crate) enum End {
    Whole,
    TooLong,
    TimedOut,
    Broken(hyper::Error),
}

type Connector = HttpsConnector<HttpConnector<Guarded<GaiResolver>>>;

/// The client. Clones share their connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client<Connector, Full<Bytes>>,
    allow_private_addresses: bool,
    response_bytes_max: usize,
}

impl HttpClient {
    /// A client with these options.
    ///
    /// # Errors
    /// Where one of `roots_der` is no certificate.
    pub fn new(options: HttpOptions) -> Result<Self, HttpError> {
        let mut http =
            HttpConnector::new_with_resolver(Guarded::new(GaiResolver::new(), options.allow_private_addresses));
        // The connector under it sees https URLs too.
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(Duration::from_millis(options.connect_timeout_ms)));
        http.set_keepalive(Some(Duration::from_secs(60)));
        let tls = tls(&options.roots_der)?;
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_millis(options.idle_timeout_ms))
            .pool_max_idle_per_host(options.idle_connections_max)
            .http1_max_buf_size(RESPONSE_HEADERS_BYTES_MAX)
            .build(connector);
        Ok(Self {
            client,
            allow_private_addresses: options.allow_private_addresses,
            response_bytes_max: options.response_bytes_max,
        })
    }

    /// Makes a request and takes the whole answer, whatever its status. Redirects are answers like others.
    ///
    /// # Errors
    /// Where there is no whole answer within `timeout`.
    pub async fn request(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<Response, HttpError> {
        let uri = parse_url(url)?;
        let authority = authority(&uri);
        let mut request = Request::new(Full::new(body.into()));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let bytes_max = self.response_bytes_max;
        let Head { status, headers, body, end } = self.exchange(request, bytes_max, bytes_max, timeout).await?;
        match end {
            End::Whole => Ok(Response { status, headers, body }),
            End::TooLong => Err(HttpError::TooLarge { authority, bytes_max }),
            End::TimedOut => Err(HttpError::TimedOut { authority, timeout_ms: timeout.as_millis() as u64 }),
            End::Broken(source) => Err(HttpError::Broken { authority, source: source.into() }),
        }
    }

    /// Makes a request and takes the head of the answer with up to `kept_max` bytes of its body. The rest is read
    /// and dropped up to `read_max` bytes, so that the connection can be used again; beyond them it is closed.
    pub(crate) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        kept_max: usize,
        read_max: usize,
        timeout: Duration,
    ) -> Result<Head, HttpError> {
        // Literal addresses never come to the resolver.
        if !self.allow_private_addresses {
            check_literal(request.uri())?;
        }
        let deadline = Instant::now() + timeout;
        let uri = request.uri().clone();
        let response = match timeout_at(deadline, self.client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(failed(&uri, error)),
            Err(_) => {
                return Err(HttpError::TimedOut { authority: authority(&uri), timeout_ms: timeout.as_millis() as u64 });
            }
        };
        let (head, body) = response.into_parts();
        let (body, end) = read(body, kept_max, read_max, deadline).await;
        Ok(Head { status: head.status, headers: head.headers, body, end })
    }
}

fn tls(roots_der: &[Vec<u8>]) -> Result<ClientConfig, HttpError> {
    static PUBLIC: OnceLock<ClientConfig> = OnceLock::new();
    let tls = |source| HttpError::Tls { source };
    let builder = || {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(tls)
    };
    if roots_der.is_empty() {
        // Made once, since it holds all public roots in parsed form; clones share them.
        if let Some(config) = PUBLIC.get() {
            return Ok(config.clone());
        }
        let config = builder()?.with_webpki_roots().with_no_client_auth();
        return Ok(PUBLIC.get_or_init(|| config).clone());
    }
    let mut roots = RootCertStore::empty();
    for der in roots_der {
        roots.add(CertificateDer::from(der.clone())).map_err(tls)?;
    }
    Ok(builder()?.with_root_certificates(roots).with_no_client_auth())
}

/// A URL that can be called: http or https, with a host and without a password in it.
pub(crate) fn parse_url(url: &str) -> Result<Uri, HttpError> {
    let wrong = |problem| Err(HttpError::Url { url: url.to_owned(), problem });
    let Ok(uri) = url.parse::<Uri>() else {
        return wrong("it cannot be read");
    };
    match (uri.scheme_str(), uri.authority(), uri.host()) {
        (None | Some(_), None, _) | (None, ..) => wrong("it must begin with https:// or http:// and a host"),
        (Some(scheme), ..) if scheme != "http" && scheme != "https" => wrong("only https and http can be called"),
        (_, Some(authority), _) if authority.as_str().contains('@') => {
            // The URL is logged and shown, so it is not said again here either.
            Err(HttpError::Url {
                url: format!("{}://...", uri.scheme_str().unwrap_or_default()),
                problem: "it must not have a user or password in it: use a header",
            })
        }
        (_, _, None | Some("")) => wrong("it has no host"),
        _ => Ok(uri),
    }
}

fn authority(uri: &Uri) -> String {
    uri.authority().map(ToString::to_string).unwrap_or_default()
}

/// Refuses a literal address that is not a public one.
pub(crate) fn check_literal(uri: &Uri) -> Result<(), PrivateAddress> {
    let host = uri.host().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) if !is_public(address) => Err(PrivateAddress { host: host.to_owned(), address }),
        _ => Ok(()),
    }
}

/// What it means that the client gave up.
fn failed(uri: &Uri, error: hyper_util::client::legacy::Error) -> HttpError {
    let mut at: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(source) = at {
        if let Some(private) = source.downcast_ref::<PrivateAddress>() {
            return private.clone().into();
        }
        at = source.source();
    }
    let authority = authority(uri);
    if error.is_connect() {
        HttpError::Connect { authority, source: error }
    } else {
        HttpError::Broken { authority, source: error.into() }
    }
}

async fn read(mut body: Incoming, kept_max: usize, read_max: usize, deadline: Instant) -> (Bytes, End) {
    if body.is_end_stream() {
        return (Bytes::new(), End::Whole);
    }
    let mut kept = BytesMut::new();
    let reading = async {
        let mut read_bytes = 0;
        loop {
            match body.frame().await {
                None => return End::Whole,
                Some(Err(error)) => return End::Broken(error),
                Some(Ok(frame)) => {
                    let Some(data) = frame.data_ref() else {
                        continue;
                    };
                    read_bytes += data.len();
                    let room = kept_max - kept.len();
                    kept.extend_from_slice(&data[..data.len().min(room)]);
                    if read_bytes > read_max {
                        return End::TooLong;
                    }
                }
            }
        }
    };
    let end = timeout_at(deadline, reading).await.unwrap_or(End::TimedOut);
    (kept.freeze(), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_must_be_one_that_can_be_called() {
        for url in
            ["https://shop.example", "http://shop.example:8080/a?b=c", "http://[2606:4700::1]/", "HTTP://1.1.1.1/"]
        {
            assert!(parse_url(url).is_ok(), "{url}");
        }
        for url in
            ["", "shop.example", "/hooks", "ftp://shop.example/", "https://", "https:///x", "mailto:a@b", "http://a b/"]
        {
            assert!(parse_url(url).is_err(), "{url}");
        }
        let error = parse_url("https://me:hush@shop.example/").unwrap_err();
        assert!(!error.to_string().contains("hush"), "{error}");
    }

    #[test]
    fn literal_addresses_are_checked_in_every_form() {
        for url in ["http://127.0.0.1/", "http://10.1.2.3:80/", "http://[::1]:9/", "https://[::ffff:169.254.169.254]/"]
        {
            assert!(check_literal(&parse_url(url).unwrap()).is_err(), "{url}");
        }
        for url in ["http://1.1.1.1/", "http://[2606:4700::1]/", "http://localhost/"] {
            assert!(check_literal(&parse_url(url).unwrap()).is_ok(), "{url}: names are checked once they are resolved");
        }
    }
}

//! Limits of the HTTP interface.

/// Limits; the defaults suit a hub that faces the internet behind a proxy that ends TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiOptions {
    /// The largest body of a webhook.
    pub webhook_bytes_max: usize,
    /// The largest body of `POST /v1/events`.
    pub events_bytes_max: usize,
    /// The most events in one request.
    pub events_max: usize,
    /// The largest body of any other request.
    pub body_bytes_max: usize,
    /// The most headers of a request.
    pub headers_max: usize,
    /// The most bytes of a request's line and headers together.
    pub header_bytes_max: usize,
    /// How long the headers may take; also how long an idle connection is kept.
    pub header_read_timeout_ms: u64,
    /// How long a body may take.
    pub body_read_timeout_ms: u64,
    /// How long the client may take no byte of an answer before it is cut off.
    pub write_timeout_ms: u64,
    /// The most connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// How many records a stream's reader may fall behind before it is cut off.
    pub stream_behind_max: u64,
    /// After how long without an event a stream sends a comment, so that everybody knows it lives.
    pub stream_heartbeat_ms: u64,
    /// For how many seconds a reservation holds that does not say for how long.
    pub hold_s: u32,
    /// How long running requests may take to end when the server stops.
    pub shutdown_timeout_ms: u64,
}

impl Default for ApiOptions {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            webhook_bytes_max: MIB,
            events_bytes_max: 8 * MIB,
            events_max: 10_000,
            body_bytes_max: MIB,
            headers_max: 100,
            header_bytes_max: 32 * 1024,
            header_read_timeout_ms: 10_000,
            body_read_timeout_ms: 30_000,
            write_timeout_ms: 30_000,
            connections_max: 10_000,
            stream_behind_max: 100_000,
            stream_heartbeat_ms: 15_000,
            // What a customer takes to pay.
            hold_s: 900,
            shutdown_timeout_ms: 10_000,
        }
    }
}

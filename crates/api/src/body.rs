//! Reading a request's body: within its limit and its time, or not at all.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;

use crate::options::ApiOptions;
use crate::problem::{Code, Problem};

/// The whole body.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    options: &ApiOptions,
) -> Result<Bytes, Problem> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(Problem::new(Code::UnsupportedMediaType, "a body must come without `Content-Encoding`"));
    }
    let within = Duration::from_millis(options.body_read_timeout_ms);
    match tokio::time::timeout(within, collect(body, bytes_max)).await {
        Ok(result) => result,
        Err(_) => {
            let detail = format!("the body must arrive within {} ms", options.body_read_timeout_ms);
            // The rest may still come: this connection can't carry another request.
            Err(Problem::new(Code::BodyTimeout, detail)
                .with_header(header::CONNECTION, http::HeaderValue::from_static("close")))
        }
    }
}

async fn collect(mut body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let expected = axum::body::HttpBody::size_hint(&body).lower();
    if expected > bytes_max as u64 {
        return Err(too_large(body, bytes_max).await);
    }
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| {
            Problem::new(Code::InvalidBody, format!("the body can't be read: {}", crate::problem::chain(&e)))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + whole.len() + data.len() > bytes_max {
            return Err(too_large(body, bytes_max).await);
        }
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            // One part is the rule for small bodies and needs no copy; this one has several.
            whole.reserve((expected as usize).max(first.len() + data.len()));
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// Reads on for as much again, so that a client which only reads after it has written gets to see the answer
/// instead of a broken connection.
async fn too_large(mut body: Body, bytes_max: usize) -> Problem {
    let mut left = bytes_max;
    while let Some(Ok(frame)) = body.frame().await {
        let read = frame.data_ref().map_or(0, Bytes::len);
        if read > left {
            break;
        }
        left -= read;
    }
    Problem::new(Code::BodyTooLarge, format!("the body must not be larger than {bytes_max} bytes"))
        .with_header(header::CONNECTION, http::HeaderValue::from_static("close"))
}

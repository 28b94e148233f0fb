//! From what a mapping comes to, to a request.

use std::collections::BTreeMap;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::config::{RESERVED, parse_method};

/// What a mapping may give. Everything may be missing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapped<'a> {
    method: Option<String>,
    path: Option<Path>,
    #[serde(default)]
    query: BTreeMap<String, Value>,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

/// A path as it stands, or in segments that still have to be written so that none of them can end another one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Path {
    Text(String),
    Segments(Vec<Value>),
}

/// A request without what is secret or changes from attempt to attempt: what a dead letter shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) url: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<Body>,
}

/// A body with its bytes unchanged: JSON as the mapping wrote it, or a text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Body(pub(super) Box<RawValue>);

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for Body {}

/// Where requests go when the mapping says nothing else.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) method: Method,
    pub(super) url: Uri,
    /// What only the hub may set: the idempotency key.
    pub(super) taken: Option<HeaderName>,
}

impl Base {
    /// The request that a mapping asks for, or what is wrong with it.
    pub(super) fn mapped(&self, mapped: &[u8]) -> Result<Asked, String> {
        let mapped: Mapped<'_> = serde_json::from_slice(mapped).map_err(|error| {
            format!("it must come to an object with `method`, `path`, `query`, `headers` and `body`: {error}")
        })?;
        let method = match mapped.method {
            None => self.method.clone(),
            Some(text) => parse_method(&text)
                .ok_or_else(|| format!("`method` must be a method in capital letters, not `{text}`"))?,
        };
        let url = self.url(mapped.path.as_ref(), &mapped.query)?;
        let mut headers = BTreeMap::new();
        for (name, value) in mapped.headers {
            let value = scalar(&value).ok_or_else(|| format!("`headers.{name}` must be a text or a number"))?;
            // What is not there is not sent, so that a mapping need not take care.
            let Some(value) = value else { continue };
            let header: HeaderName =
                name.parse().map_err(|_| format!("`headers.{name}` must have the name of an HTTP header"))?;
            if RESERVED.contains(&header.as_str()) || self.taken.as_ref() == Some(&header) {
                return Err(format!("`headers.{name}` is set by the hub itself: leave it out"));
            }
            if HeaderValue::from_str(&value).is_err() {
                return Err(format!("`headers.{name}` must have a value of visible ASCII characters"));
            }
            headers.insert(header.as_str().to_owned(), value);
        }
        let body = mapped.body.filter(|body| body.get() != "null").map(|body| Body(body.to_owned()));
        let asked = Asked { method: method.to_string(), url, headers, body };
        if !asked.is_json() && asked.body.as_ref().is_some_and(|body| !body.0.get().starts_with('"')) {
            let kind = asked.headers.get(CONTENT_TYPE.as_str()).map(String::as_str).unwrap_or_default();
            return Err(format!("`body` must be a text where `headers.content-type` is `{kind}`"));
        }
        Ok(asked)
    }

    /// The address of a path below the base. A path never leads out of it: tokens and secret headers go along.
    fn url(&self, path: Option<&Path>, query: &BTreeMap<String, Value>) -> Result<String, String> {
        let mut url = self.url.to_string();
        let path = match path {
            None => String::new(),
            Some(Path::Text(text)) => text.clone(),
            Some(Path::Segments(segments)) => {
                let mut path = String::new();
                for segment in segments {
                    let text = scalar(segment).flatten().filter(|text| !text.is_empty());
                    let text = text.ok_or("a segment of `path` must be a text or a number, and not empty")?;
                    path.push('/');
                    path.push_str(&encoded(&text));
                }
                path
            }
        };
        if !path.is_empty() {
            while url.ends_with('/') {
                url.pop();
            }
            if !path.starts_with('/') {
                url.push('/');
            }
            url.push_str(&path);
        }
        let plain = path.split(['?', '#']).next().unwrap_or_default().replace("%2e", ".").replace("%2E", ".");
        let plain = plain.replace("%5c", "\\").replace("%5C", "\\");
        // Some servers and clients read a `\` as a `/`, also one that is written in percent form.
        if plain.split(['/', '\\']).any(|segment| segment == "." || segment == "..") || path.contains('#') {
            return Err(format!("`path` must stay below `url`, without `.`, `..` and `#`, unlike `{path}`"));
        }
        if path.split('?').next().is_some_and(|path| path.contains('\\')) {
            return Err(format!("`path` must have no `\\`, unlike `{path}`: give it as a list of segments"));
        }
        for (name, value) in query {
            let value =
                scalar(value).ok_or_else(|| format!("`query.{name}` must be a text, a number, true or false"))?;
            let Some(value) = value else { continue };
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&format!("{}={}", encoded(name), encoded(&value)));
        }
        match url.parse::<Uri>() {
            Ok(uri) if uri.authority() == self.url.authority() => Ok(url),
            _ => {
                Err(format!("`path` must be one that can stand in a URL, not `{path}`: give it as a list of segments"))
            }
        }
    }
}

impl Asked {
    /// The same with the whole of an event as its body.
    pub(super) fn event(base: &Base, event: &[u8], content_type: &str) -> Result<Self, serde_json::Error> {
        let headers = BTreeMap::from([(CONTENT_TYPE.as_str().to_owned(), content_type.to_owned())]);
        let body = Some(Body(serde_json::from_slice(event)?));
        Ok(Self { method: base.method.to_string(), url: base.url.to_string(), headers, body })
    }

    fn is_json(&self) -> bool {
        let Some(kind) = self.headers.get(CONTENT_TYPE.as_str()) else { return true };
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind.ends_with("/json") || kind.ends_with("+json")
    }

    /// Whether JSON that is there has all that the body asks for.
    pub(super) fn is_within(&self, there: &[u8]) -> bool {
        let body = self.body.as_ref().filter(|_| self.is_json());
        let asked = body.and_then(|body| serde_json::from_str::<Value>(body.0.get()).ok());
        let there = serde_json::from_slice::<Value>(there).ok();
        asked.zip(there).is_some_and(|(asked, there)| is_within(&asked, &there))
    }

    /// The bytes of the body.
    pub(super) fn bytes(&self) -> Vec<u8> {
        match &self.body {
            None => Vec::new(),
            Some(body) if self.is_json() => body.0.get().as_bytes().to_vec(),
            Some(body) => serde_json::from_str::<String>(body.0.get()).unwrap_or_default().into_bytes(),
        }
    }

    /// Its headers, with the type of its body.
    pub(super) fn header_map(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        }
        if self.body.is_some() {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        }
        headers
    }
}

/// Whether a value has all that another one has: an object may have more members than that.
fn is_within(asked: &Value, there: &Value) -> bool {
    match (asked, there) {
        (Value::Object(asked), Value::Object(there)) => {
            asked.iter().all(|(name, value)| there.get(name).is_some_and(|there| is_within(value, there)))
        }
        (Value::Array(asked), Value::Array(there)) => {
            asked.len() == there.len() && asked.iter().zip(there).all(|(asked, there)| is_within(asked, there))
        }
        _ => asked == there,
    }
}

/// The text of a value that is none, one, or not a text at all.
fn scalar(value: &Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        Value::String(text) => Some(Some(text.clone())),
        Value::Number(_) | Value::Bool(_) => Some(Some(value.to_string())),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// By RFC 3986: everything but what is unreserved is written in percent form.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Base {
        Base {
            method: Method::POST,
            url: "https://erp.example/api/v2".parse().unwrap(),
            taken: Some(HeaderName::from_static("idempotency-key")),
        }
    }

    #[test]
    fn a_mapping_says_what_is_asked() {
        let mapped = r#"{"method":"PUT","path":["orders","web:7/ä"],"query":{"dry":false,"q":"a&b","no":null},
            "headers":{"If-Match":"\"3\"","x-none":null},"body":{"total": 12345678901234567890.10}}"#;
        let asked = base().mapped(mapped.as_bytes()).unwrap();
        assert_eq!((asked.method.as_str(), asked.headers["if-match"].as_str()), ("PUT", "\"3\""));
        assert_eq!(asked.url, "https://erp.example/api/v2/orders/web%3A7%2F%C3%A4?dry=false&q=a%26b");
        assert_eq!(asked.headers.len(), 1);
        let segment = base().mapped(br#"{"path":["a\\c","b"]}"#).unwrap();
        assert_eq!(segment.url, "https://erp.example/api/v2/a%5Cc/b");
        assert_eq!(asked.bytes(), br#"{"total": 12345678901234567890.10}"#, "no digit is lost");
        let again: Asked = serde_json::from_slice(&serde_json::to_vec(&asked).unwrap()).unwrap();
        assert_eq!(again, asked);

        let plain = base().mapped(b"{}").unwrap();
        assert_eq!((plain.method.as_str(), plain.url.as_str()), ("POST", "https://erp.example/api/v2"));
        assert!(plain.bytes().is_empty() && plain.header_map().is_empty());
        let form = br#"{"path":"/t?a=1","query":{"b":2},"headers":{"content-type":"text/plain"},"body":"a\nb"}"#;
        let form = base().mapped(form).unwrap();
        assert_eq!((form.url.as_str(), form.bytes()), ("https://erp.example/api/v2/t?a=1&b=2", b"a\nb".to_vec()));
    }

    #[test]
    fn what_cannot_be_asked_is_said() {
        let check = |mapped: &str, part: &str| {
            let error = base().mapped(mapped.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{mapped}: {error}");
        };
        check("[1]", "it must come to an object");
        check(r#"{"url":"https://other.example/"}"#, "unknown field `url`");
        check(r#"{"method":"get"}"#, "`method`");
        check(r#"{"method":"CONNECT"}"#, "`method`");
        for path in ["/../admin", "/a/%2e%2E/b", "/a#b", "/./a"] {
            check(&format!(r#"{{"path":"{path}"}}"#), "must stay below `url`");
        }
        check(r#"{"path":"/a b"}"#, "a list of segments");
        for path in [r"\\\\evil.example/x", r"/a\\b"] {
            check(&format!(r#"{{"path":"{path}"}}"#), "must have no `\\`");
        }
        for path in [r#""/a\\..\\..\\admin""#, r#""/a%5C..%5c../b""#, r#"["..\\x","b"]"#] {
            check(&format!(r#"{{"path":{path}}}"#), "must stay below `url`");
        }
        check(r#"{"path":["a",null]}"#, "a segment of `path`");
        check(r#"{"path":["..","x"]}"#, "must stay below `url`");
        check(r#"{"query":{"a":[1]}}"#, "`query.a`");
        check(r#"{"headers":{"Host":"x"}}"#, "`headers.Host` is set by the hub");
        check(r#"{"headers":{"Idempotency-Key":"x"}}"#, "is set by the hub");
        check(r#"{"headers":{"a b":"x"}}"#, "`headers.a b`");
        check(r#"{"headers":{"x":"a\nb"}}"#, "`headers.x`");
        check(r#"{"headers":{"content-type":"text/xml"},"body":{"a":1}}"#, "`body` must be a text");
    }

    #[test]
    fn a_path_that_looks_like_a_host_stays_a_path() {
        for path in ["//evil.example/x", "@evil.example", ":1234/x"] {
            let asked = base().mapped(format!(r#"{{"path":"{path}"}}"#).as_bytes()).unwrap();
            let uri: Uri = asked.url.parse().unwrap();
            assert_eq!(uri.authority().unwrap(), "erp.example", "{path}");
        }
    }
}

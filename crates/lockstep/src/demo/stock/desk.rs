//! A party's way to the hub's stock: its HTTP API, with an `Idempotency-Key` for everything. What is not answered is asked
//! again with the same key; with faults, some answers are not waited for, and some are asked for twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use lockstep_connectors::HttpClient;
use serde_json::Value;

use super::Sale;
use crate::demo::faults::{Faults, Sending};
use crate::demo::measure::Counters;
use crate::demo::systems::sender::{TIMEOUT, backoff_ms, is_passing};

/// What the hub said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// It is done; the answer.
    Done(Value),
    /// It can't be: the problem's code.
    Conflict(String),
    /// Nothing that could be used: it is told, or nothing more is asked.
    Nothing,
}

/// See the module.
pub(crate) struct Desk {
    pub(crate) client: HttpClient,
    /// `http://` and the address.
    pub(crate) base: String,
    pub(crate) key: HeaderValue,
    pub(crate) counters: Arc<Counters>,
    pub(crate) faults: Option<Arc<Faults>>,
    pub(crate) sale: Arc<Sale>,
    /// Set when nothing is to be asked again any more.
    pub(crate) give_up: Arc<AtomicBool>,
}

impl Desk {
    /// Asks until it is answered. `key` is what makes all attempts one request.
    pub(crate) async fn ask(&self, method: Method, path: &str, key: &str, body: &Value) -> Said {
        let url = format!("{}{path}", self.base);
        let Some(headers) = self.headers(key) else { return self.wrong(format!("`{key}` can't stand in a header")) };
        let mut first = None;
        let mut attempt = 0;
        loop {
            let sending = self.faults.as_ref().map_or(Sending::Well, |faults| faults.sending());
            if sending != Sending::Well {
                self.counters.faults_sent.one();
            }
            if let Sending::Late(time) = sending {
                tokio::time::sleep(time).await;
            }
            let request = self.client.request(method.clone(), &url, headers.clone(), body.to_string(), TIMEOUT);
            let answer = match sending {
                // The hub may have done it by then or not: the buyer does not know.
                Sending::Cuts(time) => tokio::time::timeout(time, request).await.ok().and_then(Result::ok),
                _ => request.await.ok(),
            };
            let wait_ms = match answer {
                Some(answer) if answer.status.is_success() => {
                    let said: Value = match serde_json::from_slice(&answer.body) {
                        Ok(said) => said,
                        Err(error) => {
                            return self.wrong(format!("the answer to {method} {path} can't be read: {error}"));
                        }
                    };
                    match first {
                        None if sending == Sending::Twice => first = Some(said),
                        None => return Said::Done(said),
                        Some(first) if is_again(&first, &said) => return Said::Done(first),
                        Some(first) => {
                            return self.wrong(format!("{method} {path} with one key was {first}, then {said}"));
                        }
                    }
                    0
                }
                Some(answer) if is_passing(answer.status) => backoff_ms(attempt),
                Some(answer) => {
                    let text = String::from_utf8_lossy(&answer.body);
                    let problem: Option<Value> = serde_json::from_slice(&answer.body).ok();
                    let code = problem.as_ref().and_then(|problem| problem["code"].as_str());
                    return match code {
                        Some(code) if answer.status == StatusCode::CONFLICT && first.is_none() => {
                            Said::Conflict(code.to_owned())
                        }
                        _ => self.wrong(format!("{method} {path} was answered {}: {text}", answer.status)),
                    };
                }
                None => backoff_ms(attempt),
            };
            if self.give_up.load(Ordering::Relaxed) {
                return Said::Nothing;
            }
            attempt += 1;
            self.sale.repeated.one();
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    fn headers(&self, key: &str) -> Option<HeaderMap> {
        let entries = [
            (AUTHORIZATION, self.key.clone()),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (HeaderName::from_static("idempotency-key"), HeaderValue::from_str(key).ok()?),
        ];
        Some(entries.into_iter().collect())
    }

    fn wrong(&self, what: String) -> Said {
        self.sale.tally().wrong(what);
        Said::Nothing
    }
}

/// Whether the second answer to one request is about the same as the first: the reservation, or one that says so.
fn is_again(first: &Value, second: &Value) -> bool {
    let lines = |of: &Value| -> Vec<_> {
        let lines = of["lines"].as_array().into_iter().flatten();
        lines.map(|line| (line["line"].clone(), line["sku"].clone(), line["quantity"].clone())).collect()
    };
    match first.get("id") {
        Some(_) => first["id"] == second["id"] && lines(first) == lines(second) && second["repeated"] == true,
        None => second["outcome"] == "duplicate",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_key_is_one_reservation() {
        let with = |id: &str, quantity: i64, repeated: bool| json!({"id": id, "lines": [{"line": 0, "sku": "A", "quantity": quantity, "open": 1}], "repeated": repeated});
        assert!(is_again(&with("a", 1, false), &with("a", 1, true)));
        for other in [with("a", 2, true), with("b", 1, true), with("a", 1, false), json!({"outcome": "duplicate"})] {
            assert!(!is_again(&with("a", 1, false), &other), "{other}");
        }
        assert!(is_again(&json!({"outcome": "applied"}), &json!({"outcome": "duplicate"})));
        assert!(!is_again(&json!({"outcome": "applied"}), &json!({"outcome": "applied"})));
    }
}

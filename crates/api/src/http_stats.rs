//! Requests by route, method and status, and how long they took until the answer began.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use http::{Method, StatusCode};
use lockstep_hub::Latency;

/// See the module. Routes are patterns, so their number is bounded.
#[derive(Debug, Default)]
pub(crate) struct HttpStats {
    routes: RwLock<HashMap<String, RouteStats>>,
    calls: RwLock<HashMap<(String, u16), AtomicU64>>,
}

#[derive(Debug, Default)]
struct RouteStats {
    answers: HashMap<(&'static str, u16), AtomicU64>,
    latency: Latency,
}

/// A copy of the figures.
#[derive(Debug, Default)]
pub(crate) struct HttpFigures {
    /// Route, method, status, count; sorted.
    pub(crate) answers: Vec<(String, &'static str, u16, u64)>,
    /// Route, counts by bucket, sum in microseconds; sorted.
    pub(crate) latencies: Vec<(String, Vec<u64>, u64)>,
    /// gRPC call, status, count; sorted.
    pub(crate) calls: Vec<(String, u16, u64)>,
}

impl HttpStats {
    pub(crate) fn count(&self, route: &str, method: &Method, status: StatusCode, took: Duration) {
        let took_us = took.as_micros() as u64;
        let key = (known_method(method), status.as_u16());
        {
            let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(stats) = routes.get(route)
                && let Some(count) = stats.answers.get(&key)
            {
                count.fetch_add(1, Ordering::Relaxed);
                stats.latency.record_us(took_us);
                return;
            }
        }
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let stats = routes.entry(route.to_owned()).or_default();
        stats.answers.entry(key).or_default().fetch_add(1, Ordering::Relaxed);
        stats.latency.record_us(took_us);
    }

    /// Counts a gRPC call. Names must be those of calls that there are, so that their number is bounded.
    pub(crate) fn count_call(&self, call: &str, status: u16) {
        let key = (call.to_owned(), status);
        {
            let calls = self.calls.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = calls.get(&key) {
                count.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        let mut calls = self.calls.write().unwrap_or_else(PoisonError::into_inner);
        calls.entry(key).or_default().fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn figures(&self) -> HttpFigures {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let mut figures = HttpFigures::default();
        for (route, stats) in routes.iter() {
            let (buckets, sum_us) = stats.latency.snapshot();
            figures.latencies.push((route.clone(), buckets, sum_us));
            for (&(method, status), count) in &stats.answers {
                figures.answers.push((route.clone(), method, status, count.load(Ordering::Relaxed)));
            }
        }
        let calls = self.calls.read().unwrap_or_else(PoisonError::into_inner);
        let call = |((call, status), count): (&(String, u16), &AtomicU64)| {
            (call.clone(), *status, count.load(Ordering::Relaxed))
        };
        figures.calls = calls.iter().map(call).collect();
        figures.calls.sort();
        figures.answers.sort();
        figures.latencies.sort();
        figures
    }
}

/// A method's name; anybody can invent methods, which must not become labels.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

//! `/metrics`: the hub's figures in the text format of Prometheus (0.0.4), read at each scrape.
//!
//! Written by hand: the official client library writes OpenMetrics only, in which a counter's samples have another
//! name than its help, and `promtool check metrics` takes that for a mistake.

use std::collections::BTreeMap;
use std::fmt::Write;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use lockstep_hub::{IncompleteFigure, Invariants, Latency, Stats, Tallies, now_us};
use std::sync::atomic::Ordering;

use crate::auth::authorize;
use crate::http_stats::HttpFigures;
use crate::keys::Scope;
use crate::problem::{Problem, ProblemBody};
use crate::{Api, metrics_flow, view};

/// Figures for Prometheus.
///
/// Needs no key where the hub is configured so.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "getMetrics",
    tag = "operating",
    responses(
        (status = 200, description = "The figures, in text format 0.0.4", body = String, content_type = "text/plain"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security((), ("key" = ["read"])),
)]
pub(crate) async fn show(State(api): State<Api>, headers: HeaderMap) -> Result<Response, Problem> {
    if !api.open_metrics {
        authorize(&headers, &api, Scope::Read)?;
    }
    let stats = api.hub.stats();
    let (mut tallies, running) = (stats.tallies(), api.hub.destinations());
    // One that has nothing to report yet has no sums yet.
    for name in &running {
        tallies.destinations.entry(name.clone()).or_default();
    }
    let mut flows = BTreeMap::new();
    for name in tallies.destinations.keys() {
        flows.insert(name.clone(), api.hub.flow(name).await?);
    }
    let mut text = render(stats, &tallies, (&running, &api.hub.destinations_down()), &api.http.figures());
    text.push_str(&metrics_flow::render(&tallies, &flows, &api.hub.flow_modes()));
    text.push_str(&metrics_flow::oversight(&api.hub.freshness(), &api.hub.alerts().await.unwrap_or_default()));
    Ok(view::json_bytes("text/plain; version=0.0.4; charset=utf-8", text.into()))
}

/// Writes families in the text format.
#[derive(Default)]
pub(crate) struct Text(pub(crate) String);

impl Text {
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a string can't fail.
        let _ = writeln!(self.0, "# HELP lockstep_{name} {help}\n# TYPE lockstep_{name} {kind}");
    }

    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = write!(self.0, "lockstep_{name}");
        for (at, (label, text)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{}\"", escape(text));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }

    pub(crate) fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], (counts, sum_us): (&[u64], u64)) {
        let bucket = format!("{name}_bucket");
        let mut total = 0;
        for (at, count) in counts.iter().enumerate() {
            total += count;
            let bound = Latency::BOUNDS_US.get(at).map_or("+Inf".to_owned(), |us| (*us as f64 / 1e6).to_string());
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            self.sample(&bucket, &labels, total);
        }
        self.sample(&format!("{name}_sum"), labels, sum_us as f64 / 1e6);
        self.sample(&format!("{name}_count"), labels, total);
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The running destinations, and those that count as down.
type Standing<'a> = (&'a [String], &'a BTreeMap<String, i64>);

fn render(stats: &Stats, tallies: &Tallies, standing: Standing<'_>, http: &HttpFigures) -> String {
    let mut text = Text::default();
    hub(&mut text, stats, tallies);
    incomplete(&mut text, &stats.incomplete());
    invariants(&mut text, &stats.invariants());
    sources(&mut text, stats, tallies);
    destinations(&mut text, tallies, standing);
    requests(&mut text, http);
    text.0
}

/// The numbers of the invariants that the hub checks while it runs: a series that is always there can be alerted on.
const INVARIANTS: [u8; 5] = [1, 2, 3, 4, 8];

fn invariants(text: &mut Text, told: &Invariants) {
    let help = "Violations of the invariants of stock that stand, by the invariant's number (docs/cli.md).";
    text.family("invariant_violations", "gauge", help);
    let others = told.violations.keys().filter(|number| !INVARIANTS.contains(number));
    for number in INVARIANTS.iter().chain(others) {
        let count = told.violations.get(number).copied().unwrap_or(0);
        text.sample("invariant_violations", &[("invariant", &number.to_string())], count);
    }
    let help = "SKUs whose invariants were checked, since the start.";
    text.one("invariant_checks_total", "counter", help, told.checked);
    let help = "SKUs that have changed since their invariants were checked.";
    text.one("invariant_checks_waiting", "gauge", help, told.waiting);
}

fn hub(text: &mut Text, stats: &Stats, tallies: &Tallies) {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    text.family("build_info", "gauge", "Always 1; its label says which version runs.");
    text.sample("build_info", &version, 1);
    let readiness = stats.readiness();
    text.one("ready", "gauge", "Whether writes are accepted and get through.", u8::from(readiness.ready));
    let get = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
    let positions = [
        ("decided_position", "The last decided record.", get(&stats.decided)),
        ("durable_position", "The last durable record.", get(&stats.durable)),
        ("flushed_position", "The record up to which the state file stands.", get(&stats.flushed)),
        ("event_position", "The record of the last published event.", tallies.last_event),
    ];
    for (name, help, value) in positions {
        text.one(name, "gauge", help, value);
    }
    let bytes = [
        ("queue_bytes", "Inputs that wait for the loop.", get(&stats.queue_bytes)),
        ("cache_bytes", "Clean entities in memory.", get(&stats.cache_bytes)),
        ("dirty_bytes", "Changed entities that the state file does not have yet.", get(&stats.dirty_bytes)),
    ];
    for (name, help, value) in bytes {
        text.one(name, "gauge", help, value);
    }
    text.one("disk_full", "gauge", "Whether the disk is full.", u8::from(stats.disk_full.load(Ordering::Relaxed)));
    text.one(
        "poisoned",
        "gauge",
        "Whether a failed write keeps the journal from taking more.",
        u8::from(stats.poisoned().is_some()),
    );
    text.one("batches_total", "counter", "Journal appends.", get(&stats.batches));
    text.one("events_published_total", "counter", "Published events.", tallies.published);
    text.one("saturated_total", "counter", "Requests that were told that the hub is saturated.", get(&stats.saturated));
    let alive_s = stats.loop_alive_us.load(Ordering::Relaxed) as f64 / 1e6;
    text.one("loop_alive_timestamp_seconds", "gauge", "When the loop last came round, in seconds since 1970.", alive_s);
    text.one(
        "conservation_violations",
        "gauge",
        "Sums that do not add up; always 0 where all is well.",
        tallies.violations().len(),
    );
    let latencies = [
        ("commit_seconds", "From an input's arrival in the loop's queue to its durable answer.", &stats.commit),
        ("append_seconds", "One journal append with its sync.", &stats.append),
        (
            "end_to_end_seconds",
            "From a delivery's receipt to its acknowledged delivery at a destination.",
            &stats.end_to_end,
        ),
    ];
    for (name, help, latency) in latencies {
        let (counts, sum_us) = latency.snapshot();
        text.family(name, "histogram", help);
        text.histogram(name, &[], (&counts, sum_us));
    }
}

fn incomplete(text: &mut Text, figures: &[IncompleteFigure]) {
    if figures.is_empty() {
        return;
    }
    let now_us = now_us();
    text.family(
        "incomplete_entities",
        "gauge",
        "Entities of which nobody is told, because required fields are missing.",
    );
    for figure in figures {
        text.sample("incomplete_entities", &[("kind", &figure.kind)], figure.count);
    }
    text.family(
        "incomplete_oldest_seconds",
        "gauge",
        "For how long the oldest of them has been so; 0 where there is none.",
    );
    for figure in figures {
        text.sample("incomplete_oldest_seconds", &[("kind", &figure.kind)], figure.age_us(now_us) as f64 / 1e6);
    }
    text.family("incomplete_overdue", "gauge", "Whether that is longer than `incomplete_after_s` of the domain.");
    for figure in figures {
        text.sample("incomplete_overdue", &[("kind", &figure.kind)], u8::from(figure.overdue(now_us).is_some()));
    }
}

fn sources(text: &mut Text, stats: &Stats, tallies: &Tallies) {
    let unauthentic = stats.unauthentic.load(Ordering::Relaxed);
    text.one("unauthentic_total", "counter", "Deliveries with a missing, wrong or stale signature.", unauthentic);
    if tallies.sources.is_empty() {
        return;
    }
    text.family("source_received_total", "counter", "Deliveries that reached the loop.");
    for (name, tally) in &tallies.sources {
        text.sample("source_received_total", &[("source", name)], tally.received);
    }
    text.family(
        "source_outcomes_total",
        "counter",
        "What became of them; the outcomes of a source add up to what it sent.",
    );
    for (name, tally) in &tallies.sources {
        let outcomes = [
            ("applied", tally.applied),
            ("duplicate", tally.duplicate),
            ("quarantined", tally.quarantined),
            ("refused", tally.refused),
            ("superseded", tally.superseded),
        ];
        for (outcome, count) in outcomes {
            text.sample("source_outcomes_total", &[("source", name), ("outcome", outcome)], count);
        }
    }
}

fn destinations(text: &mut Text, tallies: &Tallies, (running, down): Standing<'_>) {
    if tallies.destinations.is_empty() {
        return;
    }
    let known = || tallies.destinations.iter();
    text.family("destination_delivered_total", "counter", "Delivered events.");
    for (name, tally) in known() {
        text.sample("destination_delivered_total", &[("destination", name)], tally.delivered);
    }
    text.family(
        "destination_filtered_total",
        "counter",
        "Events that the filter kept back, or that its own system had said.",
    );
    for (name, tally) in known() {
        text.sample("destination_filtered_total", &[("destination", name)], tally.filtered);
    }
    text.family("destination_discarded_total", "counter", "Dead letters given up by an operator.");
    for (name, tally) in known() {
        text.sample("destination_discarded_total", &[("destination", name)], tally.discarded);
    }
    text.family(
        "destination_superseded_total",
        "counter",
        "Events of which a newer one of the same entity was sent instead, and dead letters overtaken by one.",
    );
    for (name, tally) in known() {
        text.sample("destination_superseded_total", &[("destination", name)], tally.superseded);
    }
    text.family("destination_skipped_total", "counter", "Events published before the destination was added.");
    for (name, tally) in known() {
        text.sample("destination_skipped_total", &[("destination", name)], tally.skipped);
    }
    text.family("destination_dead_letters", "gauge", "Open dead letters.");
    for (name, tally) in known() {
        text.sample("destination_dead_letters", &[("destination", name)], tally.dead);
    }
    text.family("destination_pending", "gauge", "Events still to be settled.");
    for (name, tally) in known() {
        text.sample("destination_pending", &[("destination", name)], tally.pending(tallies.published).max(0));
    }
    text.family(
        "destination_lag_positions",
        "gauge",
        "How many records the destination's cursor is behind the last event.",
    );
    for (name, tally) in known() {
        text.sample(
            "destination_lag_positions",
            &[("destination", name)],
            tallies.last_event.saturating_sub(tally.cursor),
        );
    }
    text.family("destination_running", "gauge", "Whether deliveries to it are running.");
    for (name, _) in known() {
        text.sample("destination_running", &[("destination", name)], u8::from(running.contains(name)));
    }
    text.family("destination_down", "gauge", "Whether it counts as down: only single probes are sent to it.");
    for (name, _) in known() {
        text.sample("destination_down", &[("destination", name)], u8::from(down.contains_key(name)));
    }
}

fn requests(text: &mut Text, http: &HttpFigures) {
    if !http.calls.is_empty() {
        text.family(
            "grpc_calls_total",
            "counter",
            "gRPC calls, by the status that they failed with at once; 0 for others.",
        );
        for (call, status, count) in &http.calls {
            text.sample("grpc_calls_total", &[("call", call), ("status", &status.to_string())], count);
        }
    }
    if http.answers.is_empty() {
        return;
    }
    text.family("http_requests_total", "counter", "Answered HTTP requests.");
    for (route, method, status, count) in &http.answers {
        let status = status.to_string();
        text.sample("http_requests_total", &[("route", route), ("method", method), ("status", &status)], count);
    }
    text.family("http_request_seconds", "histogram", "From a request's headers to the beginning of its answer.");
    for (route, counts, sum_us) in &http.latencies {
        text.histogram("http_request_seconds", &[("route", route)], (counts, *sum_us));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulative_and_in_seconds() {
        let latency = Latency::default();
        for us in [50, 100, 3_000, 99_000_000] {
            latency.record_us(us);
        }
        let (counts, sum_us) = latency.snapshot();
        let mut text = Text::default();
        text.histogram("x_seconds", &[("route", "/a\"b")], (&counts, sum_us));
        let has = |line: &str| assert!(text.0.lines().any(|l| l == line), "{line} in\n{}", text.0);
        has(r#"lockstep_x_seconds_bucket{route="/a\"b",le="0.0001"} 2"#);
        has(r#"lockstep_x_seconds_bucket{route="/a\"b",le="0.005"} 3"#);
        has(r#"lockstep_x_seconds_bucket{route="/a\"b",le="10"} 3"#);
        has(r#"lockstep_x_seconds_bucket{route="/a\"b",le="+Inf"} 4"#);
        has(r#"lockstep_x_seconds_sum{route="/a\"b"} 99.00315"#);
        has(r#"lockstep_x_seconds_count{route="/a\"b"} 4"#);
    }
}

//! How deliveries go, for `/metrics`.

use std::collections::BTreeMap;

use lockstep_core::alert::Status;
use lockstep_core::delivery::Counts;
use lockstep_hub::delivery::{Flow, FlowMode};
use lockstep_hub::{AlertRow, FreshnessRow, Tallies, now_us};

use crate::metrics::Text;

fn windows(flow: &Flow) -> [(&'static str, Counts); 2] {
    [("5m", flow.minutes), ("1d", flow.day)]
}

/// The families of flows.
pub(crate) fn render(tallies: &Tallies, flows: &BTreeMap<String, Flow>, modes: &BTreeMap<String, FlowMode>) -> String {
    let mut text = Text::default();
    if flows.is_empty() {
        return text.0;
    }
    let help = "Events that were taken up and of which nobody knows what became of them; always 0 where all is well.";
    text.family("destination_unaccounted", "gauge", help);
    for (name, tally) in &tallies.destinations {
        text.sample("destination_unaccounted", &[("destination", name)], tally.unaccounted());
    }
    let help = "How much a flow gets: 0 real time, 1 queue, 2 micro-batch, 3 pause.";
    text.family("flow_step", "gauge", help);
    for (name, mode) in modes {
        text.sample("flow_step", &[("destination", name)], mode.step as u8);
    }
    text.family("flow_by_hand", "gauge", "Whether that was set by hand.");
    for (name, mode) in modes {
        text.sample("flow_by_hand", &[("destination", name)], u8::from(mode.pin.is_some()));
    }
    let now_us = now_us();
    text.family(
        "destination_lag_seconds",
        "gauge",
        "How old the oldest event is that is not settled; 0 where none is.",
    );
    for (name, flow) in flows {
        text.sample("destination_lag_seconds", &[("destination", name)], flow.lag_us(now_us) as f64 / 1e6);
    }
    let help = "When something was last delivered, in seconds since 1970; 0 where nothing was since the start.";
    text.family("destination_last_success_timestamp_seconds", "gauge", help);
    for (name, flow) in flows {
        let at_s = flow.last_success_us.unwrap_or(0) as f64 / 1e6;
        text.sample("destination_last_success_timestamp_seconds", &[("destination", name)], at_s);
    }
    text.family(
        "destination_held",
        "gauge",
        "Entities whose events are held until a window ends, or for the schedule.",
    );
    for (name, flow) in flows {
        text.sample("destination_held", &[("destination", name)], flow.held);
    }
    text.family("destination_waiting", "gauge", "Entities whose events wait until another one has arrived.");
    for (name, flow) in flows {
        text.sample("destination_waiting", &[("destination", name)], flow.waiting);
    }
    text.family("destination_attempts_lately", "gauge", "Attempts in a sliding time, by what they came to.");
    for (name, flow) in flows {
        for (window, counts) in windows(flow) {
            for (result, count) in [("succeeded", counts.succeeded), ("failed", counts.failed)] {
                let labels = [("destination", name.as_str()), ("window", window), ("result", result)];
                text.sample("destination_attempts_lately", &labels, count);
            }
        }
    }
    text.family(
        "destination_success_ratio",
        "gauge",
        "The share of those that succeeded; absent where there was none.",
    );
    for (name, flow) in flows {
        for (window, counts) in windows(flow) {
            if let Some(ratio) = counts.ratio() {
                text.sample("destination_success_ratio", &[("destination", name.as_str()), ("window", window)], ratio);
            }
        }
    }
    text.0
}

/// The families of freshness and alerts.
pub(crate) fn oversight(freshness: &[FreshnessRow], alerts: &[AlertRow]) -> String {
    let mut text = Text::default();
    let open = alerts.iter().filter(|row| row.alert.status == Status::Open).count();
    text.one("alerts_open", "gauge", "Alerts that nobody has acknowledged.", open);
    if freshness.is_empty() {
        return text.0;
    }
    let help =
        "How fresh a domain is at a destination (@hub: in the hub): 0 current, 1 delayed, 2 partial, 3 unreliable.";
    text.family("freshness_state", "gauge", help);
    for row in freshness {
        let labels = [("destination", row.destination.as_str()), ("domain", row.domain.as_str())];
        text.sample("freshness_state", &labels, row.verdict.state as u8);
    }
    let help = "In how many seconds the limit will be exceeded if things go on like this; absent where it will not.";
    text.family("freshness_breach_seconds", "gauge", help);
    for row in freshness {
        let labels = [("destination", row.destination.as_str()), ("domain", row.domain.as_str())];
        if let Some(breach_in_s) = row.breach_in_s {
            text.sample("freshness_breach_seconds", &labels, breach_in_s);
        }
    }
    text.0
}

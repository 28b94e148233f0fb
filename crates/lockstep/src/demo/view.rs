//! The live table: what is happening now, in at most a hundred columns.

use std::time::{Duration, Instant};

use lockstep_hub::{Latency, Tallies};

use super::measure::{Counters, Latency as Timed, Percentiles};
use super::party::Party;
use super::settle::{changes, standing};
use super::stock::figures;
use super::stock::tally::Sums;
use super::text::{grouped, millis, signed};

/// How wide the table is at most.
const COLUMNS: usize = 100;

/// What is known at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    /// For each party: sent, received.
    sent: [u64; Party::ALL.len()],
    received: [u64; Party::ALL.len()],
    tallies: Tallies,
    commit_us: (Option<u64>, Option<u64>),
    /// The sale of scarce articles, where there is one.
    sale: Option<Sums>,
}

impl Moment {
    pub(crate) fn of<'a>(
        counters: impl Iterator<Item = (Party, &'a Counters)>,
        tallies: Tallies,
        commit: &Latency,
        sale: Option<Sums>,
    ) -> Self {
        let (mut sent, mut received) = ([0; Party::ALL.len()], [0; Party::ALL.len()]);
        for (party, counters) in counters {
            sent[party.index()] = counters.sent.get();
            received[party.index()] = counters.received.get();
        }
        let (counts, _) = commit.snapshot();
        let commit_us = (bound_us(&counts, 0.50), bound_us(&counts, 0.99));
        Self { at: Instant::now(), sent, received, tallies, commit_us, sale }
    }

    /// The sums of the hub.
    pub(crate) fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    fn changes(&self) -> u64 {
        changes(&self.tallies)
    }

    fn deliveries(&self) -> u64 {
        self.tallies.destinations.values().map(|t| t.delivered).sum()
    }
}

/// The upper bound of the bucket in which a quantile lies; nothing beyond the last bound.
pub(crate) fn bound_us(counts: &[u64], quantile: f64) -> Option<u64> {
    let total: u64 = counts.iter().sum();
    let wanted = (total as f64 * quantile).ceil() as u64;
    let mut sum = 0;
    for (count, bound) in counts.iter().zip(Latency::BOUNDS_US) {
        sum += count;
        if sum >= wanted {
            return Some(bound);
        }
    }
    None
}

/// What the table says besides numbers.
#[derive(Clone, Debug)]
pub(crate) struct Headline {
    /// The run: what is offered, the seed, faults.
    pub(crate) run: String,
    /// What is being done.
    pub(crate) phase: String,
}

/// The operator's doings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Doings {
    pub(crate) retried: u64,
}

/// Where rates are from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rates<'a> {
    /// From this moment on until now.
    Since(&'a Moment),
    /// Over the whole run of this length.
    Whole(Duration),
}

impl Rates<'_> {
    fn per_s(&self, now: &Moment, value: impl Fn(&Moment) -> u64) -> u64 {
        let (count, over) = match self {
            Self::Since(then) => (value(now).saturating_sub(value(then)), now.at.duration_since(then.at)),
            Self::Whole(over) => (value(now), *over),
        };
        if over.is_zero() { 0 } else { (count as f64 / over.as_secs_f64()).round() as u64 }
    }
}

/// Styles of the table: numbers of ANSI's SGR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ink {
    Bold,
    Dim,
    Good,
    Bad,
}

fn paint(colour: bool, ink: Ink, text: &str) -> String {
    let code = match ink {
        Ink::Bold => "1",
        Ink::Dim => "2",
        Ink::Good => "32",
        Ink::Bad => "31;1",
    };
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// The table.
pub(crate) fn table<'a>(
    headline: &Headline,
    now: &Moment,
    rates: Rates<'_>,
    systems: impl Iterator<Item = (Party, &'a Counters)> + Clone,
    doings: Doings,
    colour: bool,
) -> Vec<String> {
    let mut lines = Vec::new();
    // A line that does not fit would be broken by the terminal, and drawn over wrongly.
    let room = COLUMNS.saturating_sub(headline.phase.chars().count() + 2);
    let title: String = format!("lockstep demo   {}", headline.run).chars().take(room).collect();
    let gap = COLUMNS.saturating_sub(title.chars().count() + headline.phase.chars().count());
    lines.push(format!("{}{}{}", paint(colour, Ink::Bold, &title), " ".repeat(gap), headline.phase));
    lines.push(String::new());
    lines.push(paint(
        colour,
        Ink::Dim,
        "system       sent/s      sent  accepted   again |received/s  verified   bad   again | p50 ms  p99 ms",
    ));
    for (party, counters) in systems.clone() {
        let at = party.index();
        let timed = counters.latency.percentiles();
        let bad = counters.rejected.get() + counters.malformed.get();
        let bad_text = format!("{:>6}", grouped(bad));
        lines.push(format!(
            "{:<12}{:>7}{:>10}{:>10}{:>8} |{:>10}{:>10}{}{:>8} |{:>7}{:>8}",
            party.name(),
            grouped(rates.per_s(now, |m| m.sent[at])),
            grouped(counters.sent.get()),
            grouped(counters.accepted.get()),
            grouped(counters.retried.get()),
            grouped(rates.per_s(now, |m| m.received[at])),
            grouped(counters.verified.get()),
            if bad > 0 { paint(colour, Ink::Bad, &bad_text) } else { bad_text },
            grouped(counters.repeated.get()),
            millis(timed.p50_us),
            millis(timed.p99_us),
        ));
    }
    lines.push(String::new());
    hub_lines(&mut lines, now, rates, systems.clone(), colour);
    lines.push(String::new());
    conservation_lines(&mut lines, now, colour);
    lines.push(String::new());
    if let Some(sums) = &now.sale {
        let per_s = rates.per_s(now, |m| m.sale.map_or(0, |sums| sums.reserved));
        lines.push(format!("{}  {}", paint(colour, Ink::Bold, "sale"), figures::line(sums, per_s)));
    }
    let dead: u64 = now.tallies.destinations.values().map(|t| t.dead).sum();
    let faults: u64 = systems.map(|(_, c)| c.faults_sent.get() + c.faults_received.get()).sum();
    lines.push(format!(
        "dead letters {} open, {} sent again by the operator    faults made {}",
        grouped(dead),
        grouped(doings.retried),
        grouped(faults)
    ));
    lines
}

fn hub_lines<'a>(
    lines: &mut Vec<String>,
    now: &Moment,
    rates: Rates<'_>,
    systems: impl Iterator<Item = (Party, &'a Counters)>,
    colour: bool,
) {
    let commit = |bound: Option<u64>| bound.map_or_else(|| "> 10,000".to_owned(), |us| format!("<= {}", millis(us)));
    lines.push(format!(
        "{}  changes/s {:<8} events/s {:<8} deliveries/s {:<8} commit ms p50 {}  p99 {}",
        paint(colour, Ink::Bold, "hub"),
        grouped(rates.per_s(now, Moment::changes)),
        grouped(rates.per_s(now, |m| m.tallies.published)),
        grouped(rates.per_s(now, Moment::deliveries)),
        commit(now.commit_us.0),
        commit(now.commit_us.1),
    ));
    let Percentiles { p50_us, p95_us, p99_us, max_us, .. } = Timed::together(systems.map(|(_, c)| &c.latency));
    lines.push(format!(
        "     webhook received to delivery answered, ms:  p50 {}  p95 {}  p99 {}  max {}",
        paint(colour, Ink::Bold, &millis(p50_us)),
        paint(colour, Ink::Bold, &millis(p95_us)),
        paint(colour, Ink::Bold, &millis(p99_us)),
        millis(max_us),
    ));
}

fn conservation_lines(lines: &mut Vec<String>, now: &Moment, colour: bool) {
    let tallies = &now.tallies;
    let mark = |holds: bool| if holds { paint(colour, Ink::Good, "ok") } else { paint(colour, Ink::Bad, "BROKEN") };
    let sum = tallies.sources.values().fold([0; 6], |sum, t| {
        let one = [t.received, t.applied, t.superseded, t.duplicate, t.quarantined, t.refused];
        std::array::from_fn(|at| sum[at] + one[at])
    });
    let [received, applied, superseded, duplicate, quarantined, refused] = sum;
    lines.push(paint(
        colour,
        Ink::Dim,
        "in             received  =    applied  + superseded  +  duplicate  + quarantined  +  refused",
    ));
    lines.push(format!(
        "{:<12}{:>11}{:>14}{:>13}{:>14}{:>14}{:>11}    {}",
        "all",
        grouped(received),
        grouped(applied),
        grouped(superseded),
        grouped(duplicate),
        grouped(quarantined),
        grouped(refused),
        mark(received == applied + superseded + duplicate + quarantined + refused),
    ));
    let violations = tallies.violations();
    lines.push(paint(
        colour,
        Ink::Dim,
        "out           published  =  delivered  +   filtered  +    pending  +     dead  +  superseded",
    ));
    for party in Party::ALL {
        let tally = standing(tallies, party);
        let pending = tally.pending(tallies.published);
        let broken = violations.iter().any(|v| v.contains(&format!("destination {}:", party.name())));
        lines.push(format!(
            "{:<12}{:>11}{:>14}{:>14}{:>14}{:>12}{:>15}  {}",
            party.name(),
            grouped(tallies.published),
            grouped(tally.delivered),
            grouped(tally.filtered),
            signed(pending),
            grouped(tally.dead),
            grouped(tally.superseded + tally.discarded + tally.skipped),
            mark(!broken && pending >= 0),
        ));
    }
}

/// The same in one line, where there is no terminal.
pub(crate) fn line<'a>(
    headline: &Headline,
    now: &Moment,
    then: &Moment,
    systems: impl Iterator<Item = (Party, &'a Counters)>,
) -> String {
    let rates = Rates::Since(then);
    let timed = Timed::together(systems.map(|(_, c)| &c.latency));
    let (pending, dead) = Party::ALL
        .iter()
        .map(|party| standing(&now.tallies, *party))
        .fold((0, 0), |sum, t| (sum.0 + t.pending(now.tallies.published), sum.1 + t.dead));
    let sale = now.sale.map(|sums| {
        format!(", {} of {} scarce units sold, oversold {}", sums.units_sold, sums.units_there, sums.oversold)
    });
    format!(
        "{}: {} changes/s, {} deliveries/s, p50 {} ms, p99 {} ms, {} pending, {} dead letters{}",
        headline.phase,
        grouped(rates.per_s(now, Moment::changes)),
        grouped(rates.per_s(now, Moment::deliveries)),
        millis(timed.p50_us),
        millis(timed.p99_us),
        signed(pending),
        grouped(dead),
        sale.unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use lockstep_hub::{DestinationTally, SourceTally};

    use super::*;

    #[test]
    fn a_quantile_is_the_bound_of_its_bucket() {
        let mut counts = vec![0; Latency::BOUNDS_US.len() + 1];
        counts[1] = 98;
        counts[4] = 2;
        assert_eq!(bound_us(&counts, 0.50), Some(Latency::BOUNDS_US[1]));
        assert_eq!(bound_us(&counts, 0.99), Some(Latency::BOUNDS_US[4]));
        counts[Latency::BOUNDS_US.len()] = 1_000;
        assert_eq!(bound_us(&counts, 0.99), None);
    }

    #[test]
    fn the_table_fits_a_hundred_columns_with_large_numbers() {
        let all: Vec<_> = Party::ALL.into_iter().map(|party| (party, Counters::default())).collect();
        let mut tallies = Tallies { published: 9_999_999, last_event: 1, ..Tallies::default() };
        for (party, counters) in &all {
            for counter in [&counters.sent, &counters.accepted, &counters.received, &counters.verified] {
                counter.add(9_999_999);
            }
            counters.latency.record(2_000_000);
            let destination = DestinationTally { delivered: 9_999_999, ..DestinationTally::default() };
            tallies.destinations.insert(party.name().to_owned(), destination);
        }
        let source =
            SourceTally { received: 9_999_999, applied: 9_990_000, superseded: 9_999, ..SourceTally::default() };
        tallies.sources.insert("shop".to_owned(), source);
        let systems = || all.iter().map(|(party, counters)| (*party, counters));
        let (reserved, refused) = (999_999, 9_999_999);
        let sums =
            Sums { reserved, refused, units_there: 999_999, units_sold: 999_999, oversold: 9_999, ..Sums::default() };
        let now = Moment::of(systems(), tallies, &Latency::default(), Some(sums));
        let headline = Headline { run: "2,000 changes/s   seed 1   with faults".into(), phase: "12 s of 30 s".into() };
        let rates = Rates::Whole(Duration::from_secs(30));
        let lines = table(&headline, &now, rates, systems(), Doings::default(), false);
        for line in &lines {
            assert!(line.chars().count() <= COLUMNS, "{} columns: {line}", line.chars().count());
        }
    }
}

//! The end of a run: the verdict, and what it rests on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use super::DemoArgs;
use super::measure::{Latency as Timed, Percentiles};
use super::orders::audit::Audit;
use super::orders::totals::Totals;
use super::party::Party;
use super::session::{Session, Stuck};
use super::settle::{changes, recorded, standing};
use super::stock::audit::{self, Audited};
use super::stock::figures;
use super::stock::tally::Sums;
use super::systems::copy::Copy;
use super::text::{grouped, signed};
use super::verdict::{Comparison, compare};
use super::view::{self, Headline, Moment, Rates, bound_us};

/// See the module.
pub(crate) struct Report {
    comparison: Comparison,
    /// What is wrong besides differing copies, one sentence each.
    problems: Vec<String>,
    /// The sums of the file and of the hub's state.
    orders: Option<(Totals, Totals)>,
    /// The sale of scarce articles: its sums, and what programs are told of it.
    sale: Option<(Sums, Value)>,
    /// How many entities of each kind the hub has.
    kinds: BTreeMap<String, u64>,
    moment: Moment,
    latency: Percentiles,
    commit_us: (Option<u64>, Option<u64>),
    sending: Duration,
    quarantined: u64,
    systems: Value,
    retried: u64,
}

impl Report {
    /// Compares everything. The hub still runs: its state is read through its API.
    pub(crate) async fn make(
        session: &Session,
        settled: Result<(), Stuck>,
        file: Option<Totals>,
    ) -> anyhow::Result<Self> {
        let world = &session.world;
        let copies = world.copies();
        let mut audit = Audit::default();
        let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
        let counting = file.is_some();
        let comparison = compare(&world.api, &copies, |kind, entity| {
            *kinds.entry(kind.to_owned()).or_default() += 1;
            if counting && kind == "order" {
                audit.order(&entity.key, entity.document.get());
            }
        });
        let mut comparison = comparison.await.context("the hub's state can't be compared")?;

        let mut problems = Vec::new();
        if let Err(Stuck(stuck)) = settled {
            problems.extend(stuck.into_iter().map(|what| format!("not settled: {what}")));
        }
        let moment = session.moment();
        problems.extend(moment.tallies().violations().into_iter().map(|what| format!("conservation: {what}")));
        let quarantined = moment.tallies().sources.values().map(|t| t.quarantined).sum();
        for item in world.api.quarantine().await.context("the quarantine can't be read")? {
            problems.push(format!("quarantined from {}: {} ({}) {}", item.source, item.detail, item.code, item.at));
        }
        systems(session, &moment, &mut problems);
        let sale = match &world.sale {
            None => None,
            Some(sale) => {
                audit::fronts(&world.api, sale, &copies, &mut comparison).await?;
                let Audited { reservations, problems: found } = audit::audit(&world.api, sale).await?;
                problems.extend(found);
                let sums = sale.tally().sums();
                Some((sums, figures::json(sale, &sums, reservations)))
            }
        };
        let orders = file.map(|file| {
            problems.extend(audit.unreadable.iter().take(10).cloned());
            let hub = audit.totals();
            for ((name, file), (_, hub)) in file.rows().into_iter().zip(hub.rows()) {
                if file != hub {
                    problems.push(format!("{name}: {file} in the file, {hub} in the hub"));
                }
            }
            (file, hub)
        });
        let hub = world.hub();
        let (counts, _) = hub.stats().commit.snapshot();
        Ok(Self {
            comparison,
            problems,
            orders,
            sale,
            kinds,
            latency: Timed::together(session.systems().map(|(_, c)| &c.latency)),
            commit_us: (bound_us(&counts, 0.50), bound_us(&counts, 0.99)),
            sending: session.sending,
            quarantined,
            systems: systems_json(session, &copies)?,
            retried: session.retried.get(),
            moment,
        })
    }

    /// Whether every copy equals the hub's state, and nothing else is wrong.
    pub(crate) fn is_equal(&self) -> bool {
        self.comparison.differences == 0 && self.problems.is_empty()
    }

    /// The table as it stands at the end, with rates over the whole time of sending.
    pub(crate) fn table(&self, session: &Session, colour: bool) -> Vec<String> {
        let headline = Headline {
            run: session.run.clone(),
            phase: format!("sent for {:.1} s, mean rates", self.sending.as_secs_f64()),
        };
        let rates = Rates::Whole(self.sending);
        view::table(&headline, &self.moment, rates, session.systems(), session.doings(), colour)
    }

    /// For people: what is wrong, sums, and the verdict as the last line.
    pub(crate) fn text(&self) -> Vec<String> {
        let mut lines = vec![String::new()];
        if let Some((file, hub)) = &self.orders {
            lines.push(format!("{:<16}{:>16}{:>16}", "orders", "in the file", "in the hub"));
            for ((name, file), (_, hub)) in file.rows().into_iter().zip(hub.rows()) {
                let mark = if file == hub { "" } else { "  different" };
                lines.push(format!("{name:<16}{file:>16}{hub:>16}{mark}"));
            }
            lines.push(String::new());
        }
        let told = &self.comparison.told;
        for difference in told {
            let field = if difference.field.is_empty() { "" } else { " " };
            lines.push(format!(
                "{}: {}{field}{}: {} here, {} in the hub",
                difference.system, difference.entity, difference.field, difference.theirs, difference.hubs
            ));
        }
        let more = self.comparison.differences - told.len() as u64;
        if more > 0 {
            lines.push(format!("and {} more differences", grouped(more)));
        }
        lines.extend(self.problems.iter().cloned());
        lines.extend(self.sale.iter().map(|(sums, _)| figures::summary(sums)));
        let oversold = self.sale.as_ref().map(|(sums, _)| format!(", oversold {}", signed(sums.oversold)));
        lines.push(format!(
            "verdict: {} ({} systems, {} entities, {} differences{}{})",
            if self.is_equal() { "equal" } else { "different" },
            Party::ALL.len(),
            grouped(self.comparison.entities),
            grouped(self.comparison.differences),
            oversold.unwrap_or_default(),
            match self.problems.len() {
                0 => String::new(),
                1 => ", 1 problem".to_owned(),
                several => format!(", {several} problems"),
            },
        ));
        lines
    }

    /// For programs: everything in one document.
    pub(crate) fn json(&self, args: &DemoArgs) -> Value {
        let tallies = self.moment.tallies();
        let sending_s = self.sending.as_secs_f64();
        let per_s = |count: u64| if sending_s > 0.0 { (count as f64 / sending_s).round() } else { 0.0 };
        let received = changes(tallies);
        let delivered: u64 = tallies.destinations.values().map(|t| t.delivered).sum();
        let destinations: BTreeMap<_, _> = Party::ALL
            .iter()
            .map(|party| {
                let tally = standing(tallies, *party);
                let counts = json!({
                    "published": tallies.published,
                    "delivered": tally.delivered,
                    "filtered": tally.filtered,
                    "pending": tally.pending(tallies.published),
                    "dead": tally.dead,
                    "superseded": tally.superseded,
                    "discarded": tally.discarded,
                    "skipped": tally.skipped,
                });
                (party.name(), counts)
            })
            .collect();
        let mut document = json!({
            "seed": args.seed,
            "faults": args.faults,
            "sending_s": sending_s,
            "rate_offered_per_s": if args.orders.is_some() { Value::Null } else { args.rate.into() },
            "systems": self.systems,
            "hub": {
                "changes": received,
                "changes_per_s": per_s(received),
                "events": tallies.published,
                "events_per_s": per_s(tallies.published),
                "deliveries": delivered,
                "deliveries_per_s": per_s(delivered),
                "commit_p50_us_at_most": self.commit_us.0,
                "commit_p99_us_at_most": self.commit_us.1,
                "received_to_delivered": self.latency,
                "entities": self.kinds,
            },
            "conservation": {
                "holds": tallies.violations().is_empty(),
                "sources": tallies.sources,
                "destinations": destinations,
            },
            "dead_letters": {
                "open": tallies.destinations.values().map(|t| t.dead).sum::<u64>(),
                "retried": self.retried,
            },
            "quarantined": self.quarantined,
            "verdict": {
                "equal": self.is_equal(),
                "systems": Party::ALL.len(),
                "entities": self.comparison.entities,
                "compared": self.comparison.compared.iter().sum::<u64>(),
                "differences": self.comparison.differences,
                "first_differences": self.comparison.told,
                "problems": self.problems,
            },
        });
        if let Some((file, hub)) = &self.orders {
            document["orders"] = json!({ "equal": file == hub, "file": file.json(), "hub": hub.json() });
        }
        if let Some((sums, sale)) = &self.sale {
            document["stock"] = sale.clone();
            document["stock"]["reserved_per_s"] = per_s(sums.reserved).into();
        }
        document
    }
}

/// What the systems have seen that must not be, and whether the hub has counted what they have sent.
fn systems(session: &Session, moment: &Moment, problems: &mut Vec<String>) {
    for (party, counters) in session.systems() {
        let name = party.name();
        for (count, what) in [
            (counters.rejected.get(), "deliveries had a wrong signature"),
            (counters.malformed.get(), "deliveries could not be read"),
            (counters.refused.get(), "requests were refused by the hub"),
        ] {
            if count > 0 {
                let why = counters.refusal.get().map(|why| format!(": {why}")).unwrap_or_default();
                problems.push(format!("{name}: {} {what}{why}", grouped(count)));
            }
        }
        // Each change that was sent is recorded once, however often it was sent.
        let recorded = recorded(moment.tallies(), party);
        let sent = counters.sent.get();
        if recorded != sent {
            problems.push(format!("{name}: sent {} changes, the hub recorded {}", grouped(sent), grouped(recorded)));
        }
    }
}

fn systems_json(session: &Session, copies: &[(Party, Arc<Copy>)]) -> anyhow::Result<Value> {
    let mut systems = serde_json::Map::new();
    for ((party, c), (_, copy)) in session.systems().zip(copies) {
        let entities = copy.len().with_context(|| format!("the copy of {} can't be read", party.name()))?;
        let counts = json!({
            "kinds": party.kinds(),
            "offered": c.offered.get(),
            "sent": c.sent.get(),
            "accepted": c.accepted.get(),
            "duplicates": c.duplicates.get(),
            "quarantined": c.quarantined.get(),
            "refused": c.refused.get(),
            "retried": c.retried.get(),
            "throttled": c.throttled.get(),
            "received": c.received.get(),
            "verified": c.verified.get(),
            "wrong_signatures": c.rejected.get(),
            "malformed": c.malformed.get(),
            "repeated": c.repeated.get(),
            "stale": c.stale.get(),
            "faults": c.faults_sent.get() + c.faults_received.get(),
            "entities": entities,
            "received_to_delivered": c.latency.percentiles(),
        });
        systems.insert(party.name().to_owned(), counts);
    }
    Ok(systems.into())
}

//! Alerts: rules on the hub's own figures, looked at once in a while, judged by the pure core, and kept as documents of the
//! hub's own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lockstep_core::alert::{ALERT_KIND, Act, Alert, SILENCE_KIND, Status, Timing};
use serde_json::json;

use super::FreshnessRow;
use super::said;
use crate::failure::Unavailable;
use crate::handle::HubHandle;
use crate::stats::now_us;

/// In how many parts the time is cut over which growth is counted.
const PARTS: i64 = 60;
/// How many silences there may be at once.
const SILENCES_MAX: usize = 1_000;

/// What a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Open dead letters of a destination.
    DeadLetters,
    /// The age of a destination's oldest event that is not settled, seconds.
    LagS,
    /// For how long a destination has counted as down, seconds.
    DownS,
    /// How far a flow is from real time: 1 queue, 2 micro-batch, 3 pause.
    Flow,
    /// How bad the freshness of a domain at a destination is: 1 delayed, 2 partial, 3 unreliable.
    Freshness,
    /// Sums that do not add up.
    Conservation,
    /// Deliveries of a source that went into quarantine within the rule's time.
    Quarantine,
}

impl Figure {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::DeadLetters => "dead-letters",
            Self::LagS => "lag",
            Self::DownS => "down",
            Self::Flow => "flow",
            Self::Freshness => "freshness",
            Self::Conservation => "conservation",
            Self::Quarantine => "quarantine",
        }
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRule {
    /// Its name.
    pub name: String,
    /// What it looks at.
    pub figure: Figure,
    /// It holds while the figure is above this.
    pub above: f64,
    /// Only of these destinations or sources; none: of all.
    pub of: Vec<String>,
    /// Over how long growth is counted, microseconds.
    pub within_us: i64,
    /// Who owns it.
    pub owner: String,
    /// Who is told: first, and where nobody acknowledges it in time, next.
    pub to: Vec<String>,
    /// When.
    pub timing: Timing,
}

/// An alert.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRow {
    /// Its rule.
    pub rule: String,
    /// What it is about: a destination, a source, `<domain>/<destination>`, or `hub`.
    pub subject: String,
    /// Where it stands.
    pub alert: Alert,
    /// Who owns the rule.
    pub owner: String,
    /// Who was told last.
    pub to: String,
    /// The figure when something was last told of it.
    pub value: f64,
    /// The same in a sentence.
    pub detail: String,
    /// Who has acknowledged it and why.
    pub acknowledged: Option<(String, String)>,
}

/// A time in which nothing is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Its id.
    pub id: String,
    /// Only of this rule; empty: of all.
    pub rule: String,
    /// Only about this subject; empty: about all.
    pub subject: String,
    /// When it ends, microseconds since 1970 UTC.
    pub until_us: i64,
    /// Why.
    pub reason: String,
    /// Who wanted it.
    pub by: String,
}

/// Why an alert or a silence can't be changed.
#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    /// There is no such alert, or no such silence.
    #[error("there is none of this name")]
    Unknown,
    /// The alert is not open.
    #[error("the alert is {0}")]
    NotOpen(&'static str),
    /// There are too many silences.
    #[error("there are {SILENCES_MAX} silences already: end one first")]
    TooMany,
    /// The hub can't write now.
    #[error("the hub can't answer")]
    Hub(#[from] Unavailable),
}

/// All alerts and silences.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Whether what was said before the hub was started has been read.
    known: bool,
    alerts: BTreeMap<(String, String), AlertRow>,
    silences: BTreeMap<String, Silence>,
}

/// What rules are looked at, with what that needs.
pub(super) struct Watcher {
    rules: Vec<AlertRule>,
    /// How many deliveries of each source had gone into quarantine, by rule and source.
    grown: BTreeMap<(usize, String), VecDeque<(i64, u64)>>,
}

struct Seen {
    subject: String,
    value: f64,
    detail: String,
}

/// The figures of a rule.
#[derive(Default)]
struct Look {
    seen: Vec<Seen>,
    /// Of these nothing could be read now: their alerts stand as they are.
    unread: BTreeSet<String>,
}

impl Silence {
    fn covers(&self, rule: &str, subject: &str, now_us: i64) -> bool {
        now_us < self.until_us
            && (self.rule.is_empty() || self.rule == rule)
            && (self.subject.is_empty() || self.subject == subject)
    }
}

impl Book {
    /// Reads what was said before the hub was started.
    pub(super) async fn read(&mut self, hub: &HubHandle) -> Result<(), Unavailable> {
        if self.known {
            return Ok(());
        }
        for said in said::all(hub, ALERT_KIND).await? {
            let text = |field| said::text(&said, field);
            let Some(status) = Status::of_name(&text("status")) else { continue };
            let level = said::value(&said, "level").as_u64().unwrap_or(0) as usize;
            let opened_us = said::value(&said, "opened_us").as_i64().unwrap_or(0);
            let by = Some((text("acknowledged_by"), text("acknowledged_reason"))).filter(|(by, _)| !by.is_empty());
            let row = AlertRow {
                rule: text("rule"),
                subject: text("subject"),
                alert: Alert::new(status, level, opened_us),
                owner: text("owner"),
                to: text("to"),
                value: said::value(&said, "value").as_f64().unwrap_or(0.0),
                detail: text("detail"),
                acknowledged: by,
            };
            self.alerts.insert((row.rule.clone(), row.subject.clone()), row);
        }
        for said in said::all(hub, SILENCE_KIND).await? {
            let text = |field| said::text(&said, field);
            let until_us = said::value(&said, "until_us").as_i64().unwrap_or(0);
            let silence = Silence {
                id: said.key.to_string(),
                rule: text("rule"),
                subject: text("subject"),
                until_us,
                reason: text("reason"),
                by: text("by"),
            };
            if until_us > now_us() {
                self.silences.insert(silence.id.clone(), silence);
            }
        }
        self.known = true;
        Ok(())
    }
}

/// Says how an alert stands. `event` is what has just happened to it.
async fn say(hub: &HubHandle, row: &AlertRow, event: &str, above: Option<f64>) -> Result<(), Unavailable> {
    let (by, reason) = row.acknowledged.clone().unzip();
    let mut fields = vec![
        ("acknowledged_by", json!(by)),
        ("acknowledged_reason", json!(reason)),
        ("detail", json!(row.detail)),
        ("event", json!(event)),
        ("level", json!(row.alert.level)),
        ("opened_at", json!(lockstep_connect::time::format_rfc3339(row.alert.opened_us))),
        ("opened_us", json!(row.alert.opened_us)),
        ("owner", json!(row.owner)),
        ("rule", json!(row.rule)),
        ("status", json!(row.alert.status.name())),
        ("subject", json!(row.subject)),
        ("to", json!(row.to)),
        ("value", json!(row.value)),
    ];
    fields.extend(above.map(|above| ("above", json!(above))));
    said::say(hub, ALERT_KIND, &format!("{}/{}", row.rule, row.subject), fields).await
}

impl HubHandle {
    /// All alerts, by rule and subject: open, acknowledged and resolved.
    pub async fn alerts(&self) -> Result<Vec<AlertRow>, Unavailable> {
        let mut book = self.oversight.book().await;
        book.read(self).await?;
        Ok(book.alerts.values().cloned().collect())
    }

    /// Takes an open alert on.
    pub async fn acknowledge(&self, rule: &str, subject: &str, by: &str, reason: &str) -> Result<AlertRow, AlertError> {
        let mut book = self.oversight.book().await;
        book.read(self).await?;
        let row = book.alerts.get_mut(&(rule.to_owned(), subject.to_owned())).ok_or(AlertError::Unknown)?;
        let mut next = row.clone();
        if !next.alert.acknowledge() {
            return Err(AlertError::NotOpen(row.alert.status.name()));
        }
        next.acknowledged = Some((by.to_owned(), reason.to_owned()));
        say(self, &next, "acknowledged", None).await?;
        *row = next.clone();
        Ok(next)
    }

    /// The silences that are not over.
    pub async fn silences(&self) -> Result<Vec<Silence>, Unavailable> {
        let mut book = self.oversight.book().await;
        book.read(self).await?;
        let now_us = now_us();
        Ok(book.silences.values().filter(|silence| now_us < silence.until_us).cloned().collect())
    }

    /// Tells nothing of a rule, a subject or at all until a time.
    pub async fn silence(&self, silence: Silence) -> Result<(), AlertError> {
        let mut book = self.oversight.book().await;
        book.read(self).await?;
        let now_us = now_us();
        book.silences.retain(|_, known| now_us < known.until_us);
        if book.silences.len() >= SILENCES_MAX && !book.silences.contains_key(&silence.id) {
            return Err(AlertError::TooMany);
        }
        say_silence(self, &silence).await?;
        book.silences.insert(silence.id.clone(), silence);
        Ok(())
    }

    /// Ends a silence now.
    pub async fn unsilence(&self, id: &str, by: &str) -> Result<(), AlertError> {
        let mut book = self.oversight.book().await;
        book.read(self).await?;
        let now_us = now_us();
        let known = book.silences.get(id).filter(|silence| now_us < silence.until_us).ok_or(AlertError::Unknown)?;
        let ended = Silence { until_us: now_us, by: by.to_owned(), ..known.clone() };
        say_silence(self, &ended).await?;
        book.silences.remove(id);
        Ok(())
    }
}

async fn say_silence(hub: &HubHandle, silence: &Silence) -> Result<(), Unavailable> {
    let fields = vec![
        ("by", json!(silence.by)),
        ("reason", json!(silence.reason)),
        ("rule", json!(silence.rule)),
        ("subject", json!(silence.subject)),
        ("until", json!(lockstep_connect::time::format_rfc3339(silence.until_us))),
        ("until_us", json!(silence.until_us)),
    ];
    said::say(hub, SILENCE_KIND, &silence.id, fields).await
}

impl Watcher {
    pub(super) fn new(rules: Vec<AlertRule>) -> Self {
        Self { rules, grown: BTreeMap::new() }
    }

    /// Looks at everything and says what follows. What can't be said now is said when it can.
    /// Where freshness could not be looked at, alerts about it stand as they are.
    pub(super) async fn look(&mut self, hub: &HubHandle, freshness: Option<&[FreshnessRow]>, now_us: i64) {
        let mut book = hub.oversight.book().await;
        if let Err(error) = book.read(hub).await {
            tracing::warn!(%error, "alerts and silences can't be read; trying again");
            return;
        }
        for number in 0..self.rules.len() {
            if freshness.is_none() && self.rules[number].figure == Figure::Freshness {
                continue;
            }
            let Look { seen, unread } = self.see(number, hub, freshness.unwrap_or_default(), now_us).await;
            let rule = &self.rules[number];
            let quiet: Vec<Seen> = quiet(&book, rule, &seen, &unread);
            for (one, is_seen) in
                seen.into_iter().map(|one| (one, true)).chain(quiet.into_iter().map(|one| (one, false)))
            {
                let holds = is_seen && one.value > rule.above;
                if let Err(error) = take(hub, &mut book, rule, (one, holds), now_us).await {
                    tracing::warn!(rule = rule.name, %error, "an alert can't be told now");
                    return;
                }
            }
        }
        if let Err(error) = end_gone(hub, &mut book, &self.rules).await {
            tracing::warn!(%error, "that an alert is over can't be told now");
        }
    }

    /// The figures of a rule.
    async fn see(&mut self, number: usize, hub: &HubHandle, freshness: &[FreshnessRow], now_us: i64) -> Look {
        let rule = &self.rules[number];
        let is_of = |name: &str| rule.of.is_empty() || rule.of.iter().any(|one| one == name);
        let tallies = hub.stats().tallies();
        let destinations = hub.destinations().into_iter().filter(|name| is_of(name));
        let Look { mut seen, mut unread } = Look::default();
        match rule.figure {
            Figure::DeadLetters => seen.extend(destinations.map(|subject| {
                let dead = tallies.destinations.get(&subject).map_or(0, |tally| tally.dead);
                let detail = format!("{dead} open dead letters of `{subject}`");
                Seen { subject, value: dead as f64, detail }
            })),
            Figure::LagS => {
                for subject in destinations {
                    let flow = match hub.flow(&subject).await {
                        Ok(flow) => flow,
                        Err(error) => {
                            tracing::warn!(
                                destination = subject,
                                error = &error as &dyn std::error::Error,
                                "how far a destination is behind can't be read; alerts about it stand as they are"
                            );
                            unread.insert(subject);
                            continue;
                        }
                    };
                    let value = flow.lag_us(now_us) as f64 / 1e6;
                    let pending = flow.pending;
                    let detail = format!("`{subject}` is {value:.1} s behind, with {pending} events pending");
                    seen.push(Seen { subject, value, detail });
                }
            }
            Figure::DownS => {
                let down = hub.destinations_down();
                seen.extend(destinations.map(|subject| {
                    let down_us = down.get(&subject).map_or(0, |since_us| now_us.saturating_sub(*since_us));
                    let value = down_us as f64 / 1e6;
                    let detail = format!("`{subject}` has been down for {value:.0} s");
                    // It is down from its first moment on.
                    Seen { subject, value: if down_us > 0 { value.max(f64::MIN_POSITIVE) } else { 0.0 }, detail }
                }));
            }
            Figure::Flow => {
                let modes = hub.flow_modes();
                seen.extend(destinations.map(|subject| {
                    let mode = modes.get(&subject).cloned().unwrap_or_default();
                    let by =
                        if mode.pin.is_some() { format!(" by {}: {}", mode.by, mode.reason) } else { String::new() };
                    let detail = format!("`{subject}` is on the step {}{by}", mode.step.name());
                    Seen { subject, value: f64::from(mode.step as u8), detail }
                }));
            }
            Figure::Freshness => seen.extend(freshness.iter().filter(|row| is_of(&row.destination)).map(|row| {
                let (domain, destination, state) = (&row.domain, &row.destination, row.verdict.state.name());
                let why = row.verdict.why.map_or(String::new(), |why| format!(" ({})", why.name()));
                let detail = format!("`{domain}` at `{destination}` is {state}{why}");
                Seen { subject: format!("{domain}/{destination}"), value: f64::from(row.verdict.state as u8), detail }
            })),
            Figure::Conservation => {
                let broken = tallies.violations();
                let detail = broken
                    .first()
                    .map_or("all sums add up".to_owned(), |first| format!("conservation is broken: {first}"));
                seen.push(Seen { subject: "hub".to_owned(), value: broken.len() as f64, detail });
            }
            Figure::Quarantine => {
                let within_us = rule.within_us.max(PARTS);
                for (source, tally) in tallies.sources.iter().filter(|(name, _)| is_of(name)) {
                    let counts = self.grown.entry((number, source.clone())).or_default();
                    if counts.back().is_none_or(|(at_us, _)| now_us - at_us >= within_us / PARTS) {
                        counts.push_back((now_us, tally.quarantined));
                    }
                    while counts.len() > 1 && counts.front().is_some_and(|(at_us, _)| now_us - at_us > within_us) {
                        counts.pop_front();
                    }
                    let before = counts.front().map_or(tally.quarantined, |(_, count)| *count);
                    let grown = tally.quarantined.saturating_sub(before);
                    let detail = format!("{grown} deliveries of `{source}` went into quarantine lately");
                    seen.push(Seen { subject: source.clone(), value: grown as f64, detail });
                }
            }
        }
        Look { seen, unread }
    }
}

/// Ends the alerts of rules that are no longer there: nobody looks at what they saw.
async fn end_gone(hub: &HubHandle, book: &mut Book, rules: &[AlertRule]) -> Result<(), Unavailable> {
    let is_gone =
        |row: &&AlertRow| row.alert.status != Status::Resolved && rules.iter().all(|rule| rule.name != row.rule);
    let gone: Vec<AlertRow> = book.alerts.values().filter(is_gone).cloned().collect();
    for mut row in gone {
        row.alert.status = Status::Resolved;
        (row.value, row.detail) = (0.0, "its rule is not there any more".to_owned());
        say(hub, &row, "resolved", None).await?;
        book.alerts.insert((row.rule.clone(), row.subject.clone()), row);
    }
    Ok(())
}

/// The subjects of a rule of which there is an alert and nothing to be seen any more.
fn quiet(book: &Book, rule: &AlertRule, seen: &[Seen], unread: &BTreeSet<String>) -> Vec<Seen> {
    let there: BTreeSet<&str> =
        seen.iter().map(|one| one.subject.as_str()).chain(unread.iter().map(String::as_str)).collect();
    let known = book.alerts.values().filter(|row| row.rule == rule.name && !there.contains(row.subject.as_str()));
    let gone =
        |row: &AlertRow| Seen { subject: row.subject.clone(), value: 0.0, detail: "it is not there any more".into() };
    known.map(gone).collect()
}

async fn take(
    hub: &HubHandle,
    book: &mut Book,
    rule: &AlertRule,
    (seen, holds): (Seen, bool),
    now_us: i64,
) -> Result<(), Unavailable> {
    let silenced = book.silences.values().any(|silence| silence.covers(&rule.name, &seen.subject, now_us));
    let key = (rule.name.clone(), seen.subject.clone());
    let known = book.alerts.get(&key);
    if known.is_none() && !holds {
        return Ok(());
    }
    let mut row = known.cloned().unwrap_or_else(|| AlertRow {
        rule: rule.name.clone(),
        subject: seen.subject.clone(),
        alert: Alert::default(),
        owner: rule.owner.clone(),
        to: String::new(),
        value: 0.0,
        detail: String::new(),
        acknowledged: None,
    });
    let act = row.alert.take(&rule.timing, holds, silenced, now_us);
    if let Some(act) = act {
        let event = match act {
            Act::Open => {
                row.acknowledged = None;
                "opened"
            }
            Act::Escalate => "escalated",
            Act::Resolve => "resolved",
        };
        row.to = rule.to.get(row.alert.level).or(rule.to.last()).cloned().unwrap_or_default();
        (row.owner, row.value, row.detail) = (rule.owner.clone(), seen.value, seen.detail);
        // Where it can't be said, it has not happened: it is tried again.
        say(hub, &row, event, Some(rule.above)).await?;
    }
    book.alerts.insert(key, row);
    Ok(())
}

impl AlertRow {
    /// Whether it was ever opened: before that it only waits for its rule to hold for long enough.
    pub fn was_opened(&self) -> bool {
        self.alert.opened_us != 0
    }
}

//! Commands to stock within the decision: the same input, the same memory of what was seen, the same batch.

use std::borrow::Cow;

use super::changes::decide_changes;
use super::{Decision, Facts, HUB, Refusal, quarantined};
use crate::Position;
use crate::change::{Change, Input, InputBody, Outcome, QuarantineReason};
use crate::record::{Body, QuarantineClosed, Record};
use crate::stock::record::StockOrigin;
use crate::stock::{self, Answer, Command, Count, StockRefusal};

/// Decides commands one after the other.
///
/// A feed's count that can't be believed quarantines the delivery, and what else it says is taken; a client is told.
pub(super) fn decide_commands(
    facts: &mut Facts,
    input: &mut Input,
    commands: &[Command],
    now_us: i64,
) -> Result<Decision, Refusal> {
    let position = facts.next;
    // A client's goods that left together have all left, or it is told why not, and none have. Of a feed what can be
    // taken is taken, and a person looks at the rest.
    if input.reject_reuse
        && commands.len() > 1
        && let Some(reason) = stock::foresee(&mut facts.stock, commands, now_us)
    {
        let answer = reason.map_err(Refusal::Stock)?;
        let outcome = Outcome::Stock { position: 0, count: 0, answers: vec![Ok(answer)] };
        return Ok(Decision { records: Vec::new(), outcome });
    }
    let mut records = Vec::new();
    let mut answers = Vec::with_capacity(commands.len());
    for command in commands {
        let command = strictly(facts, input, command);
        let decision = stock::decide(&mut facts.stock, &command, now_us);
        records.extend(decision.records);
        answers.push(decision.answer);
    }
    if let Some(reason) = doubtful(&answers).filter(|_| !input.reject_reuse) {
        return Ok(doubt(facts, input, records, reason, now_us));
    }
    if let [Err(_) | Ok(Answer::Quarantined(_))] = answers.as_slice() {
        // What was due before it has happened all the same. It itself was not taken, and may be asked for again as it was.
        number(&mut records, None);
        facts.next += records.len() as Position;
        facts.aside = records;
        if let [Err(refusal)] = answers.as_slice() {
            return Err(Refusal::Stock(refusal.clone()));
        }
        return Ok(Decision { records: Vec::new(), outcome: Outcome::Stock { position: 0, count: 0, answers } });
    }
    if records.is_empty()
        && let Some(position) = input.releases
    {
        let closed = QuarantineClosed { source: input.source.clone(), position };
        records.push(Record::new(now_us, Body::QuarantineClosed(closed)));
    } else {
        number(&mut records, Some(origin(input)));
    }
    facts.next += records.len() as Position;
    let count = records.len() as u32;
    let outcome = Outcome::Stock { position: if count == 0 { 0 } else { position }, count, answers };
    Ok(Decision { records, outcome })
}

/// Decides what a feed says of stock, and what else its delivery says. What can't be believed or taken quarantines the
/// delivery before the rest of it is decided; a client is told.
pub(super) fn decide_feed(
    facts: &mut Facts,
    input: &mut Input,
    (commands, changes): (&[Command], Vec<Change>),
    now_us: i64,
) -> Result<Decision, Refusal> {
    if let Some(refusal) = commands.iter().find_map(|command| command.check().err()) {
        if input.reject_reuse {
            return Err(Refusal::Stock(refusal));
        }
        return Ok(doubt(facts, input, Vec::new(), untaken(&refusal), now_us));
    }
    if changes.is_empty() {
        return decide_commands(facts, input, commands, now_us);
    }
    let mut records = Vec::new();
    for command in commands {
        let command = strictly(facts, input, command);
        let decision = stock::decide(&mut facts.stock, &command, now_us);
        records.extend(decision.records);
        let reason = match decision.answer {
            Ok(Answer::Quarantined(reason)) => reason,
            Err(refusal) => untaken(&refusal),
            Ok(_) => continue,
        };
        return Ok(doubt(facts, input, records, reason, now_us));
    }
    number(&mut records, None);
    facts.next += records.len() as Position;
    match decide_changes(facts, input, changes, now_us) {
        Ok(decision) => {
            records.extend(decision.records);
            Ok(Decision { records, outcome: decision.outcome })
        }
        Err(refusal) => {
            facts.aside = records;
            Err(refusal)
        }
    }
}

/// A count as strictly as its system's are taken; one that a person has released has been looked at.
fn strictly<'a>(facts: &Facts, input: &Input, command: &'a Command) -> Cow<'a, Command> {
    match command {
        Command::Count(count) if input.releases.is_none() && facts.rules.stock_strict.contains(&input.system) => {
            Cow::Owned(Command::Count(Count { is_strict: true, ..count.clone() }))
        }
        other => Cow::Borrowed(other),
    }
}

/// Keeps an input whole for a person, after what was decided on the way.
fn doubt(
    facts: &mut Facts,
    input: &mut Input,
    mut records: Vec<Record>,
    mut reason: QuarantineReason,
    now_us: i64,
) -> Decision {
    if reason.at == "/as_of" {
        // So a document calls it.
        reason.at = "/counted_at".to_owned();
    }
    number(&mut records, None);
    let position = match input.releases {
        // It is there already, and stays.
        Some(position) => position,
        None => {
            records.push(quarantined(input, reason, now_us));
            facts.next + records.len() as Position - 1
        }
    };
    facts.next += records.len() as Position;
    Decision { records, outcome: Outcome::Quarantined { position } }
}

fn untaken(refusal: &StockRefusal) -> QuarantineReason {
    let at = match refusal {
        StockRefusal::Invalid { field, .. } => format!("/{}", field.replace('.', "/")),
        _ => String::new(),
    };
    QuarantineReason { code: refusal.code().to_owned(), detail: refusal.to_string(), at }
}

fn doubtful(answers: &[Result<Answer, StockRefusal>]) -> Option<QuarantineReason> {
    answers.iter().find_map(|answer| match answer {
        Ok(Answer::Quarantined(reason)) => Some(reason.clone()),
        Err(refusal) => Some(untaken(refusal)),
        _ => None,
    })
}

/// The records of one input are one decision; the first says how it came.
pub(super) fn number(records: &mut [Record], mut origin: Option<Box<StockOrigin>>) {
    let of = records.len() as u32;
    for (index, record) in (0..).zip(records) {
        if let Some(Body::Stock(fact)) = &mut record.body {
            (fact.index, fact.of) = (index, of);
            fact.origin = origin.take();
        }
    }
}

fn origin(input: &Input) -> Box<StockOrigin> {
    let (request_key, request_hash) = input.request_key.clone().unwrap_or_default();
    Box::new(StockOrigin {
        source: input.source.clone(),
        delivery: input.delivery.clone(),
        payload_hash: input.payload_hash,
        request_key,
        request_hash,
        received_at_us: input.received_at_us,
        trace: input.trace.clone().unwrap_or_default(),
        system: input.system.clone(),
        releases: input.releases.unwrap_or_default(),
    })
}

/// The hub's own word that holds are over, as an input that follows record `next - 1`: it writes down at most `limit`.
pub fn sweep(next: Position, limit: usize, now_us: i64) -> Input {
    let delivery = format!("stock-expiry|{next}");
    Input {
        source: HUB.to_owned(),
        system: HUB.to_owned(),
        payload_hash: crate::payload_hash(delivery.as_bytes()),
        delivery,
        reject_reuse: false,
        request_key: None,
        received_at_us: now_us,
        trace: None,
        raw: None,
        body: InputBody::Stock(vec![Command::Expire { limit }]),
        releases: None,
    }
}

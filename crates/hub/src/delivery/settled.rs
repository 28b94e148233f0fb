//! When an event was settled at a destination, as far as the journal tells: it has no index of that, but what it says
//! of a destination's progress only ever grows, so the record can be searched for by halving.

use lockstep_core::Position;
use lockstep_core::record::{Body, DeadLetterClosed, DeadLetterEnd, Record};
use lockstep_journal::Reader;

use crate::reading::{ReadError, decode};

/// How much of the journal one look reads,
const STEP_BYTES: usize = 256 * 1024;
/// and all looks together. What is further apart than that is not found.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Where fewer records are left, they are read one by one.
const CLOSE: Position = 512;

/// The record by which an event was settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    /// When the hub wrote it, microseconds since 1970 UTC: the event was settled shortly before.
    pub(crate) by_us: i64,
    /// Whether it became a dead letter.
    pub(crate) dead: bool,
    /// Whether a newer event of its entity was sent instead.
    pub(crate) superseded: bool,
    /// How the dead letter ended and when, where it has and that was found.
    pub(crate) closed: Option<(DeadLetterEnd, i64)>,
}

struct Search<'a> {
    reader: &'a dyn Reader,
    destination: &'a str,
    event: Position,
    left_bytes: usize,
}

/// The first word of the destination in a part of the journal.
enum Word {
    /// The event is not settled by it.
    Open(Position),
    /// It is.
    Settled(Position, Settled),
    /// There is none.
    Silence,
    /// It is too far away.
    TooFar,
}

/// By which record an event was settled. `None` where it is not, or where that is too far away to be found.
pub(crate) fn settled(reader: &dyn Reader, destination: &str, event: Position) -> Result<Option<Settled>, ReadError> {
    let end = reader.bounds().next;
    let mut search = Search { reader, destination, event, left_bytes: BYTES_MAX };
    // Mostly it was soon.
    let (mut low, mut step, mut found) = (event, CLOSE, None);
    let mut high = loop {
        let from = low.saturating_add(step).min(end);
        match search.word(from, end)? {
            Word::Open(at) => (low, step) = (at, step.saturating_mul(4)),
            Word::Settled(at, how) => {
                found = Some((at, how));
                break at;
            }
            Word::Silence => break from,
            Word::TooFar => return Ok(None),
        }
    };
    while high.saturating_sub(low) > CLOSE {
        let middle = low + (high - low) / 2;
        match search.word(middle, high)? {
            Word::Open(at) => low = at,
            Word::Settled(at, how) => (high, found) = (middle, Some((at, how))),
            Word::Silence => high = middle,
            Word::TooFar => return Ok(found.map(|(_, how)| how)),
        }
    }
    // From here on every word is looked at.
    loop {
        match search.word(low + 1, high)? {
            Word::Open(at) => low = at,
            Word::Settled(at, how) => {
                found = Some((at, how));
                break;
            }
            Word::Silence | Word::TooFar => break,
        }
    }
    let Some((at, mut how)) = found else { return Ok(None) };
    if how.dead {
        how.closed = search.closed(at)?;
    }
    Ok(Some(how))
}

impl Search<'_> {
    /// Looks at records from one position to another (which is left out) until one of them gives an answer.
    fn first<T>(
        &mut self,
        mut from: Position,
        to: Position,
        answer: impl Fn(Position, Record) -> Option<T>,
    ) -> Result<Result<Option<T>, ()>, ReadError> {
        while from < to {
            if self.left_bytes == 0 {
                return Ok(Err(()));
            }
            let entries = self.reader.read(from, STEP_BYTES)?;
            let Some(last) = entries.last().map(|entry| entry.position) else { break };
            for entry in entries.into_iter().take_while(|entry| entry.position < to) {
                self.left_bytes = self.left_bytes.saturating_sub(entry.record.len());
                if let Some(found) = answer(entry.position, decode(entry.position, entry.record)?) {
                    return Ok(Ok(Some(found)));
                }
            }
            from = last + 1;
        }
        Ok(Ok(None))
    }

    fn word(&mut self, from: Position, to: Position) -> Result<Word, ReadError> {
        let (destination, event) = (self.destination, self.event);
        let found = self.first(from, to, |at, record| {
            let by_us = record.recorded_at_us;
            match record.body {
                Some(Body::Progress(progress)) if progress.destination == destination => {
                    let settled =
                        event <= progress.cursor || (event <= progress.read_to && !progress.open.contains(&event));
                    let superseded = progress.superseded.contains(&event);
                    let how = Settled { by_us, dead: false, superseded, closed: None };
                    Some(if settled { Word::Settled(at, how) } else { Word::Open(at) })
                }
                Some(Body::DeadLettered(dead)) if dead.destination == destination && dead.event == event => {
                    Some(Word::Settled(at, Settled { by_us, dead: true, superseded: false, closed: None }))
                }
                _ => None,
            }
        })?;
        Ok(match found {
            Ok(word) => word.unwrap_or(Word::Silence),
            Err(()) => Word::TooFar,
        })
    }

    fn closed(&mut self, after: Position) -> Result<Option<(DeadLetterEnd, i64)>, ReadError> {
        let (destination, event, end) = (self.destination, self.event, self.reader.bounds().next);
        let of_it = |closed: &DeadLetterClosed| closed.destination == destination && closed.event == event;
        let found = self.first(after + 1, end, |_, record| match record.body {
            Some(Body::DeadLetterClosed(closed)) if of_it(&closed) => {
                Some((DeadLetterEnd::try_from(closed.end).unwrap_or_default(), record.recorded_at_us))
            }
            _ => None,
        })?;
        Ok(found.unwrap_or_default())
    }
}

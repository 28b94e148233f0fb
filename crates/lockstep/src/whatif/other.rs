//! The other configuration: what it would have made of a delivery.

use std::collections::HashMap;

use lockstep_connect::source::Source;
use lockstep_core::decide::HUB;
use lockstep_core::{Change, EntityId, Input, InputBody, Rules};

use super::WhatIfError;
use super::delivery::{Delivery, Was};

/// Other mappings and rules than those that the history was made with.
pub struct Other {
    rules: Rules,
    sources: HashMap<String, Source>,
}

/// What the other configuration makes of a delivery.
pub(super) struct Proposal {
    pub(super) input: Input,
    pub(super) how: How,
}

/// How it came to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// From the bytes as they came.
    Translated,
    /// No bytes were kept: from what was recorded.
    WithoutRaw,
    /// Its source is not in the other configuration: from what was recorded.
    WithoutSource,
}

impl Other {
    /// These rules, and what understands the deliveries of each source.
    pub fn new(rules: Rules, sources: Vec<Source>) -> Self {
        Self { rules, sources: sources.into_iter().map(|source| (source.name().to_owned(), source)).collect() }
    }

    pub(super) fn rules(&self) -> Rules {
        self.rules.clone()
    }

    /// What it makes of a delivery. `None` where nothing is known of it.
    pub(super) fn proposal(&self, delivery: &Delivery) -> Result<Option<Proposal>, WhatIfError> {
        let received_at_us = match delivery.received_at_us {
            0 => delivery.recorded_at_us,
            at_us => at_us,
        };
        let recorded = || match &delivery.was {
            Was::Understood(facts) => facts
                .iter()
                // What the hub itself concluded is concluded again, and so is what becomes of merged entities; what a timer
                // said was not concluded of a delivery.
                .filter(|(_, fact)| fact.system != HUB || (fact.source == HUB && fact.index == 0))
                .filter(|(_, fact)| fact.via.is_empty() && !fact.is_membership())
                .map(|(position, fact)| {
                    let (sequence, at_us) = (fact.sequence, fact.occurred_at_us);
                    Change::new(fact.kind.as_str(), fact.key.as_str(), sequence, at_us, fact.fields.clone())
                        .map_err(|source| WhatIfError::Change { position: *position, source })
                })
                .collect::<Result<_, _>>()
                .map(|changes| Some(InputBody::Changes(changes))),
            Was::Quarantined(reason) => Ok(Some(InputBody::Quarantine(reason.clone()))),
            Was::Closed => Ok(None),
        };
        let (system, body, how) = match (&delivery.raw, self.sources.get(&delivery.source)) {
            (Some(raw), Some(source)) => {
                (source.system(), Some(source.translate_again(raw, received_at_us)), How::Translated)
            }
            (Some(_), None) => (delivery.system.as_str(), recorded()?, How::WithoutSource),
            (None, _) => (delivery.system.as_str(), recorded()?, How::WithoutRaw),
        };
        let Some(body) = body else { return Ok(None) };
        let input = Input {
            source: delivery.source.clone(),
            system: system.to_owned(),
            delivery: delivery.id.clone(),
            payload_hash: delivery.payload_hash,
            reject_reuse: false,
            request_key: None,
            received_at_us,
            trace: None,
            raw: None,
            body,
            releases: None,
        };
        Ok(Some(Proposal { input, how }))
    }
}

/// The entities that a delivery was about and those that it would be about, of one kind or of all.
pub(super) fn touched<'a>(
    delivery: &'a Delivery,
    proposal: Option<&'a Proposal>,
    kind: Option<&'a str>,
) -> impl Iterator<Item = EntityId> + 'a {
    let wanted = move |name: &str| kind.is_none_or(|kind| kind == name);
    let facts = match &delivery.was {
        Was::Understood(facts) => facts.as_slice(),
        _ => &[],
    };
    let changes = match proposal.map(|proposal| &proposal.input.body) {
        Some(InputBody::Changes(changes)) => changes.as_slice(),
        _ => &[],
    };
    let was = facts.iter().filter(move |(_, fact)| wanted(&fact.kind));
    let was = was.map(|(_, fact)| lockstep_core::entity_id(&fact.kind, &fact.key));
    was.chain(changes.iter().filter(move |change| wanted(&change.kind)).map(Change::id))
}

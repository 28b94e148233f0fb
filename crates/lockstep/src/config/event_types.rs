//! The types of events that a hub can publish, so that a filter for another one is noticed.

use lockstep_core::stock::{EVENT_TYPES, LEDGER_KINDS};

use super::problem::{nearest, suggestion};

/// The verbs of the kinds that have others than `changed`.
const VERBS: &[(&str, &[&str])] = &[
    ("alert", &["opened", "escalated", "acknowledged", "resolved", "changed"]),
    ("conflict", &["opened", "resolved", "changed"]),
    ("flow", &["degraded", "restored", "paused", "resumed", "changed"]),
    ("order", &["placed", "confirmed", "allocated", "cancelled", "closed", "changed"]),
    ("payment", &["authorized", "auth_expired", "captured", "voided", "refunded", "charged_back", "changed"]),
    ("product", &["created", "changed"]),
    ("propagation", &["reached"]),
    ("stock", &["counted"]),
];

/// All types of these kinds.
fn types<'a>(kinds: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let verbs = |kind: &str| VERBS.iter().find(|(name, _)| *name == kind).map_or(&["changed"][..], |(_, verbs)| verbs);
    // Anything can be deleted.
    let all = |kind: &str| {
        if LEDGER_KINDS.contains(&kind) {
            return ledger(kind).collect();
        }
        let verbs = verbs(kind).iter().chain(&["deleted"]);
        verbs.map(|verb| format!("{kind}.{verb}")).collect::<Vec<_>>()
    };
    kinds.into_iter().flat_map(all).collect()
}

/// What the ledger of stock publishes of a kind, beside documents.
fn ledger(kind: &str) -> impl Iterator<Item = String> {
    let of_kind = move |known: &&str| known.strip_prefix(kind).is_some_and(|rest| rest.starts_with('.'));
    EVENT_TYPES.into_iter().filter(of_kind).map(str::to_owned)
}

/// What is wrong with a type of a filter, where no event of these kinds can have it.
pub(super) fn check(wanted: &str, kinds: &[&str]) -> Option<String> {
    let mut all = types(kinds.iter().copied());
    all.extend(kinds.iter().flat_map(|kind| ledger(kind)));
    let met = match wanted.strip_suffix('*') {
        Some(start) => all.iter().any(|known| known.starts_with(start)),
        None => all.iter().any(|known| known == wanted),
    };
    if met {
        return None;
    }
    let kind = wanted.split(['.', '*']).next().unwrap_or_default();
    if !kinds.contains(&kind) {
        // Where the verb is right, the kind alone is at fault.
        if wanted.contains('.') {
            let near = suggestion(kind, kinds.iter().copied());
            return Some(format!("`{kind}` is not a kind that this hub knows{near}"));
        }
        let near = nearest(wanted, kinds.iter().copied()).map(|kind| format!("; did you mean `{kind}.*`?"));
        return Some(format!("`{wanted}` is not a type of events{}", near.unwrap_or_default()));
    }
    if wanted == kind {
        return Some(format!("`{wanted}` is not a type of events; did you mean `{kind}.*`?"));
    }
    let own: Vec<String> = types([kind]).into_iter().chain(ledger(kind)).collect();
    Some(format!("`{wanted}` is not a type of events{}", suggestion(wanted, own.iter().map(String::as_str))))
}

#[cfg(test)]
mod tests {
    use lockstep_core::decide::OWN_KINDS;
    use lockstep_core::event::event_type;

    use super::*;

    #[test]
    fn the_list_is_what_the_core_publishes() {
        let documents = ["order", "payment", "product", "stock", "price", "customer", "location", "wish"];
        let kinds = || documents.into_iter().chain(OWN_KINDS);
        let lifecycle = lockstep_core::order::LIFECYCLE.iter().map(|(state, _)| *state);
        let payments = ["auth", "capture", "void", "auth_expired", "refund", "chargeback"];
        let own =
            ["open", "opened", "escalated", "acknowledged", "resolved", "degraded", "restored", "paused", "resumed"];
        let others = payments.into_iter().chain(own).chain(["other"]);
        let states: Vec<Option<String>> =
            lifecycle.chain(others).map(|state| Some(format!("\"{state}\""))).chain([None]).collect();
        let mut published = std::collections::BTreeSet::new();
        for kind in kinds() {
            published.insert(format!("{kind}.deleted"));
            for (was, is) in states.iter().flat_map(|was| states.iter().map(move |is| (was, is))) {
                let bytes = |state: &Option<String>| state.as_ref().map(|state| state.as_bytes().to_vec());
                let (was, is) = (bytes(was), bytes(is));
                published.insert(event_type(kind, true, None, is.as_deref()));
                published.insert(event_type(kind, false, was.as_deref(), is.as_deref()));
            }
        }
        assert_eq!(published, types(kinds()).into_iter().collect());
    }

    #[test]
    fn a_type_that_no_event_has_is_noticed() {
        let check = |wanted: &str| check(wanted, &["order", "price", "stock", "wish"]);
        for known in ["order.placed", "order.*", "order.p*", "*", "o*", "stock.counted", "wish.changed"] {
            assert_eq!(check(known), None, "{known}");
        }
        for (wanted, expected) in [
            ("order.place", "`order.place` is not a type of events; did you mean `order.placed`?"),
            ("stock.updated", "`stock.updated` is not a type of events; did you mean `stock.counted`?"),
            ("order", "`order` is not a type of events; did you mean `order.*`?"),
            ("oder", "`oder` is not a type of events; did you mean `order.*`?"),
            ("prise.changed", "`prise` is not a kind that this hub knows; did you mean `price`?"),
            (
                "order.x*",
                "`order.x*` is not a type of events; known are `order.allocated`, `order.cancelled`, `order.changed`, `order.closed`, `order.confirmed`, `order.deleted`, `order.placed`",
            ),
        ] {
            assert_eq!(check(wanted).as_deref(), Some(expected));
        }
    }
}

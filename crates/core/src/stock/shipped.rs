//! What goods of a shipment are called in the ledger, whoever tells of them. A shipment has one id and any number of SKUs,
//! of several reservations: each of these parts is a movement of its own, and has one effect.

use compact_str::{CompactString, format_compact};

use super::command::Movement;
use super::record::MovementKind;
use super::validate::{NAME_BYTES_MAX, is_name};
use crate::decide::HUB;

/// A name of several parts. No other list of parts has it: a `|` within one is escaped. What is too long for a name is
/// told by its hash.
pub fn joined(kind: &str, parts: &[&str]) -> CompactString {
    let mut name = CompactString::from(kind);
    for part in parts {
        name.push('|');
        for letter in part.chars() {
            match letter {
                '|' => name.push_str("%7C"),
                '%' => name.push_str("%25"),
                other => name.push(other),
            }
        }
    }
    if is_name(&name) { name } else { format_compact!("{kind}|{:016x}", crate::payload_hash(name.as_bytes())) }
}

/// The movement's id of what has left of a SKU, from a location, of a reservation, by a shipment.
pub fn shipped_id(shipment: &str, reservation: &str, sku: &str, location: &str) -> CompactString {
    joined("shipment", &[shipment, reservation, location, sku])
}

impl Movement {
    /// Its id is that of a shipment where it is of a reservation: then it gets the one that the same goods of the same
    /// shipment have by every other way in which they are told, also by an order's documents.
    #[must_use]
    pub fn of_shipment(self) -> Self {
        match &self.reservation {
            // What is no name stays as it is, to be refused as that.
            Some(reservation) if self.kind == MovementKind::Ship && is_name(&self.id) => {
                let id = |shipment: &str| shipped_id(shipment, reservation, &self.sku, &self.location);
                let own = id(&self.id);
                // Keys of documents mostly begin with the system's name, which it does not use itself.
                let also = vec![(HUB.into(), own.clone()), (HUB.into(), id(&format!("{}:{}", self.source, self.id)))];
                Self { id: own, also, ..self }
            }
            _ => self,
        }
    }

    /// Every name that it is known by, where one of them says that it had its effect before.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        // What the hub says itself follows from an order's document, which keeps what it has said.
        let also = self.also.iter().filter(|_| self.source != HUB);
        let own = (self.source.as_str(), self.id.as_str());
        std::iter::once(own).chain(also.map(|(source, id)| (source.as_str(), id.as_str())))
    }
}

const _: () = assert!(NAME_BYTES_MAX > 64, "a hash and its kind are a name");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lists_of_parts_have_one_name() {
        let lists: [&[&str]; 8] = [
            &["a", "b", "c"],
            &["a|b", "c"],
            &["a", "b|c"],
            &["a|b|c"],
            &["a%7Cb", "c"],
            &["a", "b", "", "c"],
            &["a", "b", "c", ""],
            &["a%", "7Cb", "c"],
        ];
        let names: std::collections::BTreeSet<_> = lists.iter().map(|parts| joined("ship", parts)).collect();
        assert_eq!(names.len(), lists.len(), "{names:?}");
        assert_eq!(joined("ship", &["web:1", "S1", "a"]), "ship|web:1|S1|a");
    }

    #[test]
    fn what_is_too_long_has_a_name_all_the_same() {
        let (one, other) = ("x".repeat(NAME_BYTES_MAX), "y".repeat(NAME_BYTES_MAX));
        let (one, other) = (joined("ship", &[&one, "a"]), joined("ship", &[&other, "a"]));
        assert!(is_name(&one) && is_name(&other) && one != other, "{one} {other}");
    }
}

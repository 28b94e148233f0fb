//! Who is served next of those who wait for supply: the higher priority first, then who was promised first.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::Model;

/// A backorder that can be served.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) id: String,
    line: usize,
    place: String,
    quantity: i64,
}

impl Model {
    /// What is next of a SKU.
    fn due(&self, sku: &str, now_us: i64) -> Option<Due> {
        let open = self.reservations.iter().filter(|(_, r)| r.is_open(now_us));
        let lines = open.flat_map(|(id, r)| r.lines.iter().enumerate().map(move |(at, line)| (id, r, at, line)));
        let mut waiting: Vec<_> =
            lines.filter(|(_, _, _, line)| line.sku == sku && line.place.is_empty() && line.open > 0).collect();
        waiting.sort_by_key(|(id, r, at, _)| (Reverse(r.priority), r.promised_at_us, *id, *at));
        waiting.into_iter().find_map(|(id, r, at, line)| {
            let (place, usable) = self.usable_places(sku, &r.channel, now_us).into_iter().next()?;
            Some(Due { id: id.clone(), line: at, place, quantity: usable.min(line.open) })
        })
    }

    fn all_due(&self, now_us: i64) -> Vec<Due> {
        let skus: BTreeSet<&str> = self.places.keys().map(|(sku, _)| sku.as_str()).collect();
        skus.into_iter().filter_map(|sku| self.due(sku, now_us)).collect()
    }

    fn serve(&mut self, due: &Due) {
        if let Some(known) = self.reservations.get_mut(&due.id) {
            known.move_line(due.line, &due.place, due.quantity);
        }
    }

    /// Everybody served who can be: so it counts before anything else is decided.
    pub(in crate::stock) fn settled(&self, now_us: i64) -> Cow<'_, Self> {
        let mut settled = Cow::Borrowed(self);
        loop {
            let all = settled.all_due(now_us);
            if all.is_empty() {
                return settled;
            }
            all.iter().for_each(|due| settled.to_mut().serve(due));
        }
    }

    /// A reservation was told to be served: then it was its turn, and it is as `is_so` says after it.
    pub(crate) fn promoted(
        &mut self,
        id: &str,
        now_us: i64,
        is_so: impl Fn(&Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut why = format!("{id} was served, and it was not its turn");
        for due in self.all_due(now_us).into_iter().filter(|due| due.id == id) {
            let mut after = self.clone();
            after.serve(&due);
            match is_so(&after) {
                Ok(()) => {
                    *self = after;
                    return Ok(());
                }
                Err(other) => why = other,
            }
        }
        Err(why)
    }
}

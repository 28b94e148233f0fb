//! Changes to decide: invented stock and price documents of about 500 bytes over a number of entities.

use bytes::Bytes;
use lockstep_core::{Change, Field, Input, InputBody};

/// Makes changes that differ from each other as real ones do: mostly the same, a few fields new.
pub(super) struct Changes {
    random: fastrand::Rng,
    entities: u64,
    number: u64,
    constant: Vec<Field>,
    run: u64,
}

impl Changes {
    /// Changes over so many entities; `lane` keeps generators apart, `run` keeps runs apart.
    pub(super) fn new(entities: u64, lane: u64, run: u64) -> Self {
        let text = |name: &str, value: &str| Field::new(name, Bytes::from(format!("\"{value}\"")));
        let constant = vec![
            text("attributes", "colour=anthracite;size=42;material=merino wool;season=winter;care=hand wash only"),
            text("basis", "on_hand"),
            text("bin", "B-17-04-C"),
            text("title", "Merino half-zip pullover with contrast seams and a two-way zipper, relaxed fit"),
            text("uom", "piece"),
        ];
        Self { random: fastrand::Rng::with_seed(lane + 1), entities, number: lane << 40, constant, run }
    }

    /// The next input, as intake would give it.
    pub(super) fn next(&mut self, now_us: i64) -> Input {
        self.number += 1;
        let entity = self.random.u64(..self.entities);
        let mut fields = Vec::with_capacity(8);
        fields.extend_from_slice(&self.constant[..1]);
        fields.push(self.constant[1].clone());
        fields.push(self.constant[2].clone());
        fields.push(Field::new(
            "counted_at",
            Bytes::from(format!("\"2026-01-01T00:00:00.{:06}Z\"", self.number % 1_000_000)),
        ));
        fields.push(Field::new("on_hand", Bytes::from((self.number % 977).to_string())));
        fields.push(Field::new("safety_stock", Bytes::from_static(b"5")));
        fields.extend_from_slice(&self.constant[3..]);
        let change = Change {
            kind: "stock".into(),
            key: format!("SKU-{entity:07}@berlin"),
            sequence: 0,
            occurred_at_us: now_us,
            fields,
            expected_version: None,
        };
        Input {
            source: "wms".into(),
            system: "wms-berlin".into(),
            delivery: format!("msg_{:016x}{:016x}", self.run, self.number),
            payload_hash: self.number,
            reject_reuse: true,
            request_key: None,
            received_at_us: now_us,
            trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            raw: None,
            body: InputBody::Changes(vec![change]),
            releases: None,
        }
    }
}

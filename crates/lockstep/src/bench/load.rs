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

/// Makes orders of real size: 30 fields and 5 lines. A shop sends them whole, again and again with a field or two that
/// are new; an ERP sends them whole as well; a WMS says how far they are.
pub(super) struct Orders {
    random: fastrand::Rng,
    entities: u64,
    number: u64,
    constant: Vec<Field>,
    run: u64,
}

impl Orders {
    /// Orders over so many entities; `lane` keeps generators apart, `run` keeps runs apart.
    pub(super) fn new(entities: u64, lane: u64, run: u64) -> Self {
        let money = |minor: u32| format!("{{\"currency\":\"EUR\",\"minor\":{minor}}}");
        let address = |street: &str| {
            format!(
                "{{\"city\":\"Utrecht\",\"country\":\"NL\",\"line1\":\"{street} 14\",\"name\":\"A. de Vries\",\
                 \"phone\":\"+31301234567\",\"postal_code\":\"3526 KL\"}}"
            )
        };
        let lines: Vec<_> = (1..=5)
            .map(|id| {
                format!(
                    "{{\"discount\":{},\"id\":\"{}\",\"ordered\":{id},\"sku\":\"SKU-{id:05}\",\"tax\":{},\"title\":\"Merino \
                     pullover, anthracite\",\"unit_price\":{},\"variant_title\":\"M\"}}",
                    money(0),
                    14_700_100_200_400_u64 + id,
                    money(945),
                    money(4_995)
                )
            })
            .collect();
        let text = |value: &str| format!("\"{value}\"");
        let mut constant: Vec<Field> = [
            ("billing_address", address("Kanaalweg")),
            ("cancel_reason", "null".to_owned()),
            ("cancelled_at", "null".to_owned()),
            ("channel", text("web")),
            ("closed_at", "null".to_owned()),
            ("currency", text("EUR")),
            (
                "customer",
                "{\"email\":\"a.devries@example.com\",\"id\":\"6940095564\",\"name\":\"A. de Vries\"}".to_owned(),
            ),
            ("discount", money(0)),
            ("email", text("a.devries@example.com")),
            ("lifecycle", text("confirmed")),
            ("lines", format!("[{}]", lines.join(","))),
            ("note", text("Leave it with the neighbours, please.")),
            ("number", text("#1001")),
            ("origin", text("web")),
            ("payment_status", text("paid")),
            ("phone", text("+31301234567")),
            ("placed_at", text("2026-01-01T00:00:00Z")),
            ("price_version", text("2026-01")),
            ("shipping", money(495)),
            ("shipping_address", address("Kanaalweg")),
            ("subtotal", money(24_975)),
            ("tags", "[\"gift\",\"first order\"]".to_owned()),
            ("tax", money(4_725)),
            ("taxes_included", "true".to_owned()),
            ("test", "false".to_owned()),
            ("total", money(25_470)),
            ("updated_by", text("checkout")),
            ("warehouse", text("berlin")),
            ("web_session", text("0af7651916cd43dd8448eb211c80319c")),
            ("weight_g", "1840".to_owned()),
        ]
        .into_iter()
        .map(|(name, json)| Field::new(name, json))
        .collect();
        constant.sort_by(|a, b| a.name.cmp(&b.name));
        // Lines by their id, as intake hands them over.
        let rules = lockstep_core::Rules::new();
        let constant =
            lockstep_core::path::split(constant, rules.parts("order")).unwrap_or_else(|error| unreachable!("{error}"));
        Self { random: fastrand::Rng::with_seed(lane + 1), entities, number: lane << 40, constant, run }
    }

    /// The next input, as intake would give it.
    pub(super) fn next(&mut self, now_us: i64) -> Input {
        self.number += 1;
        let entity = self.random.u64(..self.entities);
        let system = ["shop", "shop", "shop", "erp", "wms"][(self.number % 5) as usize];
        let lifecycle = ["confirmed", "allocated", "released", "shipped"][(self.number / 5 % 4) as usize];
        let mut fields = if system == "wms" { Vec::with_capacity(2) } else { self.constant.clone() };
        let mut set = |name: &str, json: String| match fields.iter_mut().find(|f| f.name == name) {
            Some(field) => field.json = json.into(),
            None => fields.push(Field::new(name, json)),
        };
        set("lifecycle", format!("\"{lifecycle}\""));
        match system {
            "shop" => set("note", format!("\"Note {}\"", self.number)),
            "erp" => set("price_version", format!("\"2026-{}\"", self.number % 12)),
            _ => set("warehouse", format!("\"berlin-{}\"", self.number % 3)),
        }
        let change = Change::new("order", format!("web:{entity:07}"), 0, now_us, fields)
            .unwrap_or_else(|error| unreachable!("{error}"));
        Input {
            source: system.into(),
            system: system.into(),
            delivery: format!("msg_{:016x}{:016x}", self.run, self.number),
            payload_hash: self.number,
            // These are systems that report what happened, no clients of the API.
            reject_reuse: false,
            request_key: None,
            received_at_us: now_us,
            trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            raw: None,
            body: InputBody::Changes(vec![change]),
            releases: None,
        }
    }
}

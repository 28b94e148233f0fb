//! What the simulated world is about: its kinds and fields, who decides them, who sends.
//!
//! The hub gets these rules in its own types; the auditor goes by the table itself.

use std::collections::BTreeMap;

use lockstep_core::merge::{Owner, Policy};
use lockstep_core::path::Part;
use lockstep_core::{Domain, Rules};

/// Who decides a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// The latest write.
    Latest,
    /// The first of these systems that has a value.
    Owner(&'static [&'static str]),
    /// The state that is further along: the lifecycle of an order.
    Rank,
}

/// A field and the values that it takes, as JSON.
#[derive(Debug)]
pub struct FieldRow {
    /// The kind of entity.
    pub kind: &'static str,
    /// The field.
    pub name: &'static str,
    /// Who decides it.
    pub judge: Judge,
    /// What is said of it. Few values, so that systems agree now and then.
    pub values: &'static [&'static str],
}

const fn row(kind: &'static str, name: &'static str, judge: Judge, values: &'static [&'static str]) -> FieldRow {
    FieldRow { kind, name, judge, values }
}

/// The order of a list of items.
pub const LIST: &str = "lines[]";

/// The item of a list that a field is, as the list's order names it.
pub fn item(field: &str) -> Option<&str> {
    field.strip_prefix("lines[")?.strip_suffix(']').filter(|item| !item.is_empty())
}

/// All fields, sorted.
pub const FIELDS: [FieldRow; 11] = [
    row(
        "job",
        "lifecycle",
        Judge::Rank,
        &[
            "\"pending\"",
            "\"confirmed\"",
            "\"released\"",
            "\"cancelled\"",
            "\"shipped\"",
            "\"closed\"",
            "\"odd\"",
            "null",
        ],
    ),
    // A list that is merged by its items: whoever gives it says of an item that is not in it that it is not there.
    row("job", "lines[1]", Judge::Latest, &["{\"id\":1,\"qty\":1}", "{\"id\":1,\"qty\":2}"]),
    row("job", "lines[2]", Judge::Owner(&["erp"]), &["{\"id\":2,\"qty\":1}", "{\"id\":2,\"qty\":2}"]),
    row("job", LIST, Judge::Latest, &["[]", "[\"1\"]", "[\"2\"]", "[\"1\",\"2\"]", "[\"2\",\"1\"]"]),
    row("job", "note", Judge::Latest, &["null", "\"a\"", "\"b\""]),
    row("job", "total", Judge::Latest, &["10", "20", "30", "40"]),
    row("product", "price", Judge::Owner(&["erp"]), &["1", "2", "3", "null"]),
    row("product", "title", Judge::Latest, &["\"x\"", "\"y\"", "\"z\""]),
    row("stock", "on_hand", Judge::Owner(&["wms", "shop"]), &["0", "1", "2", "3", "null"]),
    row("stock", "reserved", Judge::Latest, &["0", "1", "2"]),
    row("stock", "shelf", Judge::Owner(&["wms"]), &["\"A\"", "\"B\"", "null"]),
];

/// The states of an order's lifecycle that are said here, with their ranks; an unknown one is below all.
pub const RANKS: [(&str, i32); 6] = [
    ("\"pending\"", 10),
    ("\"confirmed\"", 20),
    ("\"released\"", 40),
    ("\"cancelled\"", 45),
    ("\"shipped\"", 60),
    ("\"closed\"", 80),
];

/// The keys of each kind; few, so that they meet.
pub const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A way in.
#[derive(Debug)]
pub struct Way {
    /// Its name, the source.
    pub source: &'static str,
    /// The system that it speaks for.
    pub system: &'static str,
    /// How its documents are numbered.
    pub sequences: Sequences,
    /// Whether it is an API client: a reused id or key is an error, a version may be expected.
    pub is_api: bool,
}

/// How a system numbers its documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequences {
    /// Not at all.
    None,
    /// Always.
    Always,
    /// Some of them.
    Mixed,
}

/// All ways in; `shop` has two.
pub const WAYS: [Way; 5] = [
    Way { source: "shop-hook", system: "shop", sequences: Sequences::None, is_api: false },
    Way { source: "shop-poll", system: "shop", sequences: Sequences::None, is_api: false },
    Way { source: "erp-hook", system: "erp", sequences: Sequences::Always, is_api: false },
    Way { source: "wms-hook", system: "wms", sequences: Sequences::Mixed, is_api: false },
    Way { source: "desk-api", system: "desk", sequences: Sequences::None, is_api: true },
];

/// Systems that come first at the same instant; the others have 0.
pub const PRIORITIES: [(&str, u32); 2] = [("erp", 2), ("shop", 1)];

/// A system's priority.
pub fn priority(system: &str) -> u32 {
    PRIORITIES.iter().find(|(name, _)| *name == system).map_or(0, |(_, priority)| *priority)
}

/// Who decides a field.
pub fn judge(kind: &str, field: &str) -> Judge {
    FIELDS.iter().find(|row| row.kind == kind && row.name == field).map_or(Judge::Latest, |row| row.judge)
}

/// The same for the hub. Products are left out where nothing but the latest decides: that is what it does by itself.
pub fn hub_rules() -> Rules {
    let mut rules = Rules::new();
    for (system, priority) in PRIORITIES {
        rules.prefer(system, priority);
    }
    rules.stock_orders = crate::orders::say::rules();
    let mut domains: BTreeMap<&str, Domain> = BTreeMap::new();
    for row in &FIELDS {
        let domain =
            domains.entry(row.kind).or_insert_with(|| Domain { kind: row.kind.to_owned(), ..Domain::default() });
        if row.name == LIST {
            domain.parts.insert("lines".to_owned(), Part::Items { key: "id".to_owned() });
        }
        let policy = match row.judge {
            Judge::Latest => continue,
            Judge::Owner(systems) => {
                Policy::Owner(Owner { systems: systems.iter().map(|s| (*s).to_owned()).collect() })
            }
            Judge::Rank => Policy::BusinessState(lockstep_core::order::lifecycle_states()),
        };
        domain.fields.insert(row.name.to_owned(), policy);
    }
    domains.into_values().for_each(|domain| rules.declare(domain));
    rules
}

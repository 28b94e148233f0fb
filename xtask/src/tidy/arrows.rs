//! Which crate may know which: the arrows of ARCHITECTURE.md, held against the manifests.

use crate::metadata::{Kind, Metadata};

/// What one crate may depend on, and why no more.
struct Rule {
    name: &'static str,
    may_use: &'static [&'static str],
    why: &'static str,
}

/// Every crate of the workspace, from the bottom up.
const RULES: &[Rule] = &[
    Rule {
        name: "lockstep-core",
        may_use: &[],
        why: "core decides and knows nothing of who asks or where it is stored",
    },
    Rule { name: "lockstep-journal", may_use: &[], why: "to the journal a record is opaque bytes" },
    Rule {
        name: "lockstep-mapping",
        may_use: &["lockstep-core"],
        why: "a mapping turns one JSON value into another; of the core it knows only money and time",
    },
    Rule {
        name: "lockstep-connect",
        may_use: &["lockstep-core", "lockstep-mapping"],
        why: "connect is what a connector's author sees: no hub, no journal, no concrete system",
    },
    Rule {
        name: "lockstep-connectors",
        may_use: &["lockstep-connect", "lockstep-core"],
        why: "a connector is written against connect, so that it works with every hub",
    },
    Rule {
        name: "lockstep-hub",
        may_use: &["lockstep-core", "lockstep-journal", "lockstep-connect"],
        why: "the hub names no concrete connector and serves no protocol",
    },
    Rule {
        name: "lockstep-api",
        may_use: &["lockstep-hub", "lockstep-core", "lockstep-connect"],
        why: "the API asks the hub and never the journal or a concrete connector",
    },
    Rule {
        name: "lockstep-proto",
        may_use: &[],
        why: "messages are what a client builds on: it gets nothing of the hub with them",
    },
    Rule {
        name: "lockstep-grpc",
        may_use: &["lockstep-proto", "lockstep-api", "lockstep-hub", "lockstep-core", "lockstep-connect"],
        why: "gRPC is another form of the API: the same keys, the same way in, the same refusals",
    },
    Rule {
        name: "sim",
        may_use: &["lockstep-hub", "lockstep-core", "lockstep-journal"],
        why: "the simulation is the world around one hub; nothing depends on it",
    },
    Rule {
        name: "lockstep",
        may_use: &[
            "lockstep-core",
            "lockstep-journal",
            "lockstep-mapping",
            "lockstep-connect",
            "lockstep-connectors",
            "lockstep-hub",
            "lockstep-api",
            "lockstep-grpc",
        ],
        why: "the binary wires everything, and nothing depends on it",
    },
    Rule { name: "xtask", may_use: &[], why: "the runner must build and run when every other crate is broken" },
];

/// Lists the dependencies between members that no arrow allows, and members without a rule.
pub(crate) fn check(metadata: &Metadata) -> Vec<String> {
    let names: Vec<&str> = metadata.members().map(|member| member.name.as_str()).collect();
    let mut problems = Vec::new();
    for member in metadata.members() {
        let Some(rule) = rule(&member.name) else {
            problems.push(format!(
                "{} has no rule: add it to RULES in xtask/src/tidy/arrows.rs, saying what it may use and why",
                member.name
            ));
            continue;
        };
        for dependency in &member.dependencies {
            if names.contains(&dependency.name.as_str()) && !allowed(rule, &dependency.name, dependency.kind) {
                problems.push(format!(
                    "{} -> {}{}: {}",
                    member.name,
                    dependency.name,
                    if dependency.kind == Kind::Dev { " (dev)" } else { "" },
                    rule.why
                ));
            }
        }
    }
    problems
}

fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

fn allowed(rule: &Rule, dependency: &str, kind: Kind) -> bool {
    match kind {
        Kind::Normal | Kind::Build => rule.may_use.contains(&dependency),
        Kind::Dev => is_below(rule, dependency),
    }
}

/// Tests may reach further down than code (over several arrows), never up or sideways. Ends because
/// the arrows have no cycle, which a test below holds.
fn is_below(rule: &Rule, dependency: &str) -> bool {
    rule.may_use
        .iter()
        .any(|below| *below == dependency || self::rule(below).is_some_and(|below| is_below(below, dependency)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Dependency, Package};

    fn workspace(members: &[(&str, &[(&str, Kind)])]) -> Metadata {
        let packages = members
            .iter()
            .map(|(name, dependencies)| Package {
                name: (*name).to_owned(),
                version: "0.1.0".to_owned(),
                licence: None,
                manifest: "Cargo.toml".into(),
                dependencies: dependencies
                    .iter()
                    .map(|(name, kind)| Dependency { name: (*name).to_owned(), kind: *kind })
                    .collect(),
                member: true,
            })
            .collect();
        Metadata { packages, target_folder: "target".into() }
    }

    #[test]
    fn every_rule_names_only_rules_above_it_in_the_list_and_so_there_is_no_cycle() {
        for (index, rule) in RULES.iter().enumerate() {
            for used in rule.may_use {
                assert!(RULES[..index].iter().any(|earlier| earlier.name == *used), "{} -> {used}", rule.name);
            }
        }
    }

    #[test]
    fn arrows_that_are_drawn_pass() {
        let metadata = workspace(&[
            ("lockstep-core", &[]),
            ("lockstep-mapping", &[]),
            ("lockstep-connect", &[("lockstep-core", Kind::Normal), ("lockstep-mapping", Kind::Normal)]),
            ("lockstep", &[("lockstep-connect", Kind::Normal), ("serde", Kind::Normal)]),
        ]);
        assert_eq!(check(&metadata), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_upward_is_named_with_its_reason() {
        let metadata = workspace(&[
            ("lockstep-core", &[("lockstep-hub", Kind::Normal)]),
            ("lockstep-hub", &[("lockstep-connectors", Kind::Build)]),
            ("lockstep-connectors", &[]),
        ]);
        assert_eq!(
            check(&metadata),
            [
                "lockstep-core -> lockstep-hub: core decides and knows nothing of who asks or where it is stored",
                "lockstep-hub -> lockstep-connectors: the hub names no concrete connector and serves no protocol",
            ]
        );
    }

    #[test]
    fn tests_may_reach_further_down_but_neither_up_nor_sideways() {
        let metadata = workspace(&[
            ("lockstep-journal", &[("lockstep-core", Kind::Dev)]),
            ("lockstep-core", &[]),
            ("lockstep-hub", &[("lockstep-mapping", Kind::Dev), ("lockstep-api", Kind::Dev)]),
            ("lockstep-mapping", &[]),
            ("lockstep-api", &[("lockstep-journal", Kind::Dev), ("lockstep-connectors", Kind::Dev)]),
            ("lockstep-connectors", &[]),
        ]);
        let arrows: Vec<String> = check(&metadata)
            .iter()
            .filter_map(|problem| problem.split_once(':').map(|(arrow, _)| arrow.to_owned()))
            .collect();
        assert_eq!(
            arrows,
            [
                "lockstep-journal -> lockstep-core (dev)",
                "lockstep-hub -> lockstep-api (dev)",
                "lockstep-api -> lockstep-connectors (dev)",
            ]
        );
    }

    #[test]
    fn a_new_crate_needs_a_rule() {
        let problems = check(&workspace(&[("lockstep-sim", &[])]));
        assert!(problems[0].starts_with("lockstep-sim has no rule"), "{problems:?}");
    }
}

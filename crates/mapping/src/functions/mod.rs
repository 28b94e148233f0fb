//! What a mapping can call: the pure part of VRL's standard library, and what commerce needs beyond it.
//!
//! One function, one file; one line in [`all`].

mod alias;
mod each;
mod exact;
mod exists;
mod id;
mod look;
mod money;
mod money_sum;
mod pick;
mod qty;
pub(crate) mod stamp;
mod utc;

use std::sync::LazyLock;

use vrl::compiler::Function;

/// The functions of the standard library that a mapping may call: those whose result depends on nothing but
/// their arguments. It is a list of what is allowed, not of what is forbidden, so that a new version of the
/// library brings nothing in by itself.
///
/// Left out though pure: `unnest`, which reads more than the path that it names, so that what a program looks
/// at could not be known beforehand; and what parses the logs and encodings of other trades.
pub const STANDARD: &[&str] = &[
    "abs",
    "append",
    "array",
    "assert",
    "assert_eq",
    "bool",
    "camelcase",
    "ceil",
    "chunks",
    "compact",
    "contains",
    "contains_all",
    "decode_base16",
    "decode_base64",
    "decode_percent",
    "del",
    "downcase",
    "encode_base16",
    "encode_base64",
    "encode_json",
    "encode_key_value",
    "encode_percent",
    "ends_with",
    "filter",
    "find",
    "flatten",
    "float",
    "floor",
    "for_each",
    "format_int",
    "format_number",
    "format_timestamp",
    "from_entries",
    "from_unix_timestamp",
    "get",
    "includes",
    "int",
    "is_array",
    "is_boolean",
    "is_empty",
    "is_float",
    "is_integer",
    "is_json",
    "is_null",
    "is_nullish",
    "is_object",
    "is_string",
    "is_timestamp",
    "join",
    "kebabcase",
    "keys",
    "length",
    "map_keys",
    "map_values",
    "match",
    "match_any",
    "match_array",
    "merge",
    "mod",
    "object",
    "object_from_array",
    "parse_csv",
    "parse_duration",
    "parse_float",
    "parse_int",
    "parse_json",
    "parse_key_value",
    "parse_query_string",
    "parse_regex",
    "parse_regex_all",
    "parse_timestamp",
    "parse_url",
    "parse_xml",
    "parse_yaml",
    "pascalcase",
    "pop",
    "push",
    "range",
    "remove",
    "replace",
    "replace_with",
    "round",
    "screamingsnakecase",
    "set",
    "slice",
    "snakecase",
    "split",
    "starts_with",
    "string",
    "strip_whitespace",
    "strlen",
    "tally",
    "timestamp",
    "to_bool",
    "to_entries",
    "to_float",
    "to_int",
    "to_regex",
    "to_string",
    "to_unix_timestamp",
    "truncate",
    "type_def",
    "unflatten",
    "unique",
    "upcase",
    "values",
    "zip",
];

/// Every function that a mapping can call.
pub fn all() -> &'static [Box<dyn Function>] {
    static ALL: LazyLock<Vec<Box<dyn Function>>> = LazyLock::new(|| {
        let standard = vrl::stdlib::all().into_iter().filter(|function| STANDARD.contains(&function.identifier()));
        standard.chain(own()).collect()
    });
    &ALL
}

fn own() -> Vec<Box<dyn Function>> {
    vec![
        Box::new(alias::Alias),
        Box::new(each::Each),
        Box::new(exists::Exists),
        Box::new(id::Id),
        Box::new(money::Money),
        Box::new(money_sum::MoneySum),
        Box::new(pick::Pick),
        Box::new(qty::Qty),
        Box::new(stamp::Stamp),
        Box::new(utc::Utc),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Program, Value, from_json, to_json};

    #[test]
    fn every_name_of_the_list_is_a_function() {
        let there: Vec<_> = all().iter().map(|function| function.identifier()).collect();
        for name in STANDARD {
            assert!(there.contains(name), "{name}");
        }
        assert_eq!(there.len(), STANDARD.len() + own().len());
    }

    #[test]
    fn nothing_that_asks_the_world_compiles() {
        for source in [
            "now()",
            "random_int(0, 9)",
            "random_float(0.0, 1.0)",
            "random_bool()",
            "random_bytes(4)",
            "uuid_v4()",
            "uuid_v7()",
            "get_env_var!(\"HOME\")",
            "get_hostname!()",
            "get_timezone_name!()",
            "dns_lookup!(\"localhost\")",
            "reverse_dns!(\"127.0.0.1\")",
            "http_request!(\"http://localhost\")",
            "get_secret(\"a\")",
            "set_secret(\"a\", \"b\")",
            "log(\"a\")",
            "encode_proto!({}, \"a.desc\", \"a\")",
            "parse_etld!(\"a.com\", psl: \"a.dat\")",
            "validate_json_schema!(\"{}\", \"a.json\")",
            "parse_groks!(\"a\", patterns: [\"a\"], alias_sources: [\"a\"])",
        ] {
            let error = Program::compile("t.vrl", source).unwrap_err();
            assert!(error.message.contains("undefined function"), "{source}: {error}");
        }
    }

    #[test]
    fn every_example_is_true() {
        for function in own() {
            assert!(!function.examples().is_empty(), "{}", function.identifier());
            for example in function.examples() {
                let program = Program::compile("t.vrl", example.source).unwrap();
                let input = example.input.map_or(Value::Null, |input| from_json(input.as_bytes()).unwrap());
                match (program.run(input), example.result) {
                    (Ok(value), Ok(expected)) => {
                        let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
                        assert_eq!(to_json(&value), expected, "{}", example.source);
                    }
                    (Err(error), Err(expected)) => {
                        assert_eq!(error.message, expected, "{}", example.source)
                    }
                    (got, expected) => panic!("{}: {got:?} is not {expected:?}", example.source),
                }
            }
        }
    }
}

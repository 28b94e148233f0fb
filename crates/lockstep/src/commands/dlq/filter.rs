//! Which dead letters a command is about, as the API takes it.

use clap::Args;

/// Which dead letters: those that meet every condition.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct FilterArgs {
    /// Only those of entities of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// Only those of entities with this key.
    #[arg(long = "of-key", value_name = "KEY")]
    of_key: Option<String>,
    /// Only events of this type; a `*` at the end stands for anything.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only those given up for this reason: exhausted, rejected, poison or waited.
    #[arg(long, value_name = "REASON")]
    cause: Option<String>,
    /// Only those whose last attempt was answered with this HTTP status; 0: it had no answer.
    #[arg(long, value_name = "STATUS")]
    status: Option<u32>,
    /// Only those given up so long ago or longer, such as 30m, 6h or 2d.
    #[arg(long, value_name = "AGE", value_parser = age_s)]
    older_than: Option<u64>,
    /// Only those given up so long ago or less.
    #[arg(long, value_name = "AGE", value_parser = age_s)]
    younger_than: Option<u64>,
    /// Only those in whose last attempt's detail this text stands.
    #[arg(long)]
    text: Option<String>,
    /// Only those whose value is in this currency.
    #[arg(long)]
    currency: Option<String>,
    /// Only those that are to be sent again at a time (true), or only others (false).
    #[arg(long, value_name = "TRUE|FALSE")]
    scheduled: Option<bool>,
}

impl FilterArgs {
    /// The conditions as parameters.
    pub(super) fn parameters(&self, destination: Option<&str>) -> Vec<(&'static str, Option<String>)> {
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        vec![
            ("destination", destination.map(str::to_owned)),
            ("kind", self.kind.clone()),
            ("key", self.of_key.clone()),
            ("type", self.event_type.clone()),
            ("reason", self.cause.clone()),
            ("status", number(self.status.map(u64::from))),
            ("age_min_s", number(self.older_than)),
            ("age_max_s", number(self.younger_than)),
            ("text", self.text.clone()),
            ("currency", self.currency.clone()),
            ("scheduled", self.scheduled.map(|scheduled| scheduled.to_string())),
        ]
    }

    /// Whether there is any condition.
    pub(super) fn is_selective(&self) -> bool {
        self.parameters(None).iter().any(|(_, value)| value.is_some())
    }
}

/// Reads an age: a number with `s`, `m`, `h` or `d`.
pub(super) fn age_s(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` must be a duration such as 90s, 30m, 6h or 2d");
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..at].parse().map_err(|_| wrong())?;
    let unit_s = match &text[at..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(unit_s)
        .filter(|age_s| *age_s <= 366 * 86_400)
        .ok_or_else(|| format!("`{text}` is more than a year"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_units_and_an_end() {
        let rows = [("90", Some(90)), ("30m", Some(1_800)), ("6h", Some(21_600)), ("2d", Some(172_800))];
        for (text, age) in rows.into_iter().chain([("", None), ("2w", None), ("-1s", None), ("400d", None)]) {
            assert_eq!(age_s(text).ok(), age, "{text}");
        }
    }
}

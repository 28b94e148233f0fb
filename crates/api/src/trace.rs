//! W3C trace context: the `traceparent` that goes with a change from its intake to its delivery.

use http::HeaderMap;

/// A valid `traceparent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace(String);

impl Trace {
    /// The request's trace, or a new one where it has none or none that is valid.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        headers
            .get("traceparent")
            .and_then(|value| value.to_str().ok())
            .and_then(Self::parse)
            .unwrap_or_else(Self::random)
    }

    /// A trace from its text, where that is valid. A version newer than ours is carried on as ours, as the
    /// standard asks.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (head, rest) = text.split_at_checked(55)?;
        let mut parts = head.split('-');
        let (version, id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |part: &str, length| {
            part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let set = |part: &str| part.bytes().any(|b| b != b'0');
        let well = parts.next().is_none()
            && hex(version, 2)
            && version != "ff"
            && hex(id, 32)
            && set(id)
            && hex(parent, 16)
            && set(parent)
            && hex(flags, 2)
            && (rest.is_empty() || (version != "00" && rest.starts_with('-')));
        well.then(|| Self(if version == "00" { head.to_owned() } else { format!("00-{id}-{parent}-{flags}") }))
    }

    fn random() -> Self {
        // Neither may be zero; the ids are no secrets.
        let (id, parent) = (fastrand::u128(1..), fastrand::u64(1..));
        Self(format!("00-{id:032x}-{parent:016x}-00"))
    }

    /// The trace's own id.
    pub(crate) fn id(&self) -> &str {
        &self.0[3..35]
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_valid_one_is_carried_on() {
        assert_eq!(Trace::parse(GOOD).unwrap().into_string(), GOOD);
        let newer = format!("01{}-what-the-future-brings", &GOOD[2..]);
        assert_eq!(Trace::parse(&newer).unwrap().into_string(), GOOD);
    }

    #[test]
    fn an_invalid_one_is_not() {
        let bad = [
            String::new(),
            GOOD[..54].to_owned(),
            format!("{GOOD}-more"),
            GOOD.to_uppercase(),
            format!("ff{}", &GOOD[2..]),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            GOOD.replace("b7ad6b7169203331", "0000000000000000"),
            GOOD.replace('-', "_"),
            "é".repeat(40),
        ];
        for text in bad {
            assert_eq!(Trace::parse(&text), None, "{text}");
        }
    }

    #[test]
    fn a_made_one_is_valid() {
        let made = Trace::of(&HeaderMap::new());
        assert_eq!(made.id().len(), 32);
        assert_eq!(Trace::parse(&made.clone().into_string()), Some(made));
    }
}

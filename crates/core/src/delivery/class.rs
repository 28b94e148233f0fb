//! What an attempt came to, in classes, and what an operator can do about each.

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// The destination has it: a 2xx.
    Delivered,
    /// It did not work, the destination has not taken it, and it may work later: no connection, 5xx, 408.
    Transient,
    /// Whether the destination has taken it is not known: the request was sent, and there was no answer in time or the
    /// connection was cut. It is tried again with the same id, by which the destination knows a repetition.
    Unknown,
    /// The destination asks to wait: 429, or 503 with `Retry-After`.
    Throttled {
        /// How long it asks to wait, where it says so.
        retry_after_ms: Option<u64>,
    },
    /// The destination has understood and says no: any other 3xx or 4xx. Asking again gives the same answer.
    Rejected,
    /// The destination does not let the hub in: 401 or 403. That is no word about the event, so nothing is given up.
    Unauthorized,
    /// It does not let the hub in with this event, while it lets others in: one server of several may not know a new
    /// credential yet, so it is tried again before it is given up. No destination answers so: it follows from what others
    /// were answered.
    Denied,
    /// The destination wants nothing any more: 410. Standard Webhooks has the sender stop sending then.
    Gone,
    /// It could not be made into a request at all.
    Poison,
}

impl AttemptResult {
    /// All classes, for whoever has to find one by its name.
    pub const ALL: [Self; 9] = [
        Self::Delivered,
        Self::Transient,
        Self::Unknown,
        Self::Throttled { retry_after_ms: None },
        Self::Rejected,
        Self::Unauthorized,
        Self::Denied,
        Self::Gone,
        Self::Poison,
    ];

    /// The class in a word, as it is kept with an attempt.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Transient => "transient",
            Self::Unknown => "unknown",
            Self::Throttled { .. } => "throttled",
            Self::Rejected => "rejected",
            Self::Unauthorized => "unauthorized",
            Self::Denied => "denied",
            Self::Gone => "gone",
            Self::Poison => "poison",
        }
    }

    /// What an operator can do about it; nothing where nothing is wrong.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Delivered => "",
            Self::Transient => {
                "The destination did not work or could not be reached. See that it runs and that the address is right, \
                 then retry."
            }
            Self::Unknown => {
                "It is not known whether the destination has taken it: no answer came. Look there first, unless it \
                 drops what comes again with the same id; then retry or discard. Answers that are always late need a \
                 longer `timeout_ms`."
            }
            Self::Throttled { .. } => {
                "The destination asks for fewer requests. Set `limit.rate_per_s` to what it allows, or a longer \
                 `retry.schedule`; then retry."
            }
            Self::Rejected => {
                "The destination has understood and refuses. See what it answered, correct the mapping or the data, \
                 then retry; or discard with a reason."
            }
            Self::Unauthorized => {
                "The destination does not accept the hub's credentials. Renew `secrets` or `secret_headers`, or give the \
                 hub access there. Deliveries wait, none is lost, and go on by themselves."
            }
            Self::Denied => {
                "The destination lets the hub in with other events and not with this one. See that the hub's credentials \
                 may write it, and that every server of the destination knows them; then retry, or discard with a reason."
            }
            Self::Gone => {
                "The destination answers 410 Gone: it wants no more events at this URL. Correct `url`, or take the \
                 destination out of the configuration. Deliveries wait, none is lost."
            }
            Self::Poison => {
                "The event could not be made into a request. Correct the mapping at the place that the attempt names, \
                 then retry."
            }
        }
    }

    /// The same with a wish to wait that is not longer than this.
    #[must_use]
    pub fn capped(self, retry_after_max_ms: u64) -> Self {
        match self {
            Self::Throttled { retry_after_ms } => {
                Self::Throttled { retry_after_ms: retry_after_ms.map(|ms| ms.min(retry_after_max_ms)) }
            }
            other => other,
        }
    }

    /// Whether it speaks against the destination's working, rather than against the event or the hub's access.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Transient | Self::Unknown | Self::Throttled { .. })
    }
}

/// What to do about a dead letter, by its reason and the class of its last attempt, where that is known.
pub fn advice(reason: &str, last_class: &str) -> &'static str {
    if reason == "waited" {
        return "What it waits for has not arrived in time. Its last attempt says what that is: see whether it is a dead \
                letter itself. Then retry: what is retried by hand waits for nothing.";
    }
    let named = |name: &str| AttemptResult::ALL.into_iter().find(|class| class.name() == name);
    // That the retries are used up says less than why the last of them failed.
    named(reason).or_else(|| named(last_class)).unwrap_or(AttemptResult::Transient).advice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_name_of_its_own_and_advice() {
        for (at, class) in AttemptResult::ALL.into_iter().enumerate() {
            assert_eq!(AttemptResult::ALL.iter().position(|other| other.name() == class.name()), Some(at), "{class:?}");
            assert_eq!(class.advice().is_empty(), class == AttemptResult::Delivered, "{class:?}");
        }
    }

    #[test]
    fn a_dead_letters_advice_is_that_of_its_cause() {
        assert_eq!(advice("rejected", "rejected"), AttemptResult::Rejected.advice());
        assert_eq!(advice("exhausted", "unknown"), AttemptResult::Unknown.advice());
        assert_eq!(advice("exhausted", "throttled"), AttemptResult::Throttled { retry_after_ms: None }.advice());
        assert!(advice("waited", "").contains("has not arrived"));
        // Of before classes were kept.
        assert_eq!(advice("exhausted", ""), AttemptResult::Transient.advice());
    }

    #[test]
    fn a_wish_to_wait_is_capped() {
        let throttled = |retry_after_ms| AttemptResult::Throttled { retry_after_ms };
        assert_eq!(throttled(Some(9)).capped(5), throttled(Some(5)));
        assert_eq!(throttled(None).capped(5), throttled(None));
        assert_eq!(AttemptResult::Unknown.capped(5), AttemptResult::Unknown);
    }
}

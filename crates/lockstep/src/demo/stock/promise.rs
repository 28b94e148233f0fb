//! One promise to a buyer, as far as it was answered.

/// How many units of which articles, by their numbers.
pub(crate) type Units = Vec<(usize, i64)>;

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Held until then, as the hub has answered.
    Held { expires_at_us: i64 },
    /// Paid for.
    Sold,
    /// Its buyer has asked to give it back; it was held until then, and without an end where it was sold.
    GivingBack { until_us: i64 },
    /// It has left the shelf.
    Left,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) units: Units,
    pub(crate) state: State,
}

impl Promise {
    /// How many units of an article.
    pub(crate) fn of(&self, article: usize) -> i64 {
        self.units.iter().filter(|(of, _)| *of == article).map(|(_, units)| units).sum()
    }

    /// How many units of all articles.
    pub(crate) fn all(&self) -> i64 {
        self.units.iter().map(|(_, units)| units).sum()
    }

    /// Whether its units can be nobody else's at this time.
    pub(crate) fn holds(&self, now_us: i64) -> bool {
        match self.state {
            State::Held { expires_at_us } => expires_at_us > now_us,
            State::Sold => true,
            State::GivingBack { .. } | State::Left => false,
        }
    }

    /// Whether the hub may say that its time is over.
    pub(crate) fn is_over(&self, now_us: i64) -> bool {
        match self.state {
            State::Held { expires_at_us: until_us } | State::GivingBack { until_us } => until_us <= now_us,
            State::Sold | State::Left => false,
        }
    }
}

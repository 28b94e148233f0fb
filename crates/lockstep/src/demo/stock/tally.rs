//! What the sale's parties know by themselves: how many units there are, as the warehouse has them on its shelf, and how
//! many of them were promised to buyers, as the hub has answered. No word of the hub's own sums is in it.
//!
//! A promise counts from the moment its buyer has heard of it. It no longer counts when its time is over, or when its
//! buyer asks to give it back: by then the hub may have given it to another. So what is found here is never the fault
//! of an answer on its way.

use std::collections::{BTreeMap, VecDeque};

use super::promise::{Promise, State, Units};

/// How many ended reservations are remembered for the look at the end.
const ENDED_MAX: usize = 20_000;
/// How many problems are told one by one.
const TOLD_MAX: usize = 20;

/// How a reservation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Shipped,
    GivenBack,
    RanOut,
}

impl End {
    /// What the hub calls it.
    pub(crate) fn state(self) -> &'static str {
        match self {
            Self::Shipped => "consumed",
            Self::GivenBack => "released",
            Self::RanOut => "expired",
        }
    }
}

/// A reservation that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) id: String,
    pub(crate) end: End,
    pub(crate) units: i64,
}

/// What there must be of an article in the hub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stand {
    pub(crate) on_hand: i64,
    pub(crate) held: i64,
    pub(crate) committed: i64,
    /// The open reservations, and what is open of each.
    pub(crate) open: BTreeMap<String, i64>,
}

/// Sums over the whole sale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Sums {
    /// Requests to reserve that were answered, whatever the answer.
    pub(crate) carts: u64,
    /// Of these: reserved.
    pub(crate) reserved: u64,
    /// Of these: refused with 409, as there was not enough.
    pub(crate) refused: u64,
    /// Reservations that ended by themselves.
    pub(crate) ran_out: u64,
    /// Reservations that were given back, paid for or not.
    pub(crate) given_back: u64,
    /// Units that have ever been on the shelves.
    pub(crate) units_there: i64,
    /// Units that buyers have paid for and not given back.
    pub(crate) units_sold: i64,
    /// Units that have left.
    pub(crate) units_shipped: i64,
    /// How many units more than there were on the shelves were promised at the worst moment of each article.
    pub(crate) oversold: i64,
    /// What must not be and is no overselling.
    pub(crate) wrong: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Article {
    shelf: i64,
    /// The most units that were promised beyond the shelf.
    over_max: i64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tally {
    names: Vec<String>,
    articles: Vec<Article>,
    open: BTreeMap<String, Promise>,
    ended: VecDeque<Ended>,
    sums: Sums,
    told: Vec<String>,
    last_us: i64,
}

impl Tally {
    /// Nothing is there yet.
    pub(crate) fn new(names: Vec<String>) -> Self {
        let articles = vec![Article::default(); names.len()];
        let (open, ended) = (BTreeMap::new(), VecDeque::new());
        Self { names, articles, open, ended, sums: Sums::default(), told: Vec::new(), last_us: 0 }
    }

    /// The names of the articles, by their numbers.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn sums(&self) -> Sums {
        Sums { oversold: self.articles.iter().map(|article| article.over_max).sum(), ..self.sums }
    }

    /// The first problems, in words.
    pub(crate) fn told(&self) -> &[String] {
        &self.told
    }

    /// What must not be.
    pub(crate) fn wrong(&mut self, what: String) {
        self.sums.wrong += 1;
        self.tell(what);
    }

    fn tell(&mut self, what: String) {
        if self.told.len() < TOLD_MAX {
            self.told.push(what);
        }
    }

    /// The time on the warehouse's clock: no two things happen at the same.
    fn moment(&mut self, now_us: i64) -> i64 {
        self.last_us = now_us.max(self.last_us + 1);
        self.last_us
    }

    /// Units are put on the shelf; gives when. To be said before the hub is told.
    pub(crate) fn came(&mut self, article: usize, units: i64, now_us: i64) -> i64 {
        self.articles[article].shelf += units;
        self.sums.units_there += units;
        self.moment(now_us)
    }

    /// The shelf is counted: when, and how many units are there.
    pub(crate) fn counted(&mut self, article: usize, now_us: i64) -> (i64, i64) {
        (self.moment(now_us), self.articles[article].shelf)
    }

    /// A buyer is told that there is not enough.
    pub(crate) fn refused(&mut self) {
        self.sums.carts += 1;
        self.sums.refused += 1;
    }

    /// A buyer is told that these units are held until then.
    pub(crate) fn held(&mut self, id: &str, units: &Units, expires_at_us: i64, now_us: i64) {
        self.sums.carts += 1;
        self.sums.reserved += 1;
        let promise = Promise { units: units.clone(), state: State::Held { expires_at_us } };
        if self.open.insert(id.to_owned(), promise).is_some() {
            self.wrong(format!("{id} was reserved twice"));
        }
        self.look(id, now_us);
    }

    /// A buyer is told that the units are sold to him.
    pub(crate) fn sold(&mut self, id: &str, now_us: i64) {
        let Some(promise) = self.promise(id, "sold", |state| matches!(state, State::Held { .. })) else { return };
        promise.state = State::Sold;
        self.sums.units_sold += promise.all();
        self.look(id, now_us);
    }

    /// A buyer is told, or sees by the clock, that the time of his hold is over.
    pub(crate) fn ran_out(&mut self, id: &str, now_us: i64) {
        if !self.open.get(id).is_some_and(|promise| promise.is_over(now_us)) {
            let state = self.open.get(id).map(|promise| promise.state);
            self.wrong(format!("{id} was not kept: it is {state:?}"));
        }
        self.sums.ran_out += 1;
        self.end(id, End::RanOut);
    }

    /// A buyer asks to give the units back.
    pub(crate) fn giving_back(&mut self, id: &str) {
        let is_right = |state| matches!(state, State::Held { .. } | State::Sold);
        let Some(promise) = self.promise(id, "given back", is_right) else { return };
        let (until_us, sold) = match promise.state {
            State::Held { expires_at_us } => (expires_at_us, 0),
            _ => (i64::MAX, promise.all()),
        };
        promise.state = State::GivingBack { until_us };
        self.sums.units_sold -= sold;
    }

    /// He is told that the units are given back.
    pub(crate) fn given_back(&mut self, id: &str) {
        if self.promise(id, "given back", |state| matches!(state, State::GivingBack { .. })).is_some() {
            self.sums.given_back += 1;
            self.end(id, End::GivenBack);
        }
    }

    /// The units leave the shelf; gives which, and when. To be said before the hub is told.
    pub(crate) fn left(&mut self, id: &str, now_us: i64) -> Option<(Units, i64)> {
        let promise = self.promise(id, "shipped", |state| state == State::Sold)?;
        promise.state = State::Left;
        let units = promise.units.clone();
        for (article, count) in &units {
            self.articles[*article].shelf -= count;
            self.sums.units_shipped += count;
        }
        self.look(id, now_us);
        let at_us = self.moment(now_us);
        Some((units, at_us))
    }

    /// The hub knows that they have left.
    pub(crate) fn shipped(&mut self, id: &str) {
        if self.promise(id, "shipped", |state| state == State::Left).is_some() {
            self.end(id, End::Shipped);
        }
    }

    fn promise(&mut self, id: &str, what: &str, is_right: impl Fn(State) -> bool) -> Option<&mut Promise> {
        let state = self.open.get(id).map(|promise| promise.state);
        if !state.is_some_and(is_right) {
            self.wrong(format!("{id} can't be {what}: it is {state:?}"));
            return None;
        }
        self.open.get_mut(id)
    }

    fn end(&mut self, id: &str, end: End) {
        if let Some(promise) = self.open.remove(id) {
            if self.ended.len() == ENDED_MAX {
                self.ended.pop_front();
            }
            self.ended.push_back(Ended { id: id.to_owned(), end, units: promise.all() });
        }
    }

    /// Whether more is promised of a reservation's articles than is on the shelf.
    fn look(&mut self, id: &str, now_us: i64) {
        let Some(articles) = self.open.get(id).map(|promise| promise.units.clone()) else { return };
        for (article, _) in articles {
            let holding = self.open.values().filter(|promise| promise.holds(now_us));
            let promised: i64 = holding.map(|promise| promise.of(article)).sum();
            let Article { shelf, over_max } = self.articles[article];
            if promised - shelf > over_max {
                self.articles[article].over_max = promised - shelf;
                self.tell(format!("oversold: {promised} of {} promised with {id}, {shelf} there", self.names[article]));
            }
        }
    }

    /// What the hub must say of an article at this time.
    pub(crate) fn stand(&self, article: usize, now_us: i64) -> Stand {
        let mut stand = Stand { on_hand: self.articles[article].shelf, ..Stand::default() };
        for (id, promise) in &self.open {
            let units = promise.of(article);
            if units == 0 || !promise.holds(now_us) {
                continue;
            }
            let sum = if promise.state == State::Sold { &mut stand.committed } else { &mut stand.held };
            *sum += units;
            stand.open.insert(id.clone(), units);
        }
        stand
    }

    /// How many reservations nobody has ended: none, when the last buyer has left and all parcels are gone.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    /// The reservations that are over: the last of them, where there are very many.
    pub(crate) fn ended(&self) -> Vec<Ended> {
        self.ended.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests;

//! The answer to "what may this channel sell?", with every term of the equation and who is behind it.

use compact_str::CompactString;

use super::available::Taken;
use super::command::StockRefusal;
use super::record::ReservationState;
use super::state::{Location, NONE, Stock};
use super::validate::invalid;

/// The most channels that a refusal names.
const NAMED_MAX: usize = 20;

/// What a channel may sell of a SKU or kit, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Availability {
    /// The SKU or kit.
    pub sku: CompactString,
    /// The channel.
    pub channel: CompactString,
    /// The time of the answer, microseconds since 1970 UTC.
    pub at_us: i64,
    /// Available to promise: `max(0, min(sum of usable, cap remaining) - buffer)`; of a kit the least that its
    /// components give.
    pub atp: i64,
    /// Available to order by the time asked for: `atp + min(backorder limit, incoming - open backorders)`.
    pub ato: i64,
    /// What is left of the channel's cap; nothing where it has none.
    pub cap_remaining: Option<i64>,
    /// What is held back from `atp`.
    pub buffer: i64,
    /// On order and expected by the time asked for.
    pub incoming: i64,
    /// Open backorders of all channels.
    pub backordered: i64,
    /// What every location gives.
    pub locations: Vec<Contribution>,
    /// What every component gives, with how much of it one kit takes.
    pub components: Vec<(i64, Availability)>,
    /// The time of the oldest physical fact behind it; nothing where there is none.
    pub as_of_us: Option<i64>,
    /// How old that is.
    pub age_us: Option<i64>,
    /// Whether that is within the limit.
    pub is_fresh: bool,
    /// The limit.
    pub fresh_for_us: i64,
}

/// One location's part: `atf = on_hand - unavailable - safety - held - committed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contribution {
    /// The location.
    pub location: CompactString,
    /// Whether it may serve the channel.
    pub is_eligible: bool,
    /// What lies there.
    pub on_hand: i64,
    /// Of it: damaged.
    pub damaged: i64,
    /// Of it: waiting for a check.
    pub quality_control: i64,
    /// Of it: blocked.
    pub blocked: i64,
    /// What no new reservation may touch.
    pub safety: i64,
    /// Open lines that are held and not expired.
    pub held: i64,
    /// Open lines that are committed.
    pub committed: i64,
    /// Available to fulfil; negative where more is promised than there is.
    pub atf: i64,
    /// What is fenced for other channels: the channel, what is left of its fence, what of that is honoured.
    pub fenced: Vec<(CompactString, i64, i64)>,
    /// What the channel may take: `max(0, atf - honoured fences of others)`, less what is due to backorders; 0 where the
    /// location is not eligible.
    pub usable: i64,
    /// How much more is promised than there is.
    pub shortage: i64,
    /// The time of its physical fact: of its count, or where nobody counted of its newest movement.
    pub as_of_us: Option<i64>,
    /// Who is behind `held` and `committed`, at most as many as asked for.
    pub holders: Vec<Holder>,
}

/// An open line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The reservation.
    pub reservation: CompactString,
    /// Who it is for.
    pub owner: CompactString,
    /// Its channel.
    pub channel: CompactString,
    /// What is open of it.
    pub open: i64,
    /// Until when, where it is held; nothing where it is committed.
    pub expires_at_us: Option<i64>,
}

/// What is asked of [`Stock::availability`].
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The SKU or kit.
    pub sku: &'a str,
    /// The channel; empty for none, which may have all.
    pub channel: &'a str,
    /// Until when what is on order counts, microseconds since 1970 UTC.
    pub until_us: i64,
    /// How many holders are to be named for each location.
    pub holders_max: usize,
}

/// A reservation as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservationView {
    /// Who it is for.
    pub owner: CompactString,
    /// Its channel.
    pub channel: CompactString,
    /// Where it stands now.
    pub state: ReservationState,
    /// Until when it holds; counts while it is held.
    pub expires_at_us: i64,
    /// Its lines.
    pub lines: Vec<super::record::LineFact>,
}

impl Location {
    pub(super) fn as_of_us(&self) -> Option<i64> {
        let as_of_us = if self.counted_at_us == i64::MIN { self.moved_at_us } else { self.counted_at_us };
        (as_of_us != i64::MIN).then_some(as_of_us)
    }
}

impl Stock {
    /// Refuses a channel that has no policy where others have: what a mistake in writing would make looks like a channel
    /// that may have everything. A hub of which nobody has said what channels may have serves any.
    pub fn check_channel(&self, channel: &str) -> Result<(), StockRefusal> {
        let is_ruled = |number: u32| self.channels[number as usize].is_ruled();
        if self.ruled.is_empty() || self.channel_names.find(channel).is_some_and(is_ruled) {
            return Ok(());
        }
        let mut names: Vec<&str> = self.ruled.iter().map(|of| self.channel_names.name(*of)).collect();
        names.sort_unstable();
        let more = if names.len() > NAMED_MAX { ", ..." } else { "" };
        names.truncate(NAMED_MAX);
        let names = names.join(", ");
        invalid("channel", format!("must be one that has a policy ({names}{more}), not `{channel}`"))
    }

    /// What a channel may sell at a time (or at the latest time that was decided at, where that is later). It needs the
    /// stock for itself only to take what has expired out of the sums, once.
    pub fn availability(&mut self, question: &Question<'_>, now_us: i64) -> Availability {
        self.tick(now_us);
        let Some(sku) = self.sku_names.find(question.sku) else {
            return self.nothing(question);
        };
        // One that nobody declared has no policies, and is not remembered for having been asked for.
        let channel = self.channel_names.find(question.channel).unwrap_or(NONE);
        let parts: Vec<u32> = self.skus[sku as usize].components().iter().map(|(sku, _)| *sku).collect();
        parts.into_iter().chain([sku]).for_each(|sku| self.advance(sku));
        self.explain(sku, channel, question)
    }

    /// The reservation of an id, at a time.
    pub fn reservation_view(&self, id: &str, now_us: i64) -> Option<ReservationView> {
        let reservation = self.reservation(self.slot(id)?)?;
        let lines = (0..reservation.lines.len()).map(|at| self.line_fact(reservation, at)).collect();
        Some(ReservationView {
            owner: reservation.owner.clone(),
            channel: self.channel_names.name(reservation.channel).into(),
            state: reservation.state_at(now_us.max(self.clock_us)),
            expires_at_us: reservation.expires_at_us,
            lines,
        })
    }

    /// The oldest physical fact among the locations that may serve the channel.
    pub(super) fn as_of_us(&self, sku: u32, channel: u32) -> Option<i64> {
        let node = &self.skus[sku as usize];
        let own =
            node.locations.iter().filter(|at| self.is_eligible(sku, channel, at.id)).filter_map(Location::as_of_us);
        own.chain(node.components().iter().filter_map(|(sku, _)| self.as_of_us(*sku, channel))).min()
    }

    fn nothing(&self, question: &Question<'_>) -> Availability {
        Availability {
            sku: question.sku.into(),
            channel: question.channel.into(),
            at_us: self.clock_us,
            atp: 0,
            ato: 0,
            cap_remaining: None,
            buffer: 0,
            incoming: 0,
            backordered: 0,
            locations: Vec::new(),
            components: Vec::new(),
            as_of_us: None,
            age_us: None,
            is_fresh: false,
            fresh_for_us: self.limits.fresh_for_us,
        }
    }

    fn explain(&self, sku: u32, channel: u32, question: &Question<'_>) -> Availability {
        let node = &self.skus[sku as usize];
        let sub = |(component, per): &(u32, i64)| (*per, self.explain(*component, channel, question));
        let components: Vec<(i64, Availability)> = node.components().iter().map(sub).collect();
        let atp = self.atp(sku, channel);
        let due = self.due_to_backorders(sku);
        let ato = if components.is_empty() {
            atp.saturating_add(self.backorder_room(sku, channel, question.until_us, &due))
        } else {
            components.iter().map(|(per, of)| of.ato / per).min().unwrap_or(0)
        };
        let mut locations: Vec<Contribution> =
            node.locations.iter().map(|at| self.contribution(sku, at, channel, &due, question.holders_max)).collect();
        locations.sort_by(|a, b| a.location.cmp(&b.location));
        let as_of_us = self.as_of_us(sku, channel);
        let age_us = as_of_us.map(|as_of_us| self.clock_us.saturating_sub(as_of_us));
        Availability {
            sku: self.sku_names.name(sku).into(),
            atp,
            ato,
            cap_remaining: self.cap_remaining(sku, channel, &due),
            buffer: self.buffer(sku, channel),
            incoming: self.incoming(sku, question.until_us),
            backordered: self.backordered(sku, None) - due.iter().map(|t| t.quantity.min(0).abs()).sum::<i64>(),
            locations,
            components,
            as_of_us,
            age_us,
            is_fresh: age_us.is_some_and(|age_us| age_us <= self.limits.fresh_for_us),
            ..self.nothing(question)
        }
    }

    fn contribution(&self, sku: u32, at: &Location, channel: u32, due: &[Taken], holders_max: usize) -> Contribution {
        let is_eligible = self.is_eligible(sku, channel, at.id);
        let others = self.fences(sku, at, due).into_iter().filter(|fence| fence.channel != channel);
        let name = |channel| self.channel_names.name(channel).into();
        Contribution {
            location: self.locations.name(at.id).into(),
            is_eligible,
            on_hand: at.on_hand,
            damaged: at.damaged,
            quality_control: at.quality_control,
            blocked: at.blocked,
            safety: at.safety,
            held: at.held,
            committed: at.committed,
            atf: at.atf(),
            fenced: others.map(|fence| (name(fence.channel), fence.remaining, fence.honoured)).collect(),
            usable: if is_eligible { self.usable(sku, at, channel, due) } else { 0 },
            shortage: at.shortage(),
            as_of_us: at.as_of_us(),
            holders: self.holders(sku, at.id, holders_max),
        }
    }

    fn holders(&self, sku: u32, location: u32, max: usize) -> Vec<Holder> {
        if max == 0 {
            return Vec::new();
        }
        let of = |of: &super::state::LineRef| {
            let reservation = self.reservation(of.slot)?;
            let line = reservation.lines.get(of.line as usize).filter(|l| l.location == location && l.counts > 0)?;
            Some(Holder {
                reservation: reservation.id.clone(),
                owner: reservation.owner.clone(),
                channel: self.channel_names.name(reservation.channel).into(),
                open: line.counts,
                expires_at_us: (reservation.state == ReservationState::Held).then_some(reservation.expires_at_us),
            })
        };
        self.skus[sku as usize].lines.iter().filter_map(of).take(max).collect()
    }
}

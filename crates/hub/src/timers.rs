//! The loop's timers: what is due comes back as inputs, through the same batch as everything else.

use std::time::Duration;

use lockstep_core::decide::timer;
use lockstep_core::{Input, Timer};

use crate::looper::{Looper, Message, Mode, Open, TICK};
use crate::state::StateError;

/// How many timers one batch takes: others wait for the next, so that inputs get between them.
const TIMERS_MAX: usize = 256;
/// How soon the loop looks again where it has taken a timer for due.
const AGAIN_SOON: Duration = Duration::from_millis(1);
/// How soon it looks again where they could not be looked at, or said.
const AGAIN_LATER: Duration = Duration::from_secs(1);

impl Looper {
    /// How long the loop may wait for messages: until the next timer, and not for long.
    pub(crate) fn until_timer(&mut self) -> Duration {
        if (self.facts.stock.is_touched() && matches!(self.mode, Mode::Normal)) || self.may_serve() {
            return AGAIN_SOON;
        }
        let now_us = self.clock.time.now_us();
        let wait = |due_us: i64| Duration::from_micros(due_us.saturating_sub(now_us).max(0) as u64);
        let stock = &mut self.facts.stock;
        let ends_us = stock.next_end_us().into_iter().chain(stock.next_wake_us());
        let due_us = self.state.next_timer_us().into_iter().chain(ends_us).min();
        due_us.map_or(TICK, wait).clamp(AGAIN_SOON, TICK)
    }

    /// What timers that are due have to say, if any are.
    pub(crate) fn due(&mut self) -> Option<Message> {
        let now_us = self.clock.time.now_us();
        let due =
            matches!(self.mode, Mode::Normal) && self.state.next_timer_us().is_some_and(|due_us| due_us <= now_us);
        if !due || self.clock.time.now() < self.clock.timers_not_before {
            return None;
        }
        let due = self.state.due_timers(now_us, TIMERS_MAX).map_err(StateError::from);
        let inputs = due.and_then(|due| self.words(due, now_us)).unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "timers that are due can't be read");
            self.timers_later();
            Vec::new()
        });
        (!inputs.is_empty()).then_some(Message::Due(inputs))
    }

    fn words(&mut self, due: Vec<Timer>, now_us: i64) -> Result<Vec<Input>, StateError> {
        let mut inputs = Vec::with_capacity(due.len());
        for one in due {
            let entity = self.state.entity(&one.id)?;
            let order = match entity.as_deref().and_then(timer::depends_on) {
                Some(id) => self.state.entity(&id)?,
                None => None,
            };
            let next = self.facts.next;
            match entity.and_then(|entity| timer::input(&one, &entity, order.as_deref(), next, now_us)) {
                Some(input) => inputs.push(input),
                None => self.state.forget_timer(&one),
            }
        }
        Ok(inputs)
    }

    /// Decides what timers have to say.
    pub(crate) fn say(&mut self, inputs: Vec<Input>, open: &mut Open) {
        let refused = match self.decide_all(inputs, open) {
            Ok(answers) => answers.into_iter().filter_map(Result::err).map(|refusal| refusal.to_string()).next(),
            Err(cause) => Some(cause.to_string()),
        };
        if let Some(error) = refused {
            tracing::error!(error, "what a timer says was refused");
            self.timers_later();
        }
    }

    /// What is due is looked at again after a while.
    pub(crate) fn timers_later(&mut self) {
        self.clock.timers_not_before = self.clock.time.now() + AGAIN_LATER;
        self.state.look_again_for_timers();
    }
}

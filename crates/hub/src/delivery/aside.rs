//! Keys in a destination's window whose first event waits for another entity. They stand aside: what waits there takes no
//! room from others, since what it waits for may come after it.

use crate::delivery::queue::{Item, Key, Window};
use crate::stats::now_us;

/// How much stands aside.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Aside {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

impl Aside {
    pub(super) fn add(&mut self, item: &Item) {
        self.events += 1;
        self.bytes += item.bytes;
    }

    pub(super) fn remove(&mut self, item: &Item) {
        self.events -= 1;
        self.bytes -= item.bytes;
    }
}

impl Window {
    /// Puts an event back that waits for another entity, and all of its key with it.
    pub(super) fn set_aside(&mut self, id: &str, item: Item) {
        if let Some(key) = self.keys.get_mut(id) {
            key.waiting.push_front(item);
            key.is_aside = true;
            key.waiting.iter().for_each(|item| self.aside.add(item));
        }
    }

    /// The event of a key that stands aside.
    pub(super) fn aside(&mut self, id: &str) -> Option<&mut Item> {
        self.keys.get_mut(id).filter(|key| key.is_aside)?.waiting.front_mut()
    }

    /// A key stands aside no longer, and its first event gets its turn.
    pub(super) fn call_back(&mut self, id: &str) {
        if let Some(key) = self.keys.get_mut(id)
            && end_aside(key, &mut self.aside)
        {
            key.free_us = now_us();
            self.ready.push_back(id.to_owned());
        }
    }

    /// Takes the event out that its key stands aside for: it is settled next.
    pub(super) fn take_aside(&mut self, id: &str) -> Option<Item> {
        let key = self.keys.get_mut(id)?;
        if !end_aside(key, &mut self.aside) {
            return None;
        }
        key.busy = true;
        key.waiting.pop_front()
    }
}

fn end_aside(key: &mut Key, aside: &mut Aside) -> bool {
    if !key.is_aside {
        return false;
    }
    (key.is_aside, key.busy) = (false, false);
    key.waiting.iter().for_each(|item| aside.remove(item));
    true
}

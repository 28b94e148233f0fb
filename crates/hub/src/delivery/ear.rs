//! Hears when something of an entity has ended at a destination, for those that wait for it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Heard {
    /// Who waits for which entity, by ids.
    wanted: HashMap<String, BTreeSet<String>>,
    /// Who is to look again.
    again: BTreeSet<String>,
}

/// See the module. It is as large as there are those that wait.
#[derive(Debug, Default)]
pub(crate) struct Ear {
    heard: Mutex<Heard>,
    notify: Notify,
}

impl Ear {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody waits for an entity.
    pub(super) fn listen(&self, awaited: &str, who: &str) {
        self.heard().wanted.entry(awaited.to_owned()).or_default().insert(who.to_owned());
    }

    /// And no longer.
    pub(super) fn stop(&self, awaited: &str, who: &str) {
        let mut heard = self.heard();
        if let Some(waiting) = heard.wanted.get_mut(awaited) {
            waiting.remove(who);
            if waiting.is_empty() {
                heard.wanted.remove(awaited);
            }
        }
    }

    /// Nobody waits any more.
    pub(super) fn forget(&self) {
        *self.heard() = Heard::default();
    }

    /// Something of an entity has ended.
    pub(super) fn ended(&self, id: &str) {
        let mut heard = self.heard();
        let Heard { wanted, again } = &mut *heard;
        if let Some(waiting) = wanted.get(id) {
            again.extend(waiting.iter().cloned());
            self.notify.notify_one();
        }
    }

    /// Waits until somebody is to look again. Safe to drop.
    pub(super) async fn rings(&self) {
        self.notify.notified().await;
    }

    /// Who is to look again.
    pub(super) fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.heard().again)
    }
}

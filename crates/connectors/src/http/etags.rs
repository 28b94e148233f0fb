//! The versions of what was written last, by address, so that the next write can say on what it builds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Bounded: where it is full, what has not been used for longest is forgotten, and asked for again when needed.
#[derive(Debug)]
pub(super) struct Etags {
    max: usize,
    state: Mutex<Generations>,
}

/// Two generations instead of a list by age: what is used moves to the young one, and the old one is dropped as a whole.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<String, String>,
    old: HashMap<String, String>,
}

impl Etags {
    pub(super) fn new(max: u32) -> Self {
        Self { max: max as usize, state: Mutex::default() }
    }

    pub(super) fn is_on(&self) -> bool {
        self.max > 0
    }

    pub(super) fn get(&self, url: &str) -> Option<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tag) = state.young.get(url) {
            return Some(tag.clone());
        }
        let tag = state.old.remove(url)?;
        state.put(url, tag.clone(), self.max);
        Some(tag)
    }

    pub(super) fn put(&self, url: &str, tag: String) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.old.remove(url);
        state.put(url, tag, self.max);
    }

    pub(super) fn forget(&self, url: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.young.remove(url);
        state.old.remove(url);
    }
}

impl Generations {
    fn put(&mut self, url: &str, tag: String, max: usize) {
        if self.young.len() >= max.div_ceil(2) && !self.young.contains_key(url) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(url.to_owned(), tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_number_is_bounded() {
        let etags = Etags::new(10);
        for number in 0..1_000 {
            etags.put("/kept", format!("k{number}"));
            etags.put(&format!("/{number}"), "x".to_owned());
            assert_eq!(etags.get("/kept"), Some(format!("k{number}")));
            let state = etags.state.lock().unwrap();
            assert!(state.young.len() + state.old.len() <= 10);
        }
        assert_eq!(etags.get("/1"), None);
        assert!(etags.get("/999").is_some());
        etags.forget("/999");
        assert_eq!(etags.get("/999"), None);
    }
}

//! Messages on their way to the hub: as many copies as there are, in the order in which they were sent.

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Network(Vec<usize>);

impl Network {
    /// A message is on its way.
    pub fn send(&mut self, message: usize) {
        self.0.push(message);
    }

    /// Whether it is on its way.
    pub fn has(&self, message: usize) -> bool {
        self.0.contains(&message)
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of those on their way.
    pub fn look(&self, pick: usize) -> Option<usize> {
        self.0.get(pick.checked_rem(self.0.len())?).copied()
    }

    /// Takes one off, and says whether it overtook another.
    pub fn take(&mut self, pick: usize) -> Option<(usize, bool)> {
        let at = pick.checked_rem(self.0.len())?;
        Some((self.0.remove(at), at > 0))
    }
}

//! Stock in the simulated world: commands of it ([`say`]), the auditor's own arithmetic ([`model`]), and how the journal
//! and the hub are held against that ([`audit`]).

pub mod audit;
pub mod model;
pub mod say;

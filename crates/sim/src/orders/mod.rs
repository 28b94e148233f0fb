//! Orders that reserve: what is told of them, and how what the hub then does to stock is held against their documents.
//!
//! Where it takes goods from is checked by the model, like every other reservation; how much of them an order may have is
//! worked out here from its document alone.

pub mod audit;
pub mod say;

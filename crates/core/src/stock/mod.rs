//! Stock: what there is, what is promised, what may still be sold. Pure and exact: whole numbers, no clock, no scan.
//!
//! ```text
//! ATF      = H - U - S - Rh - Rc                       at a location; signed, never clamped in storage
//! shortage = max(0, Rh + Rc - (H - U))
//! a_l(c)   = max(0, ATF_l - honoured fences of other channels at l)         for each l that may serve channel c
//! ATP(c)   = max(0, min(sum of a_l(c), what is left of c's cap) - c's buffer)
//! ATP(kit) = the least, over its components, of ATP(component) / how much one kit takes
//! ATO(c,t) = ATP(c) + max(0, min(c's backorder limit - c's open backorders, incoming(eta <= t) - open backorders))
//! ```
//!
//! H is on hand, U what of it is damaged, in quality control or blocked, S the safety stock; Rh are open lines that are
//! held and not expired, Rc those that are committed. Each location is clamped before the sum: one that is
//! short must not hide what another has. The buffer is held back from what is *told* only: an order that a channel took
//! in good faith may still use it.
//!
//! The way through it: a [`Command`] meets [`Stock`] in [`decide()`]; what comes out are records and an answer; only
//! [`fold()`] changes stock, live and on replay alike. Which time it is, is an argument. A hold whose time is over stops
//! counting at that instant, whatever is written down of it.
//!
//! Memory, about: 300 bytes for a SKU at a location, 40 for each movement remembered since its count (128 at most),
//! and 280 for an open reservation of one line with everything that finds it. All of it is in memory; what has come to
//! its end can be taken out, see [`Stock::forget`].

mod available;
mod check;
mod command;
mod decide;
mod event;
mod fold;
mod form;
mod image;
mod order;
mod owned;
mod physical;
mod publish;
mod quantity;
mod query;
pub mod record;
mod reservation;
mod settings;
mod shipped;
mod sku;
mod state;
mod sums;
mod validate;
mod watch;

pub use check::{Checked, Violation, Violations};
pub use command::{Answer, Command, Count, Item, Movement, PolicyOf, Reserve, Shortfall, StockRefusal, Unavailable};
pub use decide::{StockDecision, decide, foresee, name_goods, publish};
pub use event::{
    AVAILABILITY_KIND, EVENT_TYPES, LEDGER_KINDS, RESERVATION_KIND, STOCK_KIND, event_fact, ledger_document,
    state_name, still_stands,
};
pub use fold::fold;
pub use image::{Dirty, ImageError};
pub use order::{Disposition, Goods, OrderStep, for_order};
pub use owned::OwnLine;
pub use quantity::{QUANTITY_MAX, QuantityError, SCALE_MAX, format as format_quantity, parse as parse_quantity};
pub use query::{Availability, Contribution, Holder, Question, ReservationView};
pub use shipped::{joined, shipped_id};
pub use state::{Limits, Quick, Stock, movement_hash};
pub use validate::{COMPONENTS_MAX, LINES_MAX, NAME_BYTES_MAX};
pub use watch::Arrival;

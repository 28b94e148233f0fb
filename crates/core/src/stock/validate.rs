//! What a command must look like; each refusal names the field and what would be right.

use compact_str::CompactString;

use super::command::{Command, Movement, PolicyOf, Reserve, StockRefusal};
use super::quantity::{QUANTITY_MAX, SCALE_MAX};
use super::record::{CountBasis, MovementKind};

/// The longest name or id, in bytes.
pub const NAME_BYTES_MAX: usize = crate::change::KEY_BYTES_MAX;
/// The most items of a request, and lines of a reservation.
pub const LINES_MAX: usize = 1_000;
/// The most components of a kit.
pub const COMPONENTS_MAX: usize = 100;

pub(super) fn invalid<T>(field: &'static str, rule: impl Into<String>) -> Result<T, StockRefusal> {
    Err(StockRefusal::Invalid { field, rule: rule.into() })
}

pub(super) fn is_name(value: &str) -> bool {
    !value.is_empty() && value.len() <= NAME_BYTES_MAX && !value.chars().any(char::is_control)
}

fn name(field: &'static str, value: &str) -> Result<(), StockRefusal> {
    if is_name(value) {
        Ok(())
    } else {
        invalid(field, format!("must be 1 to {NAME_BYTES_MAX} bytes without control characters"))
    }
}

fn optional(field: &'static str, value: Option<&CompactString>) -> Result<(), StockRefusal> {
    value.map_or(Ok(()), |value| name(field, value))
}

fn between(field: &'static str, value: i64, min: i64) -> Result<(), StockRefusal> {
    if (min..=QUANTITY_MAX).contains(&value) {
        Ok(())
    } else {
        invalid(field, format!("must be {min} to {QUANTITY_MAX}, not {value}"))
    }
}

impl Command {
    /// Refuses what is not well-formed.
    ///
    /// # Errors
    /// [`StockRefusal::Invalid`], which names the field and what would be right.
    pub fn check(&self) -> Result<(), StockRefusal> {
        match self {
            Self::Count(c) => {
                place(&c.sku, &c.location)?;
                name("source", &c.source)?;
                if c.basis == CountBasis::Unspecified {
                    return invalid("basis", "must be `on_hand` or `available`");
                }
                between("quantity", c.quantity, -QUANTITY_MAX)
            }
            Self::Move(m) => m.check(),
            Self::Unavailable(u) => {
                place(&u.sku, &u.location)?;
                between("damaged", u.damaged, 0)?;
                between("quality_control", u.quality_control, 0)?;
                between("blocked", u.blocked, 0)
            }
            Self::Safety { sku, location, quantity } => {
                place(sku, location)?;
                between("safety_stock", *quantity, 0)
            }
            Self::Policy(policy) => policy.check(),
            Self::Sku { sku, scale, components } => {
                name("sku", sku)?;
                if *scale > SCALE_MAX {
                    return invalid("qty_scale", format!("must be 0 to {SCALE_MAX}, not {scale}"));
                }
                if components.len() > COMPONENTS_MAX {
                    return invalid("components", format!("must be at most {COMPONENTS_MAX}"));
                }
                for (at, (component, quantity)) in components.iter().enumerate() {
                    name("components.sku", component)?;
                    between("components.quantity", *quantity, 1)?;
                    if component == sku || components[..at].iter().any(|(other, _)| other == component) {
                        return invalid(
                            "components.sku",
                            format!("`{component}` must be given once and not be the kit"),
                        );
                    }
                }
                Ok(())
            }
            Self::Supply { supply, sku, location, open, .. } => {
                name("supply", supply)?;
                place(sku, location)?;
                between("quantity", *open, 0)
            }
            Self::Reserve(reserve) => reserve.check(),
            Self::Commit { id } | Self::Extend { id, .. } => name("id", id),
            Self::Release { id, lines } => {
                name("id", id)?;
                lines.iter().try_for_each(|(_, quantity)| between("lines.quantity", *quantity, 1))
            }
            Self::Transfer { id, location, quantity, .. } => {
                name("id", id)?;
                name("location", location)?;
                between("quantity", *quantity, 1)
            }
            Self::Acknowledge { id, at_us, .. } => {
                name("id", id)?;
                if *at_us > 0 { Ok(()) } else { invalid("acknowledged_at", "must be after 1970") }
            }
            Self::Expire { .. } => Ok(()),
        }
    }
}

fn place(sku: &str, location: &str) -> Result<(), StockRefusal> {
    name("sku", sku)?;
    name("location", location)
}

impl Movement {
    fn check(&self) -> Result<(), StockRefusal> {
        place(&self.sku, &self.location)?;
        name("source", &self.source)?;
        name("movement", &self.id)?;
        optional("reservation", self.reservation.as_ref())?;
        optional("supply", self.supply.as_ref())?;
        if self.reservation.is_some() && self.kind != MovementKind::Ship {
            return invalid("reservation", "is of a shipment only");
        }
        if self.supply.is_some() && self.kind != MovementKind::Receipt {
            return invalid("supply", "is of a receipt only");
        }
        match self.kind {
            MovementKind::Unspecified => invalid("kind", "must be receipt, adjust, ship or return"),
            MovementKind::Adjust => between("quantity", self.quantity, -QUANTITY_MAX),
            _ => between("quantity", self.quantity, 1),
        }
    }
}

impl PolicyOf {
    fn check(&self) -> Result<(), StockRefusal> {
        name("channel", &self.channel)?;
        if !self.sku.is_empty() {
            name("sku", &self.sku)?;
        }
        if !self.location.is_empty() {
            name("location", &self.location)?;
            if self.sku.is_empty() {
                return invalid("sku", "must be given with `location`: `channel:sku:location`");
            }
            let other = self.locations.is_some() || self.cap.is_some() || self.buffer.is_some();
            if other || self.backorder_limit.is_some() || self.priority.is_some() {
                return invalid("location", "has a `fence` only: set the rest for `channel` or `channel:sku`");
            }
        }
        for location in self.locations.iter().flatten() {
            name("eligible_locations", location)?;
        }
        for (field, value) in [
            ("fence", self.fence),
            ("cap", self.cap.map(|cap| cap.0)),
            ("buffer", self.buffer),
            ("backorder_limit", self.backorder_limit),
        ] {
            value.map_or(Ok(()), |value| between(field, value, 0))?;
        }
        match self.cap {
            Some((_, window_us)) if window_us < 0 => invalid("cap.window", "must be 0 or more"),
            _ => Ok(()),
        }
    }
}

impl Reserve {
    fn check(&self) -> Result<(), StockRefusal> {
        name("id", &self.id)?;
        name("owner", &self.owner)?;
        // An order may say nothing of its channel: then no channel's limits count.
        if !(self.is_order && self.channel.is_empty()) {
            name("channel", &self.channel)?;
        }
        optional("replaces", self.replaces.as_ref())?;
        if self.items.is_empty() || self.items.len() > LINES_MAX {
            return invalid("items", format!("must be 1 to {LINES_MAX}, not {}", self.items.len()));
        }
        for item in &self.items {
            name("items.sku", &item.sku)?;
            optional("items.location", item.location.as_ref())?;
            between("items.quantity", item.quantity, 1)?;
        }
        Ok(())
    }
}

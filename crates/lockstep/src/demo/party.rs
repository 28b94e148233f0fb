//! The four systems around the hub: who they are, what they are told, what they say.

/// A simulated system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    /// A web shop: sends signed webhooks as Shopify does.
    Shop,
    /// A marketplace: sends its orders as CloudEvents.
    Marketplace,
    /// The ERP: owns prices, sends them in batches of CloudEvents.
    Erp,
    /// The warehouse: owns counts, and ships what it hears of.
    Wms,
}

impl Party {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Shop, Self::Marketplace, Self::Erp, Self::Wms];

    /// Its name, as a system, a source and a destination of the hub.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Shop => "shop",
            Self::Marketplace => "marketplace",
            Self::Erp => "erp",
            Self::Wms => "wms",
        }
    }

    /// Its place in [`Party::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// The kinds that its destination lets through. A system hears its own changes too: what the hub made of them
    /// is not always what it said, and its copy must be the hub's document.
    pub(crate) fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Shop => &["order", "price", "stock"],
            Self::Marketplace => &["price", "product", "stock"],
            Self::Erp => &["customer", "order", "payment", "product"],
            Self::Wms => &["order"],
        }
    }

    /// Its part of the offered rate, in hundredths.
    pub(crate) fn share_percent(self) -> u32 {
        match self {
            Self::Shop => 45,
            Self::Marketplace => 10,
            Self::Erp => 20,
            Self::Wms => 25,
        }
    }
}

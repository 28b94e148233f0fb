//! Reserving and committing with 100,000 holds open. The core has no clock and prints nothing: it is timed from outside,
//! see the examples.

use lockstep_core::stock::record::CountBasis;
use lockstep_core::stock::{Command, Count, Item, Limits, Reserve, Stock, decide};

const HOLDS: u64 = 100_000;
const MINUTE_US: i64 = 60_000_000;

/// So many reservations and as many commits, over so many SKUs. Every hold is committed when 100,000 came after it.
pub(crate) fn reserve_and_commit(skus: u64, reservations: u64) {
    let mut stock = Stock::new(Limits::default());
    let mut now_us = 1_767_225_600_000_000;
    for sku in 0..skus {
        for location in ["berlin", "lyon"] {
            let count = Count {
                source: "wms".into(),
                sku: name(sku).into(),
                location: location.into(),
                basis: CountBasis::OnHand,
                quantity: 1_000_000_000,
                as_of_us: now_us,
                ..Count::default()
            };
            decide(&mut stock, &Command::Count(count), now_us).answer.expect("a count");
        }
    }
    let mut random: u64 = 1;
    for number in 0..reservations + HOLDS {
        now_us += 1;
        if number < reservations {
            // Knuth's MMIX generator: the SKU is neither the last one nor the next.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let reserve = Reserve {
                id: id(number).into(),
                owner: id(number).into(),
                channel: "web".into(),
                expires_at_us: now_us + 15 * MINUTE_US,
                items: vec![Item { sku: name((random >> 33) % skus).into(), quantity: 1, location: None }],
                ..Reserve::default()
            };
            decide(&mut stock, &Command::Reserve(reserve), now_us).answer.expect("a reservation");
        }
        if number >= HOLDS {
            let commit = Command::Commit { id: id(number - HOLDS).into() };
            decide(&mut stock, &commit, now_us).answer.expect("a commit");
        }
        // As a loop does it for each batch.
        if number % 1_000 == 0 {
            stock.take_dirty();
        }
    }
    assert_eq!(stock.sizes(), (reservations as usize, reservations as usize));
    assert_eq!(stock.check(0, |_| false), Vec::new());
}

fn name(sku: u64) -> String {
    format!("SKU-{sku:06}")
}

fn id(number: u64) -> String {
    format!("web:{number}")
}

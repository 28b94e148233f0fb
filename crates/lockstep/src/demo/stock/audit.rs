//! The end of the sale: the hub's stock beside the tally, article by article and reservation by reservation, and what the
//! fronts show beside what the hub lets them sell.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use lockstep_api::HOLDERS_MAX;
use lockstep_core::stock::AVAILABILITY_KIND;
use lockstep_hub::now_us;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::tally::{End, Ended, Stand};
use super::{FRONTS, LOCATION, Sale};
use crate::demo::api::{ApiClient, PAGE};
use crate::demo::party::Party;
use crate::demo::systems::copy::Copy;
use crate::demo::verdict::Comparison;

/// How many reservations are asked for at once.
const AT_ONCE: usize = 16;

#[derive(Debug, Deserialize)]
struct List {
    items: Vec<Availability>,
}

/// What the hub says of an article.
#[derive(Clone, Debug, Deserialize)]
struct Availability {
    sku: String,
    available: i64,
    locations: Vec<Place>,
}

#[derive(Clone, Debug, Deserialize)]
struct Place {
    location: String,
    on_hand: i64,
    held: i64,
    committed: i64,
    #[serde(default)]
    holders: Vec<Holder>,
}

#[derive(Clone, Debug, Deserialize)]
struct Holder {
    reservation: String,
    open: i64,
}

#[derive(Debug, Deserialize)]
struct Reservation {
    state: String,
    lines: Vec<Line>,
}

#[derive(Debug, Deserialize)]
struct Line {
    open: i64,
    consumed: i64,
}

/// What the look at the end found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Audited {
    /// Reservations that were asked for one by one.
    pub(crate) reservations: u64,
    /// What differs, in words.
    pub(crate) problems: Vec<String>,
}

async fn availability(api: &ApiClient, sale: &Sale, channel: Party) -> anyhow::Result<Vec<Availability>> {
    let skus: String = sale.tally().names().iter().map(|sku| format!("sku={sku}&")).collect();
    let path = format!("/v1/availability?{skus}channel={}&holders={HOLDERS_MAX}", channel.name());
    Ok(api.get::<List>(&path).await?.items)
}

/// What a front shows of each article.
fn shown(copy: &Copy) -> anyhow::Result<BTreeMap<String, i64>> {
    #[derive(Deserialize)]
    struct Told {
        available: i64,
    }
    let page = copy.page(AVAILABILITY_KIND, "", PAGE).context("a front's copy can't be read")?;
    let one = |held: crate::demo::systems::copy::Held| {
        let told: Told = serde_json::from_slice(&held.document).context("a front was told of no availability")?;
        Ok((held.key, told.available))
    };
    page.into_iter().map(one).collect()
}

fn copy_of(copies: &[(Party, Arc<Copy>)], party: Party) -> anyhow::Result<&Copy> {
    let found = copies.iter().find(|(of, _)| *of == party);
    found.map(|(_, copy)| &**copy).with_context(|| format!("{} has no copy", party.name()))
}

/// Whether the fronts show what the hub lets them sell: what was the last word is on its way until they do.
pub(crate) async fn is_told(api: &ApiClient, sale: &Sale, copies: &[(Party, Arc<Copy>)]) -> anyhow::Result<bool> {
    let mut comparison = Comparison::default();
    fronts(api, sale, copies, &mut comparison).await?;
    Ok(comparison.differences == 0)
}

/// Compares what the fronts show with what the hub lets them sell.
pub(crate) async fn fronts(
    api: &ApiClient,
    sale: &Sale,
    copies: &[(Party, Arc<Copy>)],
    comparison: &mut Comparison,
) -> anyhow::Result<()> {
    for front in FRONTS {
        let mut shown = shown(copy_of(copies, front)?)?;
        for of in availability(api, sale, front).await? {
            let key = format!("{}@{}", of.sku, front.name());
            comparison.availability(front, &key, shown.remove(&key), Some(of.available));
        }
        for (key, theirs) in shown {
            comparison.availability(front, &key, Some(theirs), None);
        }
    }
    Ok(())
}

/// Compares the hub's stock with the tally.
pub(crate) async fn audit(api: &ApiClient, sale: &Sale) -> anyhow::Result<Audited> {
    let mut audited = Audited::default();
    let (sums, told, open) = {
        let tally = sale.tally();
        (tally.sums(), tally.told().to_vec(), tally.open())
    };
    audited.problems.extend(told);
    if open > 0 {
        audited.problems.push(format!("stock: {open} reservations are not ended"));
    }
    let all = availability(api, sale, FRONTS[0]).await.context("the hub's availability can't be read")?;
    if all.len() != sale.tally().names().len() {
        audited.problems.push(format!(
            "stock: asked for {} articles, told of {}",
            sale.tally().names().len(),
            all.len()
        ));
    }
    for (of, hubs) in all.iter().enumerate() {
        compare(&sale.tally().stand(of, now_us()), hubs, &mut audited.problems);
    }
    let ended = sale.tally().ended();
    audited.reservations = ended.len() as u64;
    each(api, ended, &mut audited.problems).await?;
    if sums.oversold > 0 || sums.wrong > 0 {
        let text = format!("stock: oversold {}, {} answers that must not be", sums.oversold, sums.wrong);
        audited.problems.push(text);
    }
    Ok(audited)
}

/// One article: what the tally has of it, and what the hub says.
fn compare(ours: &Stand, hubs: &Availability, problems: &mut Vec<String>) {
    let sku = &hubs.sku;
    let [place] = hubs.locations.as_slice() else {
        return problems.push(format!("{sku}: it lies at one location here, at {} in the hub", hubs.locations.len()));
    };
    // The equation, from the tally's own terms.
    let available = (ours.on_hand - ours.held - ours.committed).max(0);
    for (what, ours, hubs) in [
        ("on hand", ours.on_hand, place.on_hand),
        ("held", ours.held, place.held),
        ("committed", ours.committed, place.committed),
        ("available", available, hubs.available),
    ] {
        if ours != hubs {
            problems.push(format!("{sku}: {ours} {what} here, {hubs} in the hub"));
        }
    }
    if place.location != LOCATION {
        problems.push(format!("{sku}: it lies at {LOCATION} here, at {} in the hub", place.location));
    }
    if place.holders.len() == HOLDERS_MAX {
        return;
    }
    let mut holders = BTreeMap::new();
    for holder in &place.holders {
        if holders.insert(holder.reservation.clone(), holder.open).is_some() {
            problems.push(format!("{sku}: {} is there twice in the hub", holder.reservation));
        }
    }
    for (id, units) in &ours.open {
        match holders.remove(id) {
            Some(open) if open == *units => {}
            Some(open) => problems.push(format!("{sku}: {units} are open of {id} here, {open} in the hub")),
            None => problems.push(format!("{sku}: {units} are open of {id} here, nothing in the hub")),
        }
    }
    for (id, open) in holders {
        problems.push(format!("{sku}: nothing is open of {id} here, {open} in the hub"));
    }
}

/// Every reservation that is over must be so in the hub, in the same way.
async fn each(api: &ApiClient, ended: Vec<Ended>, problems: &mut Vec<String>) -> anyhow::Result<()> {
    let ended = Arc::new(ended);
    let mut asking = JoinSet::new();
    for first in 0..AT_ONCE {
        let (api, ended) = (api.clone(), ended.clone());
        asking.spawn(async move {
            let mut problems = Vec::new();
            for ours in ended.iter().skip(first).step_by(AT_ONCE) {
                let hubs = api.get(&format!("/v1/reservations/{}", ours.id)).await?;
                problems.extend(differs(ours, &hubs));
            }
            anyhow::Ok(problems)
        });
    }
    while let Some(found) = asking.join_next().await {
        let found = found.context("looking at reservations ended in a panic")?;
        problems.extend(found.context("a reservation can't be read")?);
    }
    Ok(())
}

fn differs(ours: &Ended, hubs: &Reservation) -> Option<String> {
    let (open, consumed) = hubs.lines.iter().fold((0, 0), |sum, line| (sum.0 + line.open, sum.1 + line.consumed));
    let shipped = if ours.end == End::Shipped { ours.units } else { 0 };
    // A hold that nobody has ended is open until somebody looks, but for those that count it.
    let is_same = hubs.state == ours.end.state() && consumed == shipped && (open == 0 || ours.end == End::RanOut);
    (!is_same).then(|| {
        let (id, state) = (&ours.id, ours.end.state());
        format!("{id}: {state}, {shipped} shipped here, {}, {consumed} shipped, {open} open in the hub", hubs.state)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stand() -> Stand {
        let open = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]);
        Stand { on_hand: 5, held: 1, committed: 2, open }
    }

    fn hubs() -> Availability {
        let holder = |reservation: &str, open| Holder { reservation: reservation.to_owned(), open };
        let holders = vec![holder("a", 1), holder("b", 2)];
        let place = Place { location: LOCATION.to_owned(), on_hand: 5, held: 1, committed: 2, holders };
        Availability { sku: "RARE-01".into(), available: 2, locations: vec![place] }
    }

    #[test]
    fn what_differs_is_named() {
        let found = |change: fn(&mut Availability)| {
            let (mut hubs, mut problems) = (hubs(), Vec::new());
            change(&mut hubs);
            compare(&stand(), &hubs, &mut problems);
            problems
        };
        assert_eq!(found(|_| {}), Vec::<String>::new());
        assert_eq!(found(|hubs| hubs.available = 3), ["RARE-01: 2 available here, 3 in the hub"]);
        assert_eq!(found(|hubs| hubs.locations[0].on_hand = 4), ["RARE-01: 5 on hand here, 4 in the hub"]);
        let twice = |hubs: &mut Availability| {
            let again = hubs.locations[0].holders[1].clone();
            hubs.locations[0].holders.push(again);
        };
        assert_eq!(found(twice), ["RARE-01: b is there twice in the hub"]);
        let lost = |hubs: &mut Availability| {
            hubs.locations[0].holders[0].reservation = "c".into();
        };
        let said =
            ["RARE-01: 1 are open of a here, nothing in the hub", "RARE-01: nothing is open of c here, 1 in the hub"];
        assert_eq!(found(lost), said);
    }

    #[test]
    fn an_end_must_be_the_same() {
        let ours = Ended { id: "a".into(), end: End::Shipped, units: 2 };
        let hubs =
            |state: &str, open, consumed| Reservation { state: state.into(), lines: vec![Line { open, consumed }] };
        assert_eq!(differs(&ours, &hubs("consumed", 0, 2)), None);
        for wrong in [hubs("consumed", 0, 4), hubs("committed", 2, 0), hubs("released", 0, 0)] {
            assert!(differs(&ours, &wrong).is_some(), "{wrong:?}");
        }
    }
}

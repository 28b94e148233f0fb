//! Questions, asked of the loop: what a reservation would find.

use lockstep_api::{Code, HOLDERS_MAX, Problem, SKUS_MAX, current};
use lockstep_core::Refusal;
use lockstep_core::stock::Availability;

use super::{Stocks, tell};
use crate::convert::time_us;
use crate::v1;

/// What one page of a ledger holds where nothing else is asked for, and at most.
const ENTRIES: (u32, u32) = (100, 1_000);

/// Refuses a list of SKUs that is empty or too long.
pub(super) fn check_skus(skus: &[String]) -> Result<(), Problem> {
    if (1..=SKUS_MAX).contains(&skus.len()) {
        return Ok(());
    }
    Err(Problem::parameter("skus", format!("`skus` must have 1 to {SKUS_MAX} of them, not {}", skus.len())))
}

fn check_holders(holders_max: u32) -> Result<usize, Problem> {
    if holders_max as usize > HOLDERS_MAX {
        let detail = format!("`holders_max` must be at most {HOLDERS_MAX}, not {holders_max}");
        return Err(Problem::parameter("holders_max", detail));
    }
    Ok(holders_max as usize)
}

impl Stocks {
    pub(super) async fn reservation(&self, id: &str) -> Result<v1::Reservation, Problem> {
        match current::ask(|| self.api.hub().reservation(id)).await? {
            Some(view) => Ok(tell::reservation(id, view)),
            None => Err(Problem::new(Code::UnknownReservation, format!("there is no reservation `{id}`"))),
        }
    }

    pub(super) async fn availability(
        &self,
        request: v1::GetAvailabilityRequest,
    ) -> Result<v1::GetAvailabilityResponse, Problem> {
        check_skus(&request.skus)?;
        let holders = check_holders(request.holders_max)?;
        let until = request.until.map(|at| time_us(Code::StockInvalid, &at, || "/until".to_owned())).transpose()?;
        let ask = || self.api.hub().availability_for(request.skus.clone(), &request.channel, until, holders);
        let of = current::ask(ask).await?.map_err(Refusal::Stock)?;
        Ok(v1::GetAvailabilityResponse { items: of.into_iter().map(tell::availability).collect() })
    }

    pub(super) async fn stock(&self, request: v1::GetStockRequest) -> Result<v1::LocationStock, Problem> {
        let holders = check_holders(request.holders_max)?;
        let ask = || self.api.hub().availability_for(vec![request.sku.clone()], &request.channel, None, holders);
        let of = current::ask(ask).await?.map_err(Refusal::Stock)?;
        let all = of.into_iter().flat_map(|of: Availability| of.locations);
        let one = all.into_iter().find(|of| of.location == request.location).map(tell::location);
        one.ok_or_else(|| {
            let detail = format!("nothing is known of `{}` at `{}`", request.sku, request.location);
            Problem::new(Code::UnknownStock, detail)
        })
    }

    pub(super) async fn ledger(&self, request: v1::ListLedgerRequest) -> Result<v1::ListLedgerResponse, Problem> {
        let (usual, most) = ENTRIES;
        let limit = if request.limit == 0 { usual } else { request.limit };
        if limit > most {
            return Err(Problem::parameter("limit", format!("`limit` must be 1 to {most}, not {limit}")));
        }
        self.api.check_after("after_position", request.after_position)?;
        let hub = self.api.hub();
        let page = hub.ledger(&request.sku, &request.location, request.after_position, limit as usize).await?;
        Ok(v1::ListLedgerResponse {
            entries: page.entries.into_iter().map(tell::ledger_entry).collect(),
            next_after_position: page.next_after,
            at_end: page.at_end,
        })
    }
}

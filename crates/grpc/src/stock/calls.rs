//! The calls of the service.

use lockstep_api::{Ask, Code, Key, Problem, Said, intake, trace_of};
use lockstep_core::stock::{Answer, Command, Movement};
use lockstep_core::{Position, Refusal};
use tonic::{Request, Response, Status};

use super::commands::{Asked, OfReservation, Write};
use super::{Stocks, tell, watch};
use crate::gate::caller;
use crate::status::status;
use crate::v1;
use crate::v1::stock_service_server::StockService;

/// What became of a command.
enum Written {
    Answered(Option<Position>, Answer),
    /// The call is a repetition.
    Repeated(Position),
}

/// What a request asks for, by the same functions as over HTTP.
fn asked<R: Write>(key: &Key, trace: String, request: R) -> Result<(Ask, Command), Problem> {
    let idempotency_key = request.idempotency_key().to_owned();
    if !intake::is_request_key(&idempotency_key) {
        let detail = "`idempotency_key` must be 1 to 255 visible ASCII characters without quotes";
        return Err(Problem::parameter("idempotency_key", detail));
    }
    let mut payload = [R::CALL.as_bytes(), &[0]].concat();
    // The messages have no maps and no unknown fields are kept: equal requests are equal bytes.
    payload.extend(request.encode_to_vec());
    let ask = Ask::of(key, idempotency_key, &payload, trace)?;
    let command = request.command(&Asked { system: ask.system(), now_us: ask.received_at_us })?;
    Ok((ask, command))
}

fn written(said: Said) -> Result<Written, Problem> {
    match said {
        Said::Before { of } => Ok(Written::Repeated(of)),
        Said::Now { position, answers } => match answers.into_iter().next() {
            Some(Ok(answer)) => Ok(Written::Answered((position != 0).then_some(position), answer)),
            Some(Err(refusal)) => Err(Refusal::Stock(refusal).into()),
            None => Err(Problem::new(Code::ReadFailed, "the answer was lost")),
        },
    }
}

impl Stocks {
    async fn write<R: Write>(&self, key: &Key, trace: String, request: R) -> Result<Written, Problem> {
        let (ask, command) = asked(key, trace, request)?;
        if let Command::Move(Movement { reservation: Some(id), .. }) = &command
            && R::CALL == v1::ConsumeRequest::CALL
        {
            // Goods that have left can't be refused; but those of a reservation that was never there are a mistake.
            self.reservation(id).await?;
        }
        written(ask.say(&self.api, vec![command]).await?)
    }

    /// A write about a reservation, and the reservation after it.
    async fn on_reservation<R: OfReservation>(
        &self,
        request: Request<R>,
    ) -> Result<Response<v1::ReservationResponse>, Status> {
        let (key, trace) = (caller(request.extensions())?, trace_of(request.metadata().as_ref()));
        let answer = self.write_about(&key, trace, request.into_inner()).await;
        answer.map(Response::new).map_err(|problem| status(&problem))
    }

    async fn write_about<R: OfReservation>(
        &self,
        key: &Key,
        trace: String,
        request: R,
    ) -> Result<v1::ReservationResponse, Problem> {
        let id = request.reservation_id().to_owned();
        let (ask, command) = asked(key, trace, request)?;
        let (said, after) = ask.say_about(&self.api, vec![command], &id, false).await?;
        let (shortfalls, repeated_call) = match written(said)? {
            Written::Answered(_, Answer::Reservation { shortfalls, repeated, .. }) => (shortfalls, repeated),
            Written::Answered(..) => (Vec::new(), false),
            Written::Repeated(_) => (Vec::new(), true),
        };
        let reservation = tell::reservation(&id, after.reservation);
        let shortfalls = shortfalls.into_iter().map(tell::shortfall).collect();
        Ok(v1::ReservationResponse { reservation: Some(reservation), shortfalls, repeated_call })
    }

    /// A write about anything else.
    async fn on_stock<R: Write>(&self, request: Request<R>) -> Result<Response<v1::StockResponse>, Status> {
        let (key, trace) = (caller(request.extensions())?, trace_of(request.metadata().as_ref()));
        let written = self.write(&key, trace, request.into_inner()).await.map_err(|problem| status(&problem))?;
        let (position, outcome) = match written {
            Written::Answered(position, Answer::Ignored) => (position, v1::StockOutcome::Ignored),
            Written::Answered(position, Answer::Repeated) => (position, v1::StockOutcome::Repeated),
            Written::Answered(position, _) => (position, v1::StockOutcome::Applied),
            Written::Repeated(of) => (Some(of), v1::StockOutcome::Repeated),
        };
        Ok(Response::new(v1::StockResponse { outcome: outcome.into(), position }))
    }
}

macro_rules! service {
    (
        reservations { $($of_reservation:ident: $of_reservation_request:ident,)+ }
        stock { $($of_stock:ident: $of_stock_request:ident,)+ }
        questions { $($question:ident: $question_request:ident => $answer:ident by $by:ident,)+ }
    ) => {
        #[tonic::async_trait]
        impl StockService for Stocks {
            $(async fn $of_reservation(
                &self,
                request: Request<v1::$of_reservation_request>,
            ) -> Result<Response<v1::ReservationResponse>, Status> {
                self.on_reservation(request).await
            })+

            $(async fn $of_stock(
                &self,
                request: Request<v1::$of_stock_request>,
            ) -> Result<Response<v1::StockResponse>, Status> {
                self.on_stock(request).await
            })+

            $(async fn $question(
                &self,
                request: Request<v1::$question_request>,
            ) -> Result<Response<v1::$answer>, Status> {
                self.$by(request.into_inner()).await.map(Response::new).map_err(|problem| status(&problem))
            })+

            async fn get_reservation(
                &self,
                request: Request<v1::GetReservationRequest>,
            ) -> Result<Response<v1::Reservation>, Status> {
                let id = request.into_inner().reservation_id;
                self.reservation(&id).await.map(Response::new).map_err(|problem| status(&problem))
            }

            type WatchAvailabilityStream = watch::Watch;

            async fn watch_availability(
                &self,
                request: Request<v1::WatchAvailabilityRequest>,
            ) -> Result<Response<watch::Watch>, Status> {
                watch::begin(&self.api, request.into_inner()).map(Response::new).map_err(|problem| status(&problem))
            }
        }
    };
}

service! {
    reservations {
        reserve: ReserveRequest,
        commit: CommitRequest,
        release: ReleaseRequest,
        extend: ExtendRequest,
        transfer: TransferRequest,
        acknowledge: AcknowledgeRequest,
    }
    stock {
        consume: ConsumeRequest,
        count: CountRequest,
        r#move: MoveRequest,
        set_unavailable: SetUnavailableRequest,
        set_safety_stock: SetSafetyStockRequest,
        set_supply: SetSupplyRequest,
        set_sku: SetSkuRequest,
        set_policy: SetPolicyRequest,
    }
    questions {
        get_availability: GetAvailabilityRequest => GetAvailabilityResponse by availability,
        get_stock: GetStockRequest => LocationStock by stock,
        list_ledger: ListLedgerRequest => ListLedgerResponse by ledger,
    }
}

//! The routes and their documentation, from one place.

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{
    Api, alerts, aliases, conflicts, dead_letters, deletion, destinations, entities, events, explain, flows, freshness,
    health, history, incomplete, merges, metrics, middleware, preferences, propagation, quarantine, replays, resolve,
    schemas, stock, stream, view, webhooks,
};

/// Every resource: a newcomer adds a line here.
fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(base())
        .routes(routes!(webhooks::receive))
        .routes(routes!(events::post, events::list))
        .routes(routes!(events::show))
        .routes(routes!(propagation::show))
        .routes(routes!(propagation::stream))
        .routes(routes!(stream::stream))
        .routes(routes!(entities::list))
        .routes(routes!(entities::show, entities::patch, deletion::delete))
        .routes(routes!(history::show))
        .routes(routes!(explain::show))
        .routes(routes!(destinations::list))
        .routes(routes!(destinations::show))
        .routes(routes!(flows::set, flows::release))
        .routes(routes!(destinations::conservation))
        .routes(routes!(freshness::list))
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::acknowledge))
        .routes(routes!(alerts::silences, alerts::silence))
        .routes(routes!(alerts::unsilence))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::summary::show))
        .routes(routes!(dead_letters::transfer::export))
        .routes(routes!(dead_letters::transfer::import))
        .routes(routes!(dead_letters::bulk::retry))
        .routes(routes!(dead_letters::bulk::cancel))
        .routes(routes!(dead_letters::bulk::discard))
        .routes(routes!(dead_letters::retry_all))
        .routes(routes!(dead_letters::show))
        .routes(routes!(dead_letters::retry))
        .routes(routes!(dead_letters::cancel))
        .routes(routes!(dead_letters::discard))
        .routes(routes!(replays::list, replays::start))
        .routes(routes!(replays::show, replays::cancel))
        .routes(routes!(quarantine::list))
        .routes(routes!(quarantine::show))
        .routes(routes!(quarantine::release))
        .routes(routes!(incomplete::list))
        .routes(routes!(aliases::show, aliases::remove))
        .routes(routes!(merges::merge))
        .routes(routes!(merges::unmerge))
        .routes(routes!(conflicts::list))
        .routes(routes!(conflicts::show))
        .routes(routes!(resolve::resolve))
        .routes(routes!(resolve::reverse))
        .routes(routes!(preferences::list))
        .routes(routes!(preferences::set, preferences::clear))
        .routes(routes!(schemas::list))
        .routes(routes!(schemas::show))
        .routes(routes!(stock::reservations::reserve))
        .routes(routes!(stock::reservations::show))
        .routes(routes!(stock::steps::commit))
        .routes(routes!(stock::steps::release))
        .routes(routes!(stock::steps::extend))
        .routes(routes!(stock::steps::consume))
        .routes(routes!(stock::steps::transfer))
        .routes(routes!(stock::steps::acknowledge))
        .routes(routes!(stock::availability::show))
        .routes(routes!(stock::location::show))
        .routes(routes!(stock::ledger::show))
        .routes(routes!(stock::facts::count))
        .routes(routes!(stock::facts::movement))
        .routes(routes!(stock::facts::unavailable))
        .routes(routes!(stock::facts::safety))
        .routes(routes!(stock::settings::item))
        .routes(routes!(stock::settings::supply))
        .routes(routes!(stock::settings::set_policy, stock::settings::clear_policy))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::show))
        .routes(routes!(show))
}

pub(crate) fn router(api: Api) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .fallback(middleware::unknown_route)
        .method_not_allowed_fallback(middleware::unknown_method)
        .layer(from_fn_with_state(api.clone(), middleware::surround))
        .with_state(api)
}

/// The document, as JSON with a line break at its end.
pub fn document() -> String {
    let mut text = routes().into_openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "getOpenapi",
    tag = "operating",
    responses((status = 200, description = "The interface, after OpenAPI 3.1", body = serde_json::Value)),
)]
pub(crate) async fn show() -> Response {
    static DOCUMENT: std::sync::LazyLock<String> = std::sync::LazyLock::new(document);
    view::json_bytes("application/json", DOCUMENT.as_bytes().into())
}

fn base() -> OpenApi {
    let key = Http::builder()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("lsk_<id>_<secret>")
        .description(Some("An API key. Scopes: `read`, `write`, `operate` (implies `read`), `admin` (implies all)."))
        .build();
    let mut components = Components::new();
    components.add_security_scheme("key", SecurityScheme::Http(key));
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Lockstep")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(
                    "A live data synchronization hub for order management. Errors are problem details (RFC 9457) with a stable `code`.",
                ))
                .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
                .build(),
        )
        .components(Some(components))
        .build()
}

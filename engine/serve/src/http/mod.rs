//! The HTTP server: its routes, what every request passes through, and how it starts and stops.

mod alerts;
mod body;
mod connection;
mod events;
mod guard;
mod ops;
mod page;
mod problem;
mod query;
mod read;
mod table;
mod transactions;

use std::{future::Future, sync::Arc};

use axum::{
    Router,
    routing::{MethodRouter, get, post},
};
use tidewatch_model::limits;
use tokio::{net::TcpListener, sync::Semaphore};

use crate::{
    door::Door,
    edge::{Edge, ServeError},
};
use page::Page;
pub use read::remote_read_request;

/// What every handler holds.
struct Site {
    edge: Edge,
    door: Door,
    live: Page,
    reference: Page,
    requests: Arc<Semaphore>,
}

type Handler = MethodRouter<Arc<Site>>;

/// One thing that can be asked for.
struct Route {
    method: &'static str,
    path: &'static str,
    handler: Handler,
}

/// Everything that HTTP serves. The OpenAPI document lists exactly these; a test compares the two.
fn routes() -> Vec<Route> {
    let get = |path, handler: Handler| Route { method: "get", path, handler };
    let post = |path, handler: Handler| Route { method: "post", path, handler };
    vec![
        get("/", self::get(page::live)),
        get("/api", self::get(page::reference)),
        get("/api/openapi.json", self::get(page::openapi)),
        post("/api/v1/events", self::post(events::post_events)),
        post("/api/v1/query", self::post(query::post_query)),
        post("/api/v1/read", self::post(read::post_read)),
        get("/api/v1/rules", self::get(alerts::get_rules)),
        get("/api/v1/status", self::get(ops::get_status)),
        post("/alerts/evaluate", self::post(alerts::post_evaluate)),
        get("/alerts/status", self::get(alerts::get_alerts)),
        get("/transactions", self::get(transactions::get_transactions)),
        get("/metrics", self::get(ops::metrics)),
        get("/-/healthy", self::get(ops::healthy)),
        get("/-/ready", self::get(ops::ready)),
    ]
}

/// Method and path of everything that HTTP serves, in the spelling of the OpenAPI document.
pub fn http_routes() -> Vec<(&'static str, &'static str)> {
    routes().into_iter().map(|route| (route.method, route.path)).collect()
}

fn router(site: Arc<Site>) -> Router {
    let mut router = Router::new();
    for route in routes() {
        router = router.route(route.path, route.handler);
    }
    router
        .method_not_allowed_fallback(problem::wrong_method)
        .fallback(problem::not_found)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&site), guard::guard))
        .with_state(site)
}

/// Serves until `shutdown` ends, then lets requests in flight end, for at most ten seconds.
pub async fn serve_http(
    listener: TcpListener,
    edge: Edge,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let site = Site {
        door: edge.door()?,
        edge,
        live: Page::new(include_str!("../../page/index.html")),
        reference: Page::new(include_str!("../../page/api.html")),
        requests: Arc::new(Semaphore::new(limits::HTTP_REQUESTS_MAX)),
    };
    connection::serve(listener, router(Arc::new(site)), shutdown).await;
    Ok(())
}

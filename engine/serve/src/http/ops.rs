//! What machines ask about the engine itself.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{Site, problem::Problem};
use crate::report::Status;

pub(super) async fn metrics(State(site): State<Arc<Site>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], site.edge.metrics_text()).into_response()
}

/// The process answers: that is all that this says.
pub(super) async fn healthy() -> &'static str {
    "Tidewatch is alive.\n"
}

pub(super) async fn ready(State(site): State<Arc<Site>>) -> Result<&'static str, Problem> {
    match site.edge.engine().ready() {
        Ok(()) => Ok("Tidewatch is ready.\n"),
        Err(reason) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", reason)),
    }
}

pub(super) async fn get_status(State(site): State<Arc<Site>>) -> Response {
    let mut status: Status = site.edge.engine().status().await;
    // The page asks every two seconds and shows no SQL; `/api/v1/rules` has it.
    status.rules.iter_mut().for_each(|rule| rule.sql.clear());
    ([(header::CACHE_CONTROL, "no-store")], Json(status)).into_response()
}

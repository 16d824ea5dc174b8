//! What goes wrong, as HTTP says it: a status, a kind for programs, a sentence for people.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::http_routes;
use crate::{
    engine::{QueryError, Refusal},
    excerpt::quoted,
};

#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    kind: &'static str,
    message: String,
    retry_after: Option<Duration>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), retry_after: None }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    pub(super) fn busy(message: &str) -> Self {
        let message = format!("{message}; try again in a second");
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message);
        Self { retry_after: Some(Duration::from_secs(1)), ..problem }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Busy { retry_after } => {
                Self { retry_after: Some(retry_after), ..Self::new(StatusCode::TOO_MANY_REQUESTS, "behind", message) }
            }
            Refusal::Unavailable(_) => Self {
                retry_after: Some(Duration::from_secs(1)),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
            },
            Refusal::Invalid(_) => Self::bad(message),
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let message = error.to_string();
        match error {
            QueryError::Invalid(_) => Self::bad(message),
            QueryError::TooMuch(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "too_much", message),
            QueryError::TooLong(_) => Self::new(StatusCode::GATEWAY_TIMEOUT, "too_long", message),
            QueryError::Unavailable(_) => Self {
                retry_after: Some(Duration::from_secs(1)),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
            },
            QueryError::Internal(_) => Self::internal(message),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({"error": self.kind, "message": self.message}))).into_response();
        if let Some(delay) = self.retry_after {
            // Whole seconds, rounded up: a client that comes back too early is refused again.
            let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A path that leads nowhere, and where its caller may have wanted to go.
pub(super) async fn not_found(uri: Uri) -> Problem {
    let paths: Vec<&str> = http_routes().into_iter().map(|(_, path)| path).collect();
    let near = tidewatch_model::nearest(uri.path(), paths.iter().copied());
    let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    let message = format!("there is nothing at {}{hint} GET /api lists what there is", quoted(uri.path()));
    let message = if near.is_some() { message } else { message.replacen(" GET /api", "; GET /api", 1) };
    Problem::new(StatusCode::NOT_FOUND, "not_found", message)
}

pub(super) async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let routes = http_routes();
    let allowed: Vec<String> =
        routes.iter().filter(|(_, path)| *path == uri.path()).map(|(method, _)| method.to_uppercase()).collect();
    let message = format!("{} cannot be asked with {method}; use {}", uri.path(), allowed.join(" or "));
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message)
}

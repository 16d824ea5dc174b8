//! What every request passes through: a span, a place among those worked on, and a time limit.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument;

use super::{Site, problem::Problem};
use crate::trace::request_span;

/// From the head of a request to the head of its answer, the request's body included.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// These are asked by whoever decides whether the process lives, so they are answered under any load.
const ALWAYS: [&str; 3] = ["/-/healthy", "/-/ready", "/metrics"];

pub(super) async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let permit = if ALWAYS.contains(&path) {
        None
    } else {
        match Arc::clone(&site.requests).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => return Problem::busy("too many requests are being worked on").into_response(),
        }
    };
    let span = request_span(&site.edge, "http", request.headers());
    tracing::debug!(parent: &span, method = %request.method(), path);
    let answered = tokio::time::timeout(REQUEST_TIME, next.run(request)).instrument(span).await;
    match answered {
        Ok(response) => hold(response, permit),
        Err(_) => {
            let message = format!("the request took longer than {} s, its body included", REQUEST_TIME.as_secs());
            Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", message).into_response()
        }
    }
}

/// A request keeps its place until its answer has left, so that slow readers of long answers count.
fn hold(response: Response, permit: Option<OwnedSemaphorePermit>) -> Response {
    match permit {
        Some(permit) => response.map(|body| Body::new(Held { body, _permit: permit })),
        None => response,
    }
}

struct Held {
    body: Body,
    _permit: OwnedSemaphorePermit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

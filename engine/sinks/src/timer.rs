//! How the dispatcher waits. A seam, so that tests and simulations do not wait at all.

use std::{fmt::Debug, future::Future, pin::Pin};

use tidewatch_model::Span;

pub trait Timer: Send + Sync + Debug {
    fn wait(&self, span: Span) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Waits in real time.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioTimer;

impl Timer for TokioTimer {
    fn wait(&self, span: Span) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(span.to_std()))
    }
}

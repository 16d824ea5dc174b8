//! What both servers are handed: the engine, the clock, and the two hooks of telemetry.
//! It is cheap to clone; every request holds one.

use std::{fmt, sync::Arc};

use tidewatch_model::{Clock, EventTime};
use tracing::Span;

use crate::{
    door::{Door, DoorError},
    engine::Engine,
    id_key::IdKey,
    trace::TraceContext,
};

/// Begins a measurement that ends when the answer is dropped.
pub type Timed = Arc<dyn Fn() -> Box<dyn std::any::Any> + Send + Sync>;

/// Makes a span the child of a caller's. Handed in by whoever sets tracing up.
pub type Adopt = Arc<dyn Fn(&Span, &TraceContext) + Send + Sync>;

#[derive(Clone)]
pub struct Edge {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    id_key: IdKey,
    metrics: Arc<dyn Fn() -> String + Send + Sync>,
    adopt: Option<Adopt>,
    converting: Option<Timed>,
}

/// Why a server did not start or ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Door(#[from] DoorError),
    #[error("the gRPC server failed: {0}")]
    Grpc(#[from] tonic::transport::Error),
    #[error("the gRPC reflection service cannot be built: {0}")]
    Reflection(String),
    #[error("the HTTP server cannot use its socket: {0}")]
    Socket(#[from] std::io::Error),
}

impl Edge {
    pub fn new(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>, id_key: IdKey) -> Self {
        Self { engine, clock, id_key, metrics: Arc::new(String::new), adopt: None, converting: None }
    }

    pub(crate) fn door(&self) -> Result<Door, DoorError> {
        Door::new(self.engine.schema(), self.id_key.clone())
    }

    /// What `/metrics` answers: the text exposition format.
    #[must_use]
    pub fn metrics(mut self, metrics: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.metrics = Arc::new(metrics);
        self
    }

    /// The one hook for distributed tracing: called for each request that carries a trace context.
    #[must_use]
    pub fn adopt(mut self, adopt: Adopt) -> Self {
        self.adopt = Some(adopt);
        self
    }

    /// The hook for how long batches take from the wire's form into columns.
    #[must_use]
    pub fn converting(mut self, timed: Timed) -> Self {
        self.converting = Some(timed);
        self
    }

    /// Tells the hook how a conversion begins and ends.
    pub(crate) fn converted<T>(&self, convert: impl FnOnce() -> T) -> T {
        let _running = self.converting.as_ref().map(|begin| begin());
        tracing::info_span!("convert").in_scope(convert)
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        self.engine.as_ref()
    }

    pub(crate) fn now(&self) -> EventTime {
        self.clock.now()
    }

    pub(crate) fn metrics_text(&self) -> String {
        (self.metrics)()
    }

    pub(crate) fn adopt_trace(&self, span: &Span, context: &TraceContext) {
        if let Some(adopt) = &self.adopt {
            adopt(span, context);
        }
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge").field("clock", &self.clock).finish_non_exhaustive()
    }
}

//! How the engine is watched: its log, its spans, its metrics. It observes and decides nothing: no
//! failure in here reaches an event's way.

mod latency;
mod logs;
mod metrics;
mod process;
mod registry;
mod ticks;
mod traces;

pub use latency::{Stage, Timer};
pub use metrics::{CONTENT_TYPE, Delivery, EventResult, Gauge, Metrics, OwnedTimer, QueryOutcome, RuleOutcome};
pub use registry::Counter;
pub use ticks::{ManualTicks, MonotonicTicks, Ticks};
pub use traces::set_parent;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::{EnvFilter, Layer, Registry, filter::FilterFn, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{LogFormat, TelemetrySettings};

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("`telemetry.log_level` is not understood: {0}")]
    LogLevel(#[from] tracing_subscriber::filter::ParseError),
    #[error("spans cannot be exported to {endpoint}; check `telemetry.otlp_endpoint`")]
    Exporter { endpoint: String, source: opentelemetry_otlp::ExporterBuildError },
    #[error("the log was started twice in one process")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// The running log and span export. `stop` sends what is still waiting.
#[must_use = "spans that wait are lost unless it is stopped"]
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts the log on standard error, and the export of spans where one is configured. Must be
    /// called within a tokio runtime, which then carries the export.
    pub fn start(settings: &TelemetrySettings) -> Result<Self, TelemetryError> {
        let filter = EnvFilter::builder().parse(&settings.log_level)?;
        let json = match settings.log_format {
            LogFormat::Json => true,
            LogFormat::Text => false,
            LogFormat::Auto => !std::io::IsTerminal::is_terminal(&std::io::stderr()),
        };
        let log = logs::layer(json, std::io::stderr).with_filter(filter);
        // Spans are made for the collector and for the trace ids in JSON lines; a terminal shows neither.
        let provider = match (&settings.otlp_endpoint, json) {
            (None, false) => None,
            (endpoint, _) => Some(traces::provider(endpoint.as_deref(), &settings.service_name)?),
        };
        let spans = provider.as_ref().map(spans_layer);
        Registry::default().with(spans).with(log).try_init()?;
        Ok(Self { provider })
    }

    /// Sends the spans that wait, for at most `traces::FLUSH_WAIT`: a collector that is down does
    /// not hold up the stop.
    pub async fn stop(self) {
        let Some(provider) = self.provider else { return };
        // The provider blocks while it flushes, and the flush itself runs on this runtime.
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(traces::FLUSH_WAIT)).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::warn!("the last spans could not be exported");
        }
    }
}

/// Our own spans only: those of the libraries that carry the export would feed on themselves.
fn spans_layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    tracing_opentelemetry::layer().with_tracer(provider.tracer("tidewatch")).with_filter(FilterFn::new(|metadata| {
        metadata.target().starts_with("tidewatch") && *metadata.level() <= tracing::Level::INFO
    }))
}

#[cfg(test)]
mod tests;

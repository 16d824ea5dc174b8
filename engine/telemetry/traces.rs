//! Spans: their export by OTLP, and the trace that a caller asks them to belong to. A collector
//! that cannot be reached costs the spans, is said once in the log, and touches nothing else.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter},
};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::TelemetryError;

/// How long a stop waits for the last spans.
pub const FLUSH_WAIT: Duration = Duration::from_secs(3);
/// How long one export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);
/// Spans that wait for export. At the limit new ones are dropped, not waited for.
const SPANS_WAITING_MAX: usize = 4_096;

/// Makes spans with trace ids, and exports them where there is an endpoint.
pub fn provider(endpoint: Option<&str>, service_name: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let resource = Resource::builder_empty()
        .with_attributes([
            opentelemetry::KeyValue::new("service.name", service_name.to_owned()),
            opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    let Some(endpoint) = endpoint else { return Ok(builder.build()) };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|source| TelemetryError::Exporter { endpoint: endpoint.to_owned(), source })?;
    let exporter = WatchedExporter { inner: exporter, endpoint: endpoint.into(), failing: AtomicBool::new(false) };
    let limits = BatchConfigBuilder::default().with_max_queue_size(SPANS_WAITING_MAX).build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(limits).build();
    Ok(builder.with_span_processor(processor).build())
}

/// Makes `span` part of the caller's trace. `traceparent` is W3C Trace Context's value; one that
/// does not parse is ignored, as that standard asks. Call it before the span is entered.
pub fn set_parent(span: &tracing::Span, traceparent: &str) {
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    // Refused where no spans are made or this one has begun: then it stays in the trace that it has.
    let _ = span.set_parent(context);
}

/// Says in the log when exporting begins to fail and when it works again, instead of every time.
#[derive(Debug)]
struct WatchedExporter<E> {
    inner: E,
    endpoint: Arc<str>,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for WatchedExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        let failed_before = self.failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !failed_before => {
                tracing::warn!(endpoint = %self.endpoint, spans, %error, "spans cannot be exported and are dropped until the collector is back");
            }
            Ok(()) if failed_before => tracing::info!(endpoint = %self.endpoint, "spans are exported again"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

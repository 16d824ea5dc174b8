//! Spans along an event's way reach a real collector, in the trace of whoever sent the event.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use tidewatch_serve::proto::tidewatch::v1::{EvaluateRequest, SubmitRequest, Transaction};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::support::{Setup, now, until};

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector {
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.requests.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (collector, address)
    }

    /// The spans of one trace.
    fn trace(&self, trace: u128) -> Vec<Span> {
        let requests = self.requests.lock().unwrap();
        let spans = requests.iter().flat_map(|request| &request.resource_spans).flat_map(|spans| &spans.scope_spans);
        spans.flat_map(|spans| &spans.spans).filter(|span| span.trace_id == trace.to_be_bytes()).cloned().collect()
    }

    fn service(&self) -> Option<String> {
        let requests = self.requests.lock().unwrap();
        let resource = requests.first()?.resource_spans.first()?.resource.clone()?;
        let name = resource.attributes.into_iter().find(|attribute| attribute.key == "service.name")?;
        Some(format!("{:?}", name.value?.value?))
    }
}

/// What each span is called, and what the span that it is part of is called; `caller` is the caller's own.
fn tree(spans: &[Span], caller: u64) -> Vec<(&str, &str)> {
    let names: BTreeMap<&[u8], &str> = spans.iter().map(|span| (span.span_id.as_slice(), span.name.as_str())).collect();
    let parent = |span: &Span| match names.get(span.parent_span_id.as_slice()) {
        Some(name) => *name,
        None if span.parent_span_id == caller.to_be_bytes() => "caller",
        None => "nobody",
    };
    let mut tree: Vec<(&str, &str)> = spans.iter().map(|span| (parent(span), span.name.as_str())).collect();
    tree.sort_unstable();
    tree.dedup();
    tree
}

/// A request in the trace of a caller.
fn traced<T>(message: T, trace: u128, caller: u64) -> Request<T> {
    let mut request = Request::new(message);
    let parent = format!("00-{trace:032x}-{caller:016x}-01");
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_reach_the_collector_in_the_trace_of_the_caller() {
    let (collector, endpoint) = Collector::start().await;
    let setup = Setup::configured(&format!("[telemetry]\notlp_endpoint = \"{endpoint}\"\nservice_name = \"till 7\"\n"));
    let engine = setup.start().await;
    let (submitting, evaluating) =
        (0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319d);
    let start = now().minute();
    let event = |minute: i64, seconds: i64| Transaction {
        occurred_at: start.plus(minute).start().micros() + seconds * 1_000_000,
        status: "approved".to_owned(),
        ..Transaction::default()
    };
    // The second event lets the first one's minute be sealed and judged.
    let batch = SubmitRequest { transactions: vec![event(0, 1), event(2, 1)], ..SubmitRequest::default() };
    engine.ingest().await.submit(traced(batch, submitting, 0xb7)).await.unwrap();
    until("a sealed minute", async || {
        (engine.number("SELECT count(*) AS n FROM payments_by_status WHERE sealed").await > 0).then_some(())
    })
    .await;
    let premise = EvaluateRequest {
        keys: [("status".to_owned(), "failed".to_owned())].into(),
        values: [("count".to_owned(), 100.0)].into(),
        dispatch: true,
    };
    engine.rules().await.evaluate(traced(premise, evaluating, 0xb8)).await.unwrap();
    // What waits is exported before the end.
    assert!(engine.terminate().await.success());
    let submitted = collector.trace(submitting);
    assert_eq!(
        tree(&submitted, 0xb7),
        [
            ("apply", "seal"),
            ("caller", "request"),
            ("request", "apply"),
            ("request", "convert"),
            ("request", "log"),
            ("seal", "judge")
        ]
    );
    let evaluated = collector.trace(evaluating);
    let steps = tree(&evaluated, 0xb8);
    for step in [("caller", "request"), ("request", "read"), ("request", "judge"), ("request", "dispatch")] {
        assert!(steps.contains(&step), "{step:?} is missing in {steps:?}");
    }
    assert!(submitted.iter().all(|span| span.end_time_unix_nano >= span.start_time_unix_nano));
    assert!(collector.service().unwrap().contains("till 7"));
}

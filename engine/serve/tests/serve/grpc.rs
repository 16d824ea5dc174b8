//! gRPC as clients see it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use arrow::ipc::reader::StreamReader;
use tidewatch_model::{SessionId, Span};
use tidewatch_serve::{
    TraceContext,
    engine::{Producer, Refusal},
    proto::tidewatch::v1::{
        BackupRequest, EndSessionRequest, EvaluateRequest, GetStatusRequest, ListRulesRequest, OpenSessionRequest,
        QueryRequest, SubmitRequest, Transaction, admin_client::AdminClient, alerts_client::AlertsClient,
        ingest_client::IngestClient, query_client::QueryClient, rules_client::RulesClient,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::StatusExt;

use crate::{
    fake::{Fake, MINUTE, NOW, rows, soon},
    wire::{self, connect, edge, grpc, start_grpc},
};

pub fn event() -> Transaction {
    Transaction { occurred_at: NOW.micros(), status: "approved".to_owned(), ..Transaction::default() }
}

fn batch(batch_id: u64, events: usize) -> SubmitRequest {
    SubmitRequest { batch_id, transactions: vec![event(); events], ..SubmitRequest::default() }
}

#[tokio::test]
async fn a_batch_keeps_what_is_right_and_names_what_is_not() {
    let (server, channel) = grpc().await;
    let mut client = IngestClient::new(channel);
    let mut request = batch(7, 3);
    request.transactions[0].count = Some(0);
    request.transactions[1].count = Some(-1);
    request.producer_id = "p".to_owned();
    request.first_sequence = Some(100);
    let answer = client.submit(request).await.unwrap().into_inner();
    assert_eq!((answer.batch_id, answer.accepted, answer.rejected, answer.lsn), (7, 2, 1, 1));
    let rejection = answer.rejections.first().unwrap();
    assert_eq!((rejection.index, rejection.field.as_str()), (1, "count"));
    let submission = server.engine.submitted().remove(0);
    assert_eq!(submission.offsets, [0, 2]);
    assert_eq!(submission.producer, Some(Producer { id: "p".to_owned(), first_sequence: 100 }));
    assert_eq!((submission.arrived_at, submission.rejected.len()), (NOW, 1));

    let nothing = client.submit(batch(8, 0)).await.unwrap().into_inner();
    assert_eq!((nothing.batch_id, nothing.accepted, nothing.lsn), (8, 0, 0));
    assert_eq!(server.engine.submitted().len(), 1);
}

#[tokio::test]
async fn batches_that_make_no_sense_are_refused_whole() {
    let (server, channel) = grpc().await;
    let mut client = IngestClient::new(channel);
    for (request, reason) in [
        (SubmitRequest { producer_id: "p".to_owned(), ..batch(1, 1) }, "without `first_sequence`"),
        (SubmitRequest { first_sequence: Some(1), ..batch(1, 1) }, "without `producer_id`"),
        (SubmitRequest { producer_id: "p".repeat(257), first_sequence: Some(1), ..batch(1, 1) }, "257 bytes"),
        (SubmitRequest { producer_id: "p".to_owned(), first_sequence: Some(u64::MAX), ..batch(1, 1) }, "overflow"),
        (batch(1, 65_537), "65536"),
    ] {
        let status = client.submit(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(reason), "{}", status.message());
    }
    assert!(server.engine.submitted().is_empty());
    // A session numbers its rows without a producer's name.
    let request = SubmitRequest { session_id: Some(77), first_sequence: Some(5), ..batch(1, 1) };
    client.submit(request).await.unwrap();
    let submission = server.engine.submitted().remove(0);
    assert_eq!(submission.session, Some(SessionId(77)));
    assert_eq!(submission.producer.unwrap().id, "session-000000000000004d");
}

#[tokio::test]
async fn the_engines_refusals_have_their_statuses() {
    let (server, channel) = grpc().await;
    let mut client = IngestClient::new(channel);
    server.engine.refuse(Some(Refusal::Busy { retry_after: Duration::from_millis(250) }));
    let status = client.submit(batch(1, 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let retry = status.get_details_retry_info().unwrap().retry_delay;
    assert_eq!(retry, Some(Duration::from_millis(250)));
    server.engine.refuse(Some(Refusal::Unavailable("the disk is full".to_owned())));
    let status = client.submit(batch(1, 1)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the disk is full"));
    server.engine.refuse(None);
    client.submit(batch(1, 1)).await.unwrap();
}

#[tokio::test]
async fn a_stream_is_acknowledged_in_order_and_read_no_further_than_its_limit() {
    const BATCHES: u64 = 200;
    let engine = Fake::held();
    let server = start_grpc(engine.clone(), edge(&engine)).await;
    let mut client = IngestClient::new(connect(server.address).await);
    let requests = tokio_stream::iter((0..BATCHES).map(|id| batch(1_000 - id, 2)));
    let mut answers = client.submit_stream(requests).await.unwrap().into_inner();
    let mut admitted = engine.admitted.subscribe();
    soon(admitted.wait_for(|admitted| *admitted == 64)).await.unwrap();
    for id in 0..BATCHES {
        engine.gate.add_permits(1);
        let answer = soon(answers.message()).await.unwrap().unwrap();
        assert_eq!((answer.batch_id, answer.accepted, answer.lsn), (1_000 - id, 2, id + 1));
    }
    assert!(soon(answers.message()).await.unwrap().is_none());
    assert_eq!(engine.waiting.lock().unwrap().1, 64);
}

#[tokio::test]
async fn a_stream_ends_at_its_first_error_after_the_acknowledgements_before_it() {
    let (server, channel) = grpc().await;
    let mut client = IngestClient::new(channel);
    let bad = SubmitRequest { producer_id: "p".to_owned(), ..batch(3, 1) };
    let requests = tokio_stream::iter([batch(1, 1), batch(2, 1), bad, batch(4, 1)]);
    let mut answers = client.submit_stream(requests).await.unwrap().into_inner();
    for id in [1, 2] {
        assert_eq!(soon(answers.message()).await.unwrap().unwrap().batch_id, id);
    }
    assert_eq!(soon(answers.message()).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(server.engine.rows(), 2);
    client.submit(batch(5, 1)).await.unwrap();
}

#[tokio::test]
async fn a_stop_acknowledges_what_was_admitted_and_ends_open_streams() {
    let (server, channel) = grpc().await;
    let mut client = IngestClient::new(channel.clone());
    let (sender, receiver) = mpsc::channel(4);
    let mut answers = client.submit_stream(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    sender.send(batch(1, 1)).await.unwrap();
    assert_eq!(soon(answers.message()).await.unwrap().unwrap().batch_id, 1);
    server.stop.send(()).unwrap();
    assert_eq!(soon(answers.message()).await.unwrap_err().code(), Code::Unavailable);
    drop((sender, answers, client, channel));
    soon(server.ended).await.unwrap();
}

#[tokio::test]
async fn sessions_open_and_end() {
    let (server, channel) = grpc().await;
    let mut client = IngestClient::new(channel);
    let request = OpenSessionRequest { name: "file.csv".to_owned(), lateness_us: 60_000_000, notify: true };
    let opened = client.open_session(request).await.unwrap().into_inner();
    assert_eq!((opened.session_id, opened.last_sequence), (77, Some(9)));
    let request = server.engine.sessions.lock().unwrap().remove(0);
    assert_eq!((request.lateness, request.notify), (Some(Span::from_seconds(60)), true));
    let ended = client.end_session(EndSessionRequest { session_id: 77 }).await.unwrap().into_inner().summary.unwrap();
    assert_eq!((ended.accepted, ended.duplicate, ended.late, ended.rejected), (4, 3, 2, 1));
    let unknown = client.end_session(EndSessionRequest { session_id: 78 }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument);
    for (name, lateness_us) in [(String::new(), 0), ("n".repeat(257), 0), ("n".to_owned(), -1)] {
        let request = OpenSessionRequest { name, lateness_us, notify: false };
        assert_eq!(client.open_session(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn an_answer_is_one_stream_of_arrow() {
    let (server, channel) = grpc().await;
    let mut client = QueryClient::new(channel);
    let request = QueryRequest { sql: "SELECT 1".to_owned(), timeout_ms: 1_500 };
    let mut pieces = client.execute(request).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await.unwrap() {
        bytes.extend_from_slice(&piece.arrow_ipc);
    }
    let batches: Vec<_> = StreamReader::try_new(bytes.as_slice(), None).unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.len(), 2);
    assert_eq!(format!("{:?}", batches[0]), format!("{:?}", rows()));
    assert_eq!(server.engine.questions.lock().unwrap()[0].timeout, Some(Duration::from_millis(1_500)));

    for (sql, code) in
        [("invalid", Code::InvalidArgument), ("much", Code::ResourceExhausted), ("long", Code::DeadlineExceeded)]
    {
        let request = QueryRequest { sql: sql.to_owned(), timeout_ms: 0 };
        assert_eq!(client.execute(request).await.unwrap_err().code(), code);
    }
    let request = QueryRequest { sql: "breaks".to_owned(), timeout_ms: 0 };
    let mut pieces = client.execute(request).await.unwrap().into_inner();
    let broken = loop {
        match pieces.message().await {
            Ok(piece) => assert!(piece.is_some(), "the error is not swallowed"),
            Err(status) => break status,
        }
    };
    assert_eq!(broken.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn rules_and_alerts_answer() {
    let (server, channel) = grpc().await;
    let mut client = RulesClient::new(channel.clone());
    let keys = [("status".to_owned(), "failed".to_owned()), ("account_id".to_owned(), "4111111111111111".to_owned())];
    let request = EvaluateRequest { keys: keys.into(), values: [("count".to_owned(), 100.0)].into(), dispatch: true };
    let evaluation = client.evaluate(request).await.unwrap().into_inner();
    assert_eq!((evaluation.alert, evaluation.severity.as_str()), (true, "critical"));
    assert_eq!(
        (evaluation.minute, evaluation.verdicts[0].labels["status"].as_str()),
        (MINUTE.start().micros(), "failed")
    );
    let premise = server.engine.premises.lock().unwrap().remove(0);
    assert!(premise.dispatch && premise.keys["account_id"] == "411111******1111");
    let request = EvaluateRequest { values: [("count".to_owned(), f64::NAN)].into(), ..EvaluateRequest::default() };
    assert_eq!(client.evaluate(request).await.unwrap_err().code(), Code::InvalidArgument);
    let rules = client.list_rules(ListRulesRequest {}).await.unwrap().into_inner().rules;
    assert_eq!((rules[0].name.as_str(), rules[0].rows), ("denied-surge", 1));
    let status = AlertsClient::new(channel).get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.alerts[0].state.as_str(), status.scores[0].rule.as_str()), ("firing", "denied-surge"));
    assert_eq!((status.statuses[0].status.as_str(), status.statuses[0].score), ("approved", Some(0.25)));
}

#[tokio::test]
async fn a_backup_tells_how_far_it_is_and_a_stop_gives_it_up() {
    let (server, channel) = grpc().await;
    let mut client = AdminClient::new(channel.clone());
    let mut ask =
        async |to: &str| client.backup(BackupRequest { to: to.to_owned() }).await.map(|news| news.into_inner());
    assert_eq!(ask("").await.unwrap_err().code(), Code::InvalidArgument);
    let mut news = ask("a folder").await.unwrap();
    let begun = soon(news.message()).await.unwrap().unwrap();
    assert_eq!((begun.objects, begun.objects_done, begun.done), (1, 0, None));
    let ended = soon(news.message()).await.unwrap().unwrap();
    let done = ended.done.unwrap();
    assert_eq!((ended.bytes_sent, done.id.as_str(), done.last_lsn), (2, "a copy at a folder", 7));
    assert_eq!(soon(news.message()).await.unwrap(), None);
    let mut news = ask("a full disk").await.unwrap();
    soon(news.message()).await.unwrap().unwrap();
    assert_eq!(soon(news.message()).await.unwrap_err().code(), Code::Unavailable);
    let mut news = ask("a slow place").await.unwrap();
    soon(news.message()).await.unwrap().unwrap();
    soon(news.message()).await.unwrap().unwrap();
    server.stop.send(()).unwrap();
    assert_eq!(soon(news.message()).await.unwrap_err().code(), Code::Unavailable);
    drop((news, client, channel));
    soon(server.ended).await.unwrap();
}

#[tokio::test]
async fn health_follows_the_engine() {
    let engine = Fake::new();
    *engine.not_ready.lock().unwrap() = Some("replaying the log".to_owned());
    let server = start_grpc(engine.clone(), edge(&engine)).await;
    let mut client = HealthClient::new(connect(server.address).await);
    let request = HealthCheckRequest { service: "tidewatch.v1.Ingest".to_owned() };
    let mut states = client.watch(request).await.unwrap().into_inner();
    let mut wait_for = async |wanted: ServingStatus| {
        while soon(states.message()).await.unwrap().unwrap().status() != wanted {}
    };
    wait_for(ServingStatus::NotServing).await;
    *engine.not_ready.lock().unwrap() = None;
    wait_for(ServingStatus::Serving).await;
}

#[tokio::test]
async fn reflection_names_the_services() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let (_server, channel) = grpc().await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let answer = soon(answers.message()).await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["Ingest", "Query", "Rules", "Alerts", "Admin"] {
        assert!(names.contains(&format!("tidewatch.v1.{name}").as_str()), "{names:?}");
    }
}

#[tokio::test]
async fn trace_context_reaches_the_hook() {
    let seen: Arc<Mutex<Vec<TraceContext>>> = Arc::default();
    let kept = Arc::clone(&seen);
    let engine = Fake::new();
    let edge = wire::edge(&engine).adopt(Arc::new(move |_, context| kept.lock().unwrap().push(context.clone())));
    let server = start_grpc(engine, edge).await;
    let mut client = IngestClient::new(connect(server.address).await);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for value in [parent, "broken"] {
        let mut request = Request::new(batch(1, 1));
        request.metadata_mut().insert("traceparent", value.parse().unwrap());
        client.submit(request).await.unwrap();
    }
    let seen: Vec<_> = seen.lock().unwrap().iter().map(|context| context.parent.to_string()).collect();
    assert_eq!(seen, [parent]);
}

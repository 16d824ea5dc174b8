//! The sender against an engine on loopback that is busy, goes away, and refuses rows.

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{Mutex, PoisonError},
};

use futures::{Stream, StreamExt};
use tidewatch_serve::proto::tidewatch::v1::{
    EndSessionRequest, EndSessionResponse, OpenSessionResponse, Rejection, Transaction,
    ingest_server::{Ingest, IngestServer},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response};

use super::*;

/// Keeps rows by their sequences, as an engine does, and fails when told to.
#[derive(Default)]
struct State {
    rows: BTreeSet<u64>,
    duplicates: u64,
    batches: u64,
    /// The batches, counted over all streams, before which the stream fails, and with what.
    failures: Vec<(u64, Status)>,
}

#[derive(Clone, Default)]
struct Engine(Arc<Mutex<State>>);

impl Engine {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, request: &SubmitRequest) -> Result<SubmitResponse, Status> {
        let mut state = self.state();
        state.batches += 1;
        let at = state.batches;
        if let Some(found) = state.failures.iter().position(|(batch, _)| *batch == at) {
            return Err(state.failures.remove(found).1);
        }
        let (mut rejections, mut accepted) = (Vec::new(), 0);
        for (index, event) in request.transactions.iter().enumerate() {
            if event.status == "refused" {
                let reason = "no such status".to_owned();
                rejections.push(Rejection { index: index as u32, reason, field: "status".to_owned() });
                continue;
            }
            accepted += 1;
            if !state.rows.insert(request.first_sequence() + index as u64) {
                state.duplicates += 1;
            }
        }
        let rejected = rejections.len() as u64;
        // As an engine lists only so many refusals of a batch, this one lists one.
        rejections.truncate(1);
        Ok(SubmitResponse { batch_id: request.batch_id, accepted, rejections, lsn: at, rejected })
    }
}

#[tonic::async_trait]
impl Ingest for Engine {
    type SubmitStreamStream = Pin<Box<dyn Stream<Item = Result<SubmitResponse, Status>> + Send>>;

    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        self.take(request.get_ref()).map(Response::new)
    }

    async fn submit_stream(
        &self,
        request: Request<Streaming<SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        let engine = self.clone();
        let mut failed = false;
        let answers = request.into_inner().map(move |request| engine.take(&request?));
        // The first error ends the stream, as the contract says.
        let answers = answers.take_while(move |answer| {
            let go_on = !failed;
            failed |= answer.is_err();
            std::future::ready(go_on)
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn open_session(&self, _: Request<OpenSessionRequest>) -> Result<Response<OpenSessionResponse>, Status> {
        Ok(Response::new(OpenSessionResponse { session_id: 7, last_sequence: None }))
    }

    async fn end_session(&self, _: Request<EndSessionRequest>) -> Result<Response<EndSessionResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }
}

/// Sends `rows` rows, of which every second is refused, in pieces of three.
async fn send(rows: u64, failures: Vec<(u64, Status)>) -> (anyhow::Result<Sent>, Engine, Arc<Faults>) {
    let engine = Engine::default();
    engine.state().failures = failures;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tonic::transport::Server::builder().add_service(IngestServer::new(engine.clone()));
    let server = tokio::spawn(served.serve_with_incoming(TcpListenerStream::new(listener)));
    let client = IngestClient::connect(format!("http://{address}")).await.unwrap();
    let progress = Progress::new();
    let faults = Arc::new(Faults::new(None, progress.clone()).unwrap());
    let (pieces, received) = mpsc::channel(2);
    let request = OpenSessionRequest { name: "test".to_owned(), lateness_us: 0, notify: false };
    let sender = Sender {
        client,
        identity: Identity::Session { id: 7, request },
        in_flight: 4,
        speed: None,
        faults: Arc::clone(&faults),
        progress,
    };
    let numbers: Vec<u64> = (1..=rows).collect();
    let feeding = async move {
        for rows in numbers.chunks(3) {
            let status = |row: &u64| if row.is_multiple_of(2) { "refused" } else { "approved" };
            let events =
                rows.iter().map(|row| Transaction { status: status(row).to_owned(), ..Transaction::default() });
            let piece =
                Piece { first_row: rows[0], lines: rows.iter().map(|row| row + 1).collect(), events: events.collect() };
            if pieces.send(piece).await.is_err() {
                return;
            }
        }
    };
    let (sent, ()) = tokio::join!(sender.run(received), feeding);
    server.abort();
    (sent, engine, faults)
}

async fn check(rows: u64, failures: Vec<(u64, Status)>) {
    let (sent, engine, faults) = send(rows, failures).await;
    let sent = sent.unwrap();
    let kept: BTreeSet<u64> = (1..=rows).filter(|row| !row.is_multiple_of(2)).collect();
    assert_eq!(engine.state().rows, kept);
    assert_eq!((sent.events, sent.accepted, sent.last_row), (rows, kept.len() as u64, rows));
    assert_eq!(faults.rejected(), rows / 2);
    assert_eq!(engine.state().failures.len(), 0, "every failure was met");
}

#[tokio::test]
async fn every_row_arrives_once_whatever_happens() {
    check(0, vec![]).await;
    check(1, vec![]).await;
    check(100, vec![]).await;
    check(100, vec![(1, Status::resource_exhausted("busy"))]).await;
    check(100, vec![(5, Status::resource_exhausted("busy")), (6, Status::unavailable("stopping"))]).await;
    check(100, vec![(34, Status::unavailable("stopping")), (35, Status::resource_exhausted("busy"))]).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_not_sent_again() {
    let (sent, engine, _) = send(100, vec![(3, Status::invalid_argument("the batch makes no sense"))]).await;
    let error = sent.unwrap_err().to_string();
    assert!(error.contains("rows from 7") && error.contains("the batch makes no sense"), "{error}");
    assert_eq!(engine.state().batches, 3);
}

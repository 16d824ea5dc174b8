//! How fast the gRPC stream is before an engine that keeps nothing: events a second over loopback, client and server
//! in one process. `cargo run --release --example stream_speed -p tidewatch-serve`.

#[path = "../tests/serve/fake.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod fake;

use std::{error::Error, sync::Arc, time::Instant};

use tidewatch_model::ManualClock;
use tidewatch_serve::{
    Edge,
    proto::tidewatch::v1::{SubmitRequest, Transaction, ingest_client::IngestClient},
    serve_grpc,
};
use tokio::net::TcpListener;

const BATCH: usize = 1_000;
const BATCHES: u64 = 1_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "measuring time is what this program is for")]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let edge = Edge::new(Arc::new(fake::Fake::new()), Arc::new(ManualClock::at(fake::NOW)), fake::id_key());
    tokio::spawn(serve_grpc(listener, edge, std::future::pending()));
    let mut client = IngestClient::connect(format!("http://{address}")).await?;
    let transactions: Vec<Transaction> = (0..BATCH).map(event).collect();
    let requests = tokio_stream::iter((0..BATCHES).map(move |batch_id| SubmitRequest {
        batch_id,
        transactions: transactions.clone(),
        ..SubmitRequest::default()
    }));
    let started = Instant::now();
    let mut answers = client.submit_stream(requests).await?.into_inner();
    let mut accepted = 0;
    while let Some(answer) = answers.message().await? {
        accepted += answer.accepted;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{accepted} events in {seconds:.2} s: {:.0} k events/s", accepted as f64 / seconds / 1e3);
    Ok(())
}

fn event(n: usize) -> Transaction {
    Transaction {
        event_id: Some(format!("550e8400-e29b-41d4-a716-{n:012}")),
        occurred_at: fake::NOW.micros() + n as i64,
        status: "approved".to_owned(),
        kind: Some("card".to_owned()),
        channel: Some("web".to_owned()),
        region: Some("eu-west".to_owned()),
        account_id: Some(format!("acct-{n:08}")),
        counterparty_id: Some(format!("merchant-{n:06}")),
        amount_minor: Some(1_999),
        currency: Some("EUR".to_owned()),
        latency_us: Some(120_000),
        auth_code: Some("004521".to_owned()),
        ip: Some("10.20.30.40".to_owned()),
        ..Transaction::default()
    }
}

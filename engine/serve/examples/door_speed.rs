//! How fast the door is: events a second on one core, from decoded messages to columns, from bytes to columns, and
//! from JSON lines to columns. `cargo run --release --example door_speed -p tidewatch-serve`.

#[path = "../tests/serve/fake.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod fake;

use std::{error::Error, hint::black_box, sync::Arc, time::Instant};

use prost::Message;
use tidewatch_serve::{
    Arrival, Door, Form,
    proto::tidewatch::v1::{SubmitRequest, Transaction},
};

const BATCH: usize = 4_096;
const ROUNDS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let door = Door::new(Arc::new(fake::schema()), fake::id_key())?;
    let arrival = Arrival { at: fake::NOW, session: None };
    let request = SubmitRequest { transactions: (0..BATCH).map(event).collect(), ..SubmitRequest::default() };
    let bytes = request.encode_to_vec();
    println!("{} bytes an event as protobuf", bytes.len() / BATCH);
    measure("messages to columns", || door.transactions(&request.transactions, &arrival).rows.num_rows());
    measure("bytes to columns", || {
        SubmitRequest::decode(bytes.as_slice())
            .map_or(0, |request| door.transactions(&request.transactions, &arrival).rows.num_rows())
    });
    let line = r#"{"event_id":"550e8400-e29b-41d4-a716-446655440000","occurred_at":"2025-07-12T12:00:00Z","status":"approved","kind":"card","channel":"web","region":"eu-west","account_id":"acct-00012345","counterparty_id":"merchant-001234","amount_minor":1999,"currency":"EUR","latency_us":120000,"auth_code":"004521","ip":"10.20.30.40"}"#;
    let lines = vec![line; BATCH].join("\n");
    measure("JSON lines to columns", || {
        door.json(lines.as_bytes(), Form::Lines, &arrival).map_or(0, |parsed| parsed.batch.rows.num_rows())
    });
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

#[expect(clippy::disallowed_methods, reason = "measuring time is what this program is for")]
fn measure(what: &str, mut work: impl FnMut() -> usize) {
    let started = Instant::now();
    let events: usize = (0..ROUNDS).map(|_| black_box(work())).sum();
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(events, BATCH * ROUNDS, "every event is accepted");
    println!("{what}: {:.2} M events/s", events as f64 / seconds / 1e6);
}

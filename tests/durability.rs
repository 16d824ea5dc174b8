//! What was acknowledged is kept, whenever the process dies; what was sent twice counts once; each rule judges each
//! sealed minute once; each alert is delivered at least once, always under the same key.
//!
//! `TIDEWATCH_ROUNDS` sets how often the process is killed, `TIDEWATCH_SEED` repeats a run's choices.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tidewatch_model::EventTime;
use tidewatch_serve::proto::tidewatch::v1::{SubmitRequest, Transaction, ingest_client::IngestClient};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::support::{Engine, Setup, WebhookReceiver, now, seed, soon, until};

const ROUNDS: u32 = 15;

/// Checkpoints as often as can be, and a log in small segments, of which those that a checkpoint contains go.
const OFTEN: &str = "[log]\nsegment_bytes = \"1MiB\"\n[store]\ncheckpoint_interval = \"100ms\"\n";

/// The number of the oldest record in the log.
fn log_begins_with(setup: &Setup) -> u64 {
    let names = std::fs::read_dir(setup.data().join("log")).unwrap().map(|file| file.unwrap().file_name());
    let numbers = names.filter_map(|name| name.to_str()?.strip_suffix(".log")?.parse().ok());
    numbers.min().unwrap()
}

const BATCH: usize = 40;

fn rounds() -> u32 {
    std::env::var("TIDEWATCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

/// Everything that can be read of what the engine keeps. Two readings of the same state are equal.
async fn everything(engine: &Engine) -> BTreeMap<&'static str, Vec<String>> {
    let mut tables = BTreeMap::new();
    for (table, sql) in [
        (
            "payments",
            "SELECT minute, status, kind, channel, region, currency, transactions, amount_minor, sealed FROM payments",
        ),
        ("payments_by_status", "SELECT * FROM payments_by_status"),
        ("latency", "SELECT minute, transactions, latency_p50_us, latency_p99_us FROM payments_latency"),
        ("accounts", "SELECT * FROM accounts"),
        ("transactions", "SELECT event_id, occurred_at, status, account_id, count FROM transactions"),
        ("rejected_events", "SELECT * FROM rejected_events"),
        ("late_events", "SELECT event_id, reason FROM late_events"),
        ("corrections", "SELECT * FROM corrections"),
        ("verdicts", "SELECT * FROM verdicts"),
        ("alerts", "SELECT * FROM alerts"),
    ] {
        let mut rows: Vec<String> = engine.query(sql).await.iter().map(Value::to_string).collect();
        rows.sort();
        tables.insert(table, rows);
    }
    tables
}

/// Each rule has judged each sealed minute once: a rule's rows of one minute differ in their labels.
async fn assert_judged_once(engine: &Engine) {
    // What a correction would have changed is told beside the verdict and is none.
    let twice = "SELECT rule, minute, labels, count(*) AS n FROM verdicts WHERE outcome NOT LIKE 'would%' \
                 GROUP BY ALL HAVING count(*) > 1";
    assert_eq!(engine.query(twice).await, Vec::<Value>::new());
    let judged = engine.query("SELECT rule, count(DISTINCT minute) AS n FROM verdicts GROUP BY ALL").await;
    let minutes = "SELECT count(DISTINCT minute) AS n FROM payments_by_status WHERE sealed";
    let sealed = engine.number(minutes).await;
    for rule in judged {
        assert_eq!(rule["n"].as_i64(), Some(sealed), "minutes that {} judged", rule["rule"]);
    }
}

/// One client's numbered batches. Batches that were not acknowledged are sent again, as a client does.
#[derive(Debug)]
struct Client {
    name: String,
    /// Streams, or sends one batch after the other.
    streams: bool,
    sent: Vec<SubmitRequest>,
    acknowledged: BTreeSet<u64>,
}

impl Client {
    fn batch(&self, number: u64, time: EventTime, rng: &mut StdRng) -> SubmitRequest {
        let transaction = |at: usize| Transaction {
            event_id: Some(format!("{}-{number}-{at}", self.name)),
            occurred_at: time.micros() - rng.random_range(0..20_000_000),
            status: ["approved", "denied", "failed"][rng.random_range(0..3)].to_owned(),
            account_id: Some(format!("{}-{number}", self.name)),
            amount_minor: Some(rng.random_range(1..10_000)),
            currency: Some("EUR".to_owned()),
            latency_us: Some(rng.random_range(100..1_000_000)),
            ..Transaction::default()
        };
        SubmitRequest {
            batch_id: number,
            transactions: (0..BATCH).map(transaction).collect(),
            // One of them is told apart by its event ids alone.
            producer_id: if self.streams { self.name.clone() } else { String::new() },
            first_sequence: self.streams.then_some(number * BATCH as u64 + 1),
            ..SubmitRequest::default()
        }
    }

    /// Sends again what was not acknowledged, then more, until the engine is gone.
    async fn run(mut self, channel: Channel, start: EventTime, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let client = IngestClient::new(channel);
        if self.streams {
            self.stream(client, start, &mut rng).await
        } else {
            self.one_by_one(client, start, &mut rng).await
        }
        self
    }

    fn pending(&self) -> Vec<SubmitRequest> {
        self.sent.iter().filter(|batch| !self.acknowledged.contains(&batch.batch_id)).cloned().collect()
    }

    fn next(&mut self, start: EventTime, before: usize, rng: &mut StdRng) -> SubmitRequest {
        let number = self.sent.len() as u64;
        // A quarter of a second of event time a batch.
        let time = EventTime::from_micros(start.micros() + (self.sent.len() - before) as i64 * 250_000);
        let batch = self.batch(number, time, rng);
        self.sent.push(batch.clone());
        batch
    }

    async fn one_by_one(&mut self, mut client: IngestClient<Channel>, start: EventTime, rng: &mut StdRng) {
        let (mut again, before) = (self.pending().into_iter(), self.sent.len());
        loop {
            let batch = again.next().unwrap_or_else(|| self.next(start, before, rng));
            match client.submit(batch).await {
                Ok(answer) => self.acknowledged.insert(answer.into_inner().batch_id),
                Err(_) => return,
            };
        }
    }

    async fn stream(&mut self, mut client: IngestClient<Channel>, start: EventTime, rng: &mut StdRng) {
        let (mut again, before) = (self.pending().into_iter(), self.sent.len());
        let (batches, outgoing) = mpsc::channel(8);
        let Ok(answers) = client.submit_stream(ReceiverStream::new(outgoing)).await else { return };
        let mut answers = answers.into_inner();
        let mut held = None;
        loop {
            let batch = held.take().unwrap_or_else(|| again.next().unwrap_or_else(|| self.next(start, before, rng)));
            tokio::select! {
                biased;
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => { self.acknowledged.insert(answer.batch_id); held = Some(batch); }
                    Ok(None) | Err(_) => return,
                },
                room = batches.reserve() => match room {
                    Ok(room) => room.send(batch),
                    // The stream is over; the acknowledgements that it still holds are read above.
                    Err(_) => held = Some(batch),
                },
            }
        }
    }

    fn sent_before_crash(&self) -> u64 {
        self.sent.len() as u64
    }
}

/// How many distinct and how many events of each batch the engine holds.
async fn held(engine: &Engine) -> BTreeMap<String, (u64, u64)> {
    let sql = "SELECT account_id, count(*) AS n, count(DISTINCT event_id) AS ids FROM transactions GROUP BY 1";
    let rows = engine.query(sql).await.into_iter();
    let row = |row: Value| {
        (row["account_id"].as_str().unwrap().to_owned(), (row["n"].as_u64().unwrap(), row["ids"].as_u64().unwrap()))
    };
    rows.map(row).collect()
}

/// Acknowledged batches are there, whole and once; of the others none is there twice or in part.
fn check(clients: &[Client], held: &BTreeMap<String, (u64, u64)>) {
    let whole = (BATCH as u64, BATCH as u64);
    let mut expected = BTreeSet::new();
    for client in clients {
        for batch in &client.sent {
            let account = format!("{}-{}", client.name, batch.batch_id);
            match held.get(&account) {
                Some(found) => assert_eq!(*found, whole, "events and ids of {account}"),
                None => {
                    assert!(!client.acknowledged.contains(&batch.batch_id), "{account} was acknowledged and is lost")
                }
            }
            expected.insert(account);
        }
    }
    assert!(held.keys().all(|account| expected.contains(account)), "there are events that nobody sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_a_kill_at_any_moment() {
    let seed = seed("kill at any moment");
    let mut rng = StdRng::seed_from_u64(seed);
    // Nothing is forgotten of the raw events, so that each can be asked for.
    let setup = Setup::configured(&format!(
        "{OFTEN}raw_bytes_max = \"2GiB\"\n[query]\nrows_max = 10000000\nmemory_bytes = \"4GiB\"\n"
    ));
    let mut engine = setup.start().await;
    let mut clients: Vec<Client> = [("ids", false), ("more-ids", false), ("sequences", true)]
        .map(|(name, streams)| Client {
            name: name.to_owned(),
            streams,
            sent: Vec::new(),
            acknowledged: BTreeSet::new(),
        })
        .into();
    let begin = now().micros() - 50 * 60_000_000;
    let rounds = rounds();
    for round in 0..rounds {
        // Time goes on between the rounds, so that minutes are sealed; it ends before the clock.
        let start = EventTime::from_micros(begin + i64::from(round) * 50 * 60_000_000 / i64::from(rounds + 1));
        let mut sending = JoinSet::new();
        for client in std::mem::take(&mut clients) {
            sending.spawn(client.run(engine.channel().await, start, rng.random()));
        }
        // Not to wait for anything: when the process dies is what the test varies.
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..700))).await;
        engine.kill();
        clients = soon("the clients to notice", sending.join_all()).await;
        clients.sort_by(|a, b| a.name.cmp(&b.name));
        engine = setup.start().await;
        check(&clients, &held(&engine).await);
        assert_judged_once(&engine).await;
    }
    let before = everything(&engine).await;
    assert!(!before["verdicts"].is_empty() && clients.iter().all(|client| client.acknowledged.len() > 1));
    engine.kill();
    let engine = setup.start().await;
    let after = everything(&engine).await;
    for (table, rows) in &before {
        assert!(after[table] == *rows, "`{table}` is not what it was before the restart");
    }
    assert!(log_begins_with(&setup) > 1, "checkpoints let go of what they contain");
    finish(&engine, clients).await;
}

/// What was never acknowledged is sent once more; then every event counts exactly once, in every view.
async fn finish(engine: &Engine, mut clients: Vec<Client>) {
    let mut ingest = engine.ingest().await;
    for client in &mut clients {
        for batch in client.pending() {
            let answer = ingest.submit(batch).await.unwrap().into_inner();
            client.acknowledged.insert(answer.batch_id);
        }
        assert_eq!(client.acknowledged.len() as u64, client.sent_before_crash());
    }
    check(&clients, &held(engine).await);
    let sent: usize = clients.iter().map(|client| client.sent.len() * BATCH).sum();
    let sent = i64::try_from(sent).unwrap();
    println!("{sent} events of {} batches", sent / BATCH as i64);
    assert_eq!(engine.number("SELECT count(*) AS n FROM late_events").await, 0);
    for view in ["payments", "payments_by_status", "payments_latency"] {
        assert_eq!(engine.number(&format!("SELECT sum(transactions) AS n FROM {view}")).await, sent, "{view}");
    }
    let amounts = clients.iter().flat_map(|client| &client.sent).flat_map(|batch| &batch.transactions);
    let amounts: i64 = amounts.filter_map(|transaction| transaction.amount_minor).sum();
    assert_eq!(engine.number("SELECT sum(amount_minor) AS n FROM payments").await, amounts);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_keeps_what_was_acknowledged_and_ends_well() {
    let seed = seed("SIGTERM");
    let setup = Setup::new();
    let mut clients: Vec<Client> = [("ids", false), ("sequences", true)]
        .map(|(name, streams)| Client {
            name: name.to_owned(),
            streams,
            sent: Vec::new(),
            acknowledged: BTreeSet::new(),
        })
        .into();
    let start = EventTime::from_micros(now().micros() - 30 * 60_000_000);
    let engine = setup.start().await;
    let mut sending = JoinSet::new();
    for client in std::mem::take(&mut clients) {
        sending.spawn(client.run(engine.channel().await, start, seed));
    }
    until("events to be under way", async || {
        (engine.number("SELECT count(*) AS n FROM transactions").await > 2_000).then_some(())
    })
    .await;
    let ended = engine.terminate().await;
    assert!(ended.success(), "{ended}");
    let clients = soon("the clients to notice", sending.join_all()).await;
    assert!(clients.iter().all(|client| client.acknowledged.len() > 1));
    let engine = setup.start().await;
    check(&clients, &held(&engine).await);
    finish(&engine, clients).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_view_is_built_anew_from_the_raw_events() {
    let view = |select: &str| {
        format!(
            "CREATE MATERIALIZED VIEW by_kind WITH (retention = '90 days') AS
             SELECT date_trunc('minute', occurred_at) AS minute, {select} FROM transactions GROUP BY ALL"
        )
    };
    let setup = Setup::new().queries(&[("views/by_kind.sql", &view("kind, sum(count) AS n"))]);
    let start = now().minute().plus(-9);
    let events = |from: i64| {
        let event = |at: i64| Transaction {
            occurred_at: start.plus(at / 10).start().micros() + at % 10 * 6_000_000,
            status: "approved".to_owned(),
            kind: Some(["card", "ach"][at as usize % 2].to_owned()),
            amount_minor: Some(at),
            currency: Some("EUR".to_owned()),
            ..Transaction::default()
        };
        SubmitRequest { transactions: (from..from + 40).map(event).collect(), ..SubmitRequest::default() }
    };
    let engine = setup.start().await;
    engine.ingest().await.submit(events(0)).await.unwrap();
    assert_eq!(engine.number("SELECT sum(n) AS n FROM by_kind").await, 40);
    assert!(engine.terminate().await.success());
    // Another measure, and another view beside it.
    let changed = view("kind, sum(count) AS n, sum(amount_minor) FILTER (WHERE currency = 'EUR') AS euros");
    setup.folder.write("queries/views/by_kind.sql", changed);
    setup.folder.write("queries/views/all.sql", view("sum(count) AS n").replace("by_kind", "everything"));
    let engine = setup.start().await;
    assert_eq!(engine.number("SELECT sum(euros) AS n FROM by_kind").await, (0..40).sum::<i64>());
    engine.ingest().await.submit(events(40)).await.unwrap();
    // The minute that was open at the restart goes on, sealed or not.
    assert_eq!(engine.number("SELECT sum(euros) AS n FROM by_kind").await, (0..80).sum::<i64>());
    for sealed in ["sealed", "NOT sealed"] {
        let rows = |view: &str| format!("SELECT sum(n) AS n FROM {view} WHERE {sealed}");
        assert_eq!(engine.number(&rows("everything")).await, engine.number(&rows("by_kind")).await);
    }
    assert!(engine.terminate().await.success());
    // The engine that comes back has both from its checkpoint.
    let engine = setup.start().await;
    assert_eq!(engine.number("SELECT sum(euros) AS n FROM by_kind").await, (0..80).sum::<i64>());
    assert_eq!(engine.number("SELECT sum(n) AS n FROM everything").await, 80);
}

/// Each minute has a region of its own, and each region raises an alert of its own.
const REGIONS: [(&str, &str); 2] = [
    (
        "views/regions.sql",
        "CREATE MATERIALIZED VIEW regions WITH (retention = '90 days') AS
         SELECT date_trunc('minute', occurred_at) AS minute, region, sum(count) AS transactions
         FROM transactions GROUP BY ALL",
    ),
    (
        "rules/region-seen.sql",
        "/*\nname = \"region-seen\"\nseverity = \"critical\"\nlookback = \"1 minute\"\nwarmup = \"0m\"\ncooldown = \"0m\"\n\
         summary = \"{{ region }}: {{ value }}\"\n*/\n\
         SELECT minute, region, transactions AS value FROM regions WHERE transactions > 0",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_alerts_of_a_rule_that_is_gone_end_and_people_hear_of_it() {
    let receiver = WebhookReceiver::start(0).await;
    let setup = Setup::configured(&receiver.configuration()).queries(&REGIONS);
    let engine = setup.start().await;
    let minute = now().minute().plus(-9);
    let event = |at: i64| Transaction {
        occurred_at: minute.plus(at).start().micros() + 40_000_000,
        status: "approved".to_owned(),
        region: Some("here".to_owned()),
        ..Transaction::default()
    };
    let request = SubmitRequest { transactions: vec![event(0), event(1)], ..SubmitRequest::default() };
    engine.ingest().await.submit(request).await.unwrap();
    let told = |event: &'static str| {
        let receiver = &receiver;
        async move || receiver.deliveries().iter().any(|delivery| delivery.text("event") == event).then_some(())
    };
    until("the alert", told("fired")).await;
    assert!(engine.terminate().await.success());
    std::fs::remove_file(setup.folder.path().join("queries/rules/region-seen.sql")).unwrap();
    let engine = setup.start().await;
    until("the end of the alert", told("resolved")).await;
    let ended = engine.query("SELECT event FROM alerts ORDER BY minute").await;
    assert_eq!(ended, [serde_json::json!({ "event": "fired" }), serde_json::json!({ "event": "resolved" })]);
    engine.kill();
    // Once is enough.
    let engine = setup.start().await;
    assert_eq!(engine.number("SELECT count(*) AS n FROM alerts WHERE event = 'resolved'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alert_is_delivered_and_each_minute_judged_once_across_kills() {
    let seed = seed("alerts across kills");
    let mut rng = StdRng::seed_from_u64(seed);
    // Each delivery fails once, so that there is always one under way when the process dies.
    let receiver = WebhookReceiver::start(1).await;
    let settings =
        format!("{OFTEN}[alerts]\nretry_first = \"100ms\"\nretry_longest = \"200ms\"\n{}", receiver.configuration());
    let setup = Setup::configured(&settings).queries(&REGIONS);
    let mut engine = setup.start().await;
    let minute = now().minute().plus(-50);
    let minutes = 3 * i64::from(rounds().min(15));
    let mut judged: BTreeMap<(String, String), Value> = BTreeMap::new();
    for at in 0..minutes {
        let mut client = engine.ingest().await;
        let transaction = Transaction {
            // Late enough in its minute to seal the one before.
            occurred_at: minute.plus(at).start().micros() + 40_000_000,
            status: "approved".to_owned(),
            region: Some(format!("region-{at}")),
            count: Some(at + 1),
            ..Transaction::default()
        };
        let request = SubmitRequest { transactions: vec![transaction], ..SubmitRequest::default() };
        client.submit(request).await.unwrap();
        if rng.random_bool(0.3) {
            // Any moment will do, so there is nothing to wait for.
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..400))).await;
            engine.kill();
            engine = setup.start().await;
            for row in engine.query("SELECT * FROM verdicts").await {
                let key = (row["minute"].to_string(), row["labels"].to_string());
                let before = judged.entry(key).or_insert_with(|| row.clone());
                assert_eq!(*before, row, "a verdict is never given anew");
            }
            for key in judged.keys() {
                let wanted = format!("SELECT count(*) AS n FROM verdicts WHERE minute = {}", key.0.replace('"', "'"));
                assert_eq!(engine.number(&wanted).await, 1, "{key:?}");
            }
        }
    }
    // The last region is that of a minute which nothing has sealed yet.
    let firing = "SELECT count(*) AS n FROM alerts WHERE event = 'fired'";
    until("every minute but the last to be judged", async || {
        (engine.number(firing).await == minutes - 1).then_some(())
    })
    .await;
    let twice = "SELECT rule, minute, count(*) AS n FROM verdicts GROUP BY ALL HAVING count(*) <> 1";
    assert_eq!(engine.query(twice).await, Vec::<Value>::new());
    check_deliveries(&receiver, minutes - 1).await;
    assert_eq!(engine.number(firing).await, minutes - 1);
}

async fn check_deliveries(receiver: &WebhookReceiver, alerts: i64) {
    let accepted = |region: &str| {
        let delivered = |delivery: &crate::support::Delivery| {
            delivery.accepted && delivery.text("event") == "fired" && delivery.label("region") == region
        };
        receiver.deliveries().iter().any(delivered)
    };
    for at in 0..alerts {
        let region = format!("region-{at}");
        until(&format!("the alert of {region}"), async || accepted(&region).then_some(())).await;
    }
    let mut keys: BTreeMap<(String, String), String> = BTreeMap::new();
    for delivery in receiver.deliveries() {
        assert_eq!(delivery.text("key"), delivery.key);
        assert_eq!(delivery.text("severity"), "critical");
        let which = (delivery.label("region").to_owned(), delivery.text("event").to_owned());
        let key = keys.entry(which.clone()).or_insert_with(|| delivery.key.clone());
        assert_eq!(*key, delivery.key, "{which:?} has one key");
    }
    let distinct: BTreeSet<&String> = keys.values().collect();
    assert_eq!(distinct.len(), keys.len(), "no two transitions share a key");
}

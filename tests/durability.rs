//! What was acknowledged is kept when the engine is told to stop; a view that changed is built anew; each alert is
//! delivered at least once, always under the same key. What a kill leaves is the matter of `kills`.
//!
//! `TIDEWATCH_ROUNDS` sets how many minutes the alerts' test has, `TIDEWATCH_SEED` repeats a run's choices.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tidewatch_model::EventTime;
use tidewatch_serve::proto::tidewatch::v1::{SubmitRequest, Transaction};
use tokio::task::JoinSet;

use crate::{
    kills::{Client, OFTEN, check, finish, held, rounds},
    support::{REGIONS, Setup, WebhookReceiver, now, seed, soon, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_keeps_what_was_acknowledged_and_ends_well() {
    let seed = seed("SIGTERM");
    let setup = Setup::new();
    let mut clients = vec![Client::new("ids", false), Client::new("sequences", true)];
    let start = EventTime::from_micros(now().micros() - 30 * 60_000_000);
    let engine = setup.start().await;
    let mut sending = JoinSet::new();
    for client in std::mem::take(&mut clients) {
        sending.spawn(client.run(engine.channel().await, start, seed, Duration::ZERO));
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
    check(&clients, &held(&engine).await).unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn raw_events_that_come_faster_than_checkpoints_wait_and_are_all_kept() {
    const BATCHES: i64 = 40;
    const EVENTS: i64 = 1_000;
    // No checkpoint is due by itself, and memory has room for a few batches.
    let settings = "[store]\nraw_bytes_max = \"2MiB\"\ncheckpoint_interval = \"1 hour\"\n";
    let setup = Setup::configured(settings);
    let engine = setup.start().await;
    let start = now().micros() - 30 * 60_000_000;
    let event = |at: i64| Transaction {
        event_id: Some(format!("event-{at:032}")),
        occurred_at: start + at * 1_000,
        status: "approved".to_owned(),
        ..Transaction::default()
    };
    let mut client = engine.ingest().await;
    for batch in 0..BATCHES {
        let transactions = (batch * EVENTS..(batch + 1) * EVENTS).map(event).collect();
        client.submit(SubmitRequest { transactions, ..SubmitRequest::default() }).await.unwrap();
    }
    let kept = "SELECT count(DISTINCT event_id) AS n FROM transactions";
    assert_eq!(engine.number(kept).await, BATCHES * EVENTS);
    engine.kill();
    let engine = setup.start().await;
    assert_eq!(engine.number(kept).await, BATCHES * EVENTS);
    let lost =
        engine.log_lines().into_iter().find(|line| line["message"].as_str().is_some_and(|m| m.contains("faster")));
    assert_eq!(lost, None);
}

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
    let minutes = 3 * i64::from(rounds(15).min(15));
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

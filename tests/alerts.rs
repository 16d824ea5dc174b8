//! From an event to the person who is told, through the shipped rules: history gives the baseline, live events raise
//! the alert, the webhook is called; and what if.
//!
//! Live traffic must be near the clock, so the tests live in its minute: history ends with the minute before, and later
//! minutes seal because live events may run ahead of the clock by less than five minutes.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};
use tidewatch_model::Minute;
use tidewatch_serve::proto::tidewatch::v1::{EvaluateRequest, GetStatusRequest};

use crate::support::{Engine, Setup, WebhookReceiver, get_json, now, post_json, until};

/// Calm minutes up to the one before `minute`.
fn history(minute: Minute, minutes: i64) -> String {
    let mut csv = String::from("occurred_at,status,count\n");
    for at in -minutes..0 {
        let seconds = minute.plus(at).start().micros() / 1_000_000;
        for (status, count) in
            [("approved", 100 + at.rem_euclid(7)), ("denied", 5 + at.rem_euclid(3)), ("failed", 1 + at.rem_euclid(2))]
        {
            writeln!(csv, "{seconds},{status},{count}").unwrap();
        }
    }
    csv
}

struct Site {
    setup: Setup,
    engine: Engine,
    receiver: WebhookReceiver,
    /// The first live minute.
    minute: Minute,
}

impl Site {
    async fn start(history_minutes: i64) -> Self {
        let receiver = WebhookReceiver::start(0).await;
        let setup = Setup::configured(&receiver.configuration());
        let engine = setup.start().await;
        let minute = now().minute();
        let file = setup.folder.write("history.csv", history(minute, history_minutes));
        engine.replay(&file, &[]).await;
        Self { setup, engine, receiver, minute }
    }

    /// Live events in one batch: minutes after the first live one, seconds into the minute, status, count.
    async fn live(&self, events: &[(i64, i64, &str, i64)]) {
        let event = |(minute, second, status, count): &(i64, i64, &str, i64)| {
            let time = self.minute.plus(*minute).start().micros() + second * 1_000_000;
            json!({ "occurred_at": time, "status": status, "count": count })
        };
        let events: Vec<Value> = events.iter().map(event).collect();
        let sent = events.len();
        let (status, answer) = post_json(&self.engine.url("/api/v1/events"), json!(events).to_string()).await;
        assert_eq!((status, answer["accepted"].as_u64()), (200, Some(sent as u64)), "{answer}");
    }

    /// Waits until the minute, counted from the first live one, has been judged.
    async fn judged(&self, minute: i64) {
        let start = self.minute.plus(minute).start();
        let sql = format!("SELECT count(*) AS n FROM verdicts WHERE rule = 'status-surge' AND minute = '{start}'");
        until("the minute to be judged", async || (self.engine.number(&sql).await > 0).then_some(())).await;
    }

    async fn alerts_of(&self, status: &str) -> Vec<(i64, String, String)> {
        let sql = format!(
            "SELECT minute, event, coalesce(withheld, 'sent') AS withheld FROM alerts WHERE rule = 'status-surge' \
             AND labels = '{{\"status\":\"{status}\"}}' AND minute >= '{}' ORDER BY minute, event",
            self.minute.start()
        );
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let at = |value: &Value| {
            let minute = chrono::DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap().timestamp() / 60;
            minute - self.minute.index()
        };
        let rows = self.engine.query(&sql).await.into_iter();
        rows.map(|row| (at(&row["minute"]), text(&row["event"]), text(&row["withheld"]))).collect()
    }

    /// The status page tells of every status, calm ones too, what SQL says of it.
    async fn check_statuses(&self, report: &Value) {
        let sql = "SELECT * FROM (SELECT minute, status, transactions * 1.0 AS value, \
             trailing_mean(transactions, '60 minutes') AS usual, \
             (transactions - trailing_mean(transactions, '60 minutes')) / trailing_stddev(transactions, '60 minutes') \
             AS score FROM payments_by_status) \
             WHERE minute = (SELECT max(minute) FROM payments_by_status WHERE sealed) ORDER BY status";
        let expected = self.engine.query(sql).await;
        let statuses = report["statuses"].as_array().unwrap();
        assert_eq!((statuses.len(), expected.len()), (3, 3), "{report}");
        for (status, expected) in statuses.iter().zip(&expected) {
            assert_eq!(status["status"], expected["status"]);
            for name in ["value", "usual", "score"] {
                let (told, asked) = (status[name].as_f64().unwrap(), expected[name].as_f64().unwrap());
                assert!((told - asked).abs() <= 1e-9 * asked.abs(), "{name}: {told} and {asked} in {status}");
            }
        }
    }

    async fn evaluate(&self, body: Value) -> Value {
        let (status, answer) = post_json(&self.engine.url("/alerts/evaluate"), body.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// What changes when something is written.
    async fn written(&self) -> BTreeMap<&'static str, i64> {
        let mut written = BTreeMap::new();
        for table in ["transactions", "verdicts", "alerts", "payments_by_status", "rejected_events"] {
            written.insert(table, self.engine.number(&format!("SELECT count(*) AS n FROM {table}")).await);
        }
        written
    }
}

fn owned(rows: &[(i64, &str, &str)]) -> Vec<(i64, String, String)> {
    rows.iter().map(|(at, event, withheld)| (*at, (*event).to_owned(), (*withheld).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_surge_fires_calls_the_webhook_and_then_keeps_its_peace() {
    let site = Site::start(75).await;
    // Nobody is told of history.
    assert!(site.receiver.deliveries().is_empty());
    site.live(&[
        (0, 1, "approved", 100),
        (0, 2, "denied", 200),
        (1, 1, "approved", 100),
        (1, 2, "denied", 5),
        (2, 1, "approved", 100),
    ])
    .await;
    site.judged(0).await;
    let status = get_json(&site.engine.url("/alerts/status")).await;
    let firing: Vec<&Value> =
        status["alerts"].as_array().unwrap().iter().filter(|alert| alert["state"] == "firing").collect();
    assert_eq!(firing.len(), 1, "{status}");
    assert_eq!((&firing[0]["rule"], &firing[0]["severity"]), (&json!("status-surge"), &json!("critical")));
    assert_eq!(firing[0]["labels"], json!({ "status": "denied" }));
    assert_eq!(firing[0]["since"], site.minute.start().to_string());
    assert_eq!(firing[0]["values"]["value"], 200.0);
    let score = status["scores"].as_array().unwrap().iter().find(|score| score["rule"] == "status-surge").unwrap();
    assert!(score["values"]["score"].as_f64().unwrap() > 4.0, "{status}");
    site.check_statuses(&status).await;
    let twin = site.engine.alerts().await.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    let approved = twin.statuses.iter().find(|status| status.status == "approved");
    assert_eq!(approved.map(|status| status.value), Some(100.0));
    let twin: Vec<_> = twin.alerts.iter().filter(|alert| alert.state == "firing").collect();
    assert_eq!((twin.len(), twin[0].rule.as_str(), twin[0].labels["status"].as_str()), (1, "status-surge", "denied"));

    // It ends; a second surge within the cooldown fires and tells nobody.
    site.live(&[(2, 2, "denied", 200), (3, 1, "approved", 100), (3, 2, "denied", 5), (4, 30, "approved", 100)]).await;
    site.judged(3).await;
    let expected =
        [(0, "fired", "sent"), (1, "resolved", "sent"), (2, "fired", "cooldown"), (3, "resolved", "never_announced")];
    assert_eq!(site.alerts_of("denied").await, owned(&expected));
    until("the webhook to hear of the end", async || {
        site.receiver.deliveries().iter().any(|delivery| delivery.text("event") == "resolved").then_some(())
    })
    .await;
    let told: Vec<_> = site.receiver.deliveries();
    let of_denied: Vec<_> = told.iter().filter(|delivery| delivery.label("status") == "denied").collect();
    let events: Vec<_> = of_denied.iter().map(|delivery| (delivery.text("event"), delivery.text("minute"))).collect();
    let minutes = [site.minute.start().to_string(), site.minute.plus(1).start().to_string()];
    assert_eq!(events, [("fired", minutes[0].as_str()), ("resolved", minutes[1].as_str())]);
    assert_eq!(of_denied[0].text("severity"), "critical");
    assert_eq!(of_denied[0].text("key"), of_denied[0].key);
    assert!(of_denied[0].text("summary").starts_with("denied: 200 in a minute"), "{:?}", of_denied[0]);
    drop(site.setup);
}

/// The verdict on failed transactions by the shipped policy.
fn on_failed(answer: &Value) -> &Value {
    let verdicts = answer["verdicts"].as_array().unwrap();
    let found = verdicts.iter().find(|v| v["rule"] == "status-surge" && v["labels"]["status"] == "failed");
    found.unwrap_or_else(|| panic!("no verdict on failed transactions: {answer}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_if_answers_writes_nothing_and_with_dispatch_counts() {
    let site = Site::start(75).await;
    let before = site.written().await;
    let answer = site.evaluate(json!({ "status": "failed", "count": 100 })).await;
    assert_eq!(
        (&answer["alert"], &answer["severity"], &answer["dispatched"]),
        (&json!(true), &json!("critical"), &json!(false))
    );
    assert_eq!(answer["minute"], site.minute.start().to_string());
    let verdict = on_failed(&answer);
    assert_eq!((&verdict["severity"], &verdict["warming_up"]), (&json!("critical"), &json!(false)));
    assert_eq!(verdict["values"]["value"], 100.0);
    assert!(verdict["values"]["score"].as_f64().unwrap() > 4.0, "{verdict}");
    let calm = site.evaluate(json!({ "status": "failed", "count": 1 })).await;
    assert_eq!((&calm["alert"], &calm["severity"]), (&json!(false), &Value::Null), "{calm}");
    check_twin(&site, &answer).await;
    assert_eq!(site.written().await, before, "a question writes nothing");
    assert!(site.receiver.deliveries().is_empty());

    let answer = site.evaluate(json!({ "status": "failed", "count": 100, "dispatch": true })).await;
    assert_eq!(answer["dispatched"], true);
    let failed = format!(
        "SELECT coalesce(sum(count), 0) AS n FROM transactions WHERE status = 'failed' AND occurred_at >= '{}'",
        site.minute.start()
    );
    until("the dispatched event to count", async || (site.engine.number(&failed).await == 100).then_some(())).await;
    // Whether the clock has gone on to the next minute meanwhile or not: both are sealed.
    site.live(&[(0, 59, "approved", 100), (1, 59, "approved", 100), (2, 59, "approved", 100)]).await;
    until("the webhook to hear of it", async || {
        let told = site.receiver.deliveries();
        let fired = |d: &crate::support::Delivery| d.text("event") == "fired" && d.label("status") == "failed";
        told.iter().any(fired).then_some(())
    })
    .await;
    for wrong in ["{}", "{\"status\": \"failed\"}", "{\"stats\": \"failed\", \"count\": 1}", "[]", "{\"count\": true}"]
    {
        let (status, answer) = post_json(&site.engine.url("/alerts/evaluate"), wrong).await;
        assert_eq!(status, 400, "{wrong}: {answer}");
    }
}

/// gRPC says the same.
async fn check_twin(site: &Site, answer: &Value) {
    let request = EvaluateRequest {
        keys: [("status".to_owned(), "failed".to_owned())].into(),
        values: [("count".to_owned(), 100.0)].into(),
        dispatch: false,
    };
    let twin = site.engine.rules().await.evaluate(request).await.unwrap().into_inner();
    assert_eq!((twin.alert, twin.severity.as_str(), twin.minute), (true, "critical", site.minute.start().micros()));
    let verdicts = answer["verdicts"].as_array().unwrap();
    assert_eq!(twin.verdicts.len(), verdicts.len());
    for (twin, verdict) in twin.verdicts.iter().zip(verdicts) {
        assert_eq!(
            (twin.rule.as_str(), twin.severity.as_str()),
            (verdict["rule"].as_str().unwrap(), verdict["severity"].as_str().unwrap())
        );
        assert_eq!(json!(twin.labels), verdict["labels"]);
        assert_eq!(twin.values.len(), verdict["values"].as_object().unwrap().len());
        for (name, value) in &twin.values {
            // JSON's numbers are read to the last digit but one.
            let other = verdict["values"][name].as_f64().unwrap();
            assert!((value - other).abs() <= 1e-12 * other.abs(), "{name}: {value} and {other}");
        }
        assert_eq!((&json!(twin.summary), &json!(twin.warming_up)), (&verdict["summary"], &verdict["warming_up"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn within_the_warm_up_alerts_are_recorded_and_not_sent() {
    let site = Site::start(10).await;
    site.live(&[(0, 1, "approved", 100), (0, 2, "denied", 200), (1, 1, "denied", 5), (2, 1, "approved", 100)]).await;
    site.judged(0).await;
    let answer = site.evaluate(json!({ "status": "failed", "count": 100 })).await;
    assert_eq!(on_failed(&answer)["warming_up"], true);
    let warm = |v: &&Value| v["rule"] == "status-surge" && v["warming_up"] == false;
    assert_eq!(answer["verdicts"].as_array().unwrap().iter().filter(warm).count(), 0, "{answer}");
    assert_eq!(site.alerts_of("denied").await.first(), owned(&[(0, "fired", "warm_up")]).first());
    let outcome = site
        .engine
        .query(&format!(
            "SELECT outcome FROM verdicts WHERE rule = 'status-surge' AND minute = '{}' AND labels LIKE '%denied%'",
            site.minute.start()
        ))
        .await;
    assert_eq!(outcome, [json!({ "outcome": "warming up" })]);
    let status = get_json(&site.engine.url("/alerts/status")).await;
    assert!(status["alerts"].as_array().unwrap().iter().any(|alert| alert["labels"]["status"] == "denied"), "{status}");
    // Whatever was to be sent would have been offered before the verdict could be read; a later alert proves the way.
    let told = site.receiver.deliveries();
    assert!(told.iter().all(|delivery| delivery.label("status") != "denied"), "{told:?}");
}

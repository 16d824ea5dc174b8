//! Real data, through the real door: `tidewatch replay` sends files to a running engine, `tidewatch query` asks it,
//! and the answers are those that were computed from the files by other means.

use std::{collections::BTreeMap, fs::File, path::Path};

use serde_json::Value;
use tidewatch_model::Minute;
use tidewatch_serve::proto::tidewatch::v1::{
    EndSessionRequest, OpenSessionRequest, SessionSummary, SubmitRequest, Transaction, ingest_client::IngestClient,
};
use tonic::transport::Channel;

use crate::support::{Engine, Setup, shared, until};

const CLOUDWALK: [&str; 2] = ["--map", "occurred_at=timestamp"];
const AUTH_CODES: [&str; 4] = ["--map", "occurred_at=timestamp", "--set", "status=by_code"];
const HANDBOOK: [&str; 4] = [
    "--map",
    "occurred_at=TX_DATETIME,event_id=TRANSACTION_ID,account_id=CUSTOMER_ID,counterparty_id=TERMINAL_ID,\
     amount=TX_AMOUNT,status=TX_FRAUD",
    "--set",
    "currency=EUR",
];

/// The standard error of the sketch behind approx_distinct.
const SKETCH_ERROR: f64 = 0.0081;

/// A CSV file as rows of column and text.
fn rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text = std::io::read_to_string(File::open(path).unwrap()).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row = |line: &str| header.iter().zip(line.split(',')).map(|(k, v)| ((*k).to_owned(), v.to_owned())).collect();
    lines.map(row).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn close(left: f64, right: f64) -> bool {
    (left - right).abs() <= 1e-9 * right.abs().max(1.0)
}

/// `2025-07-12 13:45:00` of the oracles as the engine writes it.
fn time(text: &str) -> String {
    format!("{}Z", text.replace(' ', "T"))
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_and_five_minute_sums_equal_the_oracles() {
    let (Some(transactions), Some(codes)) =
        (shared("cloudwalk/transactions.csv"), shared("cloudwalk/transactions_auth_codes.csv"))
    else {
        return;
    };
    let setup = Setup::new();
    let engine = setup.start().await;
    let said = engine.replay(&transactions, &CLOUDWALK).await;
    assert!(said.contains("25920 counted, 0 duplicates, 0 too late, 0 rejected"), "{said}");
    let said = engine.replay(&codes, &AUTH_CODES).await;
    assert!(said.contains("12960 counted, 0 duplicates, 0 too late, 0 rejected"), "{said}");
    check_totals(&engine, &shared("cloudwalk/oracle_totals.csv").unwrap()).await;
    check_tumbling(&engine, &shared("cloudwalk/oracle_tumble_5m.csv").unwrap()).await;
    let codes =
        engine.query("SELECT DISTINCT auth_code FROM transactions WHERE auth_code IS NOT NULL ORDER BY 1").await;
    let codes: Vec<&str> = codes.iter().map(|row| row["auth_code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["00", "51", "59"]);
}

async fn check_totals(engine: &Engine, oracle: &Path) {
    let found = engine
        .query(
            "SELECT status, sum(transactions) AS sum, count(*) AS count, avg(transactions) AS mean, \
             min(transactions) AS min, max(transactions) AS max, median(transactions) AS median, \
             stddev_samp(transactions) AS stddev_samp, stddev_pop(transactions) AS stddev_pop \
             FROM payments_by_status WHERE status <> 'by_code' AND sealed GROUP BY status ORDER BY status",
        )
        .await;
    let expected = rows(oracle);
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found["status"], expected["status"].as_str());
        for (column, value) in expected.iter().filter(|(column, _)| *column != "status") {
            let (found, value) = (number(&found[column]), value.parse::<f64>().unwrap());
            assert!(close(found, value), "{} of {}: {found}, not {value}", column, expected["status"]);
        }
    }
}

async fn check_tumbling(engine: &Engine, oracle: &Path) {
    let sums = async |view: &str, key: &str| {
        let sql = format!(
            "SELECT date_bin(INTERVAL '5 minutes', minute) AS start, {key} AS key, sum(transactions) AS n \
             FROM {view} GROUP BY 1, 2"
        );
        let rows = engine.query(&sql).await.into_iter();
        let cell = |row: Value| {
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            ((text("start"), text("key")), row["n"].as_i64().unwrap())
        };
        rows.map(cell).collect::<BTreeMap<_, _>>()
    };
    let by_status = sums("payments_by_status", "status").await;
    let by_code = sums("payments_by_code", "auth_code").await;
    let expected = rows(oracle);
    let mut cells = 0;
    for row in &expected {
        let start = time(&row["window_start"]);
        for (column, value) in row.iter().filter(|(column, _)| *column != "window_start") {
            let (sums, key) = match column.strip_prefix('c') {
                Some(code) => (&by_code, code),
                None => (&by_status, column.as_str()),
            };
            let found = sums.get(&(start.clone(), key.to_owned()));
            assert_eq!(found.map(i64::to_string).as_ref(), Some(value), "{column} at {start}");
            cells += 1;
        }
    }
    // Nothing beside what the oracle has but the status that stands for the other file.
    let extra = by_status.keys().filter(|(_, status)| status == "by_code").count();
    assert_eq!(by_status.len() + by_code.len() - extra, cells);
    assert_eq!(cells, 9 * expected.len());
}

/// The handbook's transactions by minute; the hours of the oracle are made of minutes.
const HANDBOOK_VIEW: (&str, &str) = (
    "views/handbook.sql",
    "CREATE MATERIALIZED VIEW handbook WITH (retention = '90 days') AS
     SELECT date_trunc('minute', occurred_at) AS minute, currency,
            sum(count) AS transactions,
            sum(count) FILTER (WHERE status = '1') AS frauds,
            sum(amount_minor) AS amount_minor,
            max(amount_minor) AS largest_minor,
            approx_distinct(account_id) AS customers
     FROM transactions
     GROUP BY ALL",
);

const HOURS: &str = "SELECT date_trunc('hour', minute) AS hour, sum(transactions) AS n, sum(amount_minor) AS sum, \
                     max(largest_minor) AS max, coalesce(sum(frauds), 0) AS frauds, max(customers) AS customers \
                     FROM handbook WHERE sealed GROUP BY 1 ORDER BY 1";

/// Minor units of a decimal with at most two places, exactly.
fn cents(text: &str) -> i64 {
    let (units, places) = text.split_once('.').unwrap_or((text, ""));
    format!("{units}{places:0<2}").parse().unwrap()
}

/// Every hour equal to the oracle; of distinct customers only that the minutes' sketches are no more than the hour's.
fn check_hours(found: &[Value], oracle: &[BTreeMap<String, String>]) {
    assert_eq!(found.len(), oracle.len());
    for (found, expected) in found.iter().zip(oracle) {
        let hour = &expected["window_start"];
        assert_eq!(found["hour"], time(hour).as_str());
        let (n, sum) = (found["n"].as_i64().unwrap(), found["sum"].as_i64().unwrap());
        assert_eq!(n.to_string(), expected["count"], "count of {hour}");
        assert_eq!(sum, cents(&expected["sum_amount"]), "sum of {hour}");
        assert_eq!(found["max"].as_i64().unwrap(), cents(&expected["max_amount"]), "max of {hour}");
        assert_eq!(found["frauds"].to_string(), expected["frauds"], "frauds of {hour}");
        // The oracle's average is written with six places.
        let avg = sum as f64 / 100.0 / n as f64;
        assert!((avg - expected["avg_amount"].parse::<f64>().unwrap()).abs() <= 5.1e-7, "avg of {hour}: {avg}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_of_card_transactions_equal_the_oracle() {
    let (Some(file), Some(oracle)) = (shared("events/handbook.csv"), shared("events/handbook_oracle_1h.csv")) else {
        return;
    };
    let setup = Setup::new().queries(&[HANDBOOK_VIEW]);
    let engine = setup.start().await;
    let said = engine.replay(&file, &HANDBOOK).await;
    assert!(said.contains("268692 counted, 0 duplicates, 0 too late, 0 rejected"), "{said}");
    let oracle = rows(&oracle);
    check_hours(&engine.query(HOURS).await, &oracle);

    let customers = engine
        .query(
            "SELECT date_trunc('hour', occurred_at) AS hour, approx_distinct(account_id) AS customers \
             FROM transactions GROUP BY 1 ORDER BY 1",
        )
        .await;
    let mut squares = 0.0;
    for (found, expected) in customers.iter().zip(&oracle) {
        let (found, exact) = (number(&found["customers"]), expected["distinct_customers"].parse::<f64>().unwrap());
        // Half a customer for rounding.
        let bound = 4.0 * SKETCH_ERROR * exact + 0.5;
        assert!((found - exact).abs() <= bound, "{}: {found} customers, not {exact}", expected["window_start"]);
        squares += ((found - exact) / exact).powi(2);
    }
    let deviation = (squares / oracle.len() as f64).sqrt();
    assert!(deviation <= 1.5 * SKETCH_ERROR, "the sketch is off by {deviation} as a rule");

    // What a view keeps a minute is the same sketch: hardly a minute has two transactions of one customer.
    let minutes = engine.query("SELECT sum(customers) AS found, sum(transactions) AS n FROM handbook").await;
    let (found, n) = (number(&minutes[0]["found"]), number(&minutes[0]["n"]));
    assert!(found <= n && found >= 0.95 * n, "{found} customers in minutes of {n} transactions");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_replay_again_changes_nothing() {
    let Some(file) = shared("cloudwalk/transactions.csv") else { return };
    let setup = Setup::new();
    let engine = setup.start().await;
    engine.replay(&file, &CLOUDWALK).await;
    let everything = "SELECT * FROM payments_by_status ORDER BY minute, status";
    let before = engine.query(everything).await;
    let verdicts = "SELECT * FROM verdicts ORDER BY minute, rule, labels";
    let judged = engine.query(verdicts).await;
    let said = engine.replay(&file, &CLOUDWALK).await;
    assert!(said.contains("going on after row 25920"), "{said}");

    // A client that knows nothing of where it stopped sends everything again.
    let mut client = engine.ingest().await;
    let summary = resend(&mut client, "by hand", 3_000).await;
    assert_eq!((summary.accepted, summary.duplicate), (3_000, 0));
    let before_resent = engine.query("SELECT sum(transactions) AS n FROM payments_by_status").await;
    let summary = resend(&mut client, "by hand", 3_000).await;
    assert_eq!((summary.accepted, summary.duplicate), (3_000, 3_000));
    assert_eq!(engine.query("SELECT sum(transactions) AS n FROM payments_by_status").await, before_resent);

    let of_file = "SELECT * FROM payments_by_status WHERE status <> 'resent' ORDER BY minute, status";
    assert_eq!(engine.query(of_file).await, before);
    let of_file = "SELECT * FROM verdicts WHERE minute >= '2025-07-12' ORDER BY minute, rule, labels";
    assert_eq!(engine.query(of_file).await, judged);
}

/// Sends `events` events of the last hours of 2023 in a session of this name, numbered by row, without ids.
async fn resend(client: &mut IngestClient<Channel>, name: &str, events: i64) -> SessionSummary {
    let request = OpenSessionRequest { name: name.to_owned(), ..OpenSessionRequest::default() };
    let session_id = client.open_session(request).await.unwrap().into_inner().session_id;
    let first = Minute::from_index(28_400_000).start().micros();
    let transaction = |at: i64| Transaction {
        occurred_at: first + at * 1_000_000,
        status: "resent".to_owned(),
        ..Transaction::default()
    };
    for batch in 0..events / 1_000 {
        let request = SubmitRequest {
            transactions: (batch * 1_000..(batch + 1) * 1_000).map(transaction).collect(),
            first_sequence: Some(1 + batch.unsigned_abs() * 1_000),
            session_id: Some(session_id),
            ..SubmitRequest::default()
        };
        client.submit(request).await.unwrap();
    }
    client.end_session(EndSessionRequest { session_id }).await.unwrap().into_inner().summary.unwrap()
}

/// Both ends are killed in the middle, the engine without warning; the same command then completes the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_was_killed_half_way_is_completed() {
    let (Some(file), Some(oracle)) = (shared("events/handbook.csv"), shared("events/handbook_oracle_1h.csv")) else {
        return;
    };
    let setup = Setup::new().queries(&[HANDBOOK_VIEW]);
    let mut engine = setup.start().await;
    let path = file.display().to_string();
    for (past, kill_engine) in [(40_000, false), (120_000, true), (200_000, true)] {
        // Small batches one at a time, so that there is a middle to hit.
        let mut arguments = vec!["replay", path.as_str(), "--batch", "500", "--in-flight", "1"];
        arguments.extend(HANDBOOK);
        let mut replay = engine.client(&arguments).spawn().unwrap();
        until("the replay to be half-way", async || {
            let held = engine.number("SELECT count(*) AS n FROM transactions").await;
            (held > past).then_some(())
        })
        .await;
        assert!(replay.try_wait().unwrap().is_none(), "the replay was over before it could be killed");
        if kill_engine {
            engine.kill();
            replay.kill().unwrap();
            engine = setup.start().await;
        } else {
            replay.kill().unwrap();
        }
        replay.wait().unwrap();
    }
    let said = engine.replay(&file, &HANDBOOK).await;
    assert!(said.contains("going on after row"), "{said}");
    assert!(said.contains("268692 counted"), "{said}");
    check_hours(&engine.query(HOURS).await, &rows(&oracle));
    assert_eq!(engine.number("SELECT count(*) - count(DISTINCT event_id) AS n FROM transactions").await, 0);
}

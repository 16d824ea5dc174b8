//! `trailing_*` equals a model that looks at every earlier row of the series for every row.

use std::sync::Arc;

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::fake::{Fake, KEYS, Row, lines, reading};
use crate::{Baselines, MinuteTable, QueryError, Reading, Scope, Statistic};

fn seed() -> u64 {
    std::env::var("TIDEWATCH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_250_712)
}

fn random_rows(rng: &mut StdRng, minutes: i64) -> Vec<Row> {
    let mut rows = Vec::new();
    let presence: Vec<f64> = KEYS.iter().map(|_| rng.random_range(0.1..1.0)).collect();
    let mut minute = 0;
    while minute < minutes {
        for (key, share) in KEYS.iter().zip(&presence) {
            if rng.random_bool(*share) {
                let count = if rng.random_bool(0.1) { None } else { Some(rng.random_range(0..50)) };
                rows.push((minute, *key, count, rng.random_range(-1.0..1.0)));
            }
        }
        // Now and then nothing at all happens for a while.
        minute += if rng.random_bool(0.02) { rng.random_range(2..40) } else { 1 };
    }
    rows
}

fn naive(rows: &[Row], at: &Row, window: i64, statistic: Statistic) -> Option<f64> {
    let mut before: Vec<(i64, f64)> = rows
        .iter()
        .filter(|row| row.1 == at.1 && row.0 < at.0 && row.0 >= at.0 - window)
        .filter_map(|row| Some((row.0, row.2? as f64)))
        .collect();
    before.sort_by_key(|(minute, _)| *minute);
    let values: Vec<f64> = before.into_iter().map(|(_, value)| value).collect();
    let n = values.len() as f64;
    let sorted = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values
    };
    let quantile = |values: &[f64], q: f64| -> Option<f64> {
        let last = values.len().checked_sub(1)?;
        let place = q * last as f64;
        let (low, high) = (values[place.floor() as usize], values[(place.floor() as usize + 1).min(last)]);
        Some(low + (high - low) * place.fract())
    };
    match statistic {
        Statistic::Mean => (n > 0.0).then(|| values.iter().sum::<f64>() / n),
        Statistic::Stddev => (n > 1.0).then(|| {
            let mean = values.iter().sum::<f64>() / n;
            (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
        }),
        Statistic::Median => quantile(&sorted(values), 0.5),
        Statistic::Mad => {
            let middle = quantile(&sorted(values.clone()), 0.5)?;
            quantile(&sorted(values.iter().map(|value| (value - middle).abs()).collect()), 0.5)
        }
        Statistic::Quantile(q) => quantile(&sorted(values), q),
    }
}

#[tokio::test]
async fn trailing_equals_the_model() {
    let seed = seed();
    println!("TIDEWATCH_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for case in 0..12 {
        let minutes = rng.random_range(20..400);
        let rows = random_rows(&mut rng, minutes);
        let sealed = rng.random_range(0..minutes);
        let from = rng.random_range(-5..minutes);
        for (call, statistic) in [
            ("trailing_mean(transactions, 'W')", Statistic::Mean),
            ("trailing_stddev(transactions, 'W')", Statistic::Stddev),
            ("trailing_median(transactions, 'W')", Statistic::Median),
            ("trailing_mad(transactions, 'W')", Statistic::Mad),
            ("trailing_quantile(transactions, 0.9, 'W')", Statistic::Quantile(0.9)),
        ] {
            let window = [1, 2, 7, 60, 500][rng.random_range(0..5)];
            let call = call.replace('W', &format!("{window} minutes"));
            let sql = format!(
                "SELECT to_unixtime(minute) / 60, status, {call} AS t FROM payments \
                 WHERE minute >= to_timestamp({}) ORDER BY minute, status",
                from * 60
            );
            let mut expected: Vec<(i64, &str, Option<f64>)> = rows
                .iter()
                .filter(|row| row.0 >= from)
                .map(|row| (row.0, row.1, naive(&rows, row, window, statistic)))
                .collect();
            expected.sort_by_key(|(minute, key, _)| (*minute, *key));
            let got = lines(&sql, reading(vec![Fake::new("payments", rows.clone(), sealed)], vec![]), 0).await.unwrap();
            assert_eq!(got.len(), expected.len(), "seed {seed}, case {case}: {sql}");
            for (line, (minute, key, value)) in got.iter().zip(expected) {
                let fields: Vec<&str> = line.split(',').collect();
                assert_eq!(
                    (fields[0], fields[1]),
                    (minute.to_string().as_str(), key),
                    "seed {seed}, case {case}: {sql}"
                );
                let near = match (fields[2].parse::<f64>().ok(), value) {
                    (Some(got), Some(value)) => (got - value).abs() <= 1e-9 * value.abs().max(1.0),
                    (None, None) => true,
                    _ => false,
                };
                assert!(near, "seed {seed}, case {case}: {sql}: {line} is not {value:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_appears_is_measured_against_the_minutes_without_it() {
    let mut rows: Vec<Row> = (0..10).map(|minute| (minute, "approved", Some(100), 1.0)).collect();
    rows.extend([(8, "failed", Some(5), 1.0), (9, "failed", Some(7), 1.0)]);
    let sql = "SELECT to_unixtime(minute) / 60, trailing_mean(transactions, '4 minutes'), \
               trailing_mean(transactions + 0, '4 minutes'), trailing_stddev(transactions, '2 minutes') \
               FROM payments WHERE status = 'failed' ORDER BY minute";
    for (fake, expected) in [
        (Fake::new("payments", rows.clone(), 9), ["8,,,", "9,5.0,5.0,"]),
        (Fake::new("payments", rows.clone(), 9).filling(), ["8,0.0,,0.0", "9,1.25,5.0,3.5355339059327378"]),
    ] {
        assert_eq!(lines(sql, reading(vec![fake], vec![]), 0).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn calls_are_found_wherever_they_stand() {
    let rows: Vec<Row> = (0..100).map(|minute| (minute, "denied", Some(minute), 1.0)).collect();
    for (sql, expected) in [
        ("SELECT trailing_mean(transactions, '2 minutes') FROM payments WHERE minute = '1970-01-01T00:10:00Z'", "8.5"),
        ("SELECT trailing_mean(transactions * 2, '2m') FROM payments WHERE minute = '1970-01-01T00:10:00Z'", "17.0"),
        ("SELECT count(*) FROM payments WHERE transactions > trailing_mean(transactions, '2 minutes')", "99"),
        ("SELECT sum(trailing_mean(p.transactions, '1 minute')) FROM payments p", "4851.0"),
        ("SELECT sum(trailing_mean(payments.transactions, '1 minute')) FROM payments", "4851.0"),
        (
            "SELECT sum(trailing_mean(p.transactions, '1 minute') - trailing_mean(q.transactions, '1 minute')) \
             FROM payments p JOIN payments AS q ON p.minute = q.minute",
            "0.0",
        ),
        (
            "WITH scored AS (SELECT minute, trailing_mean(transactions, '1 minute') AS t FROM payments) \
             SELECT max(t) FROM scored",
            "98.0",
        ),
        ("SELECT max(t) FROM (SELECT trailing_mean(transactions, '1 minute') AS t FROM payments) s", "98.0"),
        (
            "SELECT status FROM payments WHERE minute = '1970-01-01T00:10:00Z' GROUP BY status \
             HAVING max(trailing_mean(transactions, '1 minute')) > 5",
            "denied",
        ),
        (
            "SELECT *, trailing_mean(transactions, '1 minute') AS t FROM payments WHERE minute = '1970-01-01T00:10:00Z'",
            "1970-01-01T00:10:00Z,denied,10,1.0,true,9.0",
        ),
        (
            "SELECT p.*, trailing_mean(transactions, '1 minute') AS t FROM payments p WHERE minute = '1970-01-01T00:10:00Z'",
            "1970-01-01T00:10:00Z,denied,10,1.0,true,9.0",
        ),
        (
            "SELECT trailing_mean(transactions, '1 minute') AS t FROM payments ORDER BY t DESC NULLS LAST LIMIT 1",
            "98.0",
        ),
        (
            "SELECT CASE WHEN trailing_mean(transactions, '1 minute') > 97 THEN 'high' END FROM payments \
             WHERE minute = '1970-01-01T01:39:00Z'",
            "high",
        ),
    ] {
        let got = lines(sql, reading(vec![Fake::new("payments", rows.clone(), 99)], vec![]), 0).await;
        assert_eq!(got, Ok(vec![expected.to_owned()]), "{sql}");
    }
}

#[tokio::test]
async fn calls_that_make_no_sense_say_what_to_write() {
    for (sql, part) in [
        ("SELECT trailing_mean(transactions) FROM payments", "is written `trailing_mean(x, '60 minutes')`"),
        ("SELECT trailing_quantile(transactions, '5m') FROM payments", "trailing_quantile(x, 0.99, '60 minutes')"),
        ("SELECT trailing_quantile(transactions, 2, '5m') FROM payments", "between 0 and 1"),
        ("SELECT trailing_mean(transactions, '90 seconds') FROM payments", "whole minutes"),
        ("SELECT trailing_mean(transactions, '0m') FROM payments", "whole minutes"),
        ("SELECT trailing_mean(transactions, '1 fortnight') FROM payments", "not a length of time"),
        ("SELECT trailing_mean(transactions, '1 year') FROM payments", "whole minutes"),
        ("SELECT trailing_mean(transactions, '9 days') FROM payments", "whole minutes"),
        ("SELECT trailing_mean(status, '5m') FROM payments", "wants a number"),
        ("SELECT trailing_mean(elephants, '5m') FROM payments", "no view in this FROM has the column `elephants`"),
        ("SELECT trailing_mean(x.transactions, '5m') FROM payments p", "no view in this FROM"),
        ("SELECT trailing_mean(transactions, '5m') FROM payments p, payments q", "write `alias.column`"),
        ("SELECT trailing_mean(p.latency + q.latency, '5m') FROM payments p, payments q", "one view at a time"),
        ("SELECT trailing_mean(n, '5m') FROM (SELECT transactions AS n FROM payments) s", "compute it there"),
        ("WITH payments AS (SELECT 1 AS n) SELECT trailing_mean(n, '5m') FROM payments", "compute it there"),
        ("SELECT trailing_mean(trailing_mean(transactions, '5m'), '5m') FROM payments", "side by side"),
        ("SELECT trailing_mean(sum(transactions), '5m') FROM payments", "aggregate"),
        ("SELECT trailing_mean(random(), '5m') FROM payments", "changes from run to run"),
        ("SELECT trailing_mean((SELECT 1), '5m') FROM payments", "sub-query"),
        ("SELECT trailing_mean(transactions, '5m') OVER () FROM payments", "without OVER"),
        ("SELECT minute FROM payments ORDER BY trailing_mean(transactions, '5m')", "name it in the SELECT list"),
        ("SELECT trailing_mode(transactions, '5m') FROM payments", "trailing_mode"),
    ] {
        match lines(sql, reading(vec![Fake::new("payments", vec![], 0)], vec![]), 0).await {
            Err(QueryError::BadQuery(message)) => assert!(message.contains(part), "{sql}: {message}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

/// Rules of one minute share what they read; a second question over the same minutes reads nothing more.
#[tokio::test]
async fn baselines_are_shared() {
    let rows: Vec<Row> = (0..500).map(|minute| (minute, "denied", Some(minute % 9), 1.0)).collect();
    let view = Fake::new("payments", rows, 499);
    let asked = Arc::clone(&view.asked);
    let minute = tidewatch_model::Minute::from_index(499);
    let tables: Vec<Arc<dyn MinuteTable>> = vec![Arc::new(view)];
    let shared = Reading::new(tables, [], Scope::sealed(minute, minute), Baselines::shared());
    let mut answers = Vec::new();
    for sql in [
        "SELECT trailing_stddev(transactions, '60 minutes') FROM payments",
        "SELECT trailing_stddev(p.transactions, '60 minutes') FROM payments p",
        "SELECT t FROM (SELECT trailing_stddev(transactions, '1 hour') AS t FROM payments) s",
    ] {
        answers.push(lines(sql, shared.clone(), 0).await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer.len() == 1), "{answers:?}");
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 61);
    assert!(shared.baselines().bytes() > 0);
}

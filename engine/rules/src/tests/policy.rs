//! The shipped policy: what it must say, and that calm traffic makes it say nothing.

use rand::{Rng, SeedableRng, rngs::StdRng};
use tidewatch_model::{Minute, Severity};
use tidewatch_query::Reading;

use super::tables::{REGIONS, Row, by_region, by_status, fresh, latency, listed, load, reading, row, shipped};
use crate::{Outcome, RuleLimits};

/// Rules that have rows in a minute: name, the row's label, severity.
async fn says(tables: &Reading, minute: i64) -> Vec<(String, String, Severity)> {
    let verdicts =
        load(shipped()).judge(Minute::from_index(minute), &fresh(tables), RuleLimits::default()).await.unwrap();
    let mut said = Vec::new();
    for verdict in verdicts {
        let Outcome::Rows(rows) = verdict.outcome else { panic!("{:?}", verdict.outcome) };
        for row in rows {
            let label = row.labels.values().next().cloned().unwrap_or_default();
            said.push((verdict.rule.clone(), label, row.severity));
        }
    }
    said
}

/// An hour of calm and then one minute: counts by status.
fn after_an_hour(hour: impl Fn(&str, i64) -> i64, last: &[(&'static str, i64)]) -> Reading {
    let statuses = ["approved", "denied", "failed", "refunded", "reversed", "backend_reversed"];
    let mut rows: Vec<Row> = (0..60)
        .flat_map(|minute| statuses.map(|status| (minute, status)))
        .map(|(minute, status)| row(minute, &[status], hour(status, minute)))
        .collect();
    rows.extend(last.iter().map(|(status, count)| row(60, &[status], *count)));
    reading(vec![listed(&by_status(), &rows, 60)])
}

#[tokio::test]
async fn the_policy_says() {
    let calm = |status: &str, minute: i64| match status {
        "approved" => 100,
        "denied" => 9 + minute % 3,
        "reversed" => 3,
        _ => 0,
    };
    let surge = |label: &str, severity| vec![("status-surge".to_owned(), label.to_owned(), severity)];
    let named = |rule: &str| vec![(rule.to_owned(), String::new(), Severity::Critical)];
    // denied: mean 10, deviation 0.82.
    for (last, expected) in [
        (vec![("approved", 100), ("denied", 12)], vec![]),
        (vec![("approved", 100), ("denied", 13)], surge("denied", Severity::Warning)),
        (vec![("approved", 100), ("denied", 14)], surge("denied", Severity::Critical)),
        (vec![("approved", 100), ("failed", 1)], surge("failed", Severity::Critical)),
        (vec![("approved", 100), ("backend_reversed", 1)], surge("backend_reversed", Severity::Critical)),
        (vec![("approved", 100), ("refunded", 50)], vec![]),
        (vec![("approved", 900)], vec![]),
        // The hour before was the same in every minute: a Poisson count of mean 3 has the deviation 1.73.
        (vec![("approved", 100), ("reversed", 7)], vec![]),
        (vec![("approved", 100), ("reversed", 8)], surge("reversed", Severity::Warning)),
        (vec![("approved", 100), ("reversed", 10)], surge("reversed", Severity::Critical)),
        (vec![("approved", 0), ("denied", 0)], named("no-transactions")),
        (vec![("approved", 75), ("denied", 11), ("reversed", 7)], vec![]),
        (vec![("approved", 79), ("denied", 11), ("reversed", 7)], vec![]),
        (vec![("approved", 39), ("denied", 11)], vec![]),
        (
            vec![("approved", 80), ("denied", 25)],
            [named("approval-rate"), surge("denied", Severity::Critical)].concat(),
        ),
    ] {
        let mut expected = expected;
        if last == vec![("approved", 80), ("denied", 25)] {
            expected.sort();
        }
        assert_eq!(says(&after_an_hour(calm, &last), 60).await, expected, "{last:?}");
    }
}

#[tokio::test]
async fn an_outage_goes_on_being_reported() {
    let rows: Vec<Row> =
        (0..1_000).map(|minute| row(minute, &["approved"], if minute < 700 { 50 } else { 0 })).collect();
    let tables = reading(vec![listed(&by_status(), &rows, 999)]);
    for minute in [700, 730, 759, 760, 800, 999] {
        let said = says(&tables, minute).await;
        assert_eq!(said, [("no-transactions".to_owned(), String::new(), Severity::Critical)], "minute {minute}");
    }
    assert_eq!(says(&tables, 699).await, []);
}

#[tokio::test]
async fn regions_and_latencies() {
    let mut regions: Vec<Row> = Vec::new();
    let mut latencies: Vec<Row> = Vec::new();
    for minute in 0..100 {
        for region in REGIONS {
            let gone = region == "eu" && minute >= 90;
            regions.push(row(
                minute,
                &[region],
                if gone {
                    2
                } else if region == "apac" {
                    10
                } else {
                    40
                },
            ));
        }
        let p95 = if minute >= 95 { 320_000.0 } else { 200_000.0 };
        latencies.push(Row { minute, keys: vec![], transactions: Some(80), p95 });
    }
    let tables = reading(vec![listed(&by_region(), &regions, 99), listed(&latency(), &latencies, 99)]);
    let gone = ("region-gone".to_owned(), "eu".to_owned(), Severity::High);
    let slow = ("latency-creep".to_owned(), String::new(), Severity::High);
    for (minute, expected) in [(89, vec![]), (90, vec![gone.clone()]), (99, vec![slow, gone])] {
        assert_eq!(says(&tables, minute).await, expected, "minute {minute}");
    }
}

/// A Poisson count by its inter-arrival times; means here are small.
fn poisson(rng: &mut StdRng, mean: f64) -> i64 {
    let floor = (-mean).exp();
    let (mut count, mut product) = (0, rng.random::<f64>());
    while product > floor {
        count += 1;
        product *= rng.random::<f64>();
    }
    count
}

/// The rules that do not measure deviations never fire on Poisson traffic with a daily cycle, whose
/// nights are quiet enough for empty minutes. TIDEWATCH_CALM_MINUTES makes it longer.
#[tokio::test]
async fn calm_traffic_is_calm() {
    let number = |name: &str, default: i64| std::env::var(name).ok().and_then(|t| t.parse().ok()).unwrap_or(default);
    let (seed, minutes) = (number("TIDEWATCH_SEED", 7), number("TIDEWATCH_CALM_MINUTES", 2_880));
    println!("TIDEWATCH_SEED={seed} TIDEWATCH_CALM_MINUTES={minutes}");
    let mut rng = StdRng::seed_from_u64(seed as u64);
    let (mut statuses, mut regions, mut latencies) = (Vec::new(), Vec::new(), Vec::new());
    for minute in 0..minutes {
        let day = (std::f64::consts::TAU * (minute % 1_440) as f64 / 1_440.0).cos();
        let volume = 60.0 * (-3.0 * (1.0 + day)).exp().max(0.02) * 2.0;
        let mut total = 0;
        for (status, share) in [("approved", 0.92), ("denied", 0.05), ("failed", 0.02), ("reversed", 0.01)] {
            let count = poisson(&mut rng, volume * share);
            total += count;
            statuses.push(row(minute, &[status], count));
        }
        for region in REGIONS {
            regions.push(row(minute, &[region], poisson(&mut rng, volume / 3.0)));
        }
        // The 95th percentile of so many log-normal latencies.
        let mut sample: Vec<f64> = (0..total.max(1))
            .map(|_| {
                let (u, v): (f64, f64) = (rng.random_range(1e-12..1.0), rng.random());
                180_000.0 * (0.38 * (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()).exp()
            })
            .collect();
        sample.sort_by(f64::total_cmp);
        let p95 = sample[((sample.len() - 1) as f64 * 0.95) as usize];
        latencies.push(Row { minute, keys: vec![], transactions: Some(total), p95 });
    }
    let last = minutes - 1;
    let tables = reading(vec![
        listed(&by_status(), &statuses, last),
        listed(&by_region(), &regions, last),
        listed(&latency(), &latencies, last),
    ]);
    let set = load(shipped().into_iter().filter(|(path, _)| !path.contains("status-surge")).collect());
    let mut creeping = 0;
    for minute in 61..minutes {
        let verdicts = set.judge(Minute::from_index(minute), &fresh(&tables), RuleLimits::default()).await.unwrap();
        for verdict in verdicts {
            let Outcome::Rows(rows) = &verdict.outcome else { panic!("{verdict:?}") };
            // Two of the rules wait for several minutes in a row, so single minutes of theirs are no alert.
            match verdict.rule.as_str() {
                "latency-creep" => creeping = if rows.is_empty() { 0 } else { creeping + 1 },
                _ => assert!(rows.is_empty(), "seed {seed}: {verdict:?}"),
            }
            assert!(creeping < 3, "seed {seed}: {verdict:?}");
        }
    }
}

//! A verdict is what the plain SQL says: over the whole lookback, filtered to the minute at the end.

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tidewatch_model::{EventTime, Minute, Severity};
use tidewatch_query::{QueryLimits, Reading, Scope, ask, collect, render};

use super::tables::{
    REGIONS, Row, STATUSES, both, by_region, by_status, fresh, latency, listed, load, reading, row, rule, shipped,
};
use crate::{Outcome, Rule, RuleLimits, Verdict, VerdictRow};

/// Rules of every shape, and whether a verdict of theirs may read its own minute only.
fn shapes() -> Vec<(&'static str, bool)> {
    vec![
        ("SELECT minute, status, transactions AS value FROM payments_by_status", true),
        ("SELECT minute, sum(transactions) AS value FROM payments_by_status GROUP BY minute", true),
        (
            "SELECT minute, status, sum(transactions) AS value FROM payments GROUP BY minute, status HAVING sum(transactions) > 5",
            true,
        ),
        (
            "SELECT p.minute, p.status, p.transactions AS value, r.transactions AS other \
             FROM payments_by_status p JOIN payments r ON p.minute = r.minute AND p.status = r.status AND r.region = 'eu'",
            true,
        ),
        (
            "SELECT p.minute, p.status, coalesce(r.transactions, -1) AS other FROM payments_by_status p \
             LEFT JOIN payments r ON r.minute = p.minute AND r.status = p.status AND r.region = 'eu'",
            true,
        ),
        (
            "SELECT p.minute, p.status, r.transactions - p.transactions AS value FROM payments_by_status p \
             JOIN payments_by_status r ON r.status = p.status AND r.minute = p.minute - interval '5 minutes'",
            false,
        ),
        (
            "SELECT minute, status, transactions AS value, row_number() OVER (PARTITION BY minute ORDER BY transactions DESC, status) AS place \
             FROM payments_by_status",
            true,
        ),
        (
            "SELECT minute, status, transactions - avg(transactions) OVER \
             (PARTITION BY status ORDER BY minute ROWS BETWEEN 20 PRECEDING AND 1 PRECEDING) AS value FROM payments_by_status",
            false,
        ),
        (
            "SELECT minute, status, lag(transactions) OVER (PARTITION BY status ORDER BY minute) AS value FROM payments_by_status",
            false,
        ),
        (
            "SELECT max(minute) AS minute, status, sum(transactions) AS value FROM payments_by_status GROUP BY status",
            false,
        ),
        (
            "SELECT minute, status, transactions AS value FROM payments_by_status \
             WHERE transactions > (SELECT avg(transactions) FROM payments_by_status)",
            false,
        ),
        (
            "SELECT minute, status FROM payments_by_status \
             WHERE transactions NOT IN (SELECT transactions FROM payments WHERE region = 'eu')",
            false,
        ),
        (
            "SELECT minute, status FROM payments_by_status p WHERE NOT EXISTS \
             (SELECT 1 FROM payments q WHERE q.minute = p.minute AND q.status = p.status AND q.region = 'eu')",
            true,
        ),
        (
            "WITH total AS (SELECT minute, sum(transactions) AS n FROM payments_by_status GROUP BY minute) \
             SELECT p.minute, p.status, 1.0 * p.transactions / nullif(t.n, 0) AS share FROM payments_by_status p JOIN total t ON t.minute = p.minute",
            true,
        ),
        (
            "SELECT minute, status AS key FROM payments_by_status UNION ALL SELECT minute, region FROM payments_by_region",
            true,
        ),
        ("SELECT DISTINCT minute, region FROM payments WHERE transactions > 3", true),
        (
            "SELECT minute, status, transactions AS value FROM payments_by_status ORDER BY minute DESC, status LIMIT 7",
            false,
        ),
        ("SELECT date_trunc('minute', minute) AS minute, status, transactions AS value FROM payments_by_status", false),
        (
            "SELECT minute, status, trailing_median(transactions, '30 minutes') AS m, trailing_quantile(transactions, 0.9, '7 minutes') AS q \
             FROM payments_by_status WHERE transactions > trailing_mean(transactions, '3 minutes')",
            true,
        ),
        (
            "SELECT p.minute, p.status, trailing_mean(p.transactions, '9 minutes') AS a, trailing_stddev(r.transactions, '9 minutes') AS b \
             FROM payments_by_status p JOIN payments r ON p.minute = r.minute AND p.status = r.status WHERE r.region = 'apac'",
            true,
        ),
        (
            "SELECT minute, status, avg(t) OVER (PARTITION BY status ORDER BY minute ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) AS value \
             FROM (SELECT minute, status, trailing_mean(transactions, '5 minutes') AS t FROM payments_by_status) s",
            false,
        ),
    ]
}

fn random_tables(rng: &mut StdRng, minutes: i64) -> Reading {
    let (mut statuses, mut regions, mut pairs, mut latencies) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut minute = 0;
    while minute < minutes {
        for status in STATUSES {
            let burst = if rng.random_bool(0.03) { 200 } else { 0 };
            if rng.random_bool(0.8) {
                statuses.push(row(minute, &[status], rng.random_range(0..12) + burst));
            }
            for region in REGIONS {
                if rng.random_bool(0.5) {
                    pairs.push(row(minute, &[status, region], rng.random_range(0..9)));
                }
            }
        }
        for region in REGIONS {
            if rng.random_bool(0.9) {
                let quiet = rng.random_bool(0.05);
                regions.push(row(minute, &[region], if quiet { 1 } else { rng.random_range(30..60) }));
            }
        }
        latencies.push(Row {
            minute,
            keys: vec![],
            transactions: Some(rng.random_range(40..200)),
            p95: rng.random_range(100_000.0..300_000.0),
        });
        minute += if rng.random_bool(0.03) { rng.random_range(2..20) } else { 1 };
    }
    let last = minutes - 1;
    reading(vec![
        listed(&by_status(), &statuses, last),
        listed(&by_region(), &regions, last),
        listed(&latency(), &latencies, last),
        listed(&both(), &pairs, last),
    ])
}

/// Labels and values of the minute's rows as the plain SQL over the whole lookback gives them.
async fn plain(
    rule: &Rule,
    minute: Minute,
    tables: &Reading,
) -> Vec<(BTreeMap<String, String>, BTreeMap<String, f64>)> {
    let from = minute.plus(1 - rule.header().lookback.minutes_ceil());
    let limits = QueryLimits { memory_bytes: 1 << 30, time: Duration::from_secs(600), rows: 1 << 20 };
    let reading = fresh(tables).with_scope(Scope::sealed(from, minute));
    let answer = ask(&rule.file().sql, Vec::new(), reading, EventTime::default(), limits).await.unwrap();
    let lines = render::json_lines(&collect(answer).await.unwrap()).unwrap();
    let mut rows = Vec::new();
    for line in String::from_utf8(lines).unwrap().lines() {
        let fields: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        if fields["minute"].as_str().and_then(EventTime::parse).map(EventTime::minute) != Some(minute) {
            continue;
        }
        let texts = fields.iter().filter(|(name, _)| *name != "minute" && *name != "severity");
        let labels = texts.clone().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        let values = texts.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)));
        rows.push((labels.collect(), values.collect()));
    }
    rows.sort_by(|left: &(BTreeMap<String, String>, _), right| left.0.cmp(&right.0));
    rows
}

/// JSON cannot say infinite or NaN, and its reader may miss the last bit of a number.
fn comparable(
    rows: Vec<(BTreeMap<String, String>, BTreeMap<String, f64>)>,
) -> Vec<(BTreeMap<String, String>, Vec<String>)> {
    let shown = |values: BTreeMap<String, f64>| {
        let finite = values.into_iter().filter(|(_, value)| value.is_finite());
        finite.map(|(name, value)| format!("{name}={value:.12e}")).collect()
    };
    rows.into_iter().map(|(labels, values)| (labels, shown(values))).collect()
}

#[tokio::test]
async fn verdicts_equal_the_plain_sql() {
    let seed = std::env::var("TIDEWATCH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_250_713);
    println!("TIDEWATCH_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut files = shipped();
    for (at, (sql, _)) in shapes().iter().enumerate() {
        files.push(rule(&format!("shape-{at}"), "", sql));
    }
    let set = load(files);
    for (at, (sql, local)) in shapes().iter().enumerate() {
        let rule = set.rule(&format!("shape-{at}")).unwrap();
        assert_eq!(rule.is_minute_local(), *local, "{sql}");
    }
    let mut rows_seen = BTreeMap::new();
    for case in 0..4 {
        let minutes = rng.random_range(90..200);
        let tables = random_tables(&mut rng, minutes);
        for _ in 0..6 {
            let minute = Minute::from_index(rng.random_range(0..minutes));
            let verdicts = set.judge(minute, &fresh(&tables), RuleLimits::default()).await.unwrap();
            for (verdict, rule) in verdicts.iter().zip(set.rules()) {
                let place = format!("seed {seed}, case {case}, {minute}, {}: {}", rule.name(), rule.file().sql);
                let Outcome::Rows(rows) = &verdict.outcome else { panic!("{place}: {:?}", verdict.outcome) };
                let got: Vec<_> = rows.iter().map(|row| (row.labels.clone(), row.values.clone())).collect();
                let expected = plain(rule, minute, &tables).await;
                assert_eq!(comparable(got), comparable(expected), "{place}");
                *rows_seen.entry(rule.name().to_owned()).or_insert(0) += rows.len();
            }
        }
    }
    let empty: Vec<_> = rows_seen.iter().filter(|(name, rows)| **rows == 0 && name.starts_with("shape")).collect();
    assert!(empty.is_empty(), "these never returned a row, so nothing was compared: {empty:?}");
}

async fn judge_one(header: &str, sql: &str, limits: RuleLimits) -> Outcome {
    let rows: Vec<Row> =
        (0..300).flat_map(|minute| STATUSES.map(|status| row(minute, &[status], minute % 11))).collect();
    let set = load(vec![rule("r", header, sql), rule("z", "", "SELECT minute FROM payments_latency")]);
    let tables = reading(vec![listed(&by_status(), &rows, 299)]);
    let verdicts = set.judge(Minute::from_index(299), &tables, limits).await.unwrap();
    assert_eq!(verdicts[1].outcome, Outcome::Rows(vec![]), "the other rule goes on");
    verdicts[0].outcome.clone()
}

#[tokio::test]
async fn failures_stay_with_their_rule() {
    let small = RuleLimits { memory_bytes: 1 << 20, ..RuleLimits::default() };
    let short = RuleLimits { time: Duration::from_millis(200), ..RuleLimits::default() };
    let long = "lookback = \"300 minutes\"";
    let heavy = "SELECT a.minute, a.transactions * 1.0 / b.transactions AS x, count(*) AS n \
                 FROM payments_by_status a, payments_by_status b, payments_by_status c GROUP BY 1, 2";
    let endless = "SELECT max(a.minute) AS minute, count(*) AS n FROM payments_by_status a, \
                   generate_series(1, 1000000000000) AS g(v) WHERE a.transactions + g.v < 0";
    for (header, sql, limits, expected) in [
        (long, endless, short, "ran longer than its 0.2 s"),
        (long, heavy, small, "memory"),
        (
            "",
            "SELECT minute, status, 1 / (transactions - transactions) AS x FROM payments_by_status",
            small,
            "divide by zero",
        ),
        (
            "",
            "SELECT minute, transactions AS x FROM payments_by_status",
            RuleLimits::default(),
            "two rows with the same labels",
        ),
        (
            "",
            "SELECT minute, status, 'grave' AS severity FROM payments_by_status",
            RuleLimits::default(),
            "`grave` is not a severity",
        ),
        (
            "",
            "SELECT minute, status, value FROM payments_by_status, generate_series(1, 5000) AS g(value)",
            RuleLimits::default(),
            "more than 10000 rows",
        ),
    ] {
        match judge_one(header, sql, limits).await {
            Outcome::Failed { reason } => assert!(reason.contains(expected), "{sql}: {reason}"),
            Outcome::Rows(rows) => panic!("{sql}: {} rows", rows.len()),
        }
    }
}

#[tokio::test]
async fn rows_carry_what_an_alert_needs() {
    let sql = "SELECT minute, status, CASE status WHEN 'failed' THEN 'high' END AS severity, transactions AS value, \
               transactions > 1 AS many, CAST(NULL AS DOUBLE) AS nothing \
               FROM payments_by_status WHERE status IN ('failed', 'denied')";
    let header = "summary = \"{{ team }}: {{ status }} {{ severity }} {{ value }} {{ nothing }}\"\nlabels = { team = \"a\" }\nwarmup = \"200 minutes\"";
    let set = load(vec![rule("r", header, sql)]);
    let rows: Vec<Row> = (0..300).flat_map(|minute| STATUSES.map(|status| row(minute, &[status], 7))).collect();
    let tables = reading(vec![listed(&by_status(), &rows, 299)]);
    for (minute, warming_up) in [(199, true), (200, false)] {
        let verdicts = set.judge(Minute::from_index(minute), &fresh(&tables), RuleLimits::default()).await.unwrap();
        let expected = |status: &str, severity: Severity| VerdictRow {
            labels: BTreeMap::from([("status".to_owned(), status.to_owned())]),
            values: BTreeMap::from([("many".to_owned(), 1.0), ("value".to_owned(), 7.0)]),
            severity,
            summary: format!("a: {status} {severity} 7 –"),
            warming_up,
        };
        let rows = vec![expected("denied", Severity::Low), expected("failed", Severity::High)];
        assert_eq!(verdicts[0].outcome, Outcome::Rows(rows));
        let text = serde_json::to_string(&verdicts[0]).unwrap();
        assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), verdicts[0]);
        let again = set.judge(Minute::from_index(minute), &fresh(&tables), RuleLimits::default()).await.unwrap();
        assert_eq!(serde_json::to_string(&again[0]).unwrap(), text);
    }
}

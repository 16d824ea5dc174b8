//! How long one minute's judgement takes: 100 rules of the shipped policy's kind over 500 series.
//! Prints figures; decides nothing. Run with `cargo bench -p tidewatch-rules --bench rules`.

use std::{sync::Arc, time::Instant};

use arrow::{
    array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field},
};
use tidewatch_model::{Fill, Measure, Minute, Span, ViewMeta};
use tidewatch_query::{Baselines, Catalog, ListedView, MinuteTable, Reading, Scope};
use tidewatch_rules::{Outcome, RuleLimits, RuleSet};

const MINUTES: i64 = 200;

/// `series` statuses, each with a count a minute that is not the same twice in a row.
fn view(series: usize) -> Arc<dyn MinuteTable> {
    let measure = Measure {
        field: Arc::new(Field::new("transactions", DataType::Int64, true)),
        counter: true,
        fills_with_zero: true,
    };
    let key = Arc::new(Field::new("status", DataType::Utf8, true));
    let horizon = Span::from_minutes(1_440);
    let meta = ViewMeta::new("payments_by_status", vec![key], vec![measure], Fill::Zero { horizon }, horizon);
    let rows = || (0..MINUTES).flat_map(|minute| (0..series as i64).map(move |key| (minute, key)));
    let minutes: TimestampMicrosecondArray = rows().map(|(minute, _)| Some(minute * 60_000_000)).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(minutes.with_timezone("UTC")),
        Arc::new(rows().map(|(_, key)| Some(format!("status-{key}"))).collect::<StringArray>()),
        Arc::new(rows().map(|(minute, key)| Some((minute * 7 + key * 13) % 29)).collect::<Int64Array>()),
        Arc::new(rows().map(|_| Some(true)).collect::<BooleanArray>()),
    ];
    let meta = Arc::new(meta);
    let batch = RecordBatch::try_new(Arc::clone(meta.schema()), columns).expect("the columns are made for the schema");
    Arc::new(ListedView::new(meta, &batch, Minute::from_index(MINUTES)).expect("the batch has the view's schema"))
}

/// The kinds: every rule looks at the same statistics; every rule at statistics of its own; plain frames.
fn rules(kind: &str, count: usize) -> Vec<(String, String)> {
    let score = |x: &str, span: &str| {
        format!("({x} - trailing_mean({x}, '{span}')) / nullif(trailing_stddev({x}, '{span}'), 0)")
    };
    (0..count)
        .map(|at| {
            let select = match kind {
                "shared" => format!("SELECT minute, status, transactions AS value, {} AS score FROM payments_by_status", score("transactions", "60 minutes")),
                "own" => format!("SELECT minute, status, transactions AS value, {} AS score FROM payments_by_status", score(&format!("transactions * {}", at + 1), "60 minutes")),
                "medians" => format!(
                    "SELECT minute, status, transactions AS value, (transactions - trailing_median(transactions * {n}, '60 minutes')) \
                     / nullif(trailing_mad(transactions * {n}, '60 minutes'), 0) AS score FROM payments_by_status", n = at + 1
                ),
                _ => "SELECT minute, status, transactions AS value, (transactions - avg(transactions) OVER w) / nullif(stddev(transactions) OVER w, 0) AS score \
                      FROM payments_by_status WINDOW w AS (PARTITION BY status ORDER BY minute ROWS BETWEEN 59 PRECEDING AND 1 PRECEDING)".to_owned(),
            };
            let header = format!("/*\nname = \"{kind}-{at}\"\nseverity = \"low\"\nlookback = \"60 minutes\"\n*/\n");
            let sql = format!("WITH scored AS ({select}) SELECT minute, status, value, score, CASE WHEN score > 4.0 THEN 'critical' \
                               ELSE 'warning' END AS severity FROM scored WHERE score > 2.5 + {at} * 0.01");
            (format!("{kind}-{at}.sql"), header + &sql)
        })
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "a bench measures the wall")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    println!(
        "{:<10} {:>6} {:>7} {:>10} {:>10} {:>10} {:>10}",
        "kind", "rules", "series", "load ms", "best ms", "median ms", "worst ms"
    );
    for (kind, count, series) in
        [("shared", 100, 500), ("own", 100, 500), ("medians", 100, 500), ("shared", 1_000, 500), ("frames", 10, 500)]
    {
        let table = view(series);
        let begun = Instant::now();
        let set = RuleSet::load(rules(kind, count), &Catalog::new([Arc::clone(table.meta())], []));
        let loaded = begun.elapsed();
        if let Some(error) = set.broken().first() {
            return Err(error.to_string().into());
        }
        let mut times = Vec::new();
        for minute in MINUTES - 20..MINUTES {
            let reading = Reading::new([Arc::clone(&table)], [], Scope::EVERYTHING, Baselines::shared());
            let begun = Instant::now();
            let verdicts = runtime.block_on(set.judge(Minute::from_index(minute), &reading, RuleLimits::default()))?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            if let Some(failed) = verdicts.iter().find(|verdict| !matches!(verdict.outcome, Outcome::Rows(_))) {
                return Err(format!("{failed:?}").into());
            }
        }
        times.sort_by(f64::total_cmp);
        let loaded = loaded.as_secs_f64() * 1e3;
        println!(
            "{kind:<10} {count:>6} {series:>7} {loaded:>10.1} {:>10.1} {:>10.1} {:>10.1}",
            times[0],
            times[times.len() / 2],
            times[times.len() - 1]
        );
    }
    Ok(())
}

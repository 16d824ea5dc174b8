//! Queries that want too much end with the right kind of error, and the session goes on.

use std::time::Duration;

use tidewatch_model::EventTime;

use super::fake::{Fake, LIMITS, reading};
use crate::{QueryError, QueryLimits, ask, collect};

fn rows() -> Vec<super::fake::Row> {
    (0..5_000).flat_map(|minute| [(minute, "approved", Some(minute), 1.0), (minute, "denied", Some(1), 2.0)]).collect()
}

async fn run(sql: &str, limits: QueryLimits) -> Result<usize, QueryError> {
    let answer =
        ask(sql, Vec::new(), reading(vec![Fake::new("payments", rows(), 5_000)], vec![]), EventTime::default(), limits)
            .await?;
    Ok(collect(answer).await?.iter().map(|batch| batch.num_rows()).sum())
}

#[tokio::test]
async fn limits_hold() {
    let few = QueryLimits { rows: 100, ..LIMITS };
    assert_eq!(run("SELECT * FROM payments", few).await, Err(QueryError::OverRows { limit: 100 }));
    assert_eq!(run("SELECT * FROM payments LIMIT 100", few).await, Ok(100));

    let small = QueryLimits { memory_bytes: 1 << 20, ..LIMITS };
    let heavy = "SELECT p.minute, q.minute AS m, count(*) FROM payments p, payments q GROUP BY p.minute, q.minute";
    assert_eq!(run(heavy, small).await, Err(QueryError::OverMemory { limit: 1 << 20 }));
    assert_eq!(run("SELECT count(*) FROM payments", small).await, Ok(1));
}

/// The plan is busy for hours; the limit comes first wherever in the plan the time goes.
#[tokio::test]
async fn time_limits_interrupt_busy_plans() {
    let short = QueryLimits { time: Duration::from_millis(300), ..LIMITS };
    for sql in [
        "SELECT count(*) FROM payments a, payments b, payments c",
        "SELECT count(*) FROM payments a, generate_series(1, 1000000000000) AS g(n) WHERE a.transactions + g.n < 0",
        "SELECT max(a.latency) FROM payments a JOIN generate_series(1, 1000000000000) AS g(n) ON a.transactions = g.n % 5000",
        "SELECT sum(value) FROM generate_series(1, 1000000000000)",
    ] {
        assert_eq!(run(sql, short).await, Err(QueryError::OverTime { limit: short.time }), "{sql}");
    }
}

#[tokio::test]
async fn an_answer_that_is_dropped_ends_its_query() {
    let fake = Fake::new("payments", rows(), 5_000);
    let sql = "SELECT a.minute FROM payments a, payments b, payments c";
    let answer = ask(sql, Vec::new(), reading(vec![fake], vec![]), EventTime::default(), LIMITS).await.unwrap();
    drop(answer);
}

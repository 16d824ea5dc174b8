//! What may be asked, what is refused, and how little is read for it.

use std::sync::{Arc, atomic::Ordering};

use arrow::{
    array::{Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema},
};
use tidewatch_model::EventTime;

use super::fake::{Fake, LIMITS, lines, reading};
use crate::{Parameter, QueryError, TableShape, TableSnapshot, render};

fn payments() -> Fake {
    let mut rows = Vec::new();
    for minute in 0..1_000 {
        rows.push((minute, "approved", Some(100 + minute % 7), 5.0));
        if minute % 10 == 0 {
            rows.push((minute, "denied", Some(minute / 10), 7.5));
        }
    }
    Fake::new("payments", rows, 995)
}

fn small() -> TableSnapshot {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let rows = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(vec![1, 2, 3]))]).unwrap();
    let shape = TableShape { name: "alerts".to_owned(), schema, time: None };
    TableSnapshot::new(Arc::new(shape), None, vec![rows])
}

#[tokio::test]
async fn answers() {
    for (sql, expected) in [
        ("SELECT count(*) FROM payments", "1100"),
        ("SELECT sum(n) FROM alerts", "6"),
        ("SELECT n FROM alerts ORDER BY n DESC LIMIT 1", "3"),
        ("SELECT status FROM payments WHERE minute = '1970-01-01T00:10:00Z' AND status <> 'approved'", "denied"),
        ("SELECT sum(transactions) FROM payments WHERE status = 'denied'", "4950"),
        ("SELECT count(*) FROM payments WHERE NOT sealed", "4"),
        ("SELECT count(*) FROM payments WHERE sealed", "1096"),
        ("SELECT count(*) FROM payments WHERE sealed = false", "4"),
        ("SELECT max(minute) FROM payments", "1970-01-01T16:39:00Z"),
        ("SELECT count(*) FROM payments p JOIN payments q ON p.minute = q.minute AND p.status = q.status", "1100"),
        ("SELECT count(*) FROM payments WHERE minute >= now() - interval '10 minutes'", "12"),
        ("WITH d AS (SELECT * FROM payments WHERE status = 'denied') SELECT count(*) FROM d", "100"),
    ] {
        let got = lines(sql, reading(vec![payments()], vec![small()]), 999).await;
        assert_eq!(got, Ok(vec![expected.to_owned()]), "{sql}");
    }
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let many = format!("SELECT {} FROM payments", vec!["1"; 2_000].join("+"));
    let long = format!("SELECT '{}'", "x".repeat(70_000));
    for (sql, part) in [
        ("", "no SQL statement"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("SELEC 1", "does not parse"),
        ("SELECT 'x", "does not parse"),
        ("SELECT * FROM", "does not parse"),
        ("SELECT nothing FROM payments", "nothing"),
        ("SELECT * FROM elephants", "there is no table `elephants`; the tables are alerts, payments"),
        ("SELECT * FROM information_schema.tables", "there is no table"),
        ("SELECT transactions + status FROM payments", "Int64 + Utf8"),
        ("SELECT 1 / 0", "divide by zero"),
        ("CREATE TABLE t AS SELECT 1", "queries only read"),
        ("CREATE VIEW v AS SELECT 1", "queries only read"),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "queries only read"),
        ("INSERT INTO alerts VALUES (1)", "queries only read"),
        ("DELETE FROM alerts", "queries only read"),
        ("DROP TABLE payments", "queries only read"),
        ("COPY (SELECT 1) TO '/tmp/x.csv'", "queries only read"),
        ("SET datafusion.execution.batch_size = 1", "queries only read"),
        ("RESET datafusion.execution.batch_size", "queries only read"),
        ("EXPLAIN INSERT INTO alerts VALUES (1)", "queries only read"),
        ("SHOW TABLES", "queries only read"),
        ("SELECT * FROM '/etc/passwd'", "there is no table"),
        ("SELECT $1", "has 1 parameters"),
        (&many, "operators"),
        (&long, "bytes"),
    ] {
        match lines(sql, reading(vec![payments()], vec![small()]), 999).await {
            Err(QueryError::BadQuery(message)) => assert!(message.contains(part), "{sql}: {message}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn nesting_up_to_the_limit_is_planned() {
    let sum = |term: &str| vec![term; 490].join("+");
    let brackets = format!("{}1{}", "(".repeat(40), ")".repeat(40));
    for (sql, expected) in [
        (format!("SELECT {} AS n", sum("1")), "490"),
        (format!("SELECT {} AS n FROM alerts WHERE n = 3", sum("n")), "1470"),
        (format!("SELECT {brackets} AS n"), "1"),
    ] {
        assert_eq!(lines(&sql, reading(vec![], vec![small()]), 0).await, Ok(vec![expected.to_owned()]), "{sql}");
    }
}

#[tokio::test]
async fn parameters_stand_for_values() {
    let parameters = vec![Parameter::Text("denied' OR 'x' = 'x".to_owned()), Parameter::Integer(3)];
    let sql = "SELECT count(*) AS n FROM payments WHERE status = $1 AND transactions > $2";
    let answer = crate::ask(sql, parameters, reading(vec![payments()], vec![]), EventTime::default(), LIMITS).await;
    let batches = crate::collect(answer.unwrap()).await.unwrap();
    assert_eq!(String::from_utf8(render::json_lines(&batches).unwrap()).unwrap(), "{\"n\":0}\n");
}

#[tokio::test]
async fn a_filter_on_the_minute_reads_few_minutes() {
    for (filter, rows, most) in [
        ("minute = '1970-01-01T08:20:00Z'", 2, 1),
        ("minute = '1970-01-01T08:20:30Z'", 0, 0),
        ("minute > '1970-01-01T08:20:00Z' AND minute <= '1970-01-01T08:22:30Z'", 2, 2),
        ("minute >= '1970-01-01T08:20:30Z' AND minute < '1970-01-01T08:22:30Z'", 2, 2),
        ("minute BETWEEN '1970-01-01T08:20:00Z' AND '1970-01-01T08:23:00Z'", 5, 4),
        ("minute IN ('1970-01-01T08:20:00Z', '1970-01-01T08:23:00Z')", 3, 4),
        ("'1970-01-01T08:20:00Z' = minute", 2, 1),
        ("(minute = '1970-01-01T08:20:00Z' OR minute > '1970-01-01T16:30:00Z') AND sealed", 7, 496),
        ("minute >= now() - interval '10 minutes' AND status = 'approved'", 6, 6),
        ("minute >= now() - interval '10 minutes' AND sealed", 7, 6),
        ("minute < timestamp '1970-01-01 00:03:00'", 4, 3),
        ("minute > '2100-01-01T00:00:00Z'", 0, 0),
    ] {
        let view = payments();
        let asked = Arc::clone(&view.asked);
        let sql = format!("SELECT minute, status FROM payments WHERE {filter}");
        let got = lines(&sql, reading(vec![view], vec![]), 1_000).await.unwrap();
        // The clock stands at 1,000 and the newest sealed minute is 995: four open ones are after it.
        let open = if filter.contains("now()") && !filter.contains("sealed") { 4 } else { 0 };
        assert_eq!(got.len(), rows + open, "{filter}: {got:?}");
        assert!(asked.load(Ordering::SeqCst) <= most, "{filter} read {} minutes", asked.load(Ordering::SeqCst));
    }
}

#[tokio::test]
async fn explain_shows_the_scan() {
    let sql =
        "EXPLAIN SELECT trailing_mean(transactions, '5 minutes') FROM payments WHERE minute > '1970-01-01T08:20:00Z'";
    let text = lines(sql, reading(vec![payments()], vec![]), 0).await.unwrap().join("\n");
    for part in ["MinuteScan: view=payments", "from=1970-01-01T08:21Z", "trailing_mean(transactions, '5 minutes')"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn answers_are_rendered() {
    let batches: Vec<RecordBatch> = small().scan_all().unwrap().map(Result::unwrap).collect();
    let schema = Arc::clone(&small().shape().schema);
    assert_eq!(render::table(&schema, &batches).unwrap(), "+---+\n| n |\n+---+\n| 1 |\n| 2 |\n| 3 |\n+---+");
    assert_eq!(render::table(&schema, &[]).unwrap(), "+---+\n| n |\n+---+\n+---+");
    assert_eq!(render::to_csv(&schema, &batches).unwrap(), b"n\n1\n2\n3\n");
    assert_eq!(render::to_csv(&schema, &[]).unwrap(), b"n\n");
    assert_eq!(render::json_lines(&batches).unwrap(), b"{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
    let bytes = render::to_parquet(&schema, &batches).unwrap();
    assert_eq!((&bytes[..4], &bytes[bytes.len() - 4..]), (b"PAR1".as_slice(), b"PAR1".as_slice()));
}

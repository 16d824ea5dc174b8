//! A real Prometheus reads from the engine and answers with the same numbers as `tidewatch query`.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Write as _},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::support::{Engine, Folder, Setup, get, get_json, program, until, url_encoded};

const STATUSES: [&str; 3] = ["approved", "denied", "failed"];
const MINUTES: i64 = 180;
/// 2025-03-01T10:00:00Z: remote read must serve any age.
const FIRST: i64 = 1_740_823_200;

/// What the made-up feed says of a minute: lively, with gaps, and never twice the same.
fn count(minute: i64, status: usize) -> i64 {
    match status {
        0 => 80 + (minute * 37 + minute * minute * 11) % 40,
        1 => (minute * 7) % 13,
        _ => {
            if minute % 9 == 4 {
                1 + minute % 3
            } else {
                0
            }
        }
    }
}

/// A file with a row for each minute and status that has any.
fn history() -> String {
    let mut csv = String::from("occurred_at,status,count\n");
    for minute in 0..MINUTES {
        for (at, status) in STATUSES.iter().enumerate().filter(|(at, _)| count(minute, *at) > 0) {
            writeln!(csv, "{},{status},{}", FIRST + minute * 60, count(minute, at)).unwrap();
        }
    }
    csv
}

struct Prometheus {
    child: Child,
    address: String,
}

impl Prometheus {
    async fn start(folder: &Folder, engine: &Engine) -> Self {
        let url = engine.url("/api/v1/read");
        let configuration = format!("remote_read:\n  - url: {url}\n    read_recent: true\n");
        let file = folder.write("prometheus.yml", configuration);
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let (stderr, kept) = (child.stderr.take().unwrap(), Arc::clone(&lines));
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line));
        });
        let mut prometheus = Self { child, address: String::new() };
        prometheus.address = until("Prometheus to listen", async || {
            let ended = prometheus.child.try_wait().unwrap();
            assert!(ended.is_none(), "Prometheus ended: {}", lines.lock().unwrap().join("\n"));
            let lines = lines.lock().unwrap();
            let listening = lines.iter().find(|line| line.contains("Listening on"))?;
            Some(listening.split("address=").nth(1)?.split_whitespace().next()?.to_owned())
        })
        .await;
        until("Prometheus to be ready", async || (get(&prometheus.url("/-/ready", &[])).await.0 == 200).then_some(()))
            .await;
        prometheus
    }

    fn url(&self, path: &str, parameters: &[(&str, &str)]) -> String {
        url_encoded(&format!("http://{}{path}", self.address), parameters)
    }

    async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Vec<Value> {
        let answer = get_json(&self.url(path, parameters)).await;
        assert_eq!(answer["status"], "success", "{answer}");
        assert_eq!(answer["warnings"], Value::Null, "{answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }

    /// Status and value of each series at a moment.
    async fn instant(&self, query: &str, time: i64) -> Vec<(String, f64)> {
        let series = self.ask("/api/v1/query", &[("query", query), ("time", &time.to_string())]).await;
        let mut found: Vec<(String, f64)> = series
            .iter()
            .map(|series| (text(&series["metric"]["status"]), text(&series["value"][1]).parse().unwrap()))
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// (status, seconds, value) of each sample of a range.
    async fn range(&self, query: &str, start: i64, end: i64) -> Vec<(String, i64, f64)> {
        let (start, end) = (start.to_string(), end.to_string());
        let parameters = [("query", query), ("start", &start), ("end", &end), ("step", "60")];
        let mut found = Vec::new();
        for series in self.ask("/api/v1/query_range", &parameters).await {
            for sample in series["values"].as_array().unwrap() {
                let status = text(&series["metric"]["status"]);
                found.push((status, sample[0].as_i64().unwrap(), text(&sample[1]).parse().unwrap()));
            }
        }
        found.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        found
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn seconds(time: &Value) -> i64 {
    time.as_str().unwrap().parse::<DateTime<Utc>>().unwrap().timestamp()
}

/// (status, the minute's end, its transactions, all so far), as `tidewatch query` has them.
async fn told_by_query(engine: &Engine) -> Vec<(String, i64, f64, f64)> {
    let sql = "SELECT status, minute, transactions FROM payments_by_status WHERE sealed ORDER BY status, minute";
    let mut told: Vec<(String, i64, f64, f64)> = Vec::new();
    for row in engine.query(sql).await {
        let (status, value) = (text(&row["status"]), row["transactions"].as_f64().unwrap());
        let before = told.last().filter(|last| last.0 == status).map_or(0.0, |last| last.3);
        told.push((status, seconds(&row["minute"]) + 60, value, before + value));
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_answers_with_the_same_numbers() {
    if !program("prometheus", "prometheus") {
        return;
    }
    let setup = Setup::new();
    let engine = setup.start().await;
    let file = setup.folder.write("history.csv", history());
    engine.replay(&file, &[]).await;
    let told = told_by_query(&engine).await;
    for (at, status) in STATUSES.iter().enumerate() {
        let sum: i64 = (0..MINUTES).map(|minute| count(minute, at)).sum();
        let last = told.iter().rfind(|row| row.0 == *status).unwrap();
        assert_eq!(last.3, sum as f64, "{status}");
    }

    let prometheus = Prometheus::start(&setup.folder, &engine).await;
    let end = FIRST + MINUTES * 60;
    let gauge: Vec<_> = told.iter().map(|row| (row.0.clone(), row.1, row.2)).collect();
    let mut counter: Vec<_> = told.iter().map(|row| (row.0.clone(), row.1, row.3)).collect();
    // A counter starts at 0 one minute before its first minute's end.
    for status in STATUSES {
        let first = counter.iter().find(|row| row.0 == status).unwrap().1;
        counter.push((status.to_owned(), first - 60, 0.0));
    }
    counter.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    for (name, told) in [("payments_by_status_transactions", gauge), ("payments_by_status_transactions_total", counter)]
    {
        // A moment between two minutes reads the minute that ended before it.
        for time in [FIRST + 60, FIRST + 90 * 60, FIRST + 90 * 60 + 59, end] {
            let stamp = time - time % 60;
            let of_minute = told.iter().filter(|row| row.1 == stamp);
            let expected: Vec<_> = of_minute.map(|row| (row.0.clone(), row.2)).collect();
            assert!(!expected.is_empty());
            assert_eq!(prometheus.instant(name, time).await, expected, "{name} at {time}");
        }
        assert_eq!(prometheus.range(name, FIRST, end).await, told, "{name}");
    }
    // Before the first minute's end there is nothing.
    assert_eq!(prometheus.instant("payments_by_status_transactions", FIRST + 59).await, []);
    let increase = prometheus.instant("sum(increase(payments_by_status_transactions_total[1h]))", end).await;
    let hour: f64 = told.iter().filter(|row| row.1 > end - 3_600).map(|row| row.2).sum();
    assert!((increase[0].1 - hour).abs() <= 0.02 * hour, "{} and {hour}", increase[0].1);
    let narrow = prometheus.instant("payments_by_status_transactions{status=~\"den.*\"}", end).await;
    assert_eq!(narrow.iter().map(|series| series.0.as_str()).collect::<Vec<_>>(), ["denied"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_accepts_the_engines_own_metrics() {
    if !program("prometheus", "promtool") {
        return;
    }
    let setup = Setup::new();
    let engine = setup.start().await;
    engine.replay(&setup.folder.write("history.csv", history()), &[]).await;
    engine.query("SELECT 1").await;
    let (status, metrics) = get(&engine.url("/metrics")).await;
    assert_eq!(status, 200);
    for name in ["tidewatch_events_total", "tidewatch_windows_sealed_total"] {
        assert!(metrics.contains(&format!("# TYPE {name} ")), "{name} is missing");
    }
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = command.spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
}

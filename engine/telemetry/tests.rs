//! The log's lines, the spans and the metrics as an operator meets them.

use std::{
    io::{self, Write},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use tidewatch_model::{EventTime, Severity};
use tracing_subscriber::fmt::MakeWriter;

use super::*;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Runs `body` with a JSON log and spans, and hands back the lines, each parsed.
fn json_lines(body: impl FnOnce()) -> Vec<serde_json::Value> {
    let captured = Captured::default();
    let provider = traces::provider(None, "test").unwrap();
    let subscriber = Registry::default().with(spans_layer(&provider)).with(logs::layer(true, captured.clone()));
    tracing::subscriber::with_default(subscriber, body);
    captured
        .lines()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

#[test]
fn json_lines_parse_and_carry_what_was_said() {
    let lines = json_lines(|| {
        tracing::info!(events = 3, ratio = 0.5, ok = true, text = "a \"b\"\n\u{1b}c", level = "forged", "sealed {}", 7);
        tracing::warn!(error = %io::Error::other("disk full"), "cannot append");
    });
    let [first, second] = lines.as_slice() else { panic!("{lines:?}") };
    for (field, value) in [
        ("message", serde_json::json!("sealed 7")),
        ("events", 3.into()),
        ("ratio", 0.5.into()),
        ("ok", true.into()),
        ("text", "a \"b\"\n\u{1b}c".into()),
        ("level", "INFO".into()),
    ] {
        assert_eq!(first[field], value, "{field}");
    }
    assert!(first["target"].as_str().unwrap().starts_with("tidewatch"));
    assert!(EventTime::parse(first["timestamp"].as_str().unwrap()).is_some(), "{first}");
    assert!(first.get("trace_id").is_none(), "no span, no trace");
    assert_eq!((second["level"].as_str(), second["error"].as_str()), (Some("WARN"), Some("disk full")));
}

#[test]
fn json_lines_within_spans_carry_trace_ids_and_fields() {
    let lines = json_lines(|| {
        let outer = tracing::info_span!("submit", producer = "p1", events = 1);
        let _outer = outer.enter();
        tracing::info!("in submit");
        tracing::info_span!("convert", events = 2).in_scope(|| tracing::info!("in convert"));
    });
    let [outer, inner] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(outer["span"], serde_json::json!({"name": "submit", "producer": "p1", "events": 1}));
    assert_eq!(inner["span"], serde_json::json!({"name": "convert", "producer": "p1", "events": 2}));
    let id = |line: &serde_json::Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    assert_eq!((id(outer, "trace_id").len(), id(outer, "span_id").len()), (32, 16));
    assert_eq!(id(outer, "trace_id"), id(inner, "trace_id"));
    assert_ne!(id(outer, "span_id"), id(inner, "span_id"));
}

#[test]
fn a_span_joins_the_callers_trace() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for (traceparent, joined) in [
        (format!("00-{trace}-00f067aa0ba902b7-01"), true),
        (format!("00-{trace}-0000000000000000-01"), false),
        (format!("zz-{trace}"), false),
        (String::new(), false),
    ] {
        let lines = json_lines(|| {
            let span = tracing::info_span!("evaluate");
            set_parent(&span, &traceparent);
            span.in_scope(|| tracing::info!("here"));
        });
        assert_eq!(lines[0]["trace_id"] == trace, joined, "{traceparent}: {}", lines[0]);
        assert_eq!(lines[0]["trace_id"].as_str().unwrap_or_default().len(), 32, "{traceparent}");
    }
}

#[test]
fn the_spans_of_libraries_are_not_traced() {
    let lines = json_lines(|| {
        let span = tracing::info_span!(target: "h2::client", "poll");
        span.in_scope(|| tracing::info!("here"));
    });
    assert!(lines[0].get("trace_id").is_none(), "{}", lines[0]);
}

#[tokio::test]
async fn a_collector_that_is_down_holds_nothing_up() {
    // Nothing listens on the port of a socket that is bound and not listened on.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = format!("http://{}", taken.local_addr().unwrap());
    let provider = traces::provider(Some(&endpoint), "test").unwrap();
    let subscriber = Registry::default().with(spans_layer(&provider));
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..10_000 {
            tracing::info_span!("submit").in_scope(|| {});
        }
    });
    let stopped = tokio::time::timeout(Duration::from_secs(60), Telemetry { provider: Some(provider) }.stop()).await;
    assert!(stopped.is_ok(), "the stop waits for a bounded time");
}

fn filled() -> Metrics {
    let ticks = ManualTicks::default();
    let metrics = Metrics::new(EventTime::from_micros(1_700_000_000_500_000), Arc::new(ticks.clone()));
    metrics.events(EventResult::Accepted, 100);
    metrics.events(EventResult::Duplicate, 5);
    metrics.events(EventResult::Late, 2);
    metrics.rejected("no status", 3);
    metrics.rejected("beyond the clock", 1);
    metrics.sealed_minutes(4);
    metrics.corrections(2);
    metrics.logged(4_096);
    metrics.fsynced();
    metrics.rule_evaluated("denied-surge", RuleOutcome::Quiet);
    metrics.rule_evaluated("denied-surge", RuleOutcome::Matched);
    metrics.rule_evaluated("odd \"name\"\\", RuleOutcome::Failed);
    metrics.alert(Severity::Critical, "firing");
    metrics.delivery("on-call", Delivery::Delivered);
    metrics.delivery("on-call", Delivery::Retried);
    metrics.delivery("on-call", Delivery::Dead);
    metrics.query(QueryOutcome::Answered);
    metrics.query(QueryOutcome::OverLimit);
    for gauge in Gauge::ALL {
        metrics.set(gauge, 1.5);
    }
    metrics.set(Gauge::WatermarkSeconds, 1_752_321_600.0);
    {
        let _timer = metrics.time(Stage::Submit);
        ticks.advance(2_000_000);
    }
    metrics.took(Stage::Fsync, Duration::from_millis(5));
    metrics
}

#[test]
fn metrics_say_what_was_counted() {
    let text = filled().render();
    for line in [
        "tidewatch_events_total{result=\"accepted\"} 100",
        "tidewatch_events_total{result=\"duplicate\"} 5",
        "tidewatch_events_total{result=\"rejected\"} 4",
        "tidewatch_events_total{result=\"late\"} 2",
        "tidewatch_rejections_total{reason=\"no status\"} 3",
        "tidewatch_watermark_seconds 1752321600",
        "tidewatch_windows_sealed_total 4",
        "tidewatch_corrections_total 2",
        "tidewatch_log_bytes_total 4096",
        "tidewatch_log_fsyncs_total 1",
        "tidewatch_rule_evaluations_total{rule=\"denied-surge\",outcome=\"matched\"} 1",
        "tidewatch_rule_evaluations_total{rule=\"odd \\\"name\\\"\\\\\",outcome=\"failed\"} 1",
        "tidewatch_alerts_total{severity=\"critical\",transition=\"firing\"} 1",
        "tidewatch_deliveries_total{receiver=\"on-call\",result=\"dead\"} 1",
        "tidewatch_queries_total{outcome=\"over_limit\"} 1",
        "tidewatch_stage_seconds_sum{stage=\"submit\"} 0.002",
        "tidewatch_stage_seconds_count{stage=\"submit\"} 1",
        "tidewatch_stage_seconds{stage=\"query\",quantile=\"0.99\"} NaN",
        "tidewatch_stage_seconds_count{stage=\"query\"} 0",
        "process_start_time_seconds 1700000000.5",
        concat!("tidewatch_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
}

#[test]
fn a_gauge_is_absent_until_it_is_set() {
    let metrics = Metrics::new(EventTime::default(), Arc::new(ManualTicks::default()));
    assert!(!metrics.render().contains("tidewatch_watermark_seconds"));
    metrics.set(Gauge::WatermarkSeconds, 0.0);
    assert!(metrics.render().contains("\ntidewatch_watermark_seconds 0\n"));
}

#[test]
fn the_variants_stand_where_their_arrays_expect_them() {
    for (at, stage) in Stage::ALL.into_iter().enumerate() {
        assert_eq!(stage as usize, at, "{}", stage.name());
    }
    for (at, gauge) in Gauge::ALL.into_iter().enumerate() {
        assert_eq!(gauge as usize, at, "{gauge:?}");
    }
}

#[test]
fn prometheus_accepts_the_metrics() {
    let mut child = match Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(error) => {
            let required = std::env::var("TIDEWATCH_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|part| part == "prometheus"), "promtool cannot be run: {error}");
            eprintln!("skipped: promtool cannot be run ({error}); install Prometheus to run this test");
            return;
        }
    };
    child.stdin.take().unwrap().write_all(filled().render().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    assert_eq!(said, "", "the lint has something to say");
}

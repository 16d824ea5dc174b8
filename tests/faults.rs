//! Faults of the disk while the real process runs: ingest refuses with a status that says "again", nothing acknowledged is
//! lost, questions are answered, and when the fault is gone everything goes on; after a failed fsync only by a restart,
//! and the engine says so wherever one looks.

use std::{collections::BTreeSet, path::PathBuf, process::Command};

use tidewatch_model::{Minute, Span};
use tidewatch_serve::proto::tidewatch::v1::{GetStatusRequest, SubmitRequest, Transaction};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;

use crate::support::{Engine, REGIONS, Setup, WebhookReceiver, get, now, post_json, program, until};

/// An engine over a disk that forgets what is not synced and fails as it is told.
struct Site {
    setup: Setup,
    command: PathBuf,
}

impl Site {
    fn new(settings: &str) -> Self {
        let setup = Setup::configured(settings);
        let command = setup.folder.path().join("faults");
        let layers = format!("forgetful,failing={}", command.display());
        Self { setup: setup.variable("TIDEWATCH_TEST_DISK", &layers), command }
    }

    /// From now on the disk fails so. Put in place as a whole, for the engine reads it all the time.
    fn tell(&self, command: &str) {
        let part = self.setup.folder.write("faults.part", command);
        std::fs::rename(part, &self.command).unwrap();
    }
}

/// Each in a minute of its own, all long past.
fn event(number: i64) -> SubmitRequest {
    let transaction = Transaction {
        event_id: Some(format!("event-{number}")),
        occurred_at: minute(number).start().micros() + 40_000_000,
        status: "approved".to_owned(),
        region: Some(format!("region-{number}")),
        ..Transaction::default()
    };
    SubmitRequest { transactions: vec![transaction], ..SubmitRequest::default() }
}

fn minute(number: i64) -> Minute {
    now().minute().plus(-50 + number)
}

async fn counted(engine: &Engine) -> i64 {
    engine.number("SELECT sum(transactions) AS n FROM payments_by_status").await
}

async fn metric(engine: &Engine, name: &str) -> f64 {
    let (_, text) = get(&engine.url("/metrics")).await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

async fn health(engine: &Engine, service: &str) -> i32 {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(engine.channel().await).check(request).await.unwrap().into_inner().status
}

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

/// An event by HTTP: the status, and what `Retry-After` says.
async fn post_event(engine: &Engine, number: i64) -> (u16, String) {
    let time = minute(number).start().micros();
    let body = format!("{{\"occurred_at\": {time}, \"status\": \"approved\"}}");
    let (status, answer) = post_json(&engine.url("/api/v1/events"), body).await;
    (status, answer.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_passes_refuses_for_as_long_as_it_lasts() {
    let site = Site::new("");
    let engine = site.setup.start().await;
    let mut ingest = engine.ingest().await;
    let mut number = 0;
    for (fault, words) in [
        ("write ENOSPC at /log/", "No space left on device"),
        ("write EIO at /log/", "Input/output error"),
        ("all EROFS", "Read-only file system"),
        ("write ENOSPC\nchange EIO", "No space left on device"),
    ] {
        number += 1;
        ingest.submit(event(number)).await.unwrap();
        site.tell(fault);
        for _ in 0..2 {
            let refusal = ingest.submit(event(number)).await.unwrap_err();
            assert_eq!(refusal.code(), Code::Unavailable, "{fault}: {refusal:?}");
            assert!(refusal.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()), "{refusal:?}");
            let (status, answer) = post_event(&engine, number).await;
            assert!(status == 503 && answer.contains("unavailable"), "{fault}: {status} {answer}");
            if !fault.contains('\n') {
                assert!(refusal.message().contains(words), "{fault}: {refusal:?}");
            }
        }
        assert_eq!(metric(&engine, "tidewatch_log_refusing").await, 1.0, "{fault}");
        // What is read is read, and nobody needs to send the traffic elsewhere.
        assert_eq!(counted(&engine).await, number);
        for path in ["/alerts/status", "/-/ready", "/api/v1/status"] {
            assert_eq!(get(&engine.url(path)).await.0, 200, "{fault}: {path}");
        }
        site.tell("");
        number += 1;
        ingest.submit(event(number)).await.unwrap();
        assert_eq!(metric(&engine, "tidewatch_log_refusing").await, 0.0, "{fault}");
        assert_eq!(counted(&engine).await, number);
    }
    engine.kill();
    let engine = site.setup.start().await;
    assert_eq!(counted(&engine).await, number);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_fsync_only_a_restart_helps_and_everybody_says_so() {
    let site = Site::new("");
    let engine = site.setup.start().await;
    let mut ingest = engine.ingest().await;
    ingest.submit(event(1)).await.unwrap();
    assert_eq!((health(&engine, "").await, health(&engine, "tidewatch.v1.Ingest").await), (SERVING, SERVING));
    site.tell("sync EIO at /log/");
    let refusal = ingest.submit(event(2)).await.unwrap_err();
    site.tell("");
    let again = ingest.submit(event(2)).await.unwrap_err();
    let ready = get(&engine.url("/-/ready")).await;
    assert_eq!(ready.0, 503, "{ready:?}");
    for said in [refusal.message(), again.message(), &ready.1, &engine.log_text()] {
        assert!(said.contains("the log has stopped") && said.contains("restart"), "{said}");
    }
    assert_eq!((refusal.code(), again.code()), (Code::Unavailable, Code::Unavailable));
    assert_eq!(post_event(&engine, 2).await.0, 503);
    assert_eq!(metric(&engine, "tidewatch_log_stopped").await, 1.0);
    until("the health service to know", async || (health(&engine, "").await == NOT_SERVING).then_some(())).await;
    assert_eq!(health(&engine, "tidewatch.v1.Ingest").await, NOT_SERVING);
    assert_eq!(health(&engine, "tidewatch.v1.Query").await, SERVING);
    assert_eq!(counted(&engine).await, 1);
    assert_eq!(get(&engine.url("/alerts/status")).await.0, 200);
    // It does end when it is told to, though not well.
    assert!(!engine.terminate().await.success());
    let engine = site.setup.start().await;
    assert_eq!(get(&engine.url("/-/ready")).await.0, 200);
    engine.ingest().await.submit(event(2)).await.unwrap();
    assert_eq!(counted(&engine).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_wait_for_a_fault_to_pass_and_stop_after_a_failed_fsync() {
    let site = Site::new("[store]\ncheckpoint_interval = \"100ms\"\n");
    let engine = site.setup.start().await;
    let mut ingest = engine.ingest().await;
    let mut number = 0;
    for fault in ["write ENOSPC at /store/", "open EMFILE at /store", "change EROFS at /store/"] {
        site.tell(fault);
        let failures = metric(&engine, "tidewatch_checkpoint_failures_total").await;
        number += 1;
        ingest.submit(event(number)).await.unwrap();
        until("a checkpoint to fail", async || {
            (metric(&engine, "tidewatch_checkpoint_failures_total").await > failures).then_some(())
        })
        .await;
        assert_eq!(get(&engine.url("/-/ready")).await.0, 200, "{fault}");
        let written = metric(&engine, "tidewatch_checkpoints_total").await;
        site.tell("");
        until("a checkpoint", async || (metric(&engine, "tidewatch_checkpoints_total").await > written).then_some(()))
            .await;
    }
    site.tell("sync EIO at /store");
    number += 1;
    ingest.submit(event(number)).await.unwrap();
    until("the end of checkpoints", async || {
        (metric(&engine, "tidewatch_checkpoints_stopped").await == 1.0).then_some(())
    })
    .await;
    site.tell("");
    let ready = get(&engine.url("/-/ready")).await;
    assert!(ready.0 == 503 && ready.1.contains("no checkpoint") && ready.1.contains("restart"), "{ready:?}");
    assert!(engine.log_text().contains("no checkpoint can be written any more"), "{}", engine.log_text());
    // The log is another matter: it takes what comes.
    number += 1;
    ingest.submit(event(number)).await.unwrap();
    engine.kill();
    let engine = site.setup.start().await;
    assert_eq!(get(&engine.url("/-/ready")).await.0, 200);
    assert_eq!(counted(&engine).await, number);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_that_could_not_be_journalled_is_told_when_the_disk_is_back() {
    let receiver = WebhookReceiver::start(0).await;
    // Nothing else may write: not the checkpoints, and not the clock.
    let settings = format!(
        "[store]\ncheckpoint_interval = \"1 hour\"\n[ingest]\nidle_after = \"1 hour\"\n{}",
        receiver.configuration()
    );
    let Site { setup, command } = Site::new(&settings);
    let site = Site { setup: setup.queries(&REGIONS), command };
    let engine = site.setup.start().await;
    let mut ingest = engine.ingest().await;
    ingest.submit(event(1)).await.unwrap();
    // The record that seals the first minute is taken; what it causes is not.
    let rest: Vec<String> = (2..2_000).map(|nth| format!("write ENOSPC {nth}")).collect();
    site.tell(&rest.join("\n"));
    ingest.submit(event(2)).await.unwrap();
    until("entries to wait", async || {
        (metric(&engine, "tidewatch_journal_entries_waiting").await >= 2.0).then_some(())
    })
    .await;
    assert_eq!(engine.number("SELECT count(*) AS n FROM verdicts").await, 1);
    assert_eq!(receiver.deliveries().len(), 0, "nobody is told of what a crash could take back");
    site.tell("");
    until("the alert", async || receiver.deliveries().first().map(|_| ())).await;
    until("the journals", async || (metric(&engine, "tidewatch_journal_entries_waiting").await == 0.0).then_some(()))
        .await;
    // All of it is in the log: after a power cut nothing is judged or told again.
    ingest.submit(event(3)).await.unwrap();
    let fired = || {
        let fired = receiver.deliveries().into_iter().filter(|told| told.text("event") == "fired");
        fired.map(|told| told.key).collect::<Vec<_>>()
    };
    until("the second alert", async || (fired().len() == 2).then_some(())).await;
    let journalled = engine.query("SELECT * FROM verdicts").await;
    engine.kill();
    let engine = site.setup.start().await;
    assert_eq!(engine.query("SELECT * FROM verdicts").await, journalled);
    let (fired, distinct) = (fired(), fired().into_iter().collect::<BTreeSet<_>>());
    assert_eq!((fired.len(), distinct.len()), (2, 2));
    assert_eq!(engine.number("SELECT count(*) AS n FROM alerts WHERE event = 'fired'").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_goes_on_after_a_fault() {
    let site = Site::new("[ingest]\nidle_after = \"1 second\"\n[store]\ncheckpoint_interval = \"1 hour\"\n");
    let engine = site.setup.start().await;
    let sealed = async || engine.number("SELECT count(*) AS n FROM payments_by_status WHERE sealed").await;
    // Two seconds before the watermark, which is 30 seconds behind, passes into the next minute.
    let newest = now().plus(Span::from_seconds(-28)).minute().start().plus(Span::from_seconds(28));
    let events = [newest.plus(Span::from_seconds(-48)), newest].map(|time| Transaction {
        occurred_at: time.micros(),
        status: "approved".to_owned(),
        ..Transaction::default()
    });
    let request = SubmitRequest { transactions: events.into(), ..SubmitRequest::default() };
    engine.ingest().await.submit(request).await.unwrap();
    site.tell("write ENOSPC at /log/");
    // The clock's say is refused, and said again.
    until("the clock to be refused twice", async || {
        (metric(&engine, "tidewatch_log_failures_total").await >= 2.0).then_some(())
    })
    .await;
    assert_eq!(sealed().await, 0);
    site.tell("");
    until("the minute to be sealed by the clock", async || (sealed().await == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_open_files_refuse_and_pass() {
    if !program("prlimit", "prlimit") {
        return;
    }
    // A new segment needs a file.
    let setup = Setup::configured("[log]\nsegment_bytes = \"1MiB\"\n[store]\ncheckpoint_interval = \"1 hour\"\n");
    let engine = setup.start().await;
    let (mut ingest, mut alerts) = (engine.ingest().await, engine.alerts().await);
    let batch = |number: i64| {
        let transaction = |at: i64| Transaction {
            event_id: Some(format!("{number}-{at}-{:032x}", tidewatch_model::hash_id(&[number as u8, at as u8]))),
            occurred_at: minute(number % 50).start().micros() + at,
            status: "approved".to_owned(),
            ..Transaction::default()
        };
        SubmitRequest { transactions: (0..2_000).map(transaction).collect(), ..SubmitRequest::default() }
    };
    ingest.submit(batch(0)).await.unwrap();
    let limit = |files: usize| {
        let mut set = Command::new("prlimit");
        set.args(["--pid", &engine.pid().to_string(), &format!("--nofile={files}:4096")]);
        assert!(set.status().unwrap().success());
    };
    let open = std::fs::read_dir(format!("/proc/{}/fd", engine.pid())).unwrap();
    let open: Vec<usize> = open.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).collect();
    limit((0..).find(|number| !open.contains(number)).unwrap());
    let mut taken = 1;
    let refusal = loop {
        assert!(taken < 500, "the log never needs a file");
        match ingest.submit(batch(taken)).await {
            Ok(_) => taken += 1,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal:?}");
    assert!(refusal.message().contains("Too many open files"), "{refusal:?}");
    // Over the connection that is there, for a new one has no place either.
    alerts.get_status(GetStatusRequest::default()).await.unwrap();
    limit(1_024);
    ingest.submit(batch(taken)).await.unwrap();
    assert_eq!(counted(&engine).await, (taken + 1) * 2_000);
    engine.kill();
    let engine = setup.start().await;
    assert_eq!(counted(&engine).await, (taken + 1) * 2_000);
}

//! A data folder of an older format is not touched until the operator says so: the engine refuses it in a sentence, what
//! reads and what copies goes on, and after `tidewatch upgrade --commit` the engine starts with every number in it.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use tidewatch_model::EventTime;
use tidewatch_serve::proto::tidewatch::v1::{SubmitRequest, Transaction};

use crate::support::{Setup, now, output, tidewatch};

const EVENTS: i64 = 200;

/// Where the version stands in a manifest, and the checksum of what is before it.
const VERSION: usize = 8;
const CHECKSUM: usize = 12;
/// The header's own checksum, over all before it.
const HEADER: usize = 28;

/// Rewrites the manifest's header as version 1 would have written it: one checkpoint within an hour means the same in both.
fn made_older(manifest: &Path) {
    let mut bytes = fs::read(manifest).unwrap();
    assert_eq!(bytes[VERSION..CHECKSUM], 2_u32.to_le_bytes());
    bytes[VERSION..CHECKSUM].copy_from_slice(&1_u32.to_le_bytes());
    for at in [CHECKSUM, HEADER] {
        let checksum = crc32c::crc32c(&bytes[..at]).to_le_bytes();
        bytes[at..at + 4].copy_from_slice(&checksum);
    }
    fs::write(manifest, bytes).unwrap();
}

/// Every file of the store and its bytes.
fn files(data: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(data.join("store")).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

async fn said(command: Command) -> (Option<i32>, String) {
    let output = output(command).await;
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_before_opens_the_data_until_the_upgrade_is_committed() {
    let setup = Setup::new();
    // All within one hour, so that the checkpoint has one segment of each view.
    let hour = EventTime::from_micros(now().micros() / 3_600_000_000 * 3_600_000_000);
    let event = |at: i64| Transaction {
        event_id: Some(format!("event-{at}")),
        occurred_at: hour.micros() - 1_800_000_000 + at * 1_000_000,
        status: ["approved", "denied"][at as usize % 2].to_owned(),
        ..Transaction::default()
    };
    let engine = setup.start().await;
    let transactions = (0..EVENTS).map(event).collect();
    engine.ingest().await.submit(SubmitRequest { transactions, ..SubmitRequest::default() }).await.unwrap();
    assert!(engine.terminate().await.success());
    let data = setup.data();
    let run = |arguments: &[&str]| {
        let mut command = tidewatch(arguments.iter().copied());
        command.arg("--data-dir").arg(&data);
        command
    };
    let (code, text) = said(run(&["upgrade"])).await;
    assert_eq!(code, Some(0));
    assert!(text.contains("is of format 2, the newest"), "{text}");

    made_older(&data.join("store/MANIFEST"));
    let older = files(&data);
    let (code, text) = setup.refused(&[]).await;
    assert_eq!(code, 1);
    assert!(text.contains("is of format 1, and this Tidewatch writes format 2"), "{text}");
    assert!(text.contains("tidewatch upgrade --commit"), "{text}");
    let (code, text) = said(run(&["doctor"])).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("format 1, a checkpoint"), "{text}");
    let backups = setup.folder.path().join("backups").display().to_string();
    let (code, text) = said(run(&["backup", "--to", &backups])).await;
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = said(run(&["upgrade"])).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Nothing was changed"), "{text}");
    assert!(files(&data) == older, "something was changed");

    let (code, text) = said(run(&["upgrade", "--commit"])).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("is of format 2 now"), "{text}");
    let engine = setup.start().await;
    assert_eq!(engine.number("SELECT sum(transactions) AS n FROM payments_by_status").await, EVENTS);
    assert_eq!(engine.number("SELECT count(*) AS n FROM transactions").await, EVENTS);
    assert!(engine.terminate().await.success());

    // The way back: the backup is of the format that it was made of.
    let again = setup.folder.path().join("again");
    let mut restore = tidewatch(["restore", "--from", &backups, "--data-dir"]);
    restore.arg(&again);
    assert_eq!(said(restore).await.0, Some(0));
    assert!(files(&again) == older, "the backup is not what was");
}

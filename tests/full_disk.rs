//! A real file system, filled to the last byte: ingest refuses and says that it can be tried again, nothing acknowledged is
//! lost, questions are answered, and when there is room again everything goes on. And one that is read-only at the start.

use std::process::Command;

use tidewatch_serve::proto::tidewatch::v1::{SubmitRequest, Transaction};
use tonic::Code;

use crate::support::{Engine, Folder, Setup, get, now, small_disk, until};

const BATCH: usize = 2_000;

/// A file system of a few megabytes in memory.
pub struct SmallDisk {
    pub folder: Folder,
}

impl SmallDisk {
    fn resize(&self, megabytes: u32) {
        self.remount(&format!("size={megabytes}M"));
    }

    fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        let remounted = Command::new("mount").args(["-o", &option]).arg(self.folder.path()).status().unwrap();
        assert!(remounted.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is still busy goes with the last process that holds it.
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}

/// Events that compress badly, a minute of event time each batch.
fn batch(number: usize) -> SubmitRequest {
    let start = now().minute().plus(-50).plus(number as i64 % 50).start().micros();
    let transaction = |at: usize| Transaction {
        event_id: Some(format!("{number}-{at}-{:032x}", tidewatch_model::hash_id(&[number as u8, at as u8]))),
        occurred_at: start + at as i64,
        status: "approved".to_owned(),
        ..Transaction::default()
    };
    SubmitRequest { transactions: (0..BATCH).map(transaction).collect(), ..SubmitRequest::default() }
}

async fn counted(engine: &Engine) -> i64 {
    engine.number("SELECT sum(transactions) AS n FROM payments_by_status").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let Some(folder) = small_disk(8) else { return };
    let disk = SmallDisk { folder };
    // Checkpoints would make room by themselves.
    let setup = Setup::configured("[store]\ncheckpoint_interval = \"1 hour\"\n");
    let data = disk.folder.path().join("data").display().to_string();
    let start = async || Engine::of(setup.serve(&["--data-dir", &data])).await;
    let engine = start().await;
    let mut ingest = engine.ingest().await;
    let mut acknowledged = 0;
    let refusal = loop {
        assert!(acknowledged < 1_000, "the disk does not fill");
        match ingest.submit(batch(acknowledged)).await {
            Ok(_) => acknowledged += 1,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal:?}");
    assert!(refusal.message().contains("No space left on device"), "{refusal:?}");
    let events = (acknowledged * BATCH) as i64;
    assert_eq!(counted(&engine).await, events);
    assert_eq!(get(&engine.url("/alerts/status")).await.0, 200);

    disk.resize(64);
    ingest.submit(batch(acknowledged)).await.unwrap();
    assert_eq!(counted(&engine).await, events + BATCH as i64);
    engine.kill();
    let engine = start().await;
    assert_eq!(counted(&engine).await, events + BATCH as i64);
    assert!(engine.terminate().await.success());
    // From the checkpoint of the stop.
    let engine = start().await;
    assert_eq!(counted(&engine).await, events + BATCH as i64);
    until("readiness", async || (get(&engine.url("/-/ready")).await.0 == 200).then_some(())).await;
}

/// While files are open for writing the kernel refuses such a remount: what a disk does that turns read-only by itself
/// is in `faults`.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_disk_is_refused_at_the_start() {
    let Some(folder) = small_disk(16) else { return };
    let disk = SmallDisk { folder };
    let setup = Setup::new();
    let data = disk.folder.path().join("data").display().to_string();
    let command = || setup.serve(&["--data-dir", &data]);
    let engine = Engine::of(command()).await;
    engine.ingest().await.submit(batch(1)).await.unwrap();
    assert!(engine.terminate().await.success());
    disk.remount("ro");
    let (code, said) = Engine::refused(command()).await;
    assert!(code == 1 && said.contains("Read-only file system"), "{code}: {said}");
    disk.remount("rw");
    assert_eq!(counted(&Engine::of(command()).await).await, BATCH as i64);
}

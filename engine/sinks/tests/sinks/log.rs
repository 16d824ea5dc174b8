//! Alerts as lines.

use std::io::{self, Write};

use tidewatch_sinks::{LogSink, Retry};

use crate::given::{Shared, delivery};

#[tokio::test]
async fn one_alert_is_one_line() {
    let written = Shared::default();
    let sink = LogSink::to_writer("log", Box::new(written.clone())).with_tracing();
    for _ in 0..2 {
        sink.deliver(&delivery("log")).await.unwrap();
    }
    let lines = written.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in lines {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["version"], &line["state"]), (&1.into(), &"firing".into()));
    }
}

#[tokio::test]
async fn a_file_is_appended_to() {
    let path = std::env::temp_dir().join(format!("tidewatch-alert-log-{}.jsonl", std::process::id()));
    for _ in 0..2 {
        LogSink::to_file("log", &path).unwrap().deliver(&delivery("log")).await.unwrap();
    }
    let lines = std::fs::read_to_string(&path).unwrap().lines().count();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(lines, 2);
}

/// A disk that is full in the middle of its first write.
struct FullOnce(Shared, bool);

impl Write for FullOnce {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match std::mem::replace(&mut self.1, false) {
            true => self.0.write(&bytes[..10]),
            false if self.0.lines().len() == 1 && bytes != b"\n" && !self.0.0.lock().unwrap().ends_with(b"\n") => {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            false => self.0.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_torn_line_does_not_spoil_the_next() {
    let written = Shared::default();
    let sink = LogSink::to_writer("log", Box::new(FullOnce(written.clone(), true)));
    let error = sink.deliver(&delivery("log")).await.unwrap_err();
    assert_eq!(error.retry, Retry::Backoff);
    sink.deliver(&delivery("log")).await.unwrap();
    let lines = written.lines();
    assert_eq!((lines.len(), lines[0].len()), (2, 10), "{lines:?}");
    assert!(serde_json::from_str::<serde_json::Value>(&lines[1]).is_ok(), "{lines:?}");
}

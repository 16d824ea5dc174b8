//! Alerts as JSON lines, to a file or any writer, and as events of `tracing` at the target `tidewatch::alerts`.
//! A line is flushed before its delivery counts as made. Rotation is the business of whoever owns the file.

use std::{
    fmt,
    fs::OpenOptions,
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tidewatch_alerts::{Delivery, DeliveryError, Phase, Retry};

use crate::Body;

pub struct LogSink {
    name: String,
    lines: Option<Arc<Mutex<Lines>>>,
    tracing: bool,
}

struct Lines {
    writer: Box<dyn Write + Send>,
    /// The last write failed, perhaps half-way: the next line must not continue it.
    broken: bool,
}

impl LogSink {
    /// Appends to a file, which is made where there is none.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn to_file(name: &str, path: &Path) -> io::Result<Self> {
        Ok(Self::to_writer(name, Box::new(OpenOptions::new().append(true).create(true).open(path)?)))
    }

    pub fn to_writer(name: &str, writer: Box<dyn Write + Send>) -> Self {
        let lines = Lines { writer, broken: false };
        Self { name: name.to_owned(), lines: Some(Arc::new(Mutex::new(lines))), tracing: false }
    }

    /// Events only, no lines.
    pub fn to_tracing(name: &str) -> Self {
        Self { name: name.to_owned(), lines: None, tracing: true }
    }

    /// Events besides the lines.
    #[must_use]
    pub fn with_tracing(self) -> Self {
        Self { tracing: true, ..self }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// # Errors
    /// The line could not be written and flushed; another attempt may succeed once the disk has room again.
    pub async fn deliver(&self, delivery: &Delivery) -> Result<(), DeliveryError> {
        if let Some(lines) = &self.lines {
            let failed = |reason: String, retry| DeliveryError { reason, retry };
            let body = Body::new(&delivery.transition, None);
            let mut line = serde_json::to_vec(&body)
                .map_err(|error| failed(format!("the alert cannot be written as JSON: {error}"), Retry::Never))?;
            line.push(b'\n');
            let lines = Arc::clone(lines);
            // A disk may stall; the runtime's own threads must not.
            tokio::task::spawn_blocking(move || lines.lock().unwrap_or_else(PoisonError::into_inner).append(&line))
                .await
                .map_err(|error| failed(format!("writing to the alert log broke off: {error}"), Retry::Backoff))?
                .map_err(|error| failed(format!("cannot write to the alert log: {error}"), Retry::Backoff))?;
        }
        if self.tracing {
            trace(delivery);
        }
        Ok(())
    }
}

impl Lines {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let was_broken = std::mem::replace(&mut self.broken, true);
        if was_broken {
            self.writer.write_all(b"\n")?;
        }
        self.writer.write_all(line)?;
        self.writer.flush()?;
        self.broken = false;
        Ok(())
    }
}

fn trace(delivery: &Delivery) {
    let alert = &delivery.transition;
    let (key, minute, state) = (alert.key, alert.minute, alert.to.phase());
    let (rule, severity, event) = (&alert.rule, alert.severity, alert.kind);
    if state == Phase::Resolved {
        tracing::info!(target: "tidewatch::alerts", %rule, %severity, %event, %state, labels = ?alert.labels, %minute,
            %key, "{}", alert.summary);
    } else {
        tracing::warn!(target: "tidewatch::alerts", %rule, %severity, %event, %state, labels = ?alert.labels, %minute,
            %key, "{}", alert.summary);
    }
}

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSink").field("name", &self.name).field("tracing", &self.tracing).finish_non_exhaustive()
    }
}

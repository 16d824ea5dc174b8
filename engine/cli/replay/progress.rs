//! What a person sees while rows are on their way: a bar on a terminal, else a line every few seconds.

use std::{
    io::IsTerminal,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

const LINE_EVERY: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub struct Progress {
    bar: ProgressBar,
    terminal: bool,
    started: Instant,
    /// Milliseconds after the start at which the last line was printed.
    last_line: Arc<AtomicU64>,
}

impl Progress {
    #[expect(clippy::disallowed_methods, reason = "a person is told how long it took; nothing else depends on it")]
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        Self { bar, terminal, started: Instant::now(), last_line: Arc::default() }
    }

    /// A line above the bar.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// The first pass has seen so many rows.
    pub fn surveyed(&self, rows: u64) {
        self.bar.set_message(format!("looking through the file: {rows} rows"));
        self.bar.tick();
    }

    /// The second pass begins after `done` of `rows`.
    pub fn begin(&self, rows: Option<u64>, done: u64) {
        let template = match rows {
            Some(_) => "{bar:30} {pos}/{len} rows, {per_sec}, {eta} left",
            None => "{spinner} {pos} rows, {per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        match rows {
            Some(rows) => self.bar.set_length(rows),
            None => self.bar.unset_length(),
        }
        self.bar.set_position(done);
        self.bar.reset_eta();
    }

    /// The engine has acknowledged everything up to this row.
    pub fn acknowledged(&self, row: u64) {
        self.bar.set_position(row);
        if self.terminal {
            return;
        }
        let now = self.started.elapsed().as_millis() as u64;
        let last = self.last_line.load(Ordering::Relaxed);
        if now >= last + LINE_EVERY.as_millis() as u64 {
            self.last_line.store(now, Ordering::Relaxed);
            match self.bar.length() {
                Some(rows) => eprintln!("{row} of {rows} rows acknowledged"),
                None => eprintln!("{row} rows acknowledged"),
            }
        }
    }

    pub fn end(&self) {
        self.bar.finish_and_clear();
    }

    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

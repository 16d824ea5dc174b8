//! Rows that did not become events: the first ones are shown, all are counted, and all are written to a
//! file where one was named.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use tidewatch_sources::BrokenRow;

use super::progress::Progress;

/// Rows that are shown one by one.
const SHOWN_MAX: u64 = 20;
/// Different reasons that are counted apart; further ones are counted together.
const REASONS_MAX: usize = 50;

pub struct Faults {
    progress: Progress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    broken: u64,
    rejected: u64,
    reasons: BTreeMap<String, u64>,
    file: Option<BufWriter<File>>,
    write_error: Option<std::io::Error>,
}

impl Faults {
    pub fn new(path: Option<&Path>, progress: Progress) -> anyhow::Result<Self> {
        let mut state = State::default();
        if let Some(path) = path {
            let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
            let mut file = BufWriter::new(file);
            writeln!(file, "line,row,kind,reason").with_context(|| format!("cannot write {}", path.display()))?;
            state.file = Some(file);
        }
        Ok(Self { progress, state: Mutex::new(state) })
    }

    /// A row that could not be read.
    pub fn broke(&self, row: &BrokenRow) {
        let mut state = self.lock();
        state.broken += 1;
        let shown = state.broken;
        self.record(&mut state, shown, row.line, row.row, "broken", &row.reason);
    }

    /// A row that the engine refused.
    pub fn reject(&self, line: u64, row: u64, reason: &str) {
        let mut state = self.lock();
        state.rejected += 1;
        let known = state.reasons.len() < REASONS_MAX || state.reasons.contains_key(reason);
        let reason_counted = if known { reason } else { "other reasons" };
        *state.reasons.entry(reason_counted.to_owned()).or_default() += 1;
        let shown = state.rejected;
        self.record(&mut state, shown, line, row, "rejected", reason);
    }

    /// Rows that the engine refused without saying which: more of one batch than it lists.
    pub fn reject_unlisted(&self, rows: u64) {
        if rows > 0 {
            let mut state = self.lock();
            state.rejected += rows;
            *state.reasons.entry("not listed; `rejected_events` has them".to_owned()).or_default() += rows;
        }
    }

    fn record(&self, state: &mut State, number: u64, line: u64, row: u64, kind: &str, reason: &str) {
        if number <= SHOWN_MAX {
            self.progress.say(&format!("line {line}: {kind}: {reason}"));
        } else if number == SHOWN_MAX + 1 {
            self.progress.say(&format!("more {kind} rows are counted, not shown (--errors FILE writes all of them)"));
        }
        if let Some(file) = &mut state.file {
            let quoted = reason.replace('"', "\"\"");
            if let Err(error) = writeln!(file, "{line},{row},{kind},\"{quoted}\"") {
                state.write_error.get_or_insert(error);
            }
        }
    }

    pub fn say(&self, text: &str) {
        self.progress.say(text);
    }

    pub fn broken(&self) -> u64 {
        self.lock().broken
    }

    pub fn rejected(&self) -> u64 {
        self.lock().rejected
    }

    pub fn reasons(&self) -> Vec<(String, u64)> {
        self.lock().reasons.clone().into_iter().collect()
    }

    /// Everything is on file, or an error says that it is not.
    pub fn finish(&self) -> anyhow::Result<()> {
        let mut state = self.lock();
        if let Some(error) = state.write_error.take() {
            return Err(error).context("cannot write the file of broken rows");
        }
        match &mut state.file {
            Some(file) => file.flush().context("cannot write the file of broken rows"),
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole after every statement, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! `Ledger`: an append-only table, such as `late_events`, as far as it is in memory: the rows that no checkpoint has on disk
//! yet. Once one has, they leave, and readers find them there.
//!
//! The ledger never writes: whoever saves takes what is new, and says when it is on disk.

use std::{collections::VecDeque, sync::Arc};

use arrow::{array::RecordBatch, compute};
use tidewatch_model::Minute;
use tidewatch_query::TableShape;
use tidewatch_store::{Cold, TableSnapshot};

/// Batches are joined when this many more have come, so that a reader does not meet a thousand of one row each.
const BATCHES_MAX: usize = 256;

/// Batches of so many rows are long enough.
const JOINED_ROWS: usize = 1_024;

#[derive(Debug)]
pub struct Ledger {
    shape: Arc<TableShape>,
    /// What was taken to be saved, by the number of the save, and is not known to be on disk.
    saving: VecDeque<Saving>,
    /// What came since.
    new: VecDeque<RecordBatch>,
    /// Of what came since.
    bytes: usize,
    /// Of all rows in memory.
    bytes_max: usize,
    /// How many of the first new batches are long enough, or have been joined.
    joined: usize,
    lost: u64,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Saving {
    save: u64,
    rows: Vec<RecordBatch>,
    bytes: usize,
}

/// Up to which minute rows have left.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// As of the last save.
    saved: Minute,
    now: Minute,
}

/// What is new of a ledger.
#[derive(Debug)]
pub struct Taken {
    pub rows: Vec<RecordBatch>,
    /// Rows of these minutes, the last not among them, leave the table with this save.
    pub leaving: Option<(Minute, Minute)>,
}

impl Ledger {
    /// Of rows that are not known to be on disk at most `bytes_max` are kept; beyond it the oldest that nobody saves go, and
    /// are counted. Whoever lets them be saved when the ledger `is_full` loses none.
    pub fn new(shape: Arc<TableShape>, bytes_max: usize) -> Self {
        Self {
            shape,
            saving: VecDeque::new(),
            new: VecDeque::new(),
            bytes: 0,
            bytes_max,
            joined: 0,
            lost: 0,
            kept: None,
        }
    }

    pub fn shape(&self) -> &Arc<TableShape> {
        &self.shape
    }

    /// Of all rows in memory.
    pub fn bytes(&self) -> usize {
        self.bytes + self.saving.iter().map(|saving| saving.bytes).sum::<usize>()
    }

    /// Whether it is time to save what is new.
    pub fn wants_saving(&self) -> bool {
        self.bytes > self.bytes_max / 4
    }

    /// Whether no more should come before what is new is taken to be saved. As much may be under way to the disk, and what is
    /// left over has room for what a start finds in the log behind both.
    pub fn is_full(&self) -> bool {
        self.bytes > self.bytes_max / 8 * 3
    }

    /// Appends rows of the ledger's schema; rows of any other are a defect of the caller and are left out.
    pub fn push(&mut self, rows: RecordBatch) {
        let fits = rows.schema().fields() == self.shape.schema.fields();
        debug_assert!(fits);
        if !fits || rows.num_rows() == 0 {
            return;
        }
        self.bytes += rows.get_array_memory_size();
        self.new.push_back(rows);
        while self.bytes() > self.bytes_max
            && let Some(oldest) = self.new.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(oldest.get_array_memory_size());
            self.joined = self.joined.saturating_sub(1);
            self.lost += oldest.num_rows() as u64;
        }
        if self.new.len() - self.joined > BATCHES_MAX {
            self.join();
        }
    }

    /// The table: what is on disk as of `cold`, and these rows behind it.
    pub fn table(&self, cold: Option<&Cold>) -> TableSnapshot {
        TableSnapshot::new(Arc::clone(&self.shape), cold.cloned(), self.batches())
    }

    /// All rows in memory, oldest first.
    fn batches(&self) -> Vec<RecordBatch> {
        self.saving.iter().flat_map(|saving| &saving.rows).chain(&self.new).cloned().collect()
    }

    /// Rows older than `keep` leave, as time goes on. What was older already when it came does not leave by it and stays.
    pub fn retain(&mut self, keep: Minute) {
        let kept = self.kept.get_or_insert(Kept { saved: keep, now: keep });
        kept.now = kept.now.max(keep);
    }

    /// Everything older leaves, of whatever age it was when it came: there is no room for it.
    pub fn make_room(&mut self, before: Minute) {
        let now = self.kept.map_or(before, |kept| kept.now.max(before));
        self.kept = Some(Kept { saved: Minute::from_index(i64::MIN), now });
    }

    /// Up to which minute rows have left, for whoever restores the ledger.
    pub fn kept_from(&self) -> Option<Minute> {
        self.kept.map(|kept| kept.now)
    }

    pub fn restore_kept(&mut self, from: Option<Minute>) {
        self.kept = from.map(|from| Kept { saved: from, now: from });
    }

    /// What came since the last call. It stays in memory until it is known to be on disk.
    pub fn take_new(&mut self, save: u64) -> Taken {
        self.join();
        let rows: Vec<RecordBatch> = std::mem::take(&mut self.new).into();
        let bytes = std::mem::take(&mut self.bytes);
        self.joined = 0;
        if !rows.is_empty() {
            self.saving.push_back(Saving { save, rows: rows.clone(), bytes });
        }
        let leaving = self.kept.filter(|kept| kept.saved < kept.now).map(|kept| (kept.saved, kept.now));
        self.kept = self.kept.map(|kept| Kept { saved: kept.now, now: kept.now });
        Taken { rows, leaving }
    }

    /// Everything that was taken for this save, and for those before it, is on disk.
    pub fn saved(&mut self, save: u64) {
        while self.saving.pop_front_if(|saving| saving.save <= save).is_some() {}
    }

    /// Rows that had to go before anybody saved them, since the start.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Joins neighbours until they hold about a thousand rows each. What is long enough is not looked at again.
    fn join(&mut self) {
        let mut run: Vec<RecordBatch> = Vec::new();
        let mut rows = 0;
        for batch in self.new.split_off(self.joined) {
            self.bytes = self.bytes.saturating_sub(batch.get_array_memory_size());
            rows += batch.num_rows();
            run.push(batch);
            if rows >= JOINED_ROWS {
                self.put_joined(&std::mem::take(&mut run));
                self.joined = self.new.len();
                rows = 0;
            }
        }
        self.put_joined(&run);
    }

    fn put_joined(&mut self, run: &[RecordBatch]) {
        let joined = match run {
            [] => Vec::new(),
            [one] => vec![one.clone()],
            many => match compute::concat_batches(&self.shape.schema, many) {
                Ok(joined) => vec![joined],
                Err(_) => many.to_vec(),
            },
        };
        self.bytes += joined.iter().map(RecordBatch::get_array_memory_size).sum::<usize>();
        self.new.extend(joined);
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;

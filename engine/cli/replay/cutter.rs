//! Reads the file on a thread of its own and cuts it into pieces of the size that is sent. The rows of a
//! piece follow one another without a gap, so that a row's number is its sequence.

use std::sync::Arc;

use tidewatch_model::limits;
use tidewatch_serve::proto::tidewatch::v1::Transaction;
use tidewatch_sources::FileSource;
use tokio::sync::mpsc;

use super::{Speed, faults::Faults, wire};

/// Bytes of a request: half of what the engine takes, since the estimate knows nothing of field tags.
const PIECE_BYTES_MAX: usize = limits::REQUEST_BYTES_MAX / 2;

/// Events that are sent in one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    pub first_row: u64,
    /// The line of each event.
    pub lines: Vec<u64>,
    pub events: Vec<Transaction>,
}

pub struct Cutter {
    batch: usize,
    /// The engine has the rows up to this one.
    resumed_after: Option<u64>,
    /// Event time of a piece where the speed is limited, so that a piece never is more than a second of wall time.
    span_max: Option<i64>,
    faults: Arc<Faults>,
    pieces: mpsc::Sender<Piece>,
    open: Piece,
    bytes: usize,
}

impl Cutter {
    pub fn new(
        batch: usize,
        resumed_after: Option<u64>,
        speed: Speed,
        faults: Arc<Faults>,
        pieces: mpsc::Sender<Piece>,
    ) -> Self {
        let span_max = speed.map(|factor| (factor.0 * 1_000_000.0) as i64);
        Self { batch, resumed_after, span_max, faults, pieces, open: Piece::default(), bytes: 0 }
    }

    /// Reads to the end and gives the number of rows. Stops early where nobody takes the pieces any more.
    pub fn run(mut self, mut source: FileSource) -> anyhow::Result<u64> {
        let mut rows = 0;
        for batch in source.by_ref() {
            let batch = batch?;
            rows += (batch.rows.len() + batch.broken.len()) as u64;
            batch.broken.iter().for_each(|broken| self.faults.broke(broken));
            let events = wire::transactions(&batch.events)?;
            for ((event, row), line) in events.into_iter().zip(&batch.rows).zip(&batch.lines) {
                if self.resumed_after.is_some_and(|last| *row <= last) {
                    continue;
                }
                if !self.fits(&event, *row) && !self.send() {
                    return Ok(rows);
                }
                self.add(event, *row, *line);
            }
        }
        self.send();
        let late = source.late_names();
        if !late.is_empty() {
            self.faults.say(&format!("keys of later rows that are not used: {}", late.join(", ")));
        }
        Ok(rows)
    }

    fn fits(&self, event: &Transaction, row: u64) -> bool {
        let Some(first) = self.open.events.first() else { return true };
        let next = self.open.first_row + self.open.events.len() as u64;
        let span = event.occurred_at.saturating_sub(first.occurred_at);
        row == next
            && self.open.events.len() < self.batch
            && self.bytes + bytes_of(event) <= PIECE_BYTES_MAX
            && self.span_max.is_none_or(|max| span < max)
    }

    fn add(&mut self, event: Transaction, row: u64, line: u64) {
        if self.open.events.is_empty() {
            self.open.first_row = row;
        }
        self.bytes += bytes_of(&event);
        self.open.events.push(event);
        self.open.lines.push(line);
    }

    /// False where nobody takes pieces any more.
    fn send(&mut self) -> bool {
        let piece = std::mem::take(&mut self.open);
        self.bytes = 0;
        piece.events.is_empty() || self.pieces.blocking_send(piece).is_ok()
    }
}

fn bytes_of(event: &Transaction) -> usize {
    prost::Message::encoded_len(event)
}

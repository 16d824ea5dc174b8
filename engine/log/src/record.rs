//! The records: what the log can say. Everything after the log is a function of these. How they
//! become bytes is in `payload.rs` and `events.rs`; what they mean is decided further in.

use arrow::record_batch::RecordBatch;
use tidewatch_model::{EventTime, Partition, SessionId, Span};

/// One entry of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Events(Events),
    Advance(Advance),
    SessionOpened(SessionOpened),
    SessionEnded(SessionEnded),
    Journal(Journal),
}

/// What sort of entry a record is, as its frame says before anything of it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    Events,
    Advance,
    SessionOpened,
    SessionEnded,
    Journal,
}

impl RecordKind {
    /// What it holds, for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Advance => "what the clock had to say",
            Self::SessionOpened => "the begin of a replay session",
            Self::SessionEnded => "the end of a replay session",
            Self::Journal => "an entry of a journal",
        }
    }
}

/// A batch that came through the door: what was let in, and what was not.
#[derive(Clone, Debug, PartialEq)]
pub struct Events {
    pub stream: String,
    pub partition: Partition,
    pub arrived_at: EventTime,
    pub producer: Option<Producer>,
    /// The accepted events, with exactly the columns of the stream's schema.
    pub rows: RecordBatch,
    pub rejected: Vec<Rejected>,
}

/// Who sent a batch and how it numbers its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: String,
    pub first_sequence: u64,
    /// The sequence of row i is `first_sequence + offsets[i]`, or `first_sequence + i` without
    /// offsets. Offsets are there when events before a row were rejected.
    pub offsets: Option<Vec<u32>>,
}

impl Producer {
    /// The sequence of a row.
    pub fn sequence(&self, row: usize) -> u64 {
        let offset = match &self.offsets {
            Some(offsets) => offsets.get(row).copied().map_or(row as u64, u64::from),
            None => row as u64,
        };
        self.first_sequence.wrapping_add(offset)
    }
}

/// An event that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its place in the batch as it was sent.
    pub index: u32,
    pub reason: String,
    /// The field at fault; empty where there is none.
    pub field: String,
    /// The event as JSON, masked and cut.
    pub event: String,
}

/// What the clock had to say about a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    pub stream: String,
    pub partition: Partition,
    pub watermark: EventTime,
    pub at: EventTime,
    pub cause: AdvanceCause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdvanceCause {
    /// The partition sends nothing while others of its stream do.
    Idle,
    /// Nothing of the stream arrives at all.
    Silent,
}

/// A replay session begins, or goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOpened {
    pub stream: String,
    pub session: SessionId,
    pub name: String,
    pub lateness: Span,
    /// Whether alerts of the minutes it seals are delivered.
    pub notify: bool,
    pub at: EventTime,
}

/// A replay session has no more events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEnded {
    pub stream: String,
    pub session: SessionId,
    pub at: EventTime,
}

/// An entry of one of the engine's journals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    pub topic: JournalTopic,
    pub json: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JournalTopic {
    Rules,
    Verdicts,
    Alerts,
    Deliveries,
    Settings,
}

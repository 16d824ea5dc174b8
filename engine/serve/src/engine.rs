//! The one seam between the wire and the engine: what `serve` asks for, in plain structs. The root
//! crate's pipeline implements it; tests implement it with a fake. No wire type appears here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use async_trait::async_trait;
use futures::{future::BoxFuture, stream::BoxStream};
use tidewatch_model::{EventTime, Lsn, Minute, SessionId, Severity, Span, StreamSchema};

use crate::matcher::Matcher;
use crate::report::{AlertReport, RuleReport, Status};

/// Everything that the wire may ask of the engine. Dropping a future or a stream withdraws the question.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// The schema of `transactions`, as of the start: the doors convert into it.
    fn schema(&self) -> Arc<StreamSchema>;

    /// Whether requests can be served now; else why not, in a sentence.
    fn ready(&self) -> Result<(), String>;

    /// Whether questions are answered, also where events are no longer taken.
    fn answers(&self) -> bool {
        self.ready().is_ok()
    }

    /// Takes a batch into the log's order. The returned future of the first step ends when the batch has its
    /// place (submitters wait here when the engine is behind); the [`Acknowledgement`] ends when it is durable.
    /// Batches that are admitted one after the other stand in the log in that order.
    async fn submit(&self, submission: Submission) -> Result<Acknowledgement, Refusal>;

    async fn open_session(&self, request: SessionRequest) -> Result<OpenedSession, Refusal>;

    /// Seals what the session holds open and says what became of its events.
    async fn end_session(&self, session: SessionId) -> Result<SessionSummary, Refusal>;

    async fn query(&self, question: Question) -> Result<Answer, QueryError>;

    async fn evaluate(&self, premise: Premise) -> Result<Evaluation, QueryError>;

    async fn rules(&self) -> Vec<RuleReport>;

    async fn alerts(&self) -> AlertReport;

    async fn status(&self) -> Status;

    /// Series in the order of their labels, for Prometheus.
    async fn series(&self, selection: Selection) -> Result<Vec<Series>, QueryError>;

    /// Copies the engine's data to an object store. Dropping the answer gives the backup up.
    async fn back_up(&self, to: String) -> Result<BackupNews, Refusal>;
}

/// How far a backup is, again and again; the last has `done`, or is why there is none.
pub type BackupNews = BoxStream<'static, Result<BackupProgress, Refusal>>;

/// How far a backup is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupProgress {
    pub objects: u64,
    pub bytes: u64,
    pub objects_done: u64,
    pub bytes_done: u64,
    /// What was not at the target before.
    pub bytes_sent: u64,
    pub done: Option<BackupDone>,
}

/// A backup that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupDone {
    pub id: String,
    /// The newest record that it contains.
    pub last: Lsn,
}

/// Ends when the batch is as durable as the log's configured level says.
pub type Acknowledgement = BoxFuture<'static, Result<Receipt, Refusal>>;

/// A converted batch on its way into the log.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The replay session that the events belong to; none: live traffic.
    pub session: Option<SessionId>,
    /// Given where the client numbers its events.
    pub producer: Option<Producer>,
    /// The accepted events, in the stream's Arrow schema.
    pub rows: RecordBatch,
    /// For each row its index in the batch as it was sent: row r has the sequence `first_sequence + offsets[r]`.
    pub offsets: Vec<u32>,
    pub rejected: Vec<Rejected>,
    pub arrived_at: EventTime,
}

/// Who numbers the events, and the number of the first event sent in this batch, accepted or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: String,
    pub first_sequence: u64,
}

/// An event that was refused at the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its index in the batch as it was sent.
    pub index: u32,
    /// A sentence for a person.
    pub reason: String,
    pub field: Option<String>,
    /// The event as JSON (or the text that should have been JSON), masked, at most `REJECTED_BYTES_MAX` bytes.
    pub event: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Where the batch stands in the log.
    pub lsn: Lsn,
    /// Events that are in the log.
    pub accepted: u64,
}

/// Why a batch or a session was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the engine is behind; try again in {} ms", retry_after.as_millis())]
    Busy { retry_after: Duration },
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Invalid(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRequest {
    pub name: String,
    /// None: the stream's own lateness.
    pub lateness: Option<Span>,
    pub notify: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedSession {
    pub session: SessionId,
    /// The greatest sequence accepted before, where the session is resumed.
    pub last_sequence: Option<u64>,
}

/// What became of a session's events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionSummary {
    pub accepted: u64,
    pub duplicate: u64,
    pub late: u64,
    pub rejected: u64,
}

/// SQL to be answered. What a person typed into a form is never part of `sql`: it is a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    pub sql: String,
    /// The values of `$1`, `$2`, …
    pub parameters: Vec<Parameter>,
    /// None: the engine's limit. It never lengthens that limit.
    pub timeout: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    Text(String),
    Integer(i64),
    Time(EventTime),
}

/// The rows of an answer as they come, and their schema, which is known before the first row.
pub struct Answer {
    pub schema: SchemaRef,
    pub batches: BoxStream<'static, Result<RecordBatch, QueryError>>,
}

/// Why a question has no answer, by what the asker can do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Ask something else: it does not parse, plan or type, names what is not there, or would write.
    #[error("{0}")]
    Invalid(String),
    /// Ask for less: over the limit of memory, rows or samples.
    #[error("{0}")]
    TooMuch(String),
    /// Ask for less, or give it more time.
    #[error("{0}")]
    TooLong(String),
    /// Ask again later.
    #[error("{0}")]
    Unavailable(String),
    /// Tell the operator.
    #[error("{0}")]
    Internal(String),
}

/// "What would the rules say if …", for the minute after the newest sealed one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Premise {
    pub keys: BTreeMap<String, String>,
    pub values: BTreeMap<String, f64>,
    /// Count the event, store it and send the alerts.
    pub dispatch: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    pub minute: Minute,
    pub verdicts: Vec<Verdict>,
    /// Whether any verdict would raise an alert, and the gravest severity of those.
    pub alert: bool,
    pub severity: Option<Severity>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub rule: String,
    pub severity: Severity,
    pub labels: BTreeMap<String, String>,
    pub values: BTreeMap<String, f64>,
    pub summary: String,
    pub warming_up: bool,
}

/// Which series, and which part of them.
#[derive(Clone, Debug)]
pub struct Selection {
    /// All must hold; see [`crate::select`].
    pub matchers: Vec<Matcher>,
    /// Milliseconds since 1970 UTC; both ends are included.
    pub from_ms: i64,
    pub to_ms: i64,
    /// More samples than this: `QueryError::TooMuch`.
    pub samples_max: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Sorted by name, `__name__` among them.
    pub labels: Vec<(String, String)>,
    /// Sorted by time.
    pub samples: Vec<Sample>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub ms: i64,
    pub value: f64,
}

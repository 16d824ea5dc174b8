//! Ad-hoc questions with their limits: memory, time and rows. How many run at once is the caller's.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    common::ScalarValue,
    error::DataFusionError,
    execution::{RecordBatchStream, SendableRecordBatchStream},
};
use futures::{Stream, StreamExt};
use tidewatch_model::EventTime;
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinHandle},
    time::{Instant, Sleep, sleep_until},
};

use crate::{Catalog, Planner, QueryError, Reading, Workspace};

/// What one query may use.
#[derive(Clone, Copy, Debug)]
pub struct QueryLimits {
    pub memory_bytes: usize,
    pub time: Duration,
    pub rows: usize,
}

/// What stands for `$1`, `$2`, … in a query. What a person typed into a form is never part of the SQL itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    Text(String),
    Integer(i64),
    Double(f64),
    Time(EventTime),
}

impl From<Parameter> for ScalarValue {
    fn from(parameter: Parameter) -> Self {
        match parameter {
            Parameter::Text(text) => Self::Utf8(Some(text)),
            Parameter::Integer(number) => Self::Int64(Some(number)),
            Parameter::Double(number) => Self::Float64(Some(number)),
            Parameter::Time(time) => Self::TimestampMicrosecond(Some(time.micros()), Some("UTC".into())),
        }
    }
}

/// Batches that wait for a slow reader; beyond them the query stands still.
const BATCHES_AHEAD: usize = 2;

/// Plans and starts a query over a reading. The answer streams; the limits go on holding while it does.
pub async fn ask(
    sql: &str,
    parameters: Vec<Parameter>,
    reading: Reading,
    now: EventTime,
    limits: QueryLimits,
) -> Result<SendableRecordBatchStream, QueryError> {
    // A time limit without end is a limit of a century.
    let deadline = Instant::now() + limits.time.min(Duration::from_secs(100 * 365 * 86_400));
    let planner = Planner::new(Catalog::of(&reading));
    let prepared = planner.plan(sql, parameters, now)?;
    let workspace = Workspace::new(limits.memory_bytes)?;
    let (batches, receiver) = mpsc::channel(BATCHES_AHEAD);
    let schema = prepared.schema();
    // The plan runs on a task of its own, so that a reader's deadline does not wait for a busy operator.
    let task = tokio::spawn(async move {
        let mut stream = match prepared.run(Arc::new(reading), &workspace) {
            Ok(stream) => stream,
            Err(error) => return batches.send(Err(error)).await.map_or((), |()| ()),
        };
        while let Some(batch) = stream.next().await {
            let failed = batch.is_err();
            if batches.send(batch).await.is_err() || failed {
                return;
            }
        }
    });
    Ok(Box::pin(Answer {
        schema,
        receiver,
        task,
        deadline: Box::pin(sleep_until(deadline)),
        limits,
        rows: 0,
        over: false,
    }))
}

/// All batches of an answer.
pub async fn collect(mut answer: SendableRecordBatchStream) -> Result<Vec<RecordBatch>, QueryError> {
    let mut batches = Vec::new();
    while let Some(batch) = answer.next().await {
        batches.push(batch.map_err(|error| QueryError::from_engine(&error, 0))?);
    }
    Ok(batches)
}

struct Answer {
    schema: SchemaRef,
    receiver: mpsc::Receiver<Result<RecordBatch, DataFusionError>>,
    task: JoinHandle<()>,
    deadline: Pin<Box<Sleep>>,
    limits: QueryLimits,
    rows: usize,
    over: bool,
}

impl Drop for Answer {
    /// A reader that goes away ends the query.
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Answer {
    fn end(&mut self, error: QueryError) -> Poll<Option<Result<RecordBatch, DataFusionError>>> {
        self.over = true;
        self.task.abort();
        Poll::Ready(Some(Err(error.into())))
    }
}

impl Stream for Answer {
    type Item = Result<RecordBatch, DataFusionError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.deadline.as_mut().poll(cx).is_ready() {
            let limit = self.limits.time;
            return self.end(QueryError::OverTime { limit });
        }
        match ready!(self.receiver.poll_recv(cx)) {
            Some(Ok(batch)) => {
                self.rows += batch.num_rows();
                if self.rows > self.limits.rows {
                    let limit = self.limits.rows;
                    return self.end(QueryError::OverRows { limit });
                }
                Poll::Ready(Some(Ok(batch)))
            }
            Some(Err(error)) => {
                let error = QueryError::from_engine(&error, self.limits.memory_bytes);
                self.end(error)
            }
            None => {
                let outcome: Result<(), JoinError> = ready!(Pin::new(&mut self.task).poll(cx));
                self.over = true;
                match outcome {
                    Ok(()) => Poll::Ready(None),
                    Err(error) => self.end(QueryError::Internal(format!("the query's task did not end well: {error}"))),
                }
            }
        }
    }
}

impl RecordBatchStream for Answer {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

//! `Front`: the engine as the servers see it. It admits batches into the log, asks the pipeline for readings, and
//! reads what is published.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use async_trait::async_trait;
use futures::StreamExt;
use tidewatch_log::{Encoded, Events, Log, LogError, Record, SessionEnded, SessionOpened};
use tidewatch_model::{
    Clock, EventTime, Lsn, Minute, Partition, SessionId, Severity, Span, StreamSchema, hash64, limits,
};
use tidewatch_promql::SelectError;
use tidewatch_query::{QueryLimits, Reading};
use tidewatch_rules::{Outcome, PremiseError, RuleLimits, RuleSet};
use tidewatch_serve::{
    Engine,
    engine::{
        Acknowledgement, Answer, BackupNews, Evaluation, OpenedSession, Parameter, Premise, QueryError, Question,
        Receipt, Refusal, Sample, Selection, Series, SessionRequest, SessionSummary, Submission, Verdict,
    },
    report::{AlertReport, Counter, RuleReport, Status},
    select,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tracing::Instrument;

use crate::{
    admission::{Admission, NotAdmitted, Weight},
    backups::Backups,
    condition::Condition,
    pipeline::{Answer as Applied, Event, Inbox, QUESTIONS_MAX, session_of},
    published::Board,
    telemetry::{Metrics, QueryOutcome, Stage},
    volume::{status_scores, volume},
};

/// How long a session that was opened counts as open although nobody ended it.
const SESSION_CLAIM: Span = Span::from_minutes(60);

/// Minutes that the live page shows.
const VOLUME_MINUTES: i64 = 180;

pub struct Front {
    pub schema: Arc<StreamSchema>,
    pub log: Arc<Log>,
    pub inbox: Inbox,
    pub board: Arc<Board>,
    pub metrics: Arc<Metrics>,
    pub condition: Arc<Condition>,
    pub clock: Arc<dyn Clock>,
    pub rules: Arc<RuleSet>,
    pub rule_limits: RuleLimits,
    pub query_limits: QueryLimits,
    pub admission: Admission,
    pub queries: Arc<Semaphore>,
    pub questions: Arc<Semaphore>,
    pub partitions: u16,
    /// Replay sessions that were opened since the start and have not ended, and when.
    pub sessions: Mutex<BTreeMap<SessionId, EventTime>>,
    pub started_at: tidewatch_model::EventTime,
    pub backups: Backups,
}

impl Front {
    pub fn questions() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(QUESTIONS_MAX))
    }

    async fn admit(&self, weight: Weight) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Some(reason) = self.condition.views_stopped() {
            return Err(Refusal::Unavailable(reason));
        }
        self.admission.admit(weight).await.map_err(|why| match why {
            NotAdmitted::Closed => {
                Refusal::Unavailable("the engine is stopping; send again when it is back".to_owned())
            }
            NotAdmitted::Full { waited } => Refusal::Busy { retry_after: waited },
        })
    }

    /// For a record without events.
    async fn admit_one(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.admit(self.admission.weight(0, 0)).await
    }

    /// Appends a record; the receiver hears where it stands once it is durable.
    fn append(
        &self,
        record: Record,
        answer: Option<Applied>,
        admitted: OwnedSemaphorePermit,
    ) -> Result<oneshot::Receiver<Result<Lsn, LogError>>, Refusal> {
        let encoded = Encoded::new(&record).map_err(|error| Refusal::Invalid(error.to_string()))?;
        let (done, durable) = oneshot::channel();
        let inbox = self.inbox.clone();
        let record = Box::new(record);
        // Entered by the pipeline: the apply, its seals and its verdicts belong to the request that caused them.
        let span = tracing::info_span!("apply");
        let then = move |written: Result<Lsn, LogError>| {
            if let Ok(lsn) = &written {
                inbox.put(Event::Committed { lsn: *lsn, record, answer, admitted: Some(admitted), span });
            }
            // Whoever submitted may be gone; the record stays.
            let _ = done.send(written);
        };
        self.log.append(encoded, Box::new(then));
        Ok(durable)
    }

    async fn reading(&self) -> Result<Reading, QueryError> {
        let _asking = self
            .questions
            .try_acquire()
            .map_err(|_| QueryError::Unavailable("too many questions are waiting; ask again in a moment".to_owned()))?;
        let (asker, answer) = oneshot::channel();
        if !self.inbox.offer(Event::Read(asker)) {
            return Err(QueryError::Unavailable("the engine is catching up; ask again in a moment".to_owned()));
        }
        match answer.await {
            Ok(Ok(reading)) => Ok(reading),
            Ok(Err(error)) => Err(QueryError::Internal(error.to_string())),
            Err(_) => Err(QueryError::Unavailable("the engine is stopping".to_owned())),
        }
    }

    /// A map of numbers is whole whoever panicked while holding it.
    fn sessions(&self) -> MutexGuard<'_, BTreeMap<SessionId, EventTime>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claim(&self, session: SessionId) -> Result<(), Refusal> {
        let now = self.clock.now();
        let mut open = self.sessions();
        if open.len() >= limits::SESSIONS_OPEN_MAX {
            // A replay that broke off and was not resumed for an hour must not shut out the next.
            open.retain(|_, opened| now.since(*opened) < SESSION_CLAIM);
        }
        if open.len() >= limits::SESSIONS_OPEN_MAX && !open.contains_key(&session) {
            return Err(Refusal::Busy { retry_after: Duration::from_secs(10) });
        }
        open.insert(session, now);
        Ok(())
    }

    fn partition(&self, submission: &Submission) -> Partition {
        match (submission.session, &submission.producer) {
            (Some(session), _) => Partition::Session(session),
            (None, Some(producer)) if self.partitions > 1 => {
                Partition::Live((hash64(producer.id.as_bytes()) % u64::from(self.partitions)) as u16)
            }
            (None, _) => Partition::Live(0),
        }
    }

    fn events(&self, submission: Submission) -> Events {
        let partition = self.partition(&submission);
        let contiguous = submission.offsets.iter().enumerate().all(|(row, offset)| row == *offset as usize);
        Events {
            stream: self.schema.name().to_owned(),
            partition,
            arrived_at: submission.arrived_at,
            producer: submission.producer.map(|producer| tidewatch_log::Producer {
                id: producer.id,
                first_sequence: producer.first_sequence,
                offsets: (!contiguous).then_some(submission.offsets),
            }),
            rows: submission.rows,
            rejected: submission
                .rejected
                .into_iter()
                .map(|rejected| tidewatch_log::Rejected {
                    index: rejected.index,
                    reason: rejected.reason,
                    field: rejected.field.unwrap_or_default(),
                    event: rejected.event,
                })
                .collect(),
        }
    }

    /// The premise of `POST /alerts/evaluate` as one event that stands for `count` transactions.
    fn event_of(&self, premise: &Premise, minute: Minute) -> Result<RecordBatch, QueryError> {
        let count = premise.values.get("count").or_else(|| premise.values.get("transactions"));
        let Some(count) = count.copied().filter(|count| count.fract() == 0.0 && (0.0..=9e15).contains(count)) else {
            return Err(QueryError::Invalid("to dispatch, give `count` as a whole number".to_owned()));
        };
        if !premise.keys.contains_key("status") {
            return Err(QueryError::Invalid("to dispatch, give `status`: every event has one".to_owned()));
        }
        let columns = self.schema.columns().iter().zip(self.schema.arrow().fields()).map(|(column, field)| {
            let text = premise.keys.get(&column.name).filter(|_| column.kind == tidewatch_model::ColumnType::Text);
            let array: arrow::array::ArrayRef = match (column.name.as_str(), text) {
                (_, Some(text)) => Arc::new(StringArray::from(vec![text.as_str()])),
                ("count", None) => Arc::new(Int64Array::from(vec![count as i64])),
                ("occurred_at", None) => {
                    let now = self.clock.now().max(minute.start());
                    Arc::new(TimestampMicrosecondArray::from(vec![now.micros()]).with_timezone("UTC"))
                }
                _ => arrow::array::new_null_array(field.data_type(), 1),
            };
            array
        });
        RecordBatch::try_new(Arc::clone(self.schema.arrow()), columns.collect())
            .map_err(|error| QueryError::Internal(error.to_string()))
    }

    async fn dispatch(&self, premise: &Premise, minute: Minute) -> Result<(), QueryError> {
        let submission = Submission {
            session: None,
            producer: None,
            rows: self.event_of(premise, minute)?,
            offsets: vec![0],
            rejected: Vec::new(),
            arrived_at: self.clock.now(),
        };
        let unavailable = |refusal: Refusal| QueryError::Unavailable(refusal.to_string());
        let acknowledgement = self.submit(submission).await.map_err(unavailable)?;
        acknowledgement.await.map_err(unavailable).map(|_| ())
    }
}

#[async_trait]
impl Engine for Front {
    fn schema(&self) -> Arc<StreamSchema> {
        Arc::clone(&self.schema)
    }

    fn ready(&self) -> Result<(), String> {
        if self.admission.is_closed() { Err("the engine is stopping".to_owned()) } else { self.condition.sound() }
    }

    fn answers(&self) -> bool {
        !self.admission.is_closed()
    }

    async fn submit(&self, submission: Submission) -> Result<Acknowledgement, Refusal> {
        let weight = self.admission.weight(submission.rows.num_rows(), submission.rows.get_array_memory_size());
        let admitted = self.admit(weight).await?;
        let events = self.events(submission);
        let accepted = events.rows.num_rows() as u64;
        let metrics = Arc::clone(&self.metrics);
        let durable = self.append(Record::Events(events), None, admitted)?;
        let acknowledged = async move {
            let timer = metrics.time(Stage::Submit);
            let written = durable.await;
            drop(timer);
            match written {
                Ok(Ok(lsn)) => Ok(Receipt { lsn, accepted }),
                Ok(Err(error)) => Err(Refusal::Unavailable(error.to_string())),
                Err(_) => Err(Refusal::Unavailable("the log was closed before the batch was written".to_owned())),
            }
        };
        Ok(Box::pin(acknowledged.instrument(tracing::info_span!("log"))))
    }

    async fn open_session(&self, request: SessionRequest) -> Result<OpenedSession, Refusal> {
        let session = session_of(&request.name);
        self.claim(session)?;
        let admitted = self.admit_one().await?;
        let (asker, answer) = oneshot::channel();
        let record = Record::SessionOpened(SessionOpened {
            stream: self.schema.name().to_owned(),
            session,
            name: request.name,
            lateness: request.lateness.unwrap_or(self.schema.lateness),
            notify: request.notify,
            at: self.clock.now(),
        });
        let durable = self.append(record, Some(Applied::Opened(asker)), admitted)?;
        written(durable).await?;
        let last_sequence = answer.await.map_err(|_| stopping())?;
        Ok(OpenedSession { session, last_sequence })
    }

    async fn end_session(&self, session: SessionId) -> Result<SessionSummary, Refusal> {
        let admitted = self.admit_one().await?;
        let (asker, answer) = oneshot::channel();
        let stream = self.schema.name().to_owned();
        let record = Record::SessionEnded(SessionEnded { stream, session, at: self.clock.now() });
        let durable = self.append(record, Some(Applied::Ended(asker)), admitted)?;
        written(durable).await?;
        let ended = answer.await.map_err(|_| stopping())?;
        self.sessions().remove(&session);
        Ok(SessionSummary {
            accepted: ended.accepted,
            duplicate: ended.duplicates,
            late: ended.late,
            rejected: ended.rejected,
        })
    }

    async fn query(&self, question: Question) -> Result<Answer, QueryError> {
        let asking = Arc::clone(&self.queries).try_acquire_owned().map_err(|_| {
            QueryError::Unavailable("as many queries as `query.concurrency` allows are running; ask again".to_owned())
        })?;
        let reading = self.reading().await?;
        let mut limits = self.query_limits;
        if let Some(timeout) = question.timeout {
            limits.time = limits.time.min(timeout);
        }
        let parameters = question.parameters.into_iter().map(parameter).collect();
        let timer = self.metrics.time(Stage::Query);
        let answer = tidewatch_query::ask(&question.sql, parameters, reading, self.clock.now(), limits).await;
        drop(timer);
        let metrics = Arc::clone(&self.metrics);
        match answer {
            Ok(stream) => {
                metrics.query(QueryOutcome::Answered);
                let schema = stream.schema();
                let memory = limits.memory_bytes;
                let batches = stream.map(move |batch| {
                    let _asking = &asking;
                    batch.map_err(|error| query_error(&tidewatch_query::QueryError::from_engine(&error, memory)))
                });
                Ok(Answer { schema, batches: batches.boxed() })
            }
            Err(error) => {
                metrics.query(outcome(&error));
                Err(query_error(&error))
            }
        }
    }

    async fn evaluate(&self, premise: Premise) -> Result<Evaluation, QueryError> {
        let reading = self.reading().instrument(tracing::info_span!("read")).await?;
        let asked = tidewatch_rules::Premise { keys: premise.keys.clone(), values: premise.values.clone() };
        let judging = self
            .rules
            .evaluate(&asked, &reading, self.rule_limits)
            .instrument(tracing::info_span!("judge", rules = self.rules.rules().len()));
        let judged = judging.await.map_err(|error| match error {
            PremiseError::Unknown(reason) => QueryError::Invalid(reason),
            PremiseError::NoHistory => QueryError::Invalid(PremiseError::NoHistory.to_string()),
            PremiseError::Query(error) => query_error(&error),
        })?;
        let verdicts: Vec<Verdict> = judged.verdicts.iter().flat_map(found).collect();
        if premise.dispatch {
            self.dispatch(&premise, judged.minute).instrument(tracing::info_span!("dispatch")).await?;
        }
        let severity = verdicts.iter().filter(|verdict| !verdict.warming_up).map(|verdict| verdict.severity).max();
        Ok(Evaluation { minute: judged.minute, alert: severity.is_some(), severity, verdicts })
    }

    async fn rules(&self) -> Vec<RuleReport> {
        self.board.read().rules.clone()
    }

    async fn alerts(&self) -> AlertReport {
        let published = self.board.read();
        AlertReport {
            sealed_through: published.sealed_through,
            alerts: published.alerts.clone(),
            scores: published.scores.clone(),
            statuses: status_scores(&published.snapshot),
        }
    }

    async fn status(&self) -> Status {
        let published = self.board.read();
        let rules = published.rules.iter().cloned().map(|rule| RuleReport { sql: String::new(), ..rule }).collect();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            now: self.clock.now(),
            watermark: published.watermark,
            sealed_through: published.sealed_through,
            not_ready: self.ready().err(),
            volume: volume(&published.snapshot, VOLUME_MINUTES),
            alerts: published.alerts.clone(),
            rules,
            counters: self.counters(),
        }
    }

    async fn series(&self, selection: Selection) -> Result<Vec<Series>, QueryError> {
        let _timer = self.metrics.time(Stage::RemoteRead);
        let published = self.board.read();
        let matchers = selection.matchers;
        let (from, to, max) = (selection.from_ms, selection.to_ms, selection.samples_max);
        let snapshot = published.snapshot.clone();
        let selected = tokio::task::spawn_blocking(move || {
            let of_name: Vec<_> = matchers.iter().filter(|matcher| matcher.label == "__name__").cloned().collect();
            let wanted_name = |name: &str| select(&of_name, &[("__name__".to_owned(), name.to_owned())]);
            tidewatch_promql::select(&snapshot, wanted_name, |labels| select(&matchers, labels), from, to, max)
        });
        let series = selected.await.map_err(|error| QueryError::Internal(error.to_string()))?;
        let series = series.map_err(|error| match error {
            SelectError::TooManySamples { .. } => QueryError::TooMuch(error.to_string()),
            SelectError::Store(_) => QueryError::Internal(error.to_string()),
        })?;
        let sample = |sample: tidewatch_promql::Sample| Sample { ms: sample.ms, value: sample.value };
        let converted = series
            .into_iter()
            .map(|series| Series { labels: series.labels, samples: series.samples.into_iter().map(sample).collect() });
        Ok(converted.collect())
    }

    async fn back_up(&self, to: String) -> Result<BackupNews, Refusal> {
        self.backups.begin(to)
    }
}

impl Front {
    fn counters(&self) -> Vec<Counter> {
        self.metrics
            .event_counts()
            .into_iter()
            .map(|(name, value, help)| Counter { name: name.to_owned(), value, help: help.to_owned() })
            .collect()
    }
}

async fn written(durable: oneshot::Receiver<Result<Lsn, LogError>>) -> Result<Lsn, Refusal> {
    match durable.await {
        Ok(written) => written.map_err(|error| Refusal::Unavailable(error.to_string())),
        Err(_) => Err(stopping()),
    }
}

fn stopping() -> Refusal {
    Refusal::Unavailable("the engine is stopping; send again when it is back".to_owned())
}

fn found(verdict: &tidewatch_rules::Verdict) -> Vec<Verdict> {
    match &verdict.outcome {
        Outcome::Rows(rows) => rows
            .iter()
            .map(|row| Verdict {
                rule: verdict.rule.clone(),
                severity: row.severity,
                labels: row.labels.clone(),
                values: row.values.clone(),
                summary: row.summary.clone(),
                warming_up: row.warming_up,
            })
            .collect(),
        Outcome::Failed { reason } => {
            vec![Verdict {
                rule: verdict.rule.clone(),
                severity: Severity::Low,
                labels: BTreeMap::new(),
                values: BTreeMap::new(),
                summary: format!("the rule failed: {reason}"),
                // A failure alerts nobody.
                warming_up: true,
            }]
        }
    }
}

fn parameter(parameter: Parameter) -> tidewatch_query::Parameter {
    match parameter {
        Parameter::Text(text) => tidewatch_query::Parameter::Text(text),
        Parameter::Integer(number) => tidewatch_query::Parameter::Integer(number),
        Parameter::Time(time) => tidewatch_query::Parameter::Time(time),
    }
}

fn outcome(error: &tidewatch_query::QueryError) -> QueryOutcome {
    match query_error(error) {
        QueryError::Invalid(_) => QueryOutcome::Refused,
        QueryError::TooMuch(_) | QueryError::TooLong(_) => QueryOutcome::OverLimit,
        QueryError::Unavailable(_) | QueryError::Internal(_) => QueryOutcome::Failed,
    }
}

fn query_error(error: &tidewatch_query::QueryError) -> QueryError {
    let text = error.to_string();
    match error {
        tidewatch_query::QueryError::BadQuery(_) => QueryError::Invalid(text),
        tidewatch_query::QueryError::OverMemory { .. } | tidewatch_query::QueryError::OverRows { .. } => {
            QueryError::TooMuch(text)
        }
        tidewatch_query::QueryError::OverTime { .. } => QueryError::TooLong(text),
        tidewatch_query::QueryError::Internal(_) => QueryError::Internal(text),
    }
}

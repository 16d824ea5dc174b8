//! An engine that keeps what it is given, acknowledges when it is allowed to, and answers from a script.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, MapBuilder, RecordBatch, StringArray, StringBuilder},
    datatypes::SchemaRef,
};
use async_trait::async_trait;
use futures::{FutureExt, StreamExt, stream};
use tidewatch_model::{EventTime, Lsn, Minute, SessionId, Severity, StreamSchema};
use tidewatch_serve::{IdKey, engine::*, report::*, select};
use tokio::sync::{Semaphore, watch};

/// 2025-07-12T12:00:00Z.
pub const NOW: EventTime = EventTime::from_micros(1_752_321_600_000_000);
pub const MINUTE: Minute = Minute::from_index(29_205_359);

#[derive(Clone)]
pub struct Fake {
    pub submissions: Arc<Mutex<Vec<Submission>>>,
    pub questions: Arc<Mutex<Vec<Question>>>,
    pub premises: Arc<Mutex<Vec<Premise>>>,
    pub sessions: Arc<Mutex<Vec<SessionRequest>>>,
    /// A permit lets one batch become durable.
    pub gate: Arc<Semaphore>,
    /// Batches admitted, and the most that ever waited to be durable.
    pub admitted: Arc<watch::Sender<usize>>,
    pub waiting: Arc<Mutex<(usize, usize)>>,
    pub refusal: Arc<Mutex<Option<Refusal>>>,
    pub not_ready: Arc<Mutex<Option<String>>>,
    pub series: Arc<Vec<Series>>,
}

impl Fake {
    /// Everything becomes durable at once.
    pub fn new() -> Self {
        Self {
            submissions: Arc::default(),
            questions: Arc::default(),
            premises: Arc::default(),
            sessions: Arc::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            admitted: Arc::new(watch::channel(0).0),
            waiting: Arc::default(),
            refusal: Arc::default(),
            not_ready: Arc::default(),
            series: Arc::new(series()),
        }
    }

    /// Nothing becomes durable until the gate has permits.
    pub fn held() -> Self {
        Self { gate: Arc::new(Semaphore::new(0)), ..Self::new() }
    }

    pub fn refuse(&self, refusal: Option<Refusal>) {
        *self.refusal.lock().unwrap() = refusal;
    }

    pub fn submitted(&self) -> Vec<Submission> {
        self.submissions.lock().unwrap().clone()
    }

    pub fn rows(&self) -> usize {
        self.submitted().iter().map(|submission| submission.rows.num_rows()).sum()
    }
}

pub fn labels(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn series() -> Vec<Series> {
    ["approved", "denied", "failed"]
        .iter()
        .map(|status| Series {
            labels: labels(&[("__name__", "payments_transactions"), ("status", status)]),
            samples: (0..5).map(|n| Sample { ms: n * 60_000, value: n as f64 + 0.5 }).collect(),
        })
        .collect()
}

pub fn id_key() -> IdKey {
    IdKey::new(&[7; IdKey::SECRET_BYTES])
}

pub fn schema() -> StreamSchema {
    tidewatch_model::transactions().unwrap()
}

/// Rows with what is awkward on the wire: nulls, a number that is none, a map, quotes and commas.
pub fn rows() -> RecordBatch {
    let mut attributes = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    attributes.keys().append_value("k");
    attributes.values().append_value("v");
    attributes.append(true).unwrap();
    attributes.append(true).unwrap();
    let columns: [(&str, ArrayRef); 4] = [
        ("status", Arc::new(StringArray::from(vec![Some("a \"b\", c"), None]))),
        ("n", Arc::new(Int64Array::from(vec![i64::MAX, -1]))),
        ("score", Arc::new(Float64Array::from(vec![1.5, f64::NAN]))),
        ("attributes", Arc::new(attributes.finish())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

pub fn alert() -> Alert {
    Alert {
        rule: "denied-surge".to_owned(),
        severity: Severity::Critical,
        state: AlertState::Firing,
        labels: BTreeMap::from([("status".to_owned(), "<script>".to_owned())]),
        values: BTreeMap::from([("value".to_owned(), 421.0)]),
        summary: "denied: 421 in a minute".to_owned(),
        since: MINUTE,
    }
}

pub fn rule() -> RuleReport {
    RuleReport {
        name: "denied-surge".to_owned(),
        severity: Severity::Critical,
        file: "queries/rules/denied-surge.sql".to_owned(),
        sql: "SELECT 1".to_owned(),
        error: None,
        judged_through: Some(MINUTE),
        rows: 1,
        summary: Some("denied: 421 in a minute".to_owned()),
        warming_up: false,
    }
}

#[async_trait]
impl Engine for Fake {
    fn schema(&self) -> Arc<StreamSchema> {
        Arc::new(schema())
    }

    fn ready(&self) -> Result<(), String> {
        self.not_ready.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    async fn submit(&self, submission: Submission) -> Result<Acknowledgement, Refusal> {
        if let Some(refusal) = self.refusal.lock().unwrap().clone() {
            return Err(refusal);
        }
        let accepted = submission.rows.num_rows() as u64;
        let lsn = {
            let mut submissions = self.submissions.lock().unwrap();
            submissions.push(submission);
            Lsn(submissions.len() as u64)
        };
        {
            let mut waiting = self.waiting.lock().unwrap();
            waiting.0 += 1;
            waiting.1 = waiting.1.max(waiting.0);
        }
        self.admitted.send_modify(|admitted| *admitted += 1);
        let (gate, waiting) = (Arc::clone(&self.gate), Arc::clone(&self.waiting));
        Ok(async move {
            gate.acquire().await.unwrap().forget();
            waiting.lock().unwrap().0 -= 1;
            Ok(Receipt { lsn, accepted })
        }
        .boxed())
    }

    async fn open_session(&self, request: SessionRequest) -> Result<OpenedSession, Refusal> {
        self.sessions.lock().unwrap().push(request);
        Ok(OpenedSession { session: SessionId(77), last_sequence: Some(9) })
    }

    async fn end_session(&self, session: SessionId) -> Result<SessionSummary, Refusal> {
        if session != SessionId(77) {
            return Err(Refusal::Invalid("there is no such session; open it first".to_owned()));
        }
        Ok(SessionSummary { accepted: 4, duplicate: 3, late: 2, rejected: 1 })
    }

    async fn query(&self, question: Question) -> Result<Answer, QueryError> {
        let sql = question.sql.clone();
        self.questions.lock().unwrap().push(question);
        match sql.as_str() {
            "invalid" => return Err(QueryError::Invalid("it does not parse".to_owned())),
            "much" => return Err(QueryError::TooMuch("over the memory limit".to_owned())),
            "long" => return Err(QueryError::TooLong("over the time limit".to_owned())),
            _ => {}
        }
        let batch = rows();
        let schema: SchemaRef = batch.schema();
        let mut batches = vec![Ok(batch.clone()), Ok(batch)];
        if sql == "breaks" {
            batches.push(Err(QueryError::TooLong("over the time limit".to_owned())));
        }
        Ok(Answer { schema, batches: stream::iter(batches).boxed() })
    }

    async fn evaluate(&self, premise: Premise) -> Result<Evaluation, QueryError> {
        let alert = premise.values.values().any(|value| *value > 50.0);
        let labels = premise.keys.clone();
        let values = premise.values.clone();
        self.premises.lock().unwrap().push(premise);
        if labels.contains_key("unknown") {
            return Err(QueryError::Invalid("no view has a key `unknown`".to_owned()));
        }
        let verdict = Verdict {
            rule: "denied-surge".to_owned(),
            severity: Severity::Critical,
            labels,
            values,
            summary: "a surge".to_owned(),
            warming_up: false,
        };
        Ok(Evaluation {
            minute: MINUTE,
            verdicts: if alert { vec![verdict] } else { Vec::new() },
            alert,
            severity: alert.then_some(Severity::Critical),
        })
    }

    async fn rules(&self) -> Vec<RuleReport> {
        vec![rule()]
    }

    async fn alerts(&self) -> AlertReport {
        let score = Score {
            rule: "denied-surge".to_owned(),
            labels: BTreeMap::from([("status".to_owned(), "failed".to_owned())]),
            values: BTreeMap::from([("score".to_owned(), 0.5)]),
            minute: MINUTE,
        };
        let calm = StatusScore {
            status: "approved".to_owned(),
            minute: MINUTE,
            value: 100.0,
            usual: Some(98.0),
            score: Some(0.25),
        };
        AlertReport { sealed_through: Some(MINUTE), alerts: vec![alert()], scores: vec![score], statuses: vec![calm] }
    }

    async fn status(&self) -> Status {
        let minutes = 240;
        let wave = |n: usize| (900.0 + 300.0 * (n as f64 / 40.0).sin()) as u64;
        let statuses = [("approved", 1), ("denied", 14), ("failed", 60)];
        Status {
            version: "0.1.0".to_owned(),
            started_at: NOW,
            now: NOW,
            watermark: Some(MINUTE.end()),
            sealed_through: Some(MINUTE),
            not_ready: self.not_ready.lock().unwrap().clone(),
            volume: Volume {
                first_minute: Some(MINUTE.plus(1 - minutes as i64)),
                statuses: statuses
                    .map(|(status, part)| StatusVolume {
                        status: status.to_owned(),
                        transactions: (0..minutes).map(|n| wave(n) / part).collect(),
                    })
                    .to_vec(),
                approval_rate: vec![Some(0.917); minutes],
            },
            alerts: vec![alert()],
            rules: vec![rule()],
            counters: vec![Counter {
                name: "tidewatch_events_total".to_owned(),
                value: 1_234_567,
                help: "events accepted".to_owned(),
            }],
        }
    }

    async fn series(&self, selection: Selection) -> Result<Vec<Series>, QueryError> {
        let chosen: Vec<Series> = self
            .series
            .iter()
            .filter(|series| select(&selection.matchers, &series.labels))
            .map(|series| {
                let within = |sample: &&Sample| (selection.from_ms..=selection.to_ms).contains(&sample.ms);
                Series {
                    labels: series.labels.clone(),
                    samples: series.samples.iter().filter(within).copied().collect(),
                }
            })
            .filter(|series| !series.samples.is_empty())
            .collect();
        if chosen.iter().map(|series| series.samples.len()).sum::<usize>() > selection.samples_max {
            return Err(QueryError::TooMuch("more samples than one answer may hold".to_owned()));
        }
        Ok(chosen)
    }

    async fn back_up(&self, to: String) -> Result<BackupNews, Refusal> {
        let done = BackupDone { id: format!("a copy at {to}"), last: Lsn(7) };
        let begun = BackupProgress { objects: 1, bytes: 2, ..BackupProgress::default() };
        let ended = BackupProgress { objects_done: 1, bytes_done: 2, bytes_sent: 2, done: Some(done), ..begun.clone() };
        let news = match to.as_str() {
            "" => return Err(Refusal::Invalid("nowhere is no place".to_owned())),
            "a full disk" => vec![Ok(begun), Err(Refusal::Unavailable("no room".to_owned()))],
            _ => vec![Ok(begun), Ok(ended)],
        };
        // One that never ends by itself shows that a stop ends it.
        let rest = if to == "a slow place" { stream::pending().boxed() } else { stream::empty().boxed() };
        Ok(stream::iter(news).chain(rest).boxed())
    }
}

/// Fails a test that would otherwise hang.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it ends within a minute")
}

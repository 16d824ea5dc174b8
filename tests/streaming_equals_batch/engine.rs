//! The engine under test: a core behind a log in memory, with checkpoints. A restart forgets the core, reads the newest
//! checkpoint, and applies what the log holds after it.

use std::{path::Path, sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use tidewatch::{
    checkpoint::{self, Checkpoints, Rest},
    core::{Core, CoreLimits, Effects, Plan},
    owed::Owed,
};
use tidewatch_alerts::{Outbox, RetryPolicy};
use tidewatch_log::{
    Advance, AdvanceCause, Encoded, Events, LogConfig, MemFs, Producer, Reader, Record, Rejected, SessionEnded,
    SessionOpened, Writer,
};
use tidewatch_model::{EventTime, Minute, Partition, SessionId, Span};
use tidewatch_store::{Cold, Folder, ViewSnapshot};
use tidewatch_views::{Stream, compile_view};

use super::{
    events::{Times, columns},
    traffic::{Source, Step, Submission},
    views::RandomView,
};

const DIR: &str = "/log";
const STORE: &str = "/store";
const LOG_ID: u64 = 7;
/// All the time there is, for reading whole views.
const FIRST: Minute = Minute::from_index(0);
const LAST: Minute = Minute::from_index(100_000_000);

/// A view's rows as readers see them, without the last column, which says whether they are sealed.
#[derive(Debug, PartialEq)]
pub struct ViewRows {
    pub sealed: RecordBatch,
    pub open: RecordBatch,
}

pub struct Engine {
    plan: Plan,
    limits: CoreLimits,
    fs: MemFs,
    writer: Writer,
    checkpoints: Checkpoints,
    core: Core,
}

impl Engine {
    pub fn new(stream: Stream, views: &[RandomView], times: &Times) -> Result<Self, String> {
        let compiled = views.iter().map(|view| {
            compile_view(&stream, "view.sql", &view.sql())
                .map(Arc::new)
                .map_err(|refusal| format!("{refusal}\n{}", view.sql()))
        });
        let plan = Plan { views: compiled.collect::<Result<_, _>>()?, stream, rules: Vec::new() };
        let limits = CoreLimits {
            ids_max: times.ids_max,
            head_bytes_max: times.head_bytes_max,
            cache_bytes_max: times.cache_bytes_max,
            raw_bytes_max: 1 << 40,
            raw_retention: Span::from_minutes(1 << 24),
            ledger_retention: Span::from_minutes(1 << 24),
            rules: Default::default(),
        };
        let core = Core::new(&plan, limits).map_err(|error| error.to_string())?;
        let fs = MemFs::new();
        let writer = open_log(&fs)?;
        let folder = open_folder(&fs)?;
        let cold = Cold::new(folder.files().clone(), folder.manifest(), limits.cache_bytes_max);
        let checkpoints = checkpoints(folder, &plan, cold)?;
        Ok(Self { plan, limits, fs, writer, checkpoints, core })
    }

    pub fn stream(&self) -> &Stream {
        &self.plan.stream
    }

    /// Does what a step says; a restart has no effects.
    pub fn step(&mut self, step: &Step) -> Result<Effects, String> {
        let record = match step {
            Step::Submit(submission) => self.events(submission),
            Step::Advance { partition, watermark } => Record::Advance(Advance {
                stream: "events".to_owned(),
                partition: Partition::Live(*partition),
                watermark: EventTime::from_micros(*watermark),
                at: EventTime::from_micros(*watermark),
                cause: AdvanceCause::Idle,
            }),
            Step::Open { session, lateness } => Record::SessionOpened(SessionOpened {
                stream: "events".to_owned(),
                session: SessionId(*session),
                name: format!("session {session}"),
                lateness: Span::from_micros(*lateness),
                notify: false,
                at: EventTime::default(),
            }),
            Step::End { session } => Record::SessionEnded(SessionEnded {
                stream: "events".to_owned(),
                session: SessionId(*session),
                at: EventTime::default(),
            }),
            Step::Checkpoint => return self.checkpoint().map(|()| Effects::default()),
            Step::Restart => return self.restart().map(|()| Effects::default()),
        };
        let encoded = Encoded::new(&record).map_err(|error| error.to_string())?;
        let lsn = self.writer.append(&encoded).map_err(|error| error.to_string())?;
        self.writer.commit(&|| Duration::ZERO).map_err(|error| error.to_string())?;
        self.core.apply(lsn, &record).map_err(|error| error.to_string())
    }

    fn events(&self, submission: &Submission) -> Record {
        let taken = submission.sent.iter().enumerate().filter(|(_, event)| event.is_some());
        let offsets: Vec<u32> = taken.map(|(place, _)| place as u32).collect();
        let refused = submission.sent.iter().enumerate().filter(|(_, event)| event.is_none());
        let rejected: Vec<Rejected> = refused
            .map(|(place, _)| Rejected {
                index: place as u32,
                reason: "malformed".to_owned(),
                field: String::new(),
                event: String::new(),
            })
            .collect();
        let producer = submission.numbering.as_ref().map(|numbering| Producer {
            id: numbering.producer.clone(),
            first_sequence: numbering.first,
            offsets: (!rejected.is_empty()).then_some(offsets),
        });
        let rows = columns(&self.plan.stream.schema, submission.sent.iter().flatten());
        let newest = submission.sent.iter().flatten().map(|event| event.at).max().unwrap_or_default();
        Record::Events(Events {
            stream: "events".to_owned(),
            partition: match submission.source {
                Source::Live(partition) => Partition::Live(partition),
                Source::Session(session) => Partition::Session(SessionId(session)),
            },
            arrived_at: EventTime::from_micros(newest),
            producer,
            rows,
            rejected,
        })
    }

    /// Writes a checkpoint, merges small segments, and lets go of what the log need not hold any more.
    fn checkpoint(&mut self) -> Result<(), String> {
        let saved = self.core.save().map_err(|error| error.to_string())?;
        let rest =
            Rest::of(&Owed::default(), &Outbox::new(RetryPolicy::default())).map_err(|error| error.to_string())?;
        self.checkpoints.write(&saved, &rest).map_err(|error| error.to_string())?;
        self.core.saved(saved.save, &self.checkpoints.cold());
        while self.checkpoints.compact().map_err(|error| error.to_string())?.is_some() {}
        self.core.saved(saved.save, &self.checkpoints.cold());
        self.writer.forget_before(saved.applied.next()).map(|_| ()).map_err(|error| error.to_string())
    }

    /// Crashes, and comes back with what the checkpoint and the log hold.
    fn restart(&mut self) -> Result<(), String> {
        let last = self.writer.durable();
        self.fs.crash();
        self.writer = open_log(&self.fs)?;
        if self.writer.durable() != last {
            return Err(format!("the log was durable to {last} and came back with {}", self.writer.durable()));
        }
        let folder = open_folder(&self.fs)?;
        let retry = RetryPolicy::default();
        let restored = checkpoint::restore(&folder, &folder.manifest(), &self.plan, self.limits, retry);
        let restored = restored.map_err(|error| error.to_string())?;
        let next = restored.next();
        self.core = restored.core;
        self.checkpoints = checkpoints(folder, &self.plan, restored.cold)?;
        let schemas = [Arc::clone(&self.plan.stream.schema)].into_iter().collect();
        let reader = Reader::open(Arc::new(self.fs.clone()), Path::new(DIR), LOG_ID, (next, last), schemas);
        for read in reader.map_err(|error| error.to_string())? {
            let (lsn, record) = read.map_err(|error| error.to_string())?;
            self.core.apply(lsn, &record).map_err(|error| error.to_string())?;
        }
        if self.core.applied() == last { Ok(()) } else { Err(format!("{last} records were not all applied")) }
    }

    /// Every row of every view, and behind them of the roll-ups of each in turn.
    pub fn rows(&self) -> Result<Vec<ViewRows>, String> {
        let open = self.core.operator().open_rows();
        let snapshot = self.core.head().snapshot_with_open(open).map_err(|error| error.to_string())?;
        snapshot.views().iter().map(|view| view_rows(view)).collect()
    }
}

fn view_rows(view: &ViewSnapshot) -> Result<ViewRows, String> {
    let but_last = |batch: &RecordBatch| {
        let columns: Vec<usize> = (0..batch.num_columns() - 1).collect();
        // The columns are the batch's own.
        batch.project(&columns).unwrap()
    };
    let sealed = view.sealed_rows(FIRST, LAST).map_err(|error| error.to_string())?;
    let open = view.open_rows(FIRST, LAST).map_err(|error| error.to_string())?;
    Ok(ViewRows { sealed: but_last(&sealed.batch), open: but_last(&open.batch) })
}

fn open_folder(fs: &MemFs) -> Result<Folder, String> {
    let opened = Folder::open(Arc::new(fs.clone()), Path::new(STORE));
    opened.map(|(folder, _)| folder).map_err(|error| error.to_string())
}

fn checkpoints(folder: Folder, plan: &Plan, cold: Cold) -> Result<Checkpoints, String> {
    Checkpoints::new(folder, LOG_ID, &plan.views, cold).map_err(|error| error.to_string())
}

fn open_log(fs: &MemFs) -> Result<Writer, String> {
    let opened = Writer::open(
        Arc::new(fs.clone()),
        Path::new(DIR),
        &LogConfig { segment_bytes: 4_096, ..LogConfig::new(LOG_ID) },
    );
    opened.map(|(writer, _)| writer).map_err(|error| error.to_string())
}

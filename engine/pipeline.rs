//! The pipeline: one thread that owns the core. Everything that can wake it is one closed `Event`. It applies
//! durable records in the order of the log, journals what they caused, and hands alerts to their delivery.
//!
//! Nothing here can wait for itself: the log's commit thread never waits for this thread (the queue has room for every
//! admitted record and every question), so this thread may wait for the log.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use tidewatch_alerts::{Outbox, OutboxEvent, Routing, Transition};
use tidewatch_log::{Encoded, Journal, JournalTopic, Log, LogError, Record};
use tidewatch_model::{Clock, EventTime, Lsn, Partition, SessionId, Span, limits};
use tidewatch_query::Reading;
use tidewatch_sinks::Dispatcher;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    checkpoint::{Checkpointer, Rest},
    condition::Condition,
    core::{Core, CoreError, Effects, Revision, RulingEntry, SealedView, Session},
    owed::{Journalled, Owed},
    published::{Board, Published},
    telemetry::{EventResult, Gauge, Metrics, RuleOutcome, Stage},
};

/// Questions that may wait for the pipeline. At the limit: the asker is told to try again.
pub const QUESTIONS_MAX: usize = 256;

/// Whatever can wake the pipeline.
pub enum Event {
    /// A record is durable.
    Committed {
        lsn: Lsn,
        record: Box<Record>,
        answer: Option<Answer>,
        admitted: Option<OwnedSemaphorePermit>,
        /// Of the request that brought the record.
        span: tracing::Span,
    },
    /// Entries of journals are durable: `Journals` has them.
    Journalled,
    /// The deliveries' own news.
    Deliveries(Vec<OutboxEvent>),
    /// The clock moved.
    Tick,
    /// Somebody asks for everything as it stands now.
    Read(oneshot::Sender<Result<Reading, CoreError>>),
    Stop,
}

/// Who waits for a record to be applied.
pub enum Answer {
    /// The greatest sequence that was accepted before.
    Opened(oneshot::Sender<Option<u64>>),
    Ended(oneshot::Sender<Session>),
    Applied(oneshot::Sender<()>),
}

/// Where events for the pipeline go in.
#[derive(Clone, Debug)]
pub struct Inbox {
    events: SyncSender<Event>,
}

impl Inbox {
    /// For the commit thread. The queue has room for every admitted record, so this does not wait; after the
    /// pipeline's end there is nobody to tell.
    pub fn put(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// For everybody else: false where the pipeline has its hands full.
    pub fn offer(&self, event: Event) -> bool {
        match self.events.try_send(event) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

pub fn inbox() -> (Inbox, Receiver<Event>) {
    let (events, receiver) = sync_channel(limits::RECORDS_IN_FLIGHT_MAX + QUESTIONS_MAX + 1_024);
    (Inbox { events }, receiver)
}

/// Entries of journals that became durable, in the order of the log. The commit thread puts them in and never waits;
/// there are never more than one record causes, because the pipeline empties it before the next.
#[derive(Debug, Default)]
pub struct Journals {
    entries: Mutex<VecDeque<Journalled>>,
    /// An event that wakes the pipeline is on its way: one is enough, and more would take the room of records.
    waking: AtomicBool,
    /// Entries that the log did not take and those that came after them, in order. Tried again with the clock.
    refused: Mutex<VecDeque<Journalled>>,
    /// The clock's say, where the log did not take it.
    unadvanced: AtomicUsize,
}

impl Journals {
    fn put(&self, entry: Journalled, inbox: &Inbox) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push_back(entry);
        // Where the queue is full, the events in it wake the pipeline just as well.
        if !self.waking.swap(true, Ordering::AcqRel) && !inbox.offer(Event::Journalled) {
            self.awake();
        }
    }

    /// The event has come; whatever is put in from now on needs another.
    fn awake(&self) {
        self.waking.store(false, Ordering::Release);
    }

    /// Keeps an entry that the log did not take. What records cause is bounded, for without the log there are no records;
    /// news of deliveries is not, and to lose some can only mean a delivery too many, with the same key.
    fn refuse(&self, entry: Journalled) {
        let mut refused = self.refused();
        if refused.len() < limits::JOURNAL_ENTRIES_WAITING_MAX || !matches!(entry, Journalled::Deliveries(_)) {
            refused.push_back(entry);
        }
    }

    fn is_blocked(&self) -> bool {
        !self.refused().is_empty()
    }

    fn refused(&self) -> MutexGuard<'_, VecDeque<Journalled>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> VecDeque<Journalled> {
        std::mem::take(&mut *self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Called for each minute that is sealed: the demo's live line.
pub type OnSeal = Arc<dyn Fn(&SealedView, &Core, &[Transition]) + Send + Sync>;

/// What the pipeline works with.
pub struct Pipeline {
    pub core: Core,
    pub log: Arc<Log>,
    pub inbox: Inbox,
    pub board: Arc<Board>,
    pub metrics: Arc<Metrics>,
    pub condition: Arc<Condition>,
    pub clock: Arc<dyn Clock>,
    pub idle_after: Span,
    pub routing: Routing,
    pub dispatcher: Dispatcher,
    pub owed: Owed,
    pub journals: Arc<Journals>,
    /// The outbox as the journal has it; the dispatcher's own runs ahead of it.
    pub deliveries: Outbox,
    pub on_seal: Option<OnSeal>,
    pub checkpoints: Checkpointer,
    pub checkpoint_interval: Span,
    /// After so many events a checkpoint is taken before its time.
    pub checkpoint_events: u64,
    /// When the last checkpoint was taken, and the newest record in it.
    pub checkpointed: (EventTime, Lsn),
    /// Events that came since.
    pub unsaved_events: u64,
    /// The clock's say is on its way through the log; another is not needed before it arrives.
    pub advancing: usize,
}

impl Pipeline {
    /// Runs until `Stop`.
    pub fn run(mut self, events: &Receiver<Event>) {
        while let Ok(event) = events.recv()
            && self.handle(event)
        {}
        self.finish();
    }

    /// Leaves a checkpoint behind: a restart then has nothing to read. Where one is being written, the log has the rest.
    pub fn finish(mut self) {
        self.checkpoint();
        self.checkpoints.close();
    }

    /// False after the last event.
    pub fn handle(&mut self, event: Event) -> bool {
        if matches!(event, Event::Journalled) {
            self.journals.awake();
        }
        self.note_journalled();
        match event {
            Event::Committed { lsn, record, answer, admitted, span } => {
                let _applying = span.entered();
                self.committed(lsn, &record, answer);
                drop(admitted);
            }
            // Looked at before every event.
            Event::Journalled => {}
            Event::Deliveries(news) => self.journal_deliveries(news),
            Event::Tick => self.tick(),
            Event::Read(asker) => {
                // An asker that went away needs no answer.
                let _ = asker.send(self.core.reading());
            }
            Event::Stop => return false,
        }
        true
    }

    /// What the log's records caused before a crash and the journals do not hold yet.
    pub fn resume(&mut self) {
        let entries: Vec<RulingEntry> = self.owed.rulings().cloned().collect();
        entries.into_iter().for_each(|entry| self.journal_ruling(&entry));
        let revisions: Vec<Revision> = self.owed.revisions().cloned().collect();
        revisions.iter().for_each(|revision| self.journal_revision(revision));
        self.journal_transitions(self.owed.transitions());
        self.tell(&self.owed.untold());
    }

    fn committed(&mut self, lsn: Lsn, record: &Record, answer: Option<Answer>) {
        if matches!(record, Record::Advance(_)) {
            self.advancing = self.advancing.saturating_sub(1);
        }
        if !self.condition.views_follow() {
            // The log has the record; the next start applies it to a state that is whole.
            return;
        }
        self.await_room();
        let timer = self.metrics.time(Stage::Apply);
        let applied = self.core.apply(lsn, record);
        drop(timer);
        match applied {
            Ok(effects) => self.caused(effects),
            Err(error @ CoreError::Store(_)) => {
                self.condition.stop_views(&error.to_string());
                return;
            }
            Err(error) => {
                tracing::error!(%lsn, %error, "a record in the log could not be applied; its events are not counted")
            }
        }
        if let Record::Events(events) = record {
            self.unsaved_events += events.rows.num_rows() as u64;
            if self.unsaved_events >= self.checkpoint_events || self.core.wants_saving() {
                self.checkpoint();
            }
        }
        match (answer, record) {
            (Some(Answer::Opened(asker)), Record::SessionOpened(opened)) => {
                let _ = asker.send(self.core.operator().last_sequence(Partition::Session(opened.session), ""));
            }
            (Some(Answer::Ended(asker)), Record::SessionEnded(ended)) => {
                let _ = asker.send(self.core.session(ended.session).cloned().unwrap_or_default());
            }
            (Some(Answer::Applied(asker)), _) => {
                let _ = asker.send(());
            }
            _ => {}
        }
    }

    /// Where rows fill the memory that they have until a checkpoint takes them, the record waits for the one that is being
    /// written, and with it, in the end, whoever sends. Where the disk takes none nobody waits, and the oldest rows are lost.
    fn await_room(&mut self) {
        if !self.core.is_full() {
            return;
        }
        let timer = self.metrics.time(Stage::AwaitCheckpoint);
        let written = self.checkpoints.settle();
        drop(timer);
        if written {
            self.checkpoint();
        }
    }

    fn caused(&mut self, effects: Effects) {
        self.measure(&effects);
        self.owed.caused(&effects);
        for ruling in effects.rulings.iter().filter(|ruling| ruling.fresh) {
            self.journal_ruling(&RulingEntry::of(ruling));
        }
        effects.revisions.iter().for_each(|revision| self.journal_revision(revision));
        self.journal_transitions(effects.transitions.clone());
        if let Some(on_seal) = &self.on_seal {
            for sealed in &effects.sealed {
                let of_minute: Vec<Transition> =
                    effects.transitions.iter().filter(|t| t.minute == sealed.minute).cloned().collect();
                on_seal(sealed, &self.core, &of_minute);
            }
        }
        if !effects.sealed.is_empty() || effects.corrections > 0 {
            self.board.show(Published::of(&self.core));
        }
    }

    fn measure(&self, effects: &Effects) {
        let metrics = &self.metrics;
        metrics.events(EventResult::Accepted, effects.accepted);
        metrics.events(EventResult::Duplicate, effects.duplicates);
        metrics.events(EventResult::Late, effects.late);
        for reason in &effects.rejections {
            metrics.rejected(reason, 1);
        }
        metrics.sealed_minutes(effects.sealed.len() as u64);
        metrics.corrections(effects.corrections);
        for ruling in &effects.rulings {
            for verdict in &ruling.verdicts {
                let outcome = match &verdict.outcome {
                    tidewatch_alerts::Outcome::Failed { .. } => RuleOutcome::Failed,
                    tidewatch_alerts::Outcome::Rows(rows) if rows.is_empty() => RuleOutcome::Quiet,
                    tidewatch_alerts::Outcome::Rows(_) => RuleOutcome::Matched,
                };
                metrics.rule_evaluated(&verdict.rule, outcome);
            }
        }
        for transition in &effects.transitions {
            metrics.alert(transition.severity, transition.kind.name());
        }
        for (view, events, reason) in &effects.failures {
            metrics.view_failed(view, *events);
            tracing::warn!(view, events, reason, "a view could not take events: one of its expressions failed");
        }
        if effects.overflowed > 0 {
            tracing::warn!(
                events = effects.overflowed,
                "a view is at its limit of keys a minute; new keys count as `__other__`"
            );
        }
        if effects.sums_overflowed > 0 {
            tracing::warn!(sums = effects.sums_overflowed, "sums do not fit 64 bits and read as NULL");
        }
        if !effects.sealed.is_empty() {
            self.gauges();
        }
    }

    fn gauges(&self) {
        let operator = self.core.operator();
        let (ids, span) = operator.ids();
        if let Some(watermark) = operator.watermark() {
            self.metrics.set(Gauge::WatermarkSeconds, watermark.micros() as f64 / 1e6);
        }
        self.metrics.set(Gauge::HeadBytes, self.core.head().bytes() as f64);
        self.metrics.set(Gauge::RawBytes, self.core.raw_bytes() as f64);
        self.metrics.set(Gauge::DedupIds, ids as f64);
        if let Some(span) = span {
            self.metrics.set(Gauge::DedupSpanSeconds, span.seconds() as f64);
        }
        self.metrics.set(Gauge::AlertsFiring, self.core.live_alerts().active().count() as f64);
        self.metrics.set(Gauge::DeliveriesWaiting, self.dispatcher.waiting() as f64);
    }

    fn tick(&mut self) {
        self.journal_again();
        self.note_written();
        let now = self.clock.now();
        if now.since(self.checkpointed.0) >= self.checkpoint_interval || self.core.wants_saving() {
            self.checkpoint();
            self.checkpointed.0 = now;
        }
        self.advancing = self.advancing.saturating_sub(self.journals.unadvanced.swap(0, Ordering::AcqRel));
        if self.advancing > 0 {
            return;
        }
        for advance in self.core.advances(now, self.idle_after) {
            self.advancing += 1;
            self.append(Record::Advance(advance));
        }
    }

    /// What a checkpoint has on disk need not stay in memory.
    fn note_written(&mut self) {
        if let Some(written) = self.checkpoints.take_written() {
            self.core.saved(written.save, &written.cold);
            self.core.note_damages(written.damages);
            written.no_room.into_iter().for_each(|no_room| self.core.make_room(no_room));
            self.board.show(Published::of(&self.core));
        }
    }

    /// Takes what is new since the last checkpoint, where there is any and the one before is written.
    fn checkpoint(&mut self) {
        // A state that is not whole is never written down.
        let whole = self.condition.views_follow();
        if self.core.applied() == self.checkpointed.1 || !self.checkpoints.is_idle() || !whole {
            return;
        }
        // What is on disk makes room for what is saved now.
        self.note_written();
        let timer = self.metrics.time(Stage::Save);
        // What the core hands out counts as saved, so it comes last.
        let rest = Rest::of(&self.owed, &self.deliveries).map_err(|error| error.to_string());
        let saved =
            rest.and_then(|rest| self.core.save().map(|saved| (saved, rest)).map_err(|error| error.to_string()));
        match saved {
            Ok((saved, rest)) => {
                self.checkpointed.1 = saved.applied;
                self.unsaved_events = 0;
                self.checkpoints.write(saved, rest);
            }
            Err(error) => tracing::error!(error, "the state cannot be saved; the log has everything"),
        }
        drop(timer);
    }

    /// Tries again to journal what the log did not take.
    fn journal_again(&self) {
        let refused = std::mem::take(&mut *self.journals.refused());
        self.metrics.set(Gauge::JournalsWaiting, refused.len() as f64);
        for entry in refused {
            match entry {
                Journalled::Ruling { minute, session } => {
                    self.owed.ruling(minute, session).into_iter().for_each(|entry| self.journal_ruling(entry));
                }
                Journalled::Revision { minute, as_of } => {
                    self.owed.revision(minute, as_of).into_iter().for_each(|revision| self.journal_revision(revision));
                }
                Journalled::Transitions(transitions) => self.journal_transitions(transitions),
                Journalled::Deliveries(events) => self.journal_deliveries(events),
            }
        }
    }

    /// Appends a record of the clock's that comes back as an event.
    fn append(&self, record: Record) {
        let (inbox, journals) = (self.inbox.clone(), Arc::clone(&self.journals));
        match Encoded::new(&record) {
            Ok(encoded) => {
                let record = Box::new(record);
                let then = move |written: Result<Lsn, LogError>| match written {
                    Ok(lsn) => inbox.put(Event::Committed {
                        lsn,
                        record,
                        answer: None,
                        admitted: None,
                        span: tracing::Span::none(),
                    }),
                    // The clock says it again at its next tick.
                    Err(error) if error.is_retryable() => {
                        journals.unadvanced.fetch_add(1, Ordering::AcqRel);
                    }
                    Err(error) => tracing::error!(%error, "the log did not take a record of the engine's own"),
                };
                self.log.append(encoded, Box::new(then));
            }
            Err(error) => tracing::error!(%error, "a record of the engine's own could not be encoded"),
        }
    }

    fn journal_ruling(&self, entry: &RulingEntry) {
        let done = Journalled::Ruling { minute: entry.minute, session: entry.session };
        self.journal(JournalTopic::Verdicts, entry, done);
    }

    fn journal_revision(&self, revision: &Revision) {
        let done = Journalled::Revision { minute: revision.minute, as_of: revision.as_of };
        self.journal(JournalTopic::Verdicts, revision, done);
    }

    /// Transitions are durable before anybody is told.
    fn journal_transitions(&self, transitions: Vec<Transition>) {
        if !transitions.is_empty() {
            self.journal(JournalTopic::Alerts, &transitions.clone(), Journalled::Transitions(transitions));
        }
    }

    fn journal_deliveries(&self, events: Vec<OutboxEvent>) {
        if !events.is_empty() {
            self.journal(JournalTopic::Deliveries, &events.clone(), Journalled::Deliveries(events));
        }
    }

    fn journal(&self, topic: JournalTopic, entry: &impl serde::Serialize, done: Journalled) {
        // What comes after an entry that the log did not take waits behind it.
        if self.journals.is_blocked() {
            return self.journals.refuse(done);
        }
        let encoded = serde_json::to_vec(entry).map_err(|error| error.to_string()).and_then(|json| {
            Encoded::new(&Record::Journal(Journal { topic, json })).map_err(|error| error.to_string())
        });
        match encoded {
            Ok(encoded) => {
                let (journals, inbox) = (Arc::clone(&self.journals), self.inbox.clone());
                let then = move |written: Result<Lsn, LogError>| match written {
                    Ok(_) => journals.put(done, &inbox),
                    Err(error) if error.is_retryable() => journals.refuse(done),
                    Err(error) => tracing::error!(?topic, %error,
                        "the log did not take an entry of a journal; it is journalled after the next start"),
                };
                self.log.append(encoded, Box::new(then));
            }
            Err(error) => tracing::error!(?topic, error, "an entry of a journal could not be encoded"),
        }
    }

    /// Takes note of what the journals hold by now, and tells people of it.
    fn note_journalled(&mut self) {
        for entry in self.journals.take() {
            let tell = self.owed.journalled(&entry);
            self.tell(&tell);
            if let Journalled::Deliveries(events) = entry {
                events.into_iter().for_each(|event| self.deliveries.take_in(event));
            }
        }
    }

    fn tell(&mut self, transitions: &[Transition]) {
        for transition in transitions {
            let receivers = self.routing.receivers(transition);
            let events = self.dispatcher.offer(transition, receivers, None);
            if events.is_empty() {
                // No route leads anywhere, or the outbox has it already.
                self.owed.told(transition.key);
            }
            self.journal_deliveries(events);
        }
    }
}

/// The session's number: the hash of its name.
pub fn session_of(name: &str) -> SessionId {
    SessionId(tidewatch_model::hash64(name.as_bytes()))
}

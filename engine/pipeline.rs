//! The pipeline: one thread that owns the core. Everything that can wake it is one closed `Event`. It applies
//! durable records in the order of the log, journals what they caused, and hands alerts to their delivery.
//!
//! Nothing here can wait for itself: the log's commit thread never waits for this thread (the queue has room for every
//! admitted record and every question), so this thread may wait for the log.

use std::sync::{
    Arc,
    mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};

use tidewatch_alerts::{OutboxEvent, Routing, Transition};
use tidewatch_log::{Encoded, Journal, JournalTopic, Log, LogError, Record};
use tidewatch_model::{Clock, Lsn, Partition, SessionId, Span};
use tidewatch_query::Reading;
use tidewatch_sinks::Dispatcher;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    core::{Core, CoreError, Effects, MinuteRuling, Revision, RulingEntry, SealedView, Session},
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
    /// Transitions are in the journal: people may be told.
    Journalled(Vec<Transition>),
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

pub fn inbox(records_max: usize) -> (Inbox, Receiver<Event>) {
    let (events, receiver) = sync_channel(records_max + QUESTIONS_MAX + 1_024);
    (Inbox { events }, receiver)
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
    pub clock: Arc<dyn Clock>,
    pub idle_after: Span,
    pub routing: Routing,
    pub dispatcher: Dispatcher,
    pub on_seal: Option<OnSeal>,
    /// The clock's say is on its way through the log; another is not needed before it arrives.
    pub advancing: usize,
}

impl Pipeline {
    /// Runs until `Stop`.
    pub fn run(mut self, events: &Receiver<Event>) {
        while let Ok(event) = events.recv() {
            match event {
                Event::Committed { lsn, record, answer, admitted, span } => {
                    let _applying = span.entered();
                    self.committed(lsn, &record, answer);
                    drop(admitted);
                }
                Event::Journalled(transitions) => self.tell(&transitions),
                Event::Deliveries(news) => self.journal(JournalTopic::Deliveries, &news),
                Event::Tick => self.tick(),
                Event::Read(asker) => {
                    // An asker that went away needs no answer.
                    let _ = asker.send(self.core.reading());
                }
                Event::Stop => return,
            }
        }
    }

    /// What the log's records caused before a crash and the journals do not hold yet.
    pub fn resume(
        &self,
        rulings: &[MinuteRuling],
        revisions: &[Revision],
        transitions: Vec<Transition>,
        unoffered: Vec<Transition>,
    ) {
        for ruling in rulings {
            self.journal(JournalTopic::Verdicts, &RulingEntry::of(ruling));
        }
        for revision in revisions {
            self.journal(JournalTopic::Verdicts, revision);
        }
        if !transitions.is_empty() {
            self.journal_transitions(transitions);
        }
        self.tell(&unoffered);
    }

    fn committed(&mut self, lsn: Lsn, record: &Record, answer: Option<Answer>) {
        if matches!(record, Record::Advance(_)) {
            self.advancing = self.advancing.saturating_sub(1);
        }
        let timer = self.metrics.time(Stage::Apply);
        let applied = self.core.apply(lsn, record);
        drop(timer);
        match applied {
            Ok(effects) => self.caused(effects),
            Err(error) => {
                tracing::error!(%lsn, %error, "a record in the log could not be applied; its events are not counted")
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

    fn caused(&mut self, effects: Effects) {
        self.measure(&effects);
        for ruling in effects.rulings.iter().filter(|ruling| ruling.fresh) {
            self.journal(JournalTopic::Verdicts, &RulingEntry::of(ruling));
        }
        for revision in &effects.revisions {
            self.journal(JournalTopic::Verdicts, revision);
        }
        if !effects.transitions.is_empty() {
            self.journal_transitions(effects.transitions.clone());
        }
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
        if self.advancing > 0 {
            return;
        }
        for advance in self.core.advances(self.clock.now(), self.idle_after) {
            self.advancing += 1;
            self.append(Record::Advance(advance));
        }
    }

    /// Appends a record of our own that comes back as an event.
    fn append(&self, record: Record) {
        let inbox = self.inbox.clone();
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
                    Err(error) => tracing::error!(%error, "the log did not take a record of the engine's own"),
                };
                self.log.append(encoded, Box::new(then));
            }
            Err(error) => tracing::error!(%error, "a record of the engine's own could not be encoded"),
        }
    }

    fn journal(&self, topic: JournalTopic, entry: &impl serde::Serialize) {
        self.journal_then(topic, entry, || {});
    }

    fn journal_then(&self, topic: JournalTopic, entry: &impl serde::Serialize, then: impl FnOnce() + Send + 'static) {
        let encoded = serde_json::to_vec(entry).map_err(|error| error.to_string()).and_then(|json| {
            Encoded::new(&Record::Journal(Journal { topic, json })).map_err(|error| error.to_string())
        });
        match encoded {
            Ok(encoded) => {
                let then = move |written: Result<Lsn, LogError>| match written {
                    Ok(_) => then(),
                    Err(error) => tracing::error!(?topic, %error, "the log did not take an entry of a journal"),
                };
                self.log.append(encoded, Box::new(then));
            }
            Err(error) => tracing::error!(?topic, error, "an entry of a journal could not be encoded"),
        }
    }

    /// Transitions are durable before anybody is told.
    pub fn journal_transitions(&self, transitions: Vec<Transition>) {
        let inbox = self.inbox.clone();
        let entry = transitions.clone();
        self.journal_then(JournalTopic::Alerts, &entry, move || {
            if !inbox.offer(Event::Journalled(transitions)) {
                // They are in the journal: the next start delivers them.
                tracing::error!("the pipeline is too busy to deliver alerts; they are delivered after the next start");
            }
        });
    }

    fn tell(&self, transitions: &[Transition]) {
        for transition in transitions {
            let receivers = self.routing.receivers(transition);
            let events = self.dispatcher.offer(transition, receivers, None);
            if !events.is_empty() {
                self.journal(JournalTopic::Deliveries, &events);
            }
        }
    }
}

/// The session's number: the hash of its name.
pub fn session_of(name: &str) -> SessionId {
    SessionId(tidewatch_model::hash64(name.as_bytes()))
}

//! `Core`: everything after the log, as one synchronous function of its records. Records go in, in the order of the
//! log; what they caused comes out as `Effects`. It has no disk, no network and no clock of its own.

mod damages;
mod effects;
mod ledger;
mod liveness;
mod minutes;
mod rebuild;
mod recovery;
mod revisions;
mod rulings;
mod saved;
mod tables;

pub use damages::{DamagedPart, FoundDamage};
pub use effects::{Effects, MinuteRuling, RulingEntry, SealedView, VerdictEntry};
pub use recovery::{Known, Recollection};
pub use revisions::{Change, Revision};
pub use saved::{CoreState, RestoredCore, SavedCore, SavedTable, SavedView, TABLES};
pub use tables::{
    alerts_schema, corrections_schema, damages_schema, late_schema, rejected_schema, rules_schema, verdicts_schema,
};

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow::{array::AsArray, datatypes::TimestampMicrosecondType};
use serde::{Deserialize, Serialize};
use tidewatch_alerts::{Alerts, Transition};
use tidewatch_log::{Advance, Events, Record};
use tidewatch_model::{EventTime, Lsn, Minute, Partition, SessionId, Span, StreamSchema, limits};
use tidewatch_query::{Catalog, Reading, Scope, TableSnapshot};
use tidewatch_rules::{RuleLimits, RuleSet, Verdict};
use tidewatch_store::{Cold, Head, NoRoom, Snapshot, StoreError};
use tidewatch_views::{Applied, Operator, OperatorLimits, Sealer, Sequenced, Stream, View, with_roll_ups};

use crate::{
    planted::Planted,
    telemetry::{Metrics, Stage},
};
use ledger::Ledger;
use liveness::Liveness;
use revisions::Revisions;
use rulings::Rulings;

/// What the core is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    pub stream: Stream,
    pub views: Vec<Arc<View>>,
    /// Paths and texts of the rule files.
    pub rules: Vec<(String, String)>,
}

/// What the core may use.
#[derive(Debug, Clone, Copy)]
pub struct CoreLimits {
    pub ids_max: usize,
    pub head_bytes_max: usize,
    /// Of minutes that were read back from disk.
    pub cache_bytes_max: usize,
    /// Of raw events that no checkpoint has yet.
    pub raw_bytes_max: usize,
    /// How long raw events are kept on disk, and how long the rows of the other tables.
    pub raw_retention: Span,
    pub ledger_retention: Span,
    pub rules: RuleLimits,
}

#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    #[error("record {lsn} could not be applied: {reason}")]
    Record { lsn: Lsn, reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the rules could not be given a runtime: {0}")]
    Runtime(#[from] std::io::Error),
    #[error("the views could not be started: {0}")]
    Views(String),
    #[error(transparent)]
    Restore(#[from] tidewatch_views::RestoreError),
    #[error("the state could not be written down: {0}")]
    State(String),
}

/// What is known of a replay session.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Session {
    pub name: String,
    pub notify: bool,
    /// The record that opened it last.
    opened: Lsn,
    is_open: bool,
    pub accepted: u64,
    pub duplicates: u64,
    pub late: u64,
    pub rejected: u64,
}

/// The ledgers that people can ask.
#[derive(Debug)]
struct Tables {
    transactions: Ledger,
    rejected: Ledger,
    late: Ledger,
    corrections: Ledger,
    verdicts: Ledger,
    alerts: Ledger,
    damages: Ledger,
    raw_retention: Span,
    ledger_retention: Span,
}

impl Tables {
    fn new(stream: &StreamSchema, limits: &CoreLimits) -> Self {
        let [transactions, rejected, late, corrections, verdicts, alerts, damages] = tables::shapes(stream);
        let ledger = |shape| Ledger::new(shape, limits::LEDGER_BYTES_MAX);
        Self {
            transactions: Ledger::new(transactions, limits.raw_bytes_max),
            rejected: ledger(rejected),
            late: ledger(late),
            corrections: ledger(corrections),
            verdicts: ledger(verdicts),
            alerts: ledger(alerts),
            damages: ledger(damages),
            raw_retention: limits.raw_retention,
            ledger_retention: limits.ledger_retention,
        }
    }

    /// In the order of `TABLES`.
    fn all(&self) -> [&Ledger; TABLES.len()] {
        let Self { transactions, rejected, late, corrections, verdicts, alerts, damages, .. } = self;
        [transactions, rejected, late, corrections, verdicts, alerts, damages]
    }

    fn all_mut(&mut self) -> [&mut Ledger; TABLES.len()] {
        let Self { transactions, rejected, late, corrections, verdicts, alerts, damages, .. } = self;
        [transactions, rejected, late, corrections, verdicts, alerts, damages]
    }

    /// What leaves as time goes on to `watermark`.
    fn retain(&mut self, watermark: EventTime) {
        let (raw, others) = (self.raw_retention, self.ledger_retention);
        let keep = |retention| watermark.minus(retention).minute();
        let [transactions, others_of @ ..] = self.all_mut();
        transactions.retain(keep(raw));
        others_of.into_iter().for_each(|ledger| ledger.retain(keep(others)));
    }

    fn save(&mut self, save: u64) -> Vec<SavedTable> {
        let saved = TABLES.into_iter().zip(self.all_mut()).map(|(name, table)| {
            let taken = table.take_new(save);
            let time = table.shape().time.unwrap_or_default();
            SavedTable { name, time, new: taken.rows, leaving: taken.leaving, lost: table.lost() }
        });
        saved.collect()
    }

    fn kept_from(&self) -> Vec<(String, Minute)> {
        let kept = self.all().into_iter().filter_map(|table| Some((table.shape().name.clone(), table.kept_from()?)));
        kept.collect()
    }

    fn restore(&mut self, kept_from: &[(String, Minute)]) {
        for table in self.all_mut() {
            let kept = kept_from.iter().find(|(name, _)| *name == table.shape().name);
            table.restore_kept(kept.map(|(_, minute)| *minute));
        }
    }
}

#[derive(Debug)]
pub struct Core {
    stream: Stream,
    operator: Operator,
    head: Head,
    rulings: Rulings,
    revisions: Revisions,
    liveness: Liveness,
    tables: Tables,
    /// What the newest checkpoint has on disk.
    cold: Option<Cold>,
    sessions: BTreeMap<SessionId, Session>,
    applied: Lsn,
    stages: Option<Arc<Metrics>>,
    planted: Option<Planted>,
}

impl Core {
    pub fn new(plan: &Plan, limits: CoreLimits) -> Result<Self, CoreError> {
        let schema = &plan.stream.schema;
        let operator =
            Operator::new(Arc::clone(schema), plan.views.clone(), OperatorLimits { ids_max: limits.ids_max })
                .map_err(|error| CoreError::Views(error.strip_backtrace()))?;
        let rules = RuleSet::load(plan.rules.clone(), &catalog(plan));
        Ok(Self {
            stream: plan.stream.clone(),
            operator,
            head: Head::new(&plan.views, limits.head_bytes_max)?,
            rulings: Rulings::new(rules, limits.rules)?,
            revisions: Revisions::default(),
            liveness: Liveness::default(),
            tables: Tables::new(schema, &limits),
            cold: None,
            sessions: BTreeMap::new(),
            applied: Lsn::default(),
            stages: None,
            planted: None,
        })
    }

    /// Everything since the last save, and what is written anew each time. Costs what is new and what is open.
    pub fn save(&mut self) -> Result<SavedCore, CoreError> {
        let operator = self.operator.save().map_err(|error| CoreError::State(error.to_string()))?;
        let held = self.head.held();
        let state = CoreState {
            operator: operator.state,
            alerts: self.rulings.live_alerts().save(),
            session_alerts: self.rulings.save_sessions(),
            newest: self.newest_verdicts().values().cloned().collect(),
            revisions: self.revisions.save(),
            liveness: self.liveness.save(),
            sessions: self.sessions.iter().map(|(id, session)| (*id, session.clone())).collect(),
            kept_from: self.tables.kept_from(),
            held: self.head.stored().iter().map(|view| view.meta.name.clone()).zip(held.clone()).collect(),
        };
        let state = match serde_json::to_vec(&state) {
            Ok(state) => state,
            Err(error) => {
                // Nothing else was taken yet.
                self.operator.unsave_ids();
                return Err(CoreError::State(error.to_string()));
            }
        };
        let unsaved = self.head.take_unsaved();
        let views = unsaved.views.into_iter().zip(held).zip(self.head.seen());
        Ok(SavedCore {
            applied: self.applied,
            save: unsaved.save,
            state,
            open: operator.open,
            ids: operator.ids,
            ids_from: operator.ids_from,
            views: views.map(|((new, held), seen)| SavedView { new, held, seen }).collect(),
            tables: self.tables.save(unsaved.save),
        })
    }

    /// The core as it was saved. What it holds counts as saved.
    pub fn restore(plan: &Plan, limits: CoreLimits, saved: RestoredCore) -> Result<Self, CoreError> {
        let mut core = Self::new(plan, limits)?;
        let (schema, views) = (Arc::clone(&plan.stream.schema), plan.views.clone());
        let state = saved.state;
        let limits = OperatorLimits { ids_max: limits.ids_max };
        core.operator = Operator::restore(schema, views, limits, state.operator, saved.open, saved.ids)?;
        for (at, (view, seen)) in core.head.stored().iter().zip(saved.seen).enumerate() {
            let held = state.held.iter().find(|(name, _)| *name == view.meta.name);
            let held = held.map(|(_, held)| held.clone()).unwrap_or_default();
            let sealed = core.operator.sealed();
            core.head.restore(at, &held, seen.as_ref(), |minute| sealed.contains(minute))?;
        }
        core.head.saved(0, &saved.cold);
        core.rulings.restore(state.alerts, state.session_alerts, state.newest);
        core.revisions = Revisions::restore(state.revisions);
        core.liveness = Liveness::restore(state.liveness);
        core.sessions = state.sessions.into_iter().collect();
        core.tables.restore(&state.kept_from);
        core.cold = Some(saved.cold);
        core.applied = saved.applied;
        Ok(core)
    }

    /// What was saved under this number is on disk, and can be read there.
    pub fn saved(&mut self, save: u64, cold: &Cold) {
        self.head.saved(save, cold);
        self.tables.all_mut().into_iter().for_each(|table| table.saved(save));
        self.cold = Some(cold.clone());
    }

    /// Everything older than this goes with the next save: the disk has no room for it.
    pub fn make_room(&mut self, no_room: NoRoom) {
        self.head.make_room(no_room);
        self.tables.all_mut().into_iter().for_each(|table| table.make_room(no_room.before));
    }

    /// Whether it is time for a checkpoint, or memory for rows of tables gets scarce.
    pub fn wants_saving(&self) -> bool {
        self.tables.all().into_iter().any(Ledger::wants_saving)
    }

    /// Whether rows of tables will be lost unless the next record waits for a checkpoint.
    pub fn is_full(&self) -> bool {
        self.tables.all().into_iter().any(Ledger::is_full)
    }

    /// After a restore: ends the alerts of rules that are gone, and answers the transitions.
    pub fn retire_gone_rules(&mut self) -> Vec<Transition> {
        let transitions = self.rulings.retire_gone(self.operator.sealed().newest());
        self.tables.alerts.push(tables::transition_rows(&transitions));
        transitions
    }

    /// Has a bug from now on.
    pub fn plant(&mut self, bug: Planted) {
        if bug == Planted::ForgetIds {
            self.operator.forget_ids();
        }
        self.planted = Some(bug);
    }

    /// Measures the stages of sealing from now on.
    pub fn measure(&mut self, metrics: Arc<Metrics>) {
        self.rulings.measure(Arc::clone(&metrics));
        self.stages = Some(metrics);
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    pub fn rules(&self) -> &Arc<RuleSet> {
        self.rulings.rules()
    }

    pub fn live_alerts(&self) -> &Alerts {
        self.rulings.live_alerts()
    }

    /// Each rule's newest verdict of live traffic (or of whichever timeline judged last).
    pub fn newest_verdicts(&self) -> &HashMap<String, Verdict> {
        self.rulings.newest()
    }

    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    pub fn raw_bytes(&self) -> usize {
        self.tables.transactions.bytes()
    }

    pub fn session(&self, session: SessionId) -> Option<&Session> {
        self.sessions.get(&session)
    }

    /// The last record that was applied.
    pub fn applied(&self) -> Lsn {
        self.applied
    }

    /// Verdicts that the journal holds already: they are never computed again.
    pub fn know(&mut self, known: Known) {
        self.rulings.know(known.verdicts);
        self.revisions.know(known.revisions);
    }

    /// Applies one record. An error means that the record and the views do not fit; the state is then unchanged but
    /// for the record's place.
    pub fn apply(&mut self, lsn: Lsn, record: &Record) -> Result<Effects, CoreError> {
        self.applied = lsn;
        match record {
            Record::Events(events) => self.events(lsn, events),
            Record::Advance(advance) => self.advance(lsn, advance),
            Record::SessionOpened(opened) => {
                self.make_room_for_a_session();
                let session = self.sessions.entry(opened.session).or_default();
                session.name.clone_from(&opened.name);
                session.notify = opened.notify;
                (session.opened, session.is_open) = (lsn, true);
                self.operator
                    .open_session(opened.session, opened.lateness)
                    .map_err(|error| CoreError::Record { lsn, reason: error.strip_backtrace() })?;
                Ok(Effects::default())
            }
            Record::SessionEnded(ended) => {
                let applied = self.operator.end_session(ended.session);
                let effects = self.settle(lsn, applied, Effects::default())?;
                self.rulings.end_session(ended.session);
                if let Some(session) = self.sessions.get_mut(&ended.session) {
                    session.is_open = false;
                }
                Ok(effects)
            }
            Record::Journal(_) => Ok(Effects::default()),
        }
    }

    fn make_room_for_a_session(&mut self) {
        if self.sessions.len() < limits::SESSIONS_REMEMBERED_MAX {
            return;
        }
        let ended = self.sessions.iter().filter(|(_, session)| !session.is_open);
        if let Some(oldest) = ended.min_by_key(|(_, session)| session.opened).map(|(id, _)| *id) {
            self.sessions.remove(&oldest);
        }
    }

    fn events(&mut self, lsn: Lsn, events: &Events) -> Result<Effects, CoreError> {
        let mut effects = Effects { rejected: events.rejected.len() as u64, ..Effects::default() };
        effects.rejections = events.rejected.iter().map(|rejected| rejected.reason.clone()).collect();
        self.tables.rejected.push(tables::rejected_rows(events.arrived_at, lsn, &events.rejected));
        let sent = (events.rows.num_rows() + events.rejected.len()) as u64;
        let producer = events.producer.as_ref().map(|producer| Sequenced {
            producer: &producer.id,
            first: producer.first_sequence,
            offsets: producer.offsets.as_deref(),
            last: producer.first_sequence.saturating_add(sent.saturating_sub(1)),
        });
        if matches!(events.partition, Partition::Live(_)) {
            let times = events.rows.column(self.stream.schema.event_time());
            let newest = times.as_primitive_opt::<TimestampMicrosecondType>().and_then(arrow::compute::max);
            if let Some(newest) = newest.map(EventTime::from_micros) {
                let lateness = self.stream.schema.lateness;
                self.liveness.heard(events.partition, events.arrived_at, newest, lateness);
            }
        }
        let applied = self
            .operator
            .events(tidewatch_views::Events { partition: events.partition, producer, rows: &events.rows })
            .map_err(|error| CoreError::Record { lsn, reason: error.strip_backtrace() })?;
        effects.accepted = applied.accepted.as_ref().map_or(0, |rows| rows.num_rows() as u64);
        effects.duplicates = applied.duplicates;
        effects.late = applied.late.iter().map(|(rows, _)| rows.num_rows() as u64).sum();
        if let Partition::Session(session) = events.partition
            && let Some(session) = self.sessions.get_mut(&session)
        {
            session.accepted += effects.accepted;
            session.duplicates += effects.duplicates;
            session.late += effects.late;
            session.rejected += effects.rejected;
        }
        if let Some(accepted) = &applied.accepted {
            self.tables.transactions.push(accepted.clone());
        }
        for (rows, reason) in &applied.late {
            let schema = Arc::clone(&self.tables.late.shape().schema);
            self.tables.late.push(tables::late_rows(&schema, reason.text(), rows));
        }
        self.settle(lsn, applied, effects)
    }

    fn advance(&mut self, lsn: Lsn, advance: &Advance) -> Result<Effects, CoreError> {
        self.liveness.advanced(advance.partition, advance.watermark);
        let applied = self.operator.advance(advance.partition, advance.watermark);
        self.settle(lsn, applied, Effects::default())
    }

    /// Corrections into the store, then each sealed minute: stored, judged, its alerts moved on.
    fn settle(&mut self, lsn: Lsn, applied: Applied, mut effects: Effects) -> Result<Effects, CoreError> {
        for (view, absorbed) in self.operator.views().iter().zip(&applied.absorbed) {
            effects.overflowed += absorbed.overflowed;
            if let Some((events, reason)) = &absorbed.failed {
                effects.failures.push((view.meta.name.clone(), *events, reason.clone()));
            }
        }
        for correction in applied.corrections {
            effects.corrections += 1;
            self.revisions.corrected(correction.minute);
            let cause = if correction.by == Sealer::Live { "late event" } else { "replay" };
            for (at, partial) in correction.views.into_iter().enumerate().filter(|(_, partial)| !partial.is_empty()) {
                if let Some(view) = self.operator.views().get(at) {
                    let row = tables::correction_row(correction.minute, &view.meta.name, partial.len(), lsn, cause);
                    self.tables.corrections.push(row);
                }
                if self.planted != Some(Planted::DropCorrections) {
                    effects.sums_overflowed += self.head.correct(at, partial)?.overflowed as u64;
                }
            }
        }
        let stages = self.stages.clone();
        for sealed in applied.sealed {
            let _span = tracing::info_span!("seal", minute = %sealed.minute).entered();
            let sealing = stages.as_ref().map(|stages| stages.time(Stage::Seal));
            let mut views = Vec::with_capacity(sealed.views.len());
            for (at, partial) in sealed.views.into_iter().enumerate() {
                let stored = self.head.add(at, partial)?;
                effects.sums_overflowed += stored.overflowed as u64;
                views.push(stored.rows);
            }
            effects.sealed.push(SealedView { minute: sealed.minute, by: sealed.by, rows: views });
            drop(sealing);
            let _judging = stages.as_ref().map(|stages| stages.time(Stage::JudgeMinute));
            self.rule(sealed.minute, sealed.by, &mut effects);
        }
        self.revise(lsn, &mut effects);
        if !effects.sealed.is_empty()
            && let Some(newest) = self.operator.sealed().newest()
        {
            // Retention counts from live traffic where there is any: history does not move it.
            let watermark = self.operator.watermark().unwrap_or(newest.end());
            self.head.retain(watermark);
            self.tables.retain(watermark);
        }
        Ok(effects)
    }

    fn rule(&mut self, minute: Minute, by: Sealer, effects: &mut Effects) {
        let _span = tracing::info_span!("judge", %minute).entered();
        let notify = match by {
            Sealer::Live => true,
            Sealer::Session(session) => self.sessions.get(&session).is_some_and(|session| session.notify),
        };
        let reading = self.reading_of(minute);
        let (ruling, transitions) = self.rulings.judge(minute, by, notify, &reading);
        self.tables.verdicts.push(tables::verdict_rows(&ruling.verdicts));
        self.revisions.given(minute, &ruling.verdicts);
        self.tables.alerts.push(tables::transition_rows(&transitions));
        effects.rulings.push(ruling);
        effects.transitions.extend(transitions);
    }

    /// What the rules read to judge a minute.
    fn reading_of(&self, minute: Minute) -> Reading {
        let views = minutes::judged(&self.head.snapshot());
        let scope = Scope::sealed(minute, minute);
        Reading::new(views, [self.alerts_table()], scope, tidewatch_query::Baselines::shared())
    }

    /// Judges minutes again that were corrected: their verdicts stand, and the journal says what would have been.
    fn revise(&mut self, lsn: Lsn, effects: &mut Effects) {
        for _ in 0..limits::REVISIONS_PER_RECORD_MAX {
            let Some(minute) = self.revisions.next() else { return };
            let revision = match self.revisions.known(minute, lsn) {
                Some(known) => {
                    self.revisions.replay(&known);
                    known
                }
                None => {
                    let verdicts = self.rulings.compute(minute, &self.reading_of(minute));
                    let revision = self.revisions.compare(minute, lsn, &verdicts);
                    if revision.changes.is_empty() {
                        continue;
                    }
                    effects.revisions.push(revision.clone());
                    revision
                }
            };
            self.tables.verdicts.push(tables::revision_rows(&revision));
        }
    }

    fn alerts_table(&self) -> TableSnapshot {
        self.tables.alerts.table(self.cold.as_ref())
    }

    /// What the clock lets silent partitions do.
    pub fn advances(&self, now: EventTime, idle_after: Span) -> Vec<Advance> {
        self.liveness.advances(&self.stream.schema, now, idle_after)
    }

    /// Everything that a question may read, open minutes among it.
    pub fn reading(&self) -> Result<Reading, CoreError> {
        let snapshot = self.head.snapshot_with_open(self.operator.open_rows())?;
        let rules = TableSnapshot::new(tables::rules_shape(), None, vec![tables::rule_rows(self.rules())]);
        let named = self.tables.all().map(|table| table.table(self.cold.as_ref())).into_iter().chain([rules]);
        Ok(Reading::new(minutes::tables(&snapshot), named, Scope::EVERYTHING, tidewatch_query::Baselines::shared()))
    }

    pub fn snapshot(&self) -> Snapshot {
        self.head.snapshot()
    }
}

/// The shapes of all tables, for planning before there is any data.
pub fn catalog(plan: &Plan) -> Catalog {
    let named = tables::shapes(&plan.stream.schema).into_iter().chain([tables::rules_shape()]);
    Catalog::new(with_roll_ups(&plan.views).iter().map(|view| Arc::clone(&view.meta)), named)
}

//! The core's state as a checkpoint holds it. What is small is written anew each time; what is large (sealed minutes,
//! tables, ids) only as far as it is new since the last save.

use std::sync::Arc;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};
use tidewatch_alerts::AlertsState;
use tidewatch_model::{Lsn, Minute, SessionId};
use tidewatch_rules::Verdict;
use tidewatch_store::{Cold, Held, SeenBefore};
use tidewatch_views::{DomainId, IdRuns, OpenFrame, OperatorState, PartialRows};

use super::{Session, liveness::LivenessState, revisions::RevisionsState};

/// What is written anew at every save.
#[derive(Debug, Serialize, Deserialize)]
pub struct CoreState<'a> {
    pub operator: OperatorState,
    pub alerts: AlertsState<'a>,
    pub session_alerts: Vec<(SessionId, AlertsState<'a>)>,
    /// Each rule's newest verdict.
    pub newest: Vec<Verdict>,
    pub(super) revisions: RevisionsState<'a>,
    pub(super) liveness: LivenessState,
    pub sessions: Vec<(SessionId, Session)>,
    /// By the name of the view or roll-up, what it holds.
    pub held: Vec<(String, Held)>,
    /// By the table's name, up to which minute its rows have left.
    #[serde(default)]
    pub kept_from: Vec<(String, Minute)>,
}

/// The tables that people can ask, by the names that they have in SQL.
pub const TABLES: [&str; 7] =
    ["transactions", "rejected_events", "late_events", "corrections", "verdicts", "alerts", "damages"];

#[derive(Debug)]
pub struct SavedTable {
    pub name: &'static str,
    /// The number of the column with the time of a row.
    pub time: usize,
    /// Rows since the last save.
    pub new: Vec<RecordBatch>,
    /// What is of these minutes, the last not among them, goes with this save.
    pub leaving: Option<(Minute, Minute)>,
    /// Rows that went, since the start, before they could be saved: for want of memory while no checkpoint was written.
    pub lost: u64,
}

#[derive(Debug)]
pub struct SavedView {
    /// Minutes and corrections to them since the last save, in order; of a roll-up those of its view, to be added up by window.
    pub new: Vec<Arc<PartialRows>>,
    /// Minutes of other hours need not be kept.
    pub held: Held,
    /// Of a view that fills gaps, what was seen before its newest hour.
    pub seen: Option<SeenBefore>,
}

/// Everything that the records up to `applied` led to, as far as it was not saved before.
#[derive(Debug)]
pub struct SavedCore {
    pub applied: Lsn,
    /// The save's number, by which the core is told that all of it is on disk.
    pub save: u64,
    /// `CoreState` as JSON.
    pub state: Vec<u8>,
    pub open: Vec<OpenFrame>,
    pub ids: Vec<IdRuns>,
    /// Of each domain with ids, the oldest minute of which any are still remembered.
    pub ids_from: Vec<(DomainId, Option<Minute>)>,
    /// Roll-ups stand behind the views.
    pub views: Vec<SavedView>,
    pub tables: Vec<SavedTable>,
}

/// What was saved, put together again.
#[derive(Debug)]
pub struct RestoredCore {
    pub applied: Lsn,
    pub state: CoreState<'static>,
    pub open: Vec<OpenFrame>,
    pub ids: Vec<IdRuns>,
    /// For each view that fills gaps, what was seen before its newest hour.
    pub seen: Vec<Option<SeenBefore>>,
    /// Where the views' minutes and the tables' rows are.
    pub cold: Cold,
}

//! `SavedOperator`: all that a window operator knows, in a form that a checkpoint can hold, and the way back from it.
//! Small things stand in `OperatorState`, open rows in frames, remembered ids in runs of which each save hands out only
//! the new ones. Nothing here writes a file. The forms are drawn in FORMAT.md.

use std::{collections::BTreeMap, sync::Arc};

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use serde::{Deserialize, Serialize};
use tidewatch_model::{IdHash, Minute, SessionId, StreamSchema};

use crate::{
    domain::{Domain, DomainState, Settings},
    frame::FrameError,
    memory::Producers,
    operator::{Operator, OperatorLimits},
    sealed::SealedMinutes,
    view::View,
};

/// The version of the layout of `OperatorState`.
pub const STATE_FORMAT: u32 = 1;

/// What of an operator is small, for one piece of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorState {
    format: u32,
    live: DomainState,
    sessions: Vec<(SessionId, DomainState)>,
    openings: u64,
    /// In the order in which they were heard of first.
    producers: Vec<(String, u64)>,
    session_sequences: Vec<(String, u64)>,
    /// First and last minute of each range.
    sealed: Vec<(Minute, Minute)>,
}

/// Whose ids: live traffic's or a session's. A session that was opened again has forgotten those of its life before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DomainId {
    pub session: Option<SessionId>,
    /// Which of all openings of sessions it was, from 1; 0 for live traffic.
    pub opening: u64,
}

/// Open rows of one view: whole minutes, with a last column that says which keys are the events' own.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenFrame {
    pub session: Option<SessionId>,
    /// The view's place, by which it is found again; its name and fingerprint must fit.
    pub view: usize,
    pub name: String,
    pub fingerprint: u64,
    pub frame: RecordBatch,
}

/// Ids by the minutes of their events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdRuns {
    pub domain: DomainId,
    pub runs: Vec<(Minute, Vec<IdHash>)>,
}

/// An operator as it stands.
#[derive(Debug, Clone)]
pub struct SavedOperator {
    pub state: OperatorState,
    pub open: Vec<OpenFrame>,
    /// The ids remembered since the save before.
    pub ids: Vec<IdRuns>,
    /// For each domain that there is, the oldest minute whose runs it needs. Runs of older minutes, and runs of domains
    /// that are not listed or have no such minute, are not needed any more.
    pub ids_from: Vec<(DomainId, Option<Minute>)>,
}

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("the operator's state is of format {found} and this version reads format {known}: upgrade tidewatch to the \
             version that wrote it", known = STATE_FORMAT)]
    Format { found: u32 },
    #[error("open rows of view `{view}` cannot be taken back: {reason}; rebuild the view from the log")]
    View { view: String, reason: String },
    #[error("the operator's state does not hold together: {reason}; restore an older checkpoint")]
    Damaged { reason: String },
    #[error("open rows cannot be taken back: {0}")]
    Frame(#[from] FrameError),
    #[error("the views cannot be set up: {0}")]
    Views(#[from] DataFusionError),
}

fn damaged(reason: impl Into<String>) -> RestoreError {
    RestoreError::Damaged { reason: reason.into() }
}

impl Operator {
    /// The operator as it stands. The cost is that of the open rows and of the ids that are new since the save before.
    /// Those count as saved from here on: where they could not be written, call `unsave_ids`.
    pub fn save(&mut self) -> Result<SavedOperator, FrameError> {
        let mut open = Vec::new();
        for (id, domain) in self.domains() {
            for (at, (view, groups)) in self.views.iter().zip(&domain.open).enumerate() {
                open.extend(groups.to_frames()?.into_iter().map(|frame| OpenFrame {
                    session: id.session,
                    view: at,
                    name: view.meta.name.clone(),
                    fingerprint: view.fingerprint(),
                    frame,
                }));
            }
        }
        let state = self.state();
        let ids_from = self.domains().map(|(id, domain)| (id, domain.ids.oldest_whole())).collect();
        let ids = self.domains_mut().map(|(domain, memory)| IdRuns { domain, runs: memory.ids.take_unsaved() });
        let ids = ids.filter(|ids| !ids.runs.is_empty()).collect();
        Ok(SavedOperator { state, open, ids, ids_from })
    }

    /// What saves handed out is lost: the next one hands out every id that is held.
    pub fn unsave_ids(&mut self) {
        self.domains_mut().for_each(|(_, domain)| domain.ids.unsave());
    }

    /// An operator as it was saved. `ids` are all runs that saves up to this one handed out and that were not deleted
    /// since, in any order; what is not held any more is passed over. Where the stream's lateness or span of
    /// de-duplication changed, live traffic keeps the new ones; open sessions keep what they were opened with.
    pub fn restore(
        schema: Arc<StreamSchema>,
        views: Vec<Arc<View>>,
        limits: OperatorLimits,
        state: OperatorState,
        open: Vec<OpenFrame>,
        ids: impl IntoIterator<Item = IdRuns>,
    ) -> Result<Self, RestoreError> {
        state.check()?;
        let settings = Settings { lateness: schema.lateness, dedup_span: schema.dedup_span };
        let live = Domain::resume(&views, &state.live, Some(settings), limits.ids_max)?;
        let mut sessions = BTreeMap::new();
        for (session, saved) in &state.sessions {
            sessions.insert(*session, Domain::resume(&views, saved, None, limits.ids_max)?);
        }
        let sealed = SealedMinutes::from_ranges(&state.sealed)
            .ok_or_else(|| damaged("its ranges of sealed minutes are out of order"))?;
        let (producers, session_sequences) = (heard(&state.producers), heard(&state.session_sequences));
        let openings = state.openings;
        let mut operator =
            Self { schema, views, limits, live, sessions, openings, producers, session_sequences, sealed };
        operator.put_open(open)?;
        operator.recall(&state, ids)?;
        Ok(operator)
    }

    fn state(&self) -> OperatorState {
        let owned = |producers: &Producers| producers.in_order().map(|(name, last)| (name.to_owned(), last)).collect();
        OperatorState {
            format: STATE_FORMAT,
            live: self.live.state(),
            sessions: self.sessions.iter().map(|(session, domain)| (*session, domain.state())).collect(),
            openings: self.openings,
            producers: owned(&self.producers),
            session_sequences: owned(&self.session_sequences),
            sealed: self.sealed.ranges().collect(),
        }
    }

    fn domains(&self) -> impl Iterator<Item = (DomainId, &Domain)> {
        let live = (DomainId { session: None, opening: self.live.opening }, &self.live);
        let sessions = self.sessions.iter().map(|(session, domain)| {
            let id = DomainId { session: Some(*session), opening: domain.opening };
            (id, domain)
        });
        std::iter::once(live).chain(sessions)
    }

    fn domains_mut(&mut self) -> impl Iterator<Item = (DomainId, &mut Domain)> {
        let live = (DomainId { session: None, opening: self.live.opening }, &mut self.live);
        let sessions = self.sessions.iter_mut().map(|(session, domain)| {
            let id = DomainId { session: Some(*session), opening: domain.opening };
            (id, domain)
        });
        std::iter::once(live).chain(sessions)
    }

    fn domain_mut(&mut self, session: Option<SessionId>) -> Option<&mut Domain> {
        match session {
            None => Some(&mut self.live),
            Some(session) => self.sessions.get_mut(&session),
        }
    }

    fn put_open(&mut self, open: Vec<OpenFrame>) -> Result<(), RestoreError> {
        for OpenFrame { session, view: at, name, fingerprint, frame } in open {
            let refused = |reason: String| RestoreError::View { view: name.clone(), reason };
            let view = self.views.get(at).map(Arc::clone);
            match view {
                None => return Err(refused(format!("there is no view at place {at}"))),
                Some(view) if view.meta.name != name => {
                    return Err(refused(format!("at place {at} there is `{}` now", view.meta.name)));
                }
                Some(view) if view.fingerprint() != fingerprint => {
                    return Err(refused("its SELECT was another when they were saved".to_owned()));
                }
                Some(_) => {}
            }
            let domain = self.domain_mut(session).ok_or_else(|| damaged("a session has open rows and is not open"))?;
            let next = domain.next();
            if let Some(groups) = domain.open.get_mut(at) {
                groups.put_frame(&frame)?;
                if groups.oldest().is_some_and(|oldest| next.is_none_or(|next| oldest < next)) {
                    return Err(damaged(format!("view `{name}` has open rows of a minute that was left behind")));
                }
            }
        }
        Ok(())
    }

    fn recall(&mut self, state: &OperatorState, ids: impl IntoIterator<Item = IdRuns>) -> Result<(), RestoreError> {
        let sessions = state.sessions.iter().map(|(session, domain)| (Some(*session), domain));
        let saved: BTreeMap<Option<SessionId>, &DomainState> =
            std::iter::once((None, &state.live)).chain(sessions).collect();
        for IdRuns { domain: id, runs } in ids {
            let Some(held) = saved.get(&id.session).filter(|saved| saved.opening == id.opening) else { continue };
            let Some(domain) = self.domain_mut(id.session) else { continue };
            for (minute, ids) in &runs {
                domain.ids.recall(&held.ids, *minute, ids);
            }
        }
        for (session, saved) in saved {
            let found = self.domain_mut(session).map_or(0, |domain| domain.ids.len());
            if found != saved.ids.held {
                let whose = session.map_or("live traffic".to_owned(), |session| format!("session {:016x}", session.0));
                let held = saved.ids.held;
                return Err(damaged(format!("{whose} had {held} event ids in memory and {found} were found")));
            }
        }
        Ok(())
    }
}

impl OperatorState {
    /// Whether its times are such as an operator can have; the rest is checked where it is used.
    fn check(&self) -> Result<(), RestoreError> {
        if self.format != STATE_FORMAT {
            return Err(RestoreError::Format { found: self.format });
        }
        let sessions = self.sessions.iter().map(|(_, domain)| domain);
        let domains = std::iter::once(&self.live).chain(sessions);
        let of_domains = domains.flat_map(|d| [d.next, d.newest, d.ids.oldest, d.ids.forgotten_before]).flatten();
        let minutes = of_domains.chain(self.sealed.iter().flat_map(|(first, last)| [*first, *last]));
        match minutes.into_iter().find(|minute| minute.start().minute() != *minute) {
            Some(minute) => Err(damaged(format!("{minute} is beyond all time"))),
            None => Ok(()),
        }
    }
}

fn heard(producers: &[(String, u64)]) -> Producers {
    let mut heard = Producers::default();
    producers.iter().for_each(|(producer, last)| heard.hear(producer, *last));
    heard
}

#[cfg(test)]
mod tests;

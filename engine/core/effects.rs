//! What a record caused: for the journals, the metrics and the people who watch.

use serde::{Deserialize, Serialize};
use tidewatch_alerts::{Outcome, Transition};
use tidewatch_model::{Minute, SessionId};
use tidewatch_rules::Verdict;
use tidewatch_views::Sealer;

use super::revisions::Revision;

/// Counted + duplicate + rejected + late = sent.
#[derive(Debug, Default)]
pub struct Effects {
    pub accepted: u64,
    pub duplicates: u64,
    pub late: u64,
    pub rejected: u64,
    /// The reason of each refused event.
    pub rejections: Vec<String>,
    pub corrections: u64,
    /// Events whose key became `__other__`.
    pub overflowed: u64,
    /// Integer sums that read as NULL because they do not fit 64 bits.
    pub sums_overflowed: u64,
    /// View, events, reason: events that a view's expressions could not take.
    pub failures: Vec<(String, u64, String)>,
    pub sealed: Vec<SealedView>,
    pub rulings: Vec<MinuteRuling>,
    /// Corrected minutes judged again just now whose findings changed; they belong into the journal.
    pub revisions: Vec<Revision>,
    pub transitions: Vec<Transition>,
}

/// A minute that was sealed, with the rows that each view has in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedView {
    pub minute: Minute,
    pub by: Sealer,
    pub rows: Vec<usize>,
}

/// All rules' verdicts on one minute. `fresh` where they were computed just now and belong into the journal.
#[derive(Debug, Clone)]
pub struct MinuteRuling {
    pub minute: Minute,
    pub by: Sealer,
    pub verdicts: Vec<Verdict>,
    pub fresh: bool,
}

/// An entry of the journal of verdicts.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum VerdictEntry {
    Revision(Revision),
    Ruling(RulingEntry),
}

/// A ruling as the journal holds it: rules without a finding by name only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RulingEntry {
    pub minute: Minute,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    pub quiet: Vec<String>,
    pub verdicts: Vec<Verdict>,
}

impl RulingEntry {
    pub fn of(ruling: &MinuteRuling) -> Self {
        let quiet = |verdict: &&Verdict| matches!(&verdict.outcome, Outcome::Rows(rows) if rows.is_empty());
        Self {
            minute: ruling.minute,
            session: match ruling.by {
                Sealer::Live => None,
                Sealer::Session(session) => Some(session),
            },
            quiet: ruling.verdicts.iter().filter(quiet).map(|verdict| verdict.rule.clone()).collect(),
            verdicts: ruling.verdicts.iter().filter(|verdict| !quiet(verdict)).cloned().collect(),
        }
    }

    pub fn sealer(&self) -> Sealer {
        self.session.map_or(Sealer::Live, Sealer::Session)
    }

    /// The verdicts in the order of the rules' names, as they were made.
    pub fn into_verdicts(self) -> Vec<Verdict> {
        let minute = self.minute;
        let quiet = self.quiet.into_iter().map(|rule| Verdict { rule, minute, outcome: Outcome::Rows(Vec::new()) });
        let mut verdicts: Vec<Verdict> = quiet.chain(self.verdicts).collect();
        verdicts.sort_by(|a, b| a.rule.cmp(&b.rule));
        verdicts
    }
}

//! `Revisions`: a correction re-judges its own minute. The journal then says what would have fired and what would
//! not have; nobody is told, and the verdict that was given stands.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use tidewatch_alerts::{Labels, Outcome, VerdictRow};
use tidewatch_model::{Lsn, Minute, Severity, limits};
use tidewatch_rules::Verdict;

/// One finding that a correction made or unmade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub rule: String,
    pub labels: Labels,
    pub severity: Severity,
    pub summary: String,
    /// True: would have fired. False: would not have fired.
    pub would_have_fired: bool,
}

/// What the rules say of a minute now that it was corrected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    pub minute: Minute,
    /// The record after which the minute was judged again.
    pub as_of: Lsn,
    pub changes: Vec<Change>,
}

/// What was found in the minutes that may still be corrected, and the corrected minutes that wait.
#[derive(Debug, Default)]
pub struct Revisions {
    given: BTreeMap<Minute, Vec<(String, VerdictRow)>>,
    waiting: BTreeSet<Minute>,
    known: HashMap<(Minute, Lsn), Revision>,
}

/// Findings of a verdict by rule; warm-up verdicts alert nobody and are no findings.
fn findings(verdicts: &[Verdict]) -> Vec<(String, VerdictRow)> {
    let found = verdicts.iter().filter_map(|verdict| match &verdict.outcome {
        Outcome::Rows(rows) => {
            Some(rows.iter().filter(|row| !row.warming_up).map(|row| (verdict.rule.clone(), row.clone())))
        }
        Outcome::Failed { .. } => None,
    });
    found.flatten().collect()
}

impl Revisions {
    /// Revisions that the journal holds already.
    pub fn know(&mut self, known: HashMap<(Minute, Lsn), Revision>) {
        self.known = known;
    }

    /// Remembers what a minute's verdict was.
    pub fn given(&mut self, minute: Minute, verdicts: &[Verdict]) {
        self.given.entry(minute).or_default().extend(findings(verdicts));
        while self.given.len() > limits::REVISED_MINUTES_MAX {
            self.given.pop_first();
        }
    }

    /// A judged minute was corrected. Minutes judged too long ago are not judged again.
    pub fn corrected(&mut self, minute: Minute) {
        if self.given.contains_key(&minute) {
            self.waiting.insert(minute);
        }
    }

    /// The next minute to judge again.
    pub fn next(&mut self) -> Option<Minute> {
        self.waiting.pop_first()
    }

    /// The journal's revision, where it has one.
    pub fn known(&mut self, minute: Minute, as_of: Lsn) -> Option<Revision> {
        self.known.remove(&(minute, as_of))
    }

    /// Compares a minute's new verdicts with what was said before, which they replace for the next comparison.
    pub fn compare(&mut self, minute: Minute, as_of: Lsn, verdicts: &[Verdict]) -> Revision {
        let before = self.given.remove(&minute).unwrap_or_default();
        // A rule that failed says nothing: what it said before stands.
        let failed =
            |rule: &str| verdicts.iter().any(|v| v.rule == rule && matches!(v.outcome, Outcome::Failed { .. }));
        let mut now = findings(verdicts);
        now.extend(before.iter().filter(|(rule, _)| failed(rule)).cloned());
        self.given.insert(minute, now.clone());
        Revision { minute, as_of, changes: changes(&before, &now) }
    }

    /// Takes a known revision for what was said.
    pub fn replay(&mut self, revision: &Revision) {
        let said = self.given.entry(revision.minute).or_default();
        for change in &revision.changes {
            if change.would_have_fired {
                let row = VerdictRow {
                    labels: change.labels.clone(),
                    values: BTreeMap::new(),
                    severity: change.severity,
                    summary: change.summary.clone(),
                    warming_up: false,
                };
                said.push((change.rule.clone(), row));
            } else {
                said.retain(|(rule, row)| !(*rule == change.rule && row.labels == change.labels));
            }
        }
    }
}

fn changes(before: &[(String, VerdictRow)], now: &[(String, VerdictRow)]) -> Vec<Change> {
    let missing = |from: &[(String, VerdictRow)], (rule, row): &(String, VerdictRow)| {
        !from.iter().any(|(other, said)| other == rule && said.labels == row.labels)
    };
    let change = |(rule, row): &(String, VerdictRow), would_have_fired| Change {
        rule: rule.clone(),
        labels: row.labels.clone(),
        severity: row.severity,
        summary: row.summary.clone(),
        would_have_fired,
    };
    let appeared = now.iter().filter(|finding| missing(before, finding)).map(|finding| change(finding, true));
    let vanished = before.iter().filter(|finding| missing(now, finding)).map(|finding| change(finding, false));
    appeared.chain(vanished).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(minute: Minute, statuses: &[&str]) -> Verdict {
        let row = |status: &&str| VerdictRow {
            labels: BTreeMap::from([("status".to_owned(), (*status).to_owned())]),
            values: BTreeMap::new(),
            severity: Severity::High,
            summary: format!("{status} is high"),
            warming_up: false,
        };
        Verdict { rule: "surge".to_owned(), minute, outcome: Outcome::Rows(statuses.iter().map(row).collect()) }
    }

    #[test]
    fn a_revision_says_what_a_correction_made_and_unmade() {
        let minute = Minute::from_index(7);
        for (before, now, fired, not_fired) in [
            (vec!["denied"], vec!["denied"], vec![], vec![]),
            (vec![], vec!["denied"], vec!["denied"], vec![]),
            (vec!["denied"], vec![], vec![], vec!["denied"]),
            (vec!["denied"], vec!["failed"], vec!["failed"], vec!["denied"]),
        ] {
            let mut revisions = Revisions::default();
            revisions.given(minute, &[verdict(minute, &before)]);
            revisions.corrected(minute);
            revisions.corrected(Minute::from_index(8));
            assert_eq!(
                (revisions.next(), revisions.next()),
                (Some(minute), None),
                "only judged minutes are judged again"
            );
            let revision = revisions.compare(minute, Lsn(3), &[verdict(minute, &now)]);
            let of = |fired| -> Vec<&str> {
                let changes = revision.changes.iter().filter(|change| change.would_have_fired == fired);
                changes.filter_map(|change| change.labels.get("status").map(String::as_str)).collect()
            };
            assert_eq!((of(true), of(false)), (fired, not_fired), "{before:?} to {now:?}");
            let again = revisions.compare(minute, Lsn(4), &[verdict(minute, &now)]);
            assert!(again.changes.is_empty(), "the same verdict again is no news");
        }
    }

    #[test]
    fn a_known_revision_leads_to_the_same_state() {
        let minute = Minute::from_index(7);
        let (mut computed, mut replayed) = (Revisions::default(), Revisions::default());
        for revisions in [&mut computed, &mut replayed] {
            revisions.given(minute, &[verdict(minute, &["denied"])]);
        }
        let revision = computed.compare(minute, Lsn(3), &[verdict(minute, &["failed"])]);
        replayed.replay(&revision);
        for now in [vec!["failed"], vec!["denied"], vec![]] {
            let verdicts = [verdict(minute, &now)];
            let (a, b) = (computed.compare(minute, Lsn(4), &verdicts), replayed.compare(minute, Lsn(4), &verdicts));
            assert_eq!(a.changes.len(), b.changes.len(), "{now:?}");
        }
    }
}

//! `Revisions`: a correction re-judges its own minute. The journal then says what would have fired and what would
//! not have; nobody is told, and the verdict that was given stands.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
};

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

/// What a checkpoint holds of it: not what the journal behind the checkpoint knows. Version 1; a field that is added
/// later has a default.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RevisionsState<'a> {
    given: Vec<GivenState<'a>>,
    waiting: Cow<'a, BTreeSet<Minute>>,
}

/// The findings in a judged minute.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct GivenState<'a> {
    minute: Minute,
    findings: Cow<'a, [(String, VerdictRow)]>,
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

    pub fn save(&self) -> RevisionsState<'_> {
        let given = self.given.iter();
        let given = given.map(|(minute, found)| GivenState { minute: *minute, findings: Cow::Borrowed(found) });
        RevisionsState { given: given.collect(), waiting: Cow::Borrowed(&self.waiting) }
    }

    pub fn restore(state: RevisionsState<'_>) -> Self {
        let given = state.given.into_iter().map(|given| (given.minute, given.findings.into_owned()));
        let mut revisions = Self { given: given.collect(), waiting: state.waiting.into_owned(), known: HashMap::new() };
        revisions.forget_the_oldest();
        revisions
    }

    /// Remembers what a minute's verdict was.
    pub fn given(&mut self, minute: Minute, verdicts: &[Verdict]) {
        self.given.entry(minute).or_default().extend(findings(verdicts));
        self.forget_the_oldest();
    }

    fn forget_the_oldest(&mut self) {
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

    fn text(revisions: &Revisions) -> String {
        serde_json::to_string(&revisions.save()).unwrap()
    }

    #[test]
    fn what_was_saved_compares_alike() {
        use rand::{Rng, SeedableRng, rngs::SmallRng};
        for seed in 0..300 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let (mut whole, mut broken) = (Revisions::default(), Revisions::default());
            for lsn in 0..60 {
                let minute = Minute::from_index(rng.random_range(0..8));
                let mut said = verdict(minute, &["denied", "failed", "late"][..rng.random_range(0..4)]);
                if let Outcome::Rows(rows) = &mut said.outcome {
                    for row in rows {
                        row.warming_up = rng.random_bool(0.2);
                        row.values.insert("score".to_owned(), rng.random());
                        row.values.insert("rise".to_owned(), if rng.random() { f64::NAN } else { -0.0 });
                    }
                }
                if rng.random_bool(0.1) {
                    said.outcome = Outcome::Failed { reason: "too slow".to_owned() };
                }
                let what = rng.random_range(0..3);
                let mut caused = [&mut whole, &mut broken].map(|revisions| match what {
                    0 => {
                        revisions.given(minute, std::slice::from_ref(&said));
                        None
                    }
                    1 => {
                        revisions.corrected(minute);
                        None
                    }
                    _ => {
                        let next = revisions.next();
                        next.map(|next| revisions.compare(next, Lsn(lsn), std::slice::from_ref(&said)))
                    }
                });
                assert_eq!(caused[0].take(), caused[1].take(), "seed {seed}, record {lsn}");
                broken = Revisions::restore(serde_json::from_str(&text(&broken)).unwrap());
                assert_eq!(text(&broken), text(&whole), "seed {seed}, record {lsn}");
            }
        }
    }

    #[test]
    fn a_state_of_version_1_is_read_and_a_spoilt_one_is_no_panic() {
        let v1 = concat!(
            r#"{"given":[{"minute":7,"findings":[["surge",{"labels":{"status":"denied"},"values":{"score":"Infinity"},"#,
            r#""severity":"high","summary":"denied is high","warming_up":false}]]},{"minute":8,"findings":[]}],"#,
            r#""waiting":[3,7]}"#
        );
        let read = |json: &str| serde_json::from_str(json).map(Revisions::restore);
        let mut revisions = read(v1).unwrap();
        assert_eq!(text(&revisions), v1);
        assert_eq!(text(&read(&v1.replace("\"minute\"", "\"since_version_9\":[],\"minute\"")).unwrap()), v1);
        let minute = Minute::from_index(7);
        assert!(revisions.compare(minute, Lsn(1), &[verdict(minute, &["denied"])]).changes.is_empty());
        for length in 0..v1.len() {
            assert!(read(&v1[..length]).is_err(), "cut after {length} bytes");
        }
        for (what, strange) in [("\"Infinity\"", "\"much\""), ("\"high\"", "\"dire\""), ("[3,7]", "{}"), ("[[", "[7,[")]
        {
            assert!(read(&v1.replacen(what, strange, 1)).is_err(), "{strange}");
        }
        // A minute that waits and was never judged compares with nothing found, as one that was forgotten does.
        let mut strange = read(&v1.replace("[3,7]", "[-9223372036854775808,7]")).unwrap();
        let next = strange.next().unwrap();
        assert_eq!(strange.compare(next, Lsn(2), &[verdict(next, &["denied"])]).changes.len(), 1);
        let many: Vec<String> =
            (0..=limits::REVISED_MINUTES_MAX).map(|at| format!("{{\"minute\":{at},\"findings\":[]}}")).collect();
        let full = read(&format!("{{\"given\":[{}],\"waiting\":[]}}", many.join(","))).unwrap();
        assert_eq!(full.given.len(), limits::REVISED_MINUTES_MAX);
        assert!(!full.given.contains_key(&Minute::from_index(0)));
    }
}

//! What a verdict changes: the transitions that follow from the book as it stands. Reads, never writes.
//!
//! Spans are differences of minutes. A minute whose evaluation failed, or that was never judged, is passed over:
//! it starts no alert, ends none and breaks no run, and time goes on.

use std::collections::{BTreeMap, BTreeSet};

use tidewatch_model::{Minute, Severity, Span, limits};

use crate::{
    Alert, AlertId, Kind, Labels, Notice, Phase, Reached, RuleAlerting, Running, Transition, TransitionKey, Values,
    VerdictRow, Withheld, book::RuleBook,
};

/// One rule's minute.
pub(crate) struct Decision<'a> {
    pub rule: &'a RuleAlerting,
    pub book: &'a RuleBook,
    pub minute: Minute,
    pub notify: bool,
}

/// The transitions of a minute, and how many rows found no place.
pub(crate) struct Decided {
    pub transitions: Vec<Transition>,
    pub untracked: u64,
}

/// What a transition says of its alert, apart from what changed.
struct Evidence<'a> {
    severity: Severity,
    values: &'a Values,
    summary: &'a str,
}

impl Decision<'_> {
    /// Running alerts first, then new ones, each by labels: what ends in a minute makes room for what begins.
    pub fn decide(&self, rows: &BTreeMap<Labels, VerdictRow>) -> Decided {
        let mut transitions = Vec::new();
        let mut tracked = self.book.alerts.len();
        for (labels, alert) in &self.book.alerts {
            let transition = match rows.get(labels) {
                Some(row) => self.seen(alert, row),
                None => self.absent(alert),
            };
            if transition.as_ref().is_some_and(|t| !matches!(t.to, Reached::Running(_))) {
                tracked -= 1;
            }
            transitions.extend(transition);
        }
        let mut untracked = 0;
        for (labels, row) in rows.iter().filter(|(labels, _)| !self.book.alerts.contains_key(*labels)) {
            if tracked >= limits::ALERTS_PER_RULE_MAX {
                untracked += 1;
                continue;
            }
            tracked += 1;
            transitions.push(self.new_alert(labels, row));
        }
        if untracked > 0 && !self.book.limit_reported {
            transitions.push(self.limit_reached(untracked));
        }
        Decided { transitions, untracked }
    }

    /// Ends every alert of the rule, because the rule itself is gone.
    pub fn retire(&self) -> Vec<Transition> {
        self.book.alerts.values().map(|alert| self.end(alert)).collect()
    }

    fn new_alert(&self, labels: &Labels, row: &VerdictRow) -> Transition {
        if elapsed(self.rule.for_, self.minute, self.minute) {
            return self.fire(labels, row, Phase::Inactive, self.minute);
        }
        let to = Running::Pending { since: self.minute };
        self.step(Kind::Pending, labels, row.into(), Phase::Inactive, to, Notice::Withheld(Withheld::NotNews))
    }

    fn fire(&self, labels: &Labels, row: &VerdictRow, from: Phase, since: Minute) -> Transition {
        let notice = self.permission(labels, row);
        let to = Running::Firing { since, fired: self.minute, told: told(&BTreeSet::new(), row.severity, notice) };
        self.step(Kind::Fired, labels, row.into(), from, to, notice)
    }

    fn seen(&self, alert: &Alert, row: &VerdictRow) -> Option<Transition> {
        match &alert.state {
            Running::Pending { since } if elapsed(self.rule.for_, *since, self.minute) => {
                Some(self.fire(&alert.labels, row, Phase::Pending, *since))
            }
            Running::Pending { .. } => None,
            Running::Firing { since, fired, told } => self.go_on(alert, row, (*since, *fired, told), None),
            Running::Holding { since, fired, told, .. } => {
                self.go_on(alert, row, (*since, *fired, told), Some(Kind::Returned))
            }
        }
    }

    /// A firing alert has its row. `otherwise` is the change where neither severity nor notice change.
    fn go_on(
        &self,
        alert: &Alert,
        row: &VerdictRow,
        (since, fired, before): (Minute, Minute, &BTreeSet<Severity>),
        otherwise: Option<Kind>,
    ) -> Option<Transition> {
        // People are owed a notice while what they were told is milder than what is.
        let owed = before.last() < Some(&row.severity);
        let may = self.permission(&alert.labels, row);
        let not_news = Notice::Withheld(Withheld::NotNews);
        let (kind, notice) = match row.severity.cmp(&alert.severity) {
            std::cmp::Ordering::Greater => (Kind::Raised, may),
            std::cmp::Ordering::Less => (Kind::Lowered, if owed { may } else { not_news }),
            std::cmp::Ordering::Equal if owed && matches!(may, Notice::Send { .. }) => (Kind::Announced, may),
            std::cmp::Ordering::Equal => (otherwise?, not_news),
        };
        let to = Running::Firing { since, fired, told: told(before, row.severity, notice) };
        Some(self.step(kind, &alert.labels, row.into(), Phase::Firing, to, notice))
    }

    fn absent(&self, alert: &Alert) -> Option<Transition> {
        match &alert.state {
            Running::Pending { .. } => Some(self.end(alert)),
            Running::Firing { since, fired, told } => {
                if elapsed(self.rule.keep_firing_for, self.minute, self.minute) {
                    return Some(self.end(alert));
                }
                let to =
                    Running::Holding { since: *since, fired: *fired, told: told.clone(), absent_since: self.minute };
                let notice = Notice::Withheld(Withheld::NotNews);
                Some(self.step(Kind::Held, &alert.labels, alert.into(), Phase::Firing, to, notice))
            }
            Running::Holding { absent_since, .. } => {
                elapsed(self.rule.keep_firing_for, *absent_since, self.minute).then(|| self.end(alert))
            }
        }
    }

    fn end(&self, alert: &Alert) -> Transition {
        let not_news = Notice::Withheld(Withheld::NotNews);
        match &alert.state {
            Running::Pending { since } => {
                let to = Reached::Inactive;
                self.transition(Kind::Cancelled, &alert.labels, alert.into(), (Phase::Pending, to), *since, not_news)
            }
            Running::Firing { since, fired, told } | Running::Holding { since, fired, told, .. } => {
                let notice = match (self.notify, told.is_empty()) {
                    (false, _) => Notice::Withheld(Withheld::History),
                    (true, true) => Notice::Withheld(Withheld::NeverAnnounced),
                    (true, false) => Notice::Send { quiet_until: None },
                };
                let to = Reached::Resolved { since: *since, fired: *fired, resolved: self.minute };
                let way = (Phase::Firing, to);
                let ended = self.transition(Kind::Resolved, &alert.labels, alert.into(), way, *since, notice);
                if told.is_empty() { ended } else { Transition { audience: told.clone(), ..ended } }
            }
        }
    }

    fn limit_reached(&self, untracked: u64) -> Transition {
        let mut labels = self.rule.labels.clone();
        labels.insert("__limit".to_owned(), "alerts_per_rule".to_owned());
        let values = Values::from([
            ("untracked".to_owned(), untracked as f64),
            ("limit".to_owned(), limits::ALERTS_PER_RULE_MAX as f64),
        ]);
        let summary = format!(
            "rule `{}` has more than {} label sets with an alert; {untracked} of this minute are not tracked: \
             group by fewer columns or raise the rule's threshold",
            self.rule.name,
            limits::ALERTS_PER_RULE_MAX
        );
        let notice = self.permission_for(&labels, self.rule.severity, false);
        let evidence = Evidence { severity: self.rule.severity, values: &values, summary: &summary };
        let way = (Phase::Inactive, Reached::Inactive);
        self.transition(Kind::LimitReached, &labels, evidence, way, self.minute, notice)
    }

    fn permission(&self, labels: &Labels, row: &VerdictRow) -> Notice {
        self.permission_for(labels, row.severity, row.warming_up)
    }

    /// The one place that decides whether people are told of something that fires.
    fn permission_for(&self, labels: &Labels, severity: Severity, warming_up: bool) -> Notice {
        if !self.notify {
            return Notice::Withheld(Withheld::History);
        }
        if warming_up {
            return Notice::Withheld(Withheld::WarmUp);
        }
        if self.book.cooldowns.active(AlertId::of(&self.rule.name, labels), severity, self.minute) {
            return Notice::Withheld(Withheld::Cooldown);
        }
        Notice::Send { quiet_until: Some(self.minute.plus(self.rule.cooldown.minutes_ceil())) }
    }

    fn step(
        &self,
        kind: Kind,
        labels: &Labels,
        evidence: Evidence<'_>,
        from: Phase,
        to: Running,
        notice: Notice,
    ) -> Transition {
        let since = to.since();
        self.transition(kind, labels, evidence, (from, Reached::Running(to)), since, notice)
    }

    fn transition(
        &self,
        kind: Kind,
        labels: &Labels,
        evidence: Evidence<'_>,
        (from, to): (Phase, Reached),
        first_minute: Minute,
        notice: Notice,
    ) -> Transition {
        let at = (self.minute, evidence.severity);
        Transition {
            key: TransitionKey::of(&self.rule.name, labels, first_minute, kind, at),
            kind,
            rule: self.rule.name.clone(),
            labels: labels.clone(),
            values: evidence.values.clone(),
            severity: evidence.severity,
            summary: evidence.summary.to_owned(),
            from,
            to,
            minute: self.minute,
            first_minute,
            notice,
            audience: BTreeSet::from([evidence.severity]),
        }
    }
}

impl<'a> From<&'a VerdictRow> for Evidence<'a> {
    fn from(row: &'a VerdictRow) -> Self {
        Self { severity: row.severity, values: &row.values, summary: &row.summary }
    }
}

impl<'a> From<&'a Alert> for Evidence<'a> {
    fn from(alert: &'a Alert) -> Self {
        Self { severity: alert.severity, values: &alert.values, summary: &alert.summary }
    }
}

/// Whether `span` lies between the two minutes. True at once for a span of zero.
fn elapsed(span: Span, since: Minute, now: Minute) -> bool {
    now.index().saturating_sub(since.index()) >= span.minutes_ceil()
}

fn told(before: &BTreeSet<Severity>, severity: Severity, notice: Notice) -> BTreeSet<Severity> {
    let mut told = before.clone();
    if matches!(notice, Notice::Send { .. }) {
        told.insert(severity);
    }
    told
}

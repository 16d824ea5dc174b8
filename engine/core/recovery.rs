//! What a first reading of the log recalls: verdicts that were given, transitions that were journalled, deliveries
//! that were made or are under way. The second reading applies the records with this knowledge.

use std::collections::{HashMap, HashSet};

use tidewatch_alerts::{OutboxEvent, Transition, TransitionKey};
use tidewatch_log::{Journal, JournalTopic};
use tidewatch_model::{Lsn, Minute, SessionId};
use tidewatch_rules::Verdict;

use super::{effects::VerdictEntry, revisions::Revision};

/// Verdicts that are not to be computed again.
#[derive(Debug, Default)]
pub struct Known {
    pub verdicts: HashMap<(Minute, Option<SessionId>), Vec<Verdict>>,
    pub revisions: HashMap<(Minute, Lsn), Revision>,
}

/// All that the journals hold.
#[derive(Debug, Default)]
pub struct Recollection {
    known: Known,
    rulings: HashSet<(Minute, Option<SessionId>)>,
    revisions: HashSet<(Minute, Lsn)>,
    /// Transitions that are durable.
    transitions: HashSet<TransitionKey>,
    outbox: Vec<OutboxEvent>,
    /// Keys that the outbox has taken in.
    offered: HashSet<TransitionKey>,
}

/// An entry of a journal that does not read as what it should be.
#[derive(Debug, thiserror::Error)]
#[error("an entry of the journal of {topic:?} is not understood: {source}")]
pub struct JournalError {
    topic: JournalTopic,
    source: serde_json::Error,
}

impl Recollection {
    pub fn recall(&mut self, journal: &Journal) -> Result<(), JournalError> {
        let wrong = |source| JournalError { topic: journal.topic, source };
        match journal.topic {
            JournalTopic::Verdicts => match serde_json::from_slice::<VerdictEntry>(&journal.json).map_err(wrong)? {
                VerdictEntry::Ruling(entry) => {
                    let key = (entry.minute, entry.session);
                    self.rulings.insert(key);
                    self.known.verdicts.entry(key).or_insert_with(|| entry.into_verdicts());
                }
                VerdictEntry::Revision(revision) => {
                    self.revisions.insert((revision.minute, revision.as_of));
                    self.known.revisions.insert((revision.minute, revision.as_of), revision);
                }
            },
            JournalTopic::Alerts => {
                let transitions: Vec<Transition> = serde_json::from_slice(&journal.json).map_err(wrong)?;
                self.transitions.extend(transitions.iter().map(|transition| transition.key));
            }
            JournalTopic::Deliveries => {
                let events: Vec<OutboxEvent> = serde_json::from_slice(&journal.json).map_err(wrong)?;
                for event in &events {
                    if let OutboxEvent::Enqueued { delivery } = event {
                        self.offered.insert(delivery.id.key);
                    }
                }
                self.outbox.extend(events);
            }
            JournalTopic::Rules | JournalTopic::Settings => {}
        }
        Ok(())
    }

    pub fn take_known(&mut self) -> Known {
        std::mem::take(&mut self.known)
    }

    pub fn take_outbox(&mut self) -> Vec<OutboxEvent> {
        std::mem::take(&mut self.outbox)
    }

    pub fn has_ruling(&self, minute: Minute, session: Option<SessionId>) -> bool {
        self.rulings.contains(&(minute, session))
    }

    pub fn has_revision(&self, minute: Minute, as_of: Lsn) -> bool {
        self.revisions.contains(&(minute, as_of))
    }

    /// Whether a transition is in the journal.
    pub fn is_journalled(&self, key: TransitionKey) -> bool {
        self.transitions.contains(&key)
    }

    /// Whether a transition was handed to the outbox.
    pub fn is_offered(&self, key: TransitionKey) -> bool {
        self.offered.contains(&key)
    }
}

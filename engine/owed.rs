//! `Owed`: what applied records caused and the journals do not hold yet, or people were not told of yet. It goes into
//! every checkpoint, so that a crash between a record and its journal leaves nothing unsaid.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use tidewatch_alerts::{OutboxEvent, Transition, TransitionKey};
use tidewatch_model::{Lsn, Minute, SessionId};

use crate::core::{Effects, Recollection, Revision, RulingEntry};

/// An entry of a journal that is durable now.
#[derive(Debug)]
pub enum Journalled {
    Ruling { minute: Minute, session: Option<SessionId> },
    Revision { minute: Minute, as_of: Lsn },
    Transitions(Vec<Transition>),
    Deliveries(Vec<OutboxEvent>),
}

#[derive(Clone, Debug, Default)]
pub struct Owed {
    rulings: BTreeMap<(Minute, Option<SessionId>), RulingEntry>,
    revisions: BTreeMap<(Minute, Lsn), Revision>,
    /// Not journalled.
    transitions: InOrder,
    /// Journalled, and not known to have reached the outbox.
    untold: InOrder,
}

/// Transitions in the order in which they happened, found by their keys.
#[derive(Clone, Debug, Default)]
struct InOrder {
    next: u64,
    by_place: BTreeMap<u64, Transition>,
    places: HashMap<TransitionKey, u64>,
}

impl InOrder {
    /// One that is there already stays where it is: history and live traffic may find the same.
    fn push(&mut self, transition: Transition) {
        if self.places.contains_key(&transition.key) {
            return;
        }
        self.places.insert(transition.key, self.next);
        self.by_place.insert(self.next, transition);
        self.next += 1;
    }

    fn remove(&mut self, key: TransitionKey) -> Option<Transition> {
        self.by_place.remove(&self.places.remove(&key)?)
    }

    fn iter(&self) -> impl Iterator<Item = &Transition> {
        self.by_place.values()
    }

    fn to_vec(&self) -> Vec<Transition> {
        self.iter().cloned().collect()
    }
}

impl FromIterator<Transition> for InOrder {
    fn from_iter<I: IntoIterator<Item = Transition>>(transitions: I) -> Self {
        let mut ordered = Self::default();
        transitions.into_iter().for_each(|transition| ordered.push(transition));
        ordered
    }
}

/// `Owed` as a checkpoint holds it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct OwedState {
    pub rulings: Vec<RulingEntry>,
    pub revisions: Vec<Revision>,
    pub transitions: Vec<Transition>,
    pub untold: Vec<Transition>,
}

impl Owed {
    pub fn restore(state: OwedState) -> Self {
        Self {
            rulings: state.rulings.into_iter().map(|entry| ((entry.minute, entry.session), entry)).collect(),
            revisions: state
                .revisions
                .into_iter()
                .map(|revision| ((revision.minute, revision.as_of), revision))
                .collect(),
            transitions: state.transitions.into_iter().collect(),
            untold: state.untold.into_iter().collect(),
        }
    }

    pub fn save(&self) -> OwedState {
        OwedState {
            rulings: self.rulings.values().cloned().collect(),
            revisions: self.revisions.values().cloned().collect(),
            transitions: self.transitions.to_vec(),
            untold: self.untold.to_vec(),
        }
    }

    /// A record was applied.
    pub fn caused(&mut self, effects: &Effects) {
        for ruling in effects.rulings.iter().filter(|ruling| ruling.fresh) {
            let entry = RulingEntry::of(ruling);
            self.rulings.insert((entry.minute, entry.session), entry);
        }
        let revisions = effects.revisions.iter().cloned();
        self.revisions.extend(revisions.map(|revision| ((revision.minute, revision.as_of), revision)));
        effects.transitions.iter().for_each(|transition| self.transitions.push(transition.clone()));
    }

    /// Transitions that no record caused: the rule set did.
    pub fn add(&mut self, transitions: Vec<Transition>) {
        transitions.into_iter().for_each(|transition| self.transitions.push(transition));
    }

    /// An entry of a journal is durable. Answers the transitions that people may be told of now.
    pub fn journalled(&mut self, entry: &Journalled) -> Vec<Transition> {
        match entry {
            Journalled::Ruling { minute, session } => {
                self.rulings.remove(&(*minute, *session));
            }
            Journalled::Revision { minute, as_of } => {
                self.revisions.remove(&(*minute, *as_of));
            }
            Journalled::Transitions(transitions) => {
                return self.durable(transitions.iter().map(|transition| transition.key));
            }
            Journalled::Deliveries(events) => {
                for event in events {
                    if let OutboxEvent::Enqueued { delivery } = event {
                        self.told(delivery.id.key);
                    }
                }
            }
        }
        Vec::new()
    }

    /// Answers those of the transitions that people are told of, in their order.
    fn durable(&mut self, keys: impl Iterator<Item = TransitionKey>) -> Vec<Transition> {
        let tell: Vec<Transition> =
            keys.filter_map(|key| self.transitions.remove(key)).filter(Transition::notify).collect();
        tell.iter().for_each(|transition| self.untold.push(transition.clone()));
        tell
    }

    /// A transition is in the outbox, or nobody wants to hear of it.
    pub fn told(&mut self, key: TransitionKey) {
        self.untold.remove(key);
    }

    /// Strikes out what the journals of the log hold already.
    pub fn recall(&mut self, recollection: &Recollection) {
        self.rulings.retain(|(minute, session), _| !recollection.has_ruling(*minute, *session));
        self.revisions.retain(|(minute, as_of), _| !recollection.has_revision(*minute, *as_of));
        let journalled = self.transitions.iter().map(|transition| transition.key);
        let journalled: Vec<_> = journalled.filter(|key| recollection.is_journalled(*key)).collect();
        self.durable(journalled.into_iter());
        let told: Vec<_> = self.untold.iter().map(|t| t.key).filter(|key| recollection.is_offered(*key)).collect();
        told.into_iter().for_each(|key| self.told(key));
    }

    pub fn ruling(&self, minute: Minute, session: Option<SessionId>) -> Option<&RulingEntry> {
        self.rulings.get(&(minute, session))
    }

    pub fn revision(&self, minute: Minute, as_of: Lsn) -> Option<&Revision> {
        self.revisions.get(&(minute, as_of))
    }

    pub fn rulings(&self) -> impl Iterator<Item = &RulingEntry> {
        self.rulings.values()
    }

    pub fn revisions(&self) -> impl Iterator<Item = &Revision> {
        self.revisions.values()
    }

    pub fn transitions(&self) -> Vec<Transition> {
        self.transitions.to_vec()
    }

    pub fn untold(&self) -> Vec<Transition> {
        self.untold.to_vec()
    }
}

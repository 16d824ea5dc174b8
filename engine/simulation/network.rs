//! The simulated receivers of alerts. They outlive the engine's crashes, and remember everything that they were told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tidewatch_alerts::Transition;
use tidewatch_model::Span;
use tidewatch_sinks::{Delivery, DeliveryError, Receiver, Retry, Timer};

use super::timer::SimTime;

/// What a receiver does with what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Takes,
    /// After so long.
    TakesSlowly(Span),
    /// It takes the alert, and its answer is lost.
    AnswerLost,
    /// Nobody answers.
    Dead,
    /// It asks to be asked again later.
    Busy(Span),
    /// It says that it will never take this.
    Refuses,
}

#[derive(Debug, Default)]
struct State {
    moods: BTreeMap<String, Mood>,
    /// By receiver and key: the transition, and how often it came.
    heard: BTreeMap<(String, String), (Transition, u64)>,
    refused: BTreeSet<(String, String)>,
    attempts: u64,
    /// The first thing that came and should not have.
    wrong: Option<String>,
}

#[derive(Debug, Default)]
pub struct Network(Mutex<State>);

impl Network {
    pub fn receiver(self: &Arc<Self>, name: &str, time: &SimTime) -> Arc<dyn Receiver> {
        Arc::new(SimReceiver { name: name.to_owned(), network: Arc::clone(self), time: time.clone() })
    }

    pub fn set(&self, receiver: &str, mood: Mood) {
        self.state().moods.insert(receiver.to_owned(), mood);
    }

    /// Whether a receiver was told under this key, or has refused to be.
    pub fn knows(&self, receiver: &str, key: &str) -> bool {
        let state = self.state();
        let id = (receiver.to_owned(), key.to_owned());
        state.heard.contains_key(&id) || state.refused.contains(&id)
    }

    /// Every key that anybody was told under.
    pub fn keys(&self) -> BTreeSet<String> {
        self.state().heard.keys().map(|(_, key)| key.clone()).collect()
    }

    pub fn wrong(&self) -> Option<String> {
        self.state().wrong.clone()
    }

    /// Attempts, deliveries made more than once, and refusals.
    pub fn counts(&self) -> (u64, u64, u64) {
        let state = self.state();
        let again = state.heard.values().filter(|(_, times)| *times > 1).count();
        (state.attempts, again as u64, state.refused.len() as u64)
    }

    fn mood(&self, receiver: &str) -> Mood {
        let mut state = self.state();
        state.attempts += 1;
        state.moods.get(receiver).copied().unwrap_or(Mood::Takes)
    }

    fn hear(&self, receiver: &str, transition: &Transition) {
        let mut state = self.state();
        let key = transition.key.to_string();
        let heard = state.heard.entry((receiver.to_owned(), key.clone())).or_insert((transition.clone(), 0));
        heard.1 += 1;
        if heard.0 != *transition {
            let wrong = format!("{receiver} was told two things under the key {key}: {:?} and {transition:?}", heard.0);
            state.wrong.get_or_insert(wrong);
        }
    }

    fn refuse(&self, receiver: &str, transition: &Transition) {
        self.state().refused.insert((receiver.to_owned(), transition.key.to_string()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct SimReceiver {
    name: String,
    network: Arc<Network>,
    time: SimTime,
}

#[async_trait]
impl Receiver for SimReceiver {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(&self, delivery: &Delivery) -> Result<(), DeliveryError> {
        let failed = |reason: &str, retry| Err(DeliveryError { reason: reason.to_owned(), retry });
        match self.network.mood(&self.name) {
            Mood::Takes => {}
            Mood::TakesSlowly(span) => self.time.wait(span).await,
            Mood::AnswerLost => {
                self.network.hear(&self.name, &delivery.transition);
                return failed("no answer in time", Retry::Backoff);
            }
            Mood::Dead => return failed("the connection was refused", Retry::Backoff),
            Mood::Busy(span) => return failed("answered 429", Retry::After(span)),
            Mood::Refuses => {
                self.network.refuse(&self.name, &delivery.transition);
                return failed("answered 400", Retry::Never);
            }
        }
        self.network.hear(&self.name, &delivery.transition);
        Ok(())
    }
}

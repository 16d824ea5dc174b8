//! What is still to be delivered, and what was given up. A fold of `OutboxEvent`s: every command decides on
//! events, applies them and returns them for the journal.
//!
//! Deliveries of one alert to one receiver go out in order, so that nobody hears of an end before its
//! beginning; apart from that, no delivery waits for another.
//!
//! The events of one delivery carry times that never go back, whatever the clock does: that is how an event that the
//! outbox holds already is told from news.

mod state;

pub use state::OutboxState;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use tidewatch_model::{EventTime, Severity, Span, limits};

use crate::{
    AlertId, DeadLetter, Delivery, DeliveryError, DeliveryId, OutboxEvent, Retry, RetryPolicy, Transition,
    backoff::cut, dead_letters::DeadLetters, done::Done,
};

/// The order in which deliveries came.
type Sequence = u64;

#[derive(Clone, Debug)]
pub struct Outbox {
    policy: RetryPolicy,
    waiting: BTreeMap<Sequence, Delivery>,
    by_id: BTreeMap<DeliveryId, Sequence>,
    receivers: BTreeMap<String, Queue>,
    dead: DeadLetters,
    done: Done,
    next: Sequence,
    counts: OutboxCounts,
}

/// The deliveries of one receiver.
#[derive(Clone, Debug, Default)]
struct Queue {
    /// The first delivery of each alert, by the time it is due.
    due: BTreeSet<(EventTime, Sequence)>,
    alerts: BTreeMap<AlertId, VecDeque<Sequence>>,
    /// Which goes first at the limit: the oldest of the least severe.
    by_worth: BTreeSet<(Severity, Sequence)>,
}

/// What happened since the start or the oldest event that the outbox was rebuilt from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxCounts {
    pub enqueued: u64,
    pub delivered: u64,
    pub failed_attempts: u64,
    pub dead: u64,
    /// Dead letters that went at their limit and can no longer be resent.
    pub dead_forgotten: u64,
}

impl Outbox {
    pub fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            waiting: BTreeMap::new(),
            by_id: BTreeMap::new(),
            receivers: BTreeMap::new(),
            dead: DeadLetters::default(),
            done: Done::default(),
            next: 0,
            counts: OutboxCounts::default(),
        }
    }

    /// Recovery. What was in flight when the engine stopped is due again, with the same key.
    pub fn rebuild(policy: RetryPolicy, events: impl IntoIterator<Item = OutboxEvent>) -> Self {
        let mut outbox = Self::new(policy);
        for event in events {
            outbox.take_in(event);
        }
        outbox
    }

    /// One delivery for each receiver, due at once. What is known already (waiting, delivered or dead) is not
    /// taken again, so offering the journal's transitions once more after a recovery is harmless.
    pub fn enqueue<'a>(
        &mut self,
        transition: &Transition,
        receivers: impl IntoIterator<Item = &'a str>,
        traceparent: Option<&str>,
        now: EventTime,
    ) -> Vec<OutboxEvent> {
        let mut events = Vec::new();
        for receiver in receivers {
            let id = DeliveryId { key: transition.key, receiver: receiver.to_owned() };
            if self.knows(&id) {
                continue;
            }
            let delivery = Box::new(Delivery {
                id,
                transition: transition.clone(),
                traceparent: traceparent.map(str::to_owned),
                enqueued_at: now,
                attempt: 0,
                failed_at: None,
                due_at: now,
            });
            self.record(OutboxEvent::Enqueued { delivery }, &mut events);
            self.make_room(receiver, now, &mut events);
        }
        events
    }

    /// The deliveries of a receiver in the order in which they are due. Those behind another of the same alert
    /// are not among them yet.
    pub fn schedule(&self, receiver: &str) -> impl Iterator<Item = &Delivery> {
        let due = self.receivers.get(receiver).map(|queue| &queue.due);
        due.into_iter().flatten().filter_map(|(_, sequence)| self.waiting.get(sequence))
    }

    /// What may be attempted now, by receiver.
    pub fn due(&self, now: EventTime) -> impl Iterator<Item = &Delivery> {
        self.receivers.keys().flat_map(move |name| self.schedule(name).take_while(move |d| d.due_at <= now))
    }

    /// The receivers that have something waiting.
    pub fn receivers(&self) -> impl Iterator<Item = &str> {
        self.receivers.keys().map(String::as_str)
    }

    /// An attempt succeeded; perhaps one that was under way when its delivery was given up for want of room.
    pub fn delivered(&mut self, id: &DeliveryId, now: EventTime) -> Vec<OutboxEvent> {
        let mut events = Vec::new();
        if self.by_id.contains_key(id) || self.dead.get(id).is_some() {
            self.record(OutboxEvent::Delivered { id: id.clone(), at: now }, &mut events);
        }
        events
    }

    /// An attempt failed: it is due again later, or dead.
    pub fn failed(&mut self, id: &DeliveryId, now: EventTime, error: &DeliveryError) -> Vec<OutboxEvent> {
        let mut events = Vec::new();
        let Some(delivery) = self.get(id) else { return events };
        let attempt = delivery.attempt.saturating_add(1);
        let due_at = self.policy.next(delivery, attempt, now, error.retry);
        let given_up = if error.retry == Retry::Never {
            Some("refused for good".to_owned())
        } else if attempt >= self.policy.max_attempts {
            Some(format!("{attempt} attempts failed"))
        } else if due_at.since(delivery.enqueued_at) > self.policy.max_age {
            Some(format!("not delivered within {}", self.policy.max_age))
        } else {
            None
        };
        let at = now.max(delivery.changed_at());
        let error = cut(&error.reason);
        let reason = given_up.map(|why| cut(&format!("{why}; last error: {error}")));
        self.record(OutboxEvent::Failed { id: id.clone(), at, error, attempt, due_at }, &mut events);
        if let Some(reason) = reason {
            self.record(OutboxEvent::Dead { id: id.clone(), at, reason }, &mut events);
        }
        events
    }

    /// What was given up, oldest first.
    pub fn dead_letters(&self) -> impl Iterator<Item = &DeadLetter> {
        self.dead.iter()
    }

    /// Tries a dead letter anew, with the same key. Nothing happens where there is none of that name.
    pub fn resend(&mut self, id: &DeliveryId, now: EventTime) -> Vec<OutboxEvent> {
        let mut events = Vec::new();
        if let Some(letter) = self.dead.get(id) {
            // Strictly after the death, so that this death, should it be told again, is known to lie before.
            let at = now.max(letter.died_at.plus(Span::from_micros(1)));
            self.record(OutboxEvent::Resent { id: id.clone(), at }, &mut events);
            self.make_room(&id.receiver, now, &mut events);
        }
        events
    }

    /// How many deliveries wait, those in flight among them.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn counts(&self) -> OutboxCounts {
        self.counts
    }

    fn record(&mut self, event: OutboxEvent, events: &mut Vec<OutboxEvent>) {
        self.take_in(event.clone());
        events.push(event);
    }

    /// At the receiver's limit the oldest of its least severe deliveries dies.
    fn make_room(&mut self, receiver: &str, now: EventTime, events: &mut Vec<OutboxEvent>) {
        while let Some(queue) = self.receivers.get(receiver)
            && queue.by_worth.len() > limits::OUTBOX_DELIVERIES_PER_RECEIVER_MAX
            && let Some((_, sequence)) = queue.by_worth.first()
            && let Some(delivery) = self.waiting.get(sequence)
        {
            let reason =
                format!("more than {} deliveries wait for `{receiver}`", limits::OUTBOX_DELIVERIES_PER_RECEIVER_MAX);
            let at = now.max(delivery.changed_at());
            self.record(OutboxEvent::Dead { id: delivery.id.clone(), at, reason }, events);
        }
    }

    /// Takes in one fact: the only way in which the outbox changes, also for one that follows the journal of another.
    ///
    /// Facts may be told again, from any point on and in their order: what the outbox holds already changes nothing.
    /// A death or a failure from before the last resending, and a resending from before the last death, are known
    /// by their times.
    ///
    /// Two writers' facts may reach the journal in either order, so facts about deliveries that are not there are
    /// ordinary. A `Delivered` is remembered. A resending is taken before the death that it answers. The others change
    /// nothing: a `Dead` before its `Enqueued` means one more attempt, not a letter lost.
    pub fn take_in(&mut self, event: OutboxEvent) {
        match event {
            OutboxEvent::Enqueued { delivery } => {
                if !self.knows(&delivery.id) {
                    count(&mut self.counts.enqueued);
                    let (receiver, at) = (delivery.id.receiver.clone(), delivery.enqueued_at);
                    self.insert(*delivery);
                    self.shed(&receiver, at);
                }
            }
            OutboxEvent::Delivered { id, .. } => {
                let undone = self.remove(&id).is_some() || self.dead.remove(&id).is_some();
                if self.done.remember(id) || undone {
                    count(&mut self.counts.delivered);
                }
            }
            OutboxEvent::Failed { id, at, attempt, due_at, .. } => {
                if self.get(&id).is_some_and(|delivery| delivery.changed_at() <= at && delivery.attempt < attempt) {
                    count(&mut self.counts.failed_attempts);
                    self.change(&id, |delivery| {
                        (delivery.attempt, delivery.failed_at, delivery.due_at) = (attempt, Some(at), due_at);
                    });
                }
            }
            OutboxEvent::Dead { id, at, reason } => {
                if self.get(&id).is_some_and(|delivery| delivery.changed_at() <= at) {
                    self.give_up(&id, at, reason);
                }
            }
            OutboxEvent::Resent { id, at } => self.take_in_resending(&id, at),
        }
    }

    fn take_in_resending(&mut self, id: &DeliveryId, at: EventTime) {
        let anew = |delivery: &mut Delivery| {
            (delivery.attempt, delivery.failed_at) = (0, None);
            (delivery.enqueued_at, delivery.due_at) = (at, at);
        };
        if self.get(id).is_some_and(|delivery| delivery.changed_at() < at) {
            self.change(id, anew);
        } else if self.dead.get(id).is_some_and(|letter| letter.died_at < at)
            && let Some(DeadLetter { mut delivery, .. }) = self.dead.remove(id)
        {
            self.done.forget(id);
            anew(&mut delivery);
            self.insert(delivery);
            self.shed(&id.receiver, at);
        }
    }

    /// An outbox that makes room never comes here. One that follows a journal in which news of deliveries is missing
    /// must not grow without end either: beyond twice the limit it gives up what the other would have.
    fn shed(&mut self, receiver: &str, at: EventTime) {
        const MOST: usize = 2 * limits::OUTBOX_DELIVERIES_PER_RECEIVER_MAX;
        while let Some(queue) = self.receivers.get(receiver)
            && queue.by_worth.len() > MOST
            && let Some((_, sequence)) = queue.by_worth.first()
            && let Some(id) = self.waiting.get(sequence).map(|delivery| delivery.id.clone())
        {
            self.give_up(&id, at, format!("the journal has more than {MOST} deliveries that wait for `{receiver}`"));
        }
    }

    fn get(&self, id: &DeliveryId) -> Option<&Delivery> {
        self.by_id.get(id).and_then(|sequence| self.waiting.get(sequence))
    }

    /// Whether a delivery is waiting, dead or done.
    fn knows(&self, id: &DeliveryId) -> bool {
        self.by_id.contains_key(id) || self.done.contains(id) || self.dead.get(id).is_some()
    }

    fn give_up(&mut self, id: &DeliveryId, at: EventTime, reason: String) {
        if let Some(delivery) = self.remove(id) {
            count(&mut self.counts.dead);
            let forgotten = self.dead.bury(DeadLetter { delivery, died_at: at, reason });
            self.counts.dead_forgotten = self.counts.dead_forgotten.saturating_add(forgotten);
            self.done.remember(id.clone());
        }
    }

    fn insert(&mut self, delivery: Delivery) {
        let sequence = self.next;
        self.next += 1;
        let queue = self.receivers.entry(delivery.id.receiver.clone()).or_default();
        let behind = queue.alerts.entry(delivery.transition.alert_id()).or_default();
        if behind.is_empty() {
            queue.due.insert((delivery.due_at, sequence));
        }
        behind.push_back(sequence);
        queue.by_worth.insert((worth(&delivery), sequence));
        self.by_id.insert(delivery.id.clone(), sequence);
        self.waiting.insert(sequence, delivery);
    }

    fn remove(&mut self, id: &DeliveryId) -> Option<Delivery> {
        let sequence = self.by_id.remove(id)?;
        let delivery = self.waiting.remove(&sequence)?;
        let queue = self.receivers.get_mut(&id.receiver)?;
        queue.due.remove(&(delivery.due_at, sequence));
        queue.by_worth.remove(&(worth(&delivery), sequence));
        let alert = delivery.transition.alert_id();
        if let Some(behind) = queue.alerts.get_mut(&alert) {
            behind.retain(|waiting| *waiting != sequence);
            match behind.front() {
                // Already there, unless the removed one stood before it.
                Some(first) => queue.due.extend(self.waiting.get(first).map(|next| (next.due_at, *first))),
                None => {
                    queue.alerts.remove(&alert);
                }
            }
        }
        if queue.by_worth.is_empty() {
            self.receivers.remove(&id.receiver);
        }
        Some(delivery)
    }

    /// Changes a waiting delivery where it stands.
    fn change(&mut self, id: &DeliveryId, change: impl FnOnce(&mut Delivery)) {
        let Some(sequence) = self.by_id.get(id) else { return };
        let (Some(delivery), Some(queue)) = (self.waiting.get_mut(sequence), self.receivers.get_mut(&id.receiver))
        else {
            return;
        };
        let is_first = queue.due.remove(&(delivery.due_at, *sequence));
        change(delivery);
        if is_first {
            queue.due.insert((delivery.due_at, *sequence));
        }
    }
}

fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}

fn worth(delivery: &Delivery) -> Severity {
    let transition = &delivery.transition;
    transition.audience.last().copied().map_or(transition.severity, |told| told.max(transition.severity))
}

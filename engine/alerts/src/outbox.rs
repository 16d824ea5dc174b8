//! What is still to be delivered, and what was given up. A fold of `OutboxEvent`s: every command decides on
//! events, applies them and returns them for the journal.
//!
//! Deliveries of one alert to one receiver go out in order, so that nobody hears of an end before its
//! beginning; apart from that, no delivery waits for another.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use tidewatch_model::{EventTime, Severity, limits};

use crate::{AlertId, Delivery, DeliveryError, DeliveryId, OutboxEvent, Retry, RetryPolicy, Transition, backoff::cut};

/// The order in which deliveries came.
type Sequence = u64;

#[derive(Clone, Debug)]
pub struct Outbox {
    policy: RetryPolicy,
    waiting: BTreeMap<Sequence, Delivery>,
    by_id: BTreeMap<DeliveryId, Sequence>,
    receivers: BTreeMap<String, Queue>,
    dead: VecDeque<DeadLetter>,
    done: HashSet<DeliveryId>,
    done_order: VecDeque<DeliveryId>,
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

/// A delivery that was given up. It can be resent.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    pub delivery: Delivery,
    pub died_at: EventTime,
    pub reason: String,
}

/// What happened since the start or the oldest event that the outbox was rebuilt from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
            dead: VecDeque::new(),
            done: HashSet::new(),
            done_order: VecDeque::new(),
            next: 0,
            counts: OutboxCounts::default(),
        }
    }

    /// Recovery. What was in flight when the engine stopped is due again, with the same key.
    pub fn rebuild(policy: RetryPolicy, events: impl IntoIterator<Item = OutboxEvent>) -> Self {
        let mut outbox = Self::new(policy);
        for event in events {
            outbox.apply(event);
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
            if self.by_id.contains_key(&id) || self.done.contains(&id) {
                continue;
            }
            let delivery = Box::new(Delivery {
                id,
                transition: transition.clone(),
                traceparent: traceparent.map(str::to_owned),
                enqueued_at: now,
                attempt: 0,
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

    pub fn delivered(&mut self, id: &DeliveryId, now: EventTime) -> Vec<OutboxEvent> {
        let mut events = Vec::new();
        if self.by_id.contains_key(id) {
            self.record(OutboxEvent::Delivered { id: id.clone(), at: now }, &mut events);
        }
        events
    }

    /// An attempt failed: it is due again later, or dead.
    pub fn failed(&mut self, id: &DeliveryId, now: EventTime, error: &DeliveryError) -> Vec<OutboxEvent> {
        let mut events = Vec::new();
        let Some(delivery) = self.by_id.get(id).and_then(|sequence| self.waiting.get(sequence)) else {
            return events;
        };
        let attempt = delivery.attempt.saturating_add(1);
        let due_at = self.policy.next(id, attempt, now, error.retry);
        let given_up = if error.retry == Retry::Never {
            Some("refused for good".to_owned())
        } else if attempt >= self.policy.max_attempts {
            Some(format!("{attempt} attempts failed"))
        } else if due_at.since(delivery.enqueued_at) > self.policy.max_age {
            Some(format!("not delivered within {}", self.policy.max_age))
        } else {
            None
        };
        let error = cut(&error.reason);
        let reason = given_up.map(|why| cut(&format!("{why}; last error: {error}")));
        self.record(OutboxEvent::Failed { id: id.clone(), at: now, error, attempt, due_at }, &mut events);
        if let Some(reason) = reason {
            self.record(OutboxEvent::Dead { id: id.clone(), at: now, reason }, &mut events);
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
        if self.dead.iter().any(|letter| letter.delivery.id == *id) {
            self.record(OutboxEvent::Resent { id: id.clone(), at: now }, &mut events);
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
        self.apply(event.clone());
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
            self.record(OutboxEvent::Dead { id: delivery.id.clone(), at: now, reason }, events);
        }
    }

    /// The only way in which the outbox changes. Two writers' events may reach the journal in either order, so
    /// events about deliveries that are not there are ordinary: a `Delivered` is remembered, the others change
    /// nothing (a `Dead` before its `Enqueued` means one more attempt, not a letter lost).
    fn apply(&mut self, event: OutboxEvent) {
        match event {
            OutboxEvent::Enqueued { delivery } => {
                if !self.by_id.contains_key(&delivery.id) && !self.done.contains(&delivery.id) {
                    self.counts.enqueued += 1;
                    self.insert(*delivery);
                }
            }
            OutboxEvent::Delivered { id, .. } => {
                self.counts.delivered += 1;
                if self.remove(&id).is_none() {
                    self.dead.retain(|letter| letter.delivery.id != id);
                }
                self.remember(id);
            }
            OutboxEvent::Failed { id, attempt, due_at, .. } => {
                self.counts.failed_attempts += 1;
                self.postpone(&id, attempt, due_at);
            }
            OutboxEvent::Dead { id, at, reason } => {
                if let Some(delivery) = self.remove(&id) {
                    self.counts.dead += 1;
                    self.bury(DeadLetter { delivery, died_at: at, reason });
                    self.remember(id);
                }
            }
            OutboxEvent::Resent { id, at } => {
                if let Some(found) = self.dead.iter().position(|letter| letter.delivery.id == id)
                    && let Some(letter) = self.dead.remove(found)
                {
                    self.done.remove(&id);
                    self.done_order.retain(|done| *done != id);
                    self.insert(Delivery { attempt: 0, enqueued_at: at, due_at: at, ..letter.delivery });
                }
            }
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

    fn postpone(&mut self, id: &DeliveryId, attempt: u32, due_at: EventTime) {
        let Some(sequence) = self.by_id.get(id) else { return };
        let (Some(delivery), Some(queue)) = (self.waiting.get_mut(sequence), self.receivers.get_mut(&id.receiver))
        else {
            return;
        };
        if queue.due.remove(&(delivery.due_at, *sequence)) {
            queue.due.insert((due_at, *sequence));
        }
        delivery.attempt = attempt;
        delivery.due_at = due_at;
    }

    fn bury(&mut self, letter: DeadLetter) {
        if self.dead.len() >= limits::DEAD_LETTERS_MAX {
            self.dead.pop_front();
            self.counts.dead_forgotten += 1;
        }
        self.dead.push_back(letter);
    }

    fn remember(&mut self, id: DeliveryId) {
        if !self.done.insert(id.clone()) {
            return;
        }
        self.done_order.push_back(id);
        if self.done_order.len() > limits::DELIVERIES_DONE_MAX
            && let Some(oldest) = self.done_order.pop_front()
        {
            self.done.remove(&oldest);
        }
    }
}

fn worth(delivery: &Delivery) -> Severity {
    let transition = &delivery.transition;
    transition.audience.last().copied().map_or(transition.severity, |told| told.max(transition.severity))
}

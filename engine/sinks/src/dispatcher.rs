//! The task that empties the outbox. Each receiver has its own bounded number of attempts in flight, so one that is
//! down or slow delays nobody else.
//!
//! Whoever offers a transition never waits for a receiver: `offer` puts it into the outbox in memory, which has room
//! for every receiver apart (and a documented loss at its limit, to the dead letters), and wakes the task. There is no
//! channel that could be full. Durability is the caller's: it journals transitions first, then offers them, then
//! journals the events that `offer` returns; the task hands its own events to the journal. After a crash between any
//! two of these, offering the journal's transitions again sends nothing twice that is known to be delivered, and
//! everything else with the same key.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tidewatch_alerts::{
    DeadLetter, Delivery, DeliveryError, DeliveryId, Outbox, OutboxCounts, OutboxEvent, Retry, Transition,
};
use tidewatch_model::{Clock, Span, limits};
use tokio::{
    sync::{Notify, oneshot},
    task::{Id, JoinError, JoinHandle, JoinSet},
};

use crate::{Receiver, Timer};

/// Takes the task's events, in order. It must not block: it runs on the dispatcher's task.
pub type Journal = Arc<dyn Fn(Vec<OutboxEvent>) + Send + Sync>;

/// Begins a measurement of one attempt; it ends when the answer is dropped.
pub type Timed = Arc<dyn Fn() -> Box<dyn Any + Send> + Send + Sync>;

/// The clock may run faster than the timer, so the task looks at the clock at least this often while it waits.
const LOOK_AGAIN: Span = Span::from_seconds(1);

/// The dispatcher as its callers see it. Clones share one outbox.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    shared: Arc<Shared>,
}

/// The running task, for whoever started it.
#[derive(Debug)]
pub struct DispatcherTask {
    stop: oneshot::Sender<Span>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DispatcherError {
    #[error("two receivers are named `{0}`; routes could not tell them apart")]
    TwiceNamed(String),
}

#[derive(Debug)]
struct Shared {
    outbox: Mutex<Outbox>,
    work: Notify,
    clock: Arc<dyn Clock>,
}

struct Running {
    shared: Arc<Shared>,
    receivers: BTreeMap<String, Arc<dyn Receiver>>,
    timer: Arc<dyn Timer>,
    journal: Journal,
    timed: Timed,
    attempts: JoinSet<Result<(), DeliveryError>>,
    in_flight: HashMap<Id, DeliveryId>,
    busy: BTreeMap<String, HashSet<DeliveryId>>,
}

impl Dispatcher {
    /// Starts to deliver what the outbox holds. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Two receivers have the same name.
    pub fn start(
        outbox: Outbox,
        receivers: Vec<Arc<dyn Receiver>>,
        clock: Arc<dyn Clock>,
        timer: Arc<dyn Timer>,
        journal: Journal,
        timed: Timed,
    ) -> Result<(Self, DispatcherTask), DispatcherError> {
        let mut by_name = BTreeMap::new();
        for receiver in receivers {
            let name = receiver.name().to_owned();
            if by_name.insert(name.clone(), receiver).is_some() {
                return Err(DispatcherError::TwiceNamed(name));
            }
        }
        let shared = Arc::new(Shared { outbox: Mutex::new(outbox), work: Notify::new(), clock });
        let running = Running {
            shared: Arc::clone(&shared),
            receivers: by_name,
            timer,
            journal,
            timed,
            attempts: JoinSet::new(),
            in_flight: HashMap::new(),
            busy: BTreeMap::new(),
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(running.run(stopped));
        Ok((Self { shared }, DispatcherTask { stop, task }))
    }

    /// Takes one transition for the named receivers. Never waits for a receiver. The transition must be durable.
    /// The events returned are for the journal.
    pub fn offer<'a>(
        &self,
        transition: &Transition,
        receivers: impl IntoIterator<Item = &'a str>,
        traceparent: Option<&str>,
    ) -> Vec<OutboxEvent> {
        let now = self.shared.clock.now();
        let events = self.shared.outbox().enqueue(transition, receivers, traceparent, now);
        self.shared.work.notify_one();
        events
    }

    /// Tries a dead letter anew. The events returned are for the journal; none: there is no such letter.
    pub fn resend(&self, id: &DeliveryId) -> Vec<OutboxEvent> {
        let now = self.shared.clock.now();
        let events = self.shared.outbox().resend(id, now);
        self.shared.work.notify_one();
        events
    }

    /// What was given up, oldest first.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.shared.outbox().dead_letters().cloned().collect()
    }

    /// How many deliveries wait, those in flight among them.
    pub fn waiting(&self) -> usize {
        self.shared.outbox().len()
    }

    pub fn counts(&self) -> OutboxCounts {
        self.shared.outbox().counts()
    }
}

impl DispatcherTask {
    /// Starts no further attempt and gives those in flight so long to end. What is cut off stays in the outbox:
    /// it is delivered again, with the same key, after the next start.
    pub async fn stop(self, grace: Span) {
        // A task that is gone already has stopped.
        if self.stop.send(grace).is_ok()
            && let Err(error) = self.task.await
        {
            tracing::error!(%error, "the dispatcher ended abnormally; its deliveries are still in the journal");
        }
    }
}

impl Shared {
    /// Nothing that holds this lock can panic half-way through a change, so a poisoned lock guards a whole outbox.
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    async fn run(mut self, mut stopped: oneshot::Receiver<Span>) {
        let grace = loop {
            let next = self.start_what_is_due();
            let timer = Arc::clone(&self.timer);
            let wait = async move {
                match next {
                    Some(span) => timer.wait(span.min(LOOK_AGAIN)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // Whoever could stop the task is gone: so is the engine.
                grace = &mut stopped => break grace.unwrap_or(Span::ZERO),
                Some(ended) = self.attempts.join_next_with_id() => self.finish(ended),
                () = self.shared.work.notified() => {}
                () = wait => {}
            }
        };
        let mut over = self.timer.wait(grace);
        loop {
            tokio::select! {
                biased;
                ended = self.attempts.join_next_with_id() => match ended {
                    Some(ended) => self.finish(ended),
                    None => return,
                },
                () = &mut over => return self.attempts.abort_all(),
            }
        }
    }

    /// Starts every attempt that is due and has room. Returns how long nothing else will be due.
    fn start_what_is_due(&mut self) -> Option<Span> {
        let now = self.shared.clock.now();
        let mut next: Option<Span> = None;
        let mut start: Vec<(Arc<dyn Receiver>, Delivery)> = Vec::new();
        let mut events = Vec::new();
        {
            let mut outbox = self.shared.outbox();
            let names: Vec<String> = outbox.receivers().map(str::to_owned).collect();
            for name in names {
                let Some(receiver) = self.receivers.get(&name) else {
                    events.extend(give_up_unknown(&mut outbox, &name, now));
                    continue;
                };
                let busy = self.busy.get(&name);
                let mut room =
                    limits::DELIVERIES_IN_FLIGHT_PER_RECEIVER_MAX.saturating_sub(busy.map_or(0, HashSet::len));
                for delivery in outbox.schedule(&name) {
                    if room == 0 {
                        break;
                    }
                    if busy.is_some_and(|busy| busy.contains(&delivery.id)) {
                        continue;
                    }
                    if delivery.due_at > now {
                        let wait = delivery.due_at.since(now);
                        next = Some(next.map_or(wait, |next| next.min(wait)));
                        break;
                    }
                    room -= 1;
                    start.push((Arc::clone(receiver), delivery.clone()));
                }
            }
        }
        for (receiver, delivery) in start {
            self.attempt(receiver, delivery);
        }
        self.report(events);
        next
    }

    fn attempt(&mut self, receiver: Arc<dyn Receiver>, delivery: Delivery) {
        let id = delivery.id.clone();
        self.busy.entry(id.receiver.clone()).or_default().insert(id.clone());
        let timer = (self.timed)();
        let task = self.attempts.spawn(async move {
            let _timer = timer;
            receiver.deliver(&delivery).await
        });
        self.in_flight.insert(task.id(), id);
    }

    fn finish(&mut self, ended: Result<(Id, Result<(), DeliveryError>), JoinError>) {
        let (task, result) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let reason = format!("the attempt broke off: {error}");
                (error.id(), Err(DeliveryError { reason, retry: Retry::Backoff }))
            }
        };
        // Every attempt is entered when it is spawned, so it is found here.
        let Some(id) = self.in_flight.remove(&task) else { return };
        if let Some(busy) = self.busy.get_mut(&id.receiver) {
            busy.remove(&id);
        }
        let now = self.shared.clock.now();
        let events = match &result {
            Ok(()) => self.shared.outbox().delivered(&id, now),
            Err(error) => {
                let retryable = error.retryable();
                tracing::warn!(receiver = %id.receiver, key = %id.key, %error, retryable, "an alert was not delivered");
                self.shared.outbox().failed(&id, now, error)
            }
        };
        self.report(events);
    }

    fn report(&self, events: Vec<OutboxEvent>) {
        if !events.is_empty() {
            (self.journal)(events);
        }
    }
}

/// A receiver that the configuration no longer has: its deliveries become dead letters, which can be seen.
fn give_up_unknown(outbox: &mut Outbox, name: &str, now: tidewatch_model::EventTime) -> Vec<OutboxEvent> {
    let reason = format!("no receiver `{name}` is configured; configure it and resend");
    let error = DeliveryError { reason, retry: Retry::Never };
    let mut events = Vec::new();
    // Each round gives up the first of every alert; those behind them follow in the next.
    loop {
        let ids: Vec<DeliveryId> = outbox.schedule(name).map(|delivery| delivery.id.clone()).collect();
        if ids.is_empty() {
            return events;
        }
        for id in ids {
            events.extend(outbox.failed(&id, now, &error));
        }
    }
}

//! The dispatcher with real receivers and a clock that jumps.

use std::{collections::BTreeSet, sync::Arc};

use tidewatch_alerts::{Outbox, OutboxEvent, RetryPolicy};
use tidewatch_model::{Clock, ManualClock, Span, limits};
use tidewatch_sinks::{Dispatcher, DispatcherError, DispatcherTask, LogSink, Receiver, Timed, Webhook};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::{
    given::{NOW, Shared, clock, fired},
    server::{Answer, Server, status},
    webhook::config,
};

struct Given {
    dispatcher: Dispatcher,
    task: DispatcherTask,
    events: UnboundedReceiver<OutboxEvent>,
    log: Shared,
    clock: Arc<ManualClock>,
}

fn given(server: &Server, outbox: Outbox) -> Given {
    let (manual, clock, timer) = clock();
    let (sender, events) = unbounded_channel();
    let journal = Arc::new(move |events: Vec<OutboxEvent>| {
        events.into_iter().for_each(|event| sender.send(event).expect("the test is there"));
    });
    let log = Shared::default();
    let receivers: Vec<Arc<dyn Receiver>> = vec![
        Arc::new(Webhook::new(config(&server.url)).unwrap()),
        Arc::new(LogSink::to_writer("log", Box::new(log.clone()))),
    ];
    let (dispatcher, task) = Dispatcher::start(outbox, receivers, clock, timer, journal, untimed()).unwrap();
    Given { dispatcher, task, events, log, clock: manual }
}

fn untimed() -> Timed {
    Arc::new(|| Box::new(()))
}

fn empty() -> Outbox {
    Outbox::new(RetryPolicy::default())
}

fn show(event: &OutboxEvent) -> String {
    match event {
        OutboxEvent::Enqueued { delivery } => format!("enqueued {}", delivery.id.receiver),
        OutboxEvent::Delivered { id, .. } => format!("delivered {}", id.receiver),
        OutboxEvent::Failed { error, attempt, .. } => format!("failed {attempt} {}", &error[..12]),
        OutboxEvent::Dead { id, .. } => format!("dead {}", id.receiver),
        OutboxEvent::Resent { id, .. } => format!("resent {}", id.receiver),
    }
}

async fn next(events: &mut UnboundedReceiver<OutboxEvent>, count: usize) -> Vec<String> {
    let mut shown = Vec::new();
    while shown.len() < count {
        shown.push(show(&events.recv().await.expect("the dispatcher runs")));
    }
    shown
}

#[tokio::test]
async fn it_tries_until_it_succeeds_with_the_same_key() {
    let script =
        vec![status(503), Answer::Drop, Answer::Status(429, "retry-after: 77\r\n", String::new()), status(200)];
    let server = Server::start(script);
    let mut given = given(&server, empty());
    let made = given.dispatcher.offer(&fired(&["denied"])[0], ["webhook"], None);
    assert_eq!(made.iter().map(show).collect::<Vec<_>>(), ["enqueued webhook"]);
    let expected = ["failed 1 answered 503", "failed 2 the request ", "failed 3 answered 429", "delivered webhook"];
    assert_eq!(next(&mut given.events, 4).await, expected);
    let keys: Vec<_> = server.requests().iter().map(|r| r.header("idempotency-key").unwrap().to_owned()).collect();
    assert_eq!((keys.len(), BTreeSet::from_iter(keys).len()), (4, 1), "four attempts, one key");
    let waited = given.clock.now().since(NOW).seconds();
    assert!((77..90).contains(&waited), "Retry-After is honoured: {waited}");
    assert_eq!(given.dispatcher.waiting(), 0);
    given.task.stop(Span::ZERO).await;
}

#[tokio::test]
async fn what_is_refused_for_good_is_a_dead_letter_that_can_be_resent() {
    let server = Server::start(vec![status(400), status(200)]);
    let mut given = given(&server, empty());
    given.dispatcher.offer(&fired(&["denied"])[0], ["webhook"], None);
    assert_eq!(next(&mut given.events, 2).await, ["failed 1 answered 400", "dead webhook"]);
    let letters = given.dispatcher.dead_letters();
    assert_eq!(letters[0].reason, "refused for good; last error: answered 400");
    let id = &letters[0].delivery.id;
    assert_eq!(given.dispatcher.resend(id).iter().map(show).collect::<Vec<_>>(), ["resent webhook"]);
    assert_eq!(next(&mut given.events, 1).await, ["delivered webhook"]);
    let keys: BTreeSet<_> = server.requests().iter().map(|r| r.header("idempotency-key").unwrap().to_owned()).collect();
    assert_eq!(keys.len(), 1);
    assert_eq!(given.dispatcher.resend(id), vec![]);
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_nobody_and_survives_a_stop() {
    let server = Server::start(vec![Answer::Hang]);
    let mut given = given(&server, empty());
    let names: Vec<String> = (0..100).map(|at| format!("status-{at:03}")).collect();
    let all = fired(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut journal = Vec::new();
    for transition in &all {
        journal.extend(given.dispatcher.offer(transition, ["webhook", "log"], None));
    }
    for _ in 0..100 {
        let event = given.events.recv().await.expect("the dispatcher runs");
        assert_eq!(show(&event), "delivered log");
        journal.push(event);
    }
    assert_eq!((given.log.lines().len(), given.dispatcher.waiting()), (100, 100));
    assert!(server.requests().len() <= limits::DELIVERIES_IN_FLIGHT_PER_RECEIVER_MAX);
    given.task.stop(Span::from_seconds(5)).await;

    // The next start knows from the journal what is still owed.
    let outbox = Outbox::rebuild(RetryPolicy::default(), journal);
    let answers = Server::start(vec![status(200)]);
    let mut again = self::given(&answers, outbox);
    for transition in &all {
        assert_eq!(again.dispatcher.offer(transition, ["webhook", "log"], None), vec![], "it is known");
    }
    assert!(next(&mut again.events, 100).await.iter().all(|shown| shown == "delivered webhook"));
    assert_eq!((again.dispatcher.waiting(), again.log.lines().len()), (0, 0));
}

#[tokio::test]
async fn a_receiver_that_is_not_configured_any_more_leaves_dead_letters() {
    let mut outbox = empty();
    for transition in fired(&["denied", "failed"]) {
        outbox.enqueue(&transition, ["pager"], None, NOW);
    }
    let server = Server::start(vec![status(200)]);
    let mut given = given(&server, outbox);
    let shown = next(&mut given.events, 4).await;
    assert_eq!(shown.iter().filter(|event| *event == "dead pager").count(), 2, "{shown:?}");
    assert!(given.dispatcher.dead_letters()[0].reason.contains("no receiver `pager` is configured"));
}

#[tokio::test]
async fn receivers_have_names_of_their_own() {
    let (_, clock, timer) = clock();
    let log = || -> Arc<dyn Receiver> { Arc::new(LogSink::to_tracing("log")) };
    let started = Dispatcher::start(empty(), vec![log(), log()], clock, timer, Arc::new(|_| ()), untimed());
    assert_eq!(started.err(), Some(DispatcherError::TwiceNamed("log".to_owned())));
}

//! The outbox saved and restored, and followed from its journal: random fates of deliveries, a clock that steps back,
//! and journals that overlap with the state. `TIDEWATCH_SEED` replays a failure.

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use serde_json::Value;
use tidewatch_alerts::{Delivery, DeliveryId, Outbox, OutboxEvent, OutboxState, Retry, RetryPolicy, Transition};
use tidewatch_model::{EventTime, Severity, Span, limits};

use crate::{
    deliveries::{NOW, after, error, transitions},
    saved::{number, spoil, text},
};

const V1: &str = include_str!("../fixtures/outbox-v1.json");
const POLICY: RetryPolicy = RetryPolicy {
    first: Span::from_seconds(1),
    longest: Span::from_seconds(60),
    max_attempts: 3,
    max_age: Span::from_minutes(60),
};

fn some_transitions() -> Vec<Transition> {
    transitions(&[("a", Severity::High), ("b", Severity::Critical), ("c", Severity::Low), ("d", Severity::High)])
}

fn restored(outbox: &Outbox) -> Outbox {
    Outbox::restore(POLICY, serde_json::from_str(&text(&outbox.save())).expect("it was written just now"))
}

/// What somebody does to the outbox.
#[derive(Clone, Debug)]
enum Command {
    Enqueue(Box<Transition>),
    Delivered(DeliveryId),
    Failed(DeliveryId, Retry),
    Resend(DeliveryId),
}

fn command(outbox: &Outbox, all: &[Transition], rng: &mut SmallRng) -> Option<Command> {
    // Not only what is due: an attempt may end after its delivery was given up, or twice.
    let ids: Vec<DeliveryId> = outbox.due(EventTime::MAX).map(|delivery| delivery.id.clone()).collect();
    let dead: Vec<DeliveryId> = outbox.dead_letters().map(|letter| letter.delivery.id.clone()).collect();
    let known = || ids.iter().chain(&dead).cloned().collect::<Vec<_>>();
    Some(match rng.random_range(0..8) {
        0 | 1 => Command::Enqueue(Box::new(all.choose(rng)?.clone())),
        2 => Command::Delivered(known().choose(rng)?.clone()),
        3 | 4 => Command::Failed(known().choose(rng)?.clone(), Retry::Backoff),
        5 => Command::Failed(ids.choose(rng)?.clone(), Retry::Never),
        6 => Command::Failed(ids.choose(rng)?.clone(), Retry::After(Span::from_seconds(rng.random_range(0..9_000)))),
        _ => Command::Resend(dead.choose(rng)?.clone()),
    })
}

fn obey(outbox: &mut Outbox, command: &Command, now: EventTime) -> Vec<OutboxEvent> {
    match command {
        Command::Enqueue(transition) => outbox.enqueue(transition, ["a", "b"], Some("00-a-b-01"), now),
        Command::Delivered(id) => outbox.delivered(id, now),
        Command::Failed(id, retry) => outbox.failed(id, now, &error(*retry)),
        Command::Resend(id) => outbox.resend(id, now),
    }
}

/// The clock stands still now and then, and sometimes steps back.
fn tick(now: EventTime, rng: &mut SmallRng) -> EventTime {
    match rng.random_range(0..5) {
        0 => now,
        1 => now.minus(Span::from_seconds(rng.random_range(0..40))),
        _ => now.plus(Span::from_seconds(rng.random_range(0..60))),
    }
}

#[test]
fn a_run_with_restarts_equals_one_without() {
    let (first, cases) = (number("TIDEWATCH_SEED", 1), number("TIDEWATCH_CASES", 500));
    let all = some_transitions();
    let mut kinds = [0_u64; 5];
    for seed in first..first + cases {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut whole, mut broken, mut follower) = (Outbox::new(POLICY), Outbox::new(POLICY), Outbox::new(POLICY));
        let mut now = NOW;
        for step in 0..rng.random_range(1..100) {
            now = tick(now, &mut rng);
            if rng.random_bool(0.2) {
                broken = restored(&broken);
            }
            if rng.random_bool(0.2) {
                follower = restored(&follower);
            }
            let Some(command) = command(&whole, &all, &mut rng) else { continue };
            let expected = obey(&mut whole, &command, now);
            let events = obey(&mut broken, &command, now);
            assert_eq!(events, expected, "TIDEWATCH_SEED={seed}, step {step}: {command:?}");
            for event in events {
                kinds[kind(&event)] += 1;
                follower.take_in(event);
            }
            let expected = text(&whole.save());
            assert_eq!(text(&broken.save()), expected, "TIDEWATCH_SEED={seed}, step {step}: {command:?}");
            assert_eq!(text(&follower.save()), expected, "TIDEWATCH_SEED={seed}, step {step}: {command:?}");
            assert_eq!(schedules(&broken), schedules(&whole), "TIDEWATCH_SEED={seed}, step {step}: {command:?}");
        }
    }
    assert!(cases < 100 || kinds.iter().all(|count| *count > cases / 2), "the cases say too little: {kinds:?}");
    println!("seeds {first}..{}: enqueued, delivered, failed, dead, resent: {kinds:?}", first + cases);
}

fn kind(event: &OutboxEvent) -> usize {
    match event {
        OutboxEvent::Enqueued { .. } => 0,
        OutboxEvent::Delivered { .. } => 1,
        OutboxEvent::Failed { .. } => 2,
        OutboxEvent::Dead { .. } => 3,
        OutboxEvent::Resent { .. } => 4,
    }
}

fn schedules(outbox: &Outbox) -> Vec<Delivery> {
    outbox.due(EventTime::MAX).cloned().collect()
}

fn journal(seed: u64, all: &[Transition]) -> Vec<OutboxEvent> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut outbox, mut journal, mut now) = (Outbox::new(POLICY), Vec::new(), NOW);
    for _ in 0..rng.random_range(1..100) {
        now = tick(now, &mut rng);
        if let Some(command) = command(&outbox, all, &mut rng) {
            journal.extend(obey(&mut outbox, &command, now));
        }
    }
    journal
}

#[test]
fn events_that_the_state_holds_already_change_nothing() {
    let (first, cases) = (number("TIDEWATCH_SEED", 1), number("TIDEWATCH_CASES", 1_000));
    let all = some_transitions();
    for seed in first..first + cases {
        let journal = journal(seed, &all);
        let expected = text(&Outbox::rebuild(POLICY, journal.clone()).save());
        let mut rng = SmallRng::seed_from_u64(seed);
        for _ in 0..10 {
            let k = rng.random_range(0..=journal.len());
            let j = rng.random_range(0..=k);
            let mut outbox = restored(&Outbox::rebuild(POLICY, journal[..k].to_vec()));
            journal[j..].iter().cloned().for_each(|event| outbox.take_in(event));
            assert_eq!(text(&outbox.save()), expected, "TIDEWATCH_SEED={seed}: state of {k}, journal from {j}");
        }
    }
}

/// Neighbours in the journal change places, as two writers' entries may, and the journal overlaps with the state:
/// whatever waits in truth must be waiting.
#[test]
fn no_delivery_is_lost_where_two_writers_journals_overlap_with_the_state() {
    let (first, cases) = (number("TIDEWATCH_SEED", 1), number("TIDEWATCH_CASES", 1_000));
    let all = some_transitions();
    for seed in first..first + cases {
        let mut journal = journal(seed, &all);
        let truth = Outbox::rebuild(POLICY, journal.clone());
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut at = 1;
        while at < journal.len() {
            if rng.random_bool(0.3) {
                journal.swap(at - 1, at);
                at += 1;
            }
            at += 1;
        }
        let k = rng.random_range(0..=journal.len());
        let j = rng.random_range(0..=k);
        let mut outbox = restored(&Outbox::rebuild(POLICY, journal[..k].to_vec()));
        journal[j..].iter().cloned().for_each(|event| outbox.take_in(event));
        let kept = waiting(&outbox);
        for id in waiting(&truth) {
            assert!(kept.contains(&id), "TIDEWATCH_SEED={seed}: {id:?} is lost (state of {k}, journal from {j})");
        }
    }
}

/// All that wait, also those behind another of their alert.
fn waiting(outbox: &Outbox) -> Vec<DeliveryId> {
    let state = serde_json::to_value(outbox.save()).unwrap();
    let waiting = state["waiting"].as_array().unwrap().iter();
    waiting.map(|delivery| serde_json::from_value(delivery["id"].clone()).unwrap()).collect()
}

#[test]
fn a_resending_is_told_from_the_death_that_it_answers() {
    let fired = &some_transitions()[0];
    let mut outbox = Outbox::new(POLICY);
    let mut journal = outbox.enqueue(fired, ["a"], None, NOW);
    let id = DeliveryId { key: fired.key, receiver: "a".to_owned() };
    journal.extend(outbox.failed(&id, NOW, &error(Retry::Never)));
    // At the same moment, and with a clock that has stepped back.
    for (round, now) in [NOW, after(-600), after(-600)].into_iter().enumerate() {
        journal.extend(outbox.resend(&id, now));
        assert_eq!((outbox.len(), outbox.dead_letters().count()), (1, 0), "round {round}");
        journal.extend(outbox.failed(&id, now, &error(Retry::Never)));
        assert_eq!((outbox.len(), outbox.dead_letters().count()), (0, 1), "round {round}");
    }
    let resent = outbox.resend(&id, after(-600));
    journal.extend(resent.clone());
    for from in 0..journal.len() {
        let mut again = restored(&outbox);
        journal[from..].iter().cloned().for_each(|event| again.take_in(event));
        assert_eq!(text(&again.save()), text(&outbox.save()), "from {from}");
    }
    // The resending may be journalled before the death that it answers.
    let (last, before) = (journal.len() - 1, journal.len() - 2);
    journal.swap(before, last);
    assert_eq!(Outbox::rebuild(POLICY, journal).len(), 1);
}

#[test]
fn the_memory_of_what_is_done_is_restored_in_its_order() {
    let fired = &some_transitions()[0];
    let id = |at: usize| DeliveryId { key: fired.key, receiver: format!("receiver-{at:06}") };
    let max = limits::DELIVERIES_DONE_MAX;
    let mut outbox = Outbox::new(POLICY);
    for at in 0..max {
        outbox.take_in(OutboxEvent::Delivered { id: id(at), at: NOW });
    }
    let mut again = restored(&outbox);
    for outbox in [&mut outbox, &mut again] {
        outbox.take_in(OutboxEvent::Delivered { id: id(max), at: NOW });
        let taken = |outbox: &mut Outbox, at: usize| outbox.enqueue(fired, [id(at).receiver.as_str()], None, NOW).len();
        assert_eq!((taken(outbox, 1), taken(outbox, max), taken(outbox, 0)), (0, 0, 1), "the oldest is forgotten");
    }
    assert_eq!(text(&again.save()), text(&outbox.save()));
}

#[test]
fn an_outbox_that_hears_of_no_end_does_not_grow_without_end() {
    let names: Vec<String> = (0..5_000).map(|at| format!("account-{at:06}")).collect();
    let max = 2 * limits::OUTBOX_DELIVERIES_PER_RECEIVER_MAX;
    let mut outbox = Outbox::new(POLICY);
    for round in 0..5 {
        let names: Vec<String> = names.iter().map(|name| format!("{name}-{round}")).collect();
        let part: Vec<_> = names.iter().map(|name| (name.as_str(), Severity::High)).collect();
        for transition in transitions(&part).into_iter().take(part.len()) {
            let events = Outbox::new(POLICY).enqueue(&transition, ["a"], None, NOW);
            events.into_iter().for_each(|event| outbox.take_in(event));
        }
    }
    assert_eq!((outbox.len(), outbox.dead_letters().count()), (max, 5_000));
    assert!(outbox.dead_letters().next().is_some_and(|letter| letter.reason.contains("wait for `a`")));
}

/// The state that the fixture holds.
fn example() -> Outbox {
    let all = some_transitions();
    let mut outbox = Outbox::new(POLICY);
    for transition in &all {
        outbox.enqueue(transition, ["log"], Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), NOW);
    }
    outbox.enqueue(&all[0], ["pager"], None, after(1));
    let id = |at: usize, receiver: &str| DeliveryId { key: all[at].key, receiver: receiver.to_owned() };
    outbox.delivered(&id(0, "log"), after(2));
    outbox.failed(&id(1, "log"), after(2), &error(Retry::Backoff));
    outbox.failed(&id(2, "log"), after(3), &error(Retry::Never));
    outbox.failed(&id(0, "pager"), after(3), &error(Retry::Never));
    outbox.resend(&id(2, "log"), after(4));
    outbox
}

/// `TIDEWATCH_SHOW=1 cargo test … -- --nocapture` prints what a new fixture would hold.
#[test]
fn the_fixture_of_version_1_is_read_and_written_to_the_byte() {
    if std::env::var_os("TIDEWATCH_SHOW").is_some() {
        println!("{}", serde_json::to_string_pretty(&example().save()).unwrap());
    }
    let read = Outbox::restore(POLICY, serde_json::from_str(V1).expect("the fixture is a state"));
    assert_eq!(serde_json::to_string_pretty(&read.save()).unwrap(), V1.trim_end());
    assert_eq!(text(&read.save()), text(&example().save()), "the same fates give another state than they did");
    assert_eq!((read.len(), read.dead_letters().count(), read.counts().delivered), (7, 1, 1));
}

#[test]
fn fields_of_a_later_version_are_passed_over_and_missing_ones_are_not() {
    let mut state: Value = serde_json::from_str(V1).unwrap();
    for object in ["/waiting/0", "/waiting/0/id", "/dead/0", "/done/0", "/counts", ""] {
        let fields = state.pointer_mut(object).and_then(Value::as_object_mut).expect("the fixture has it");
        fields.insert("since_version_9".to_owned(), Value::from(9));
    }
    let read = Outbox::restore(POLICY, serde_json::from_value(state).expect("more fields are no error"));
    assert_eq!(text(&read.save()), text(&example().save()));
    for field in ["waiting", "dead", "done", "counts"] {
        let mut state: Value = serde_json::from_str(V1).unwrap();
        state.as_object_mut().unwrap().remove(field);
        assert!(serde_json::from_value::<OutboxState<'_>>(state).is_err(), "without `{field}`");
    }
}

#[test]
fn a_spoilt_state_is_an_error_or_a_state() {
    for length in 0..V1.trim_end().len() {
        let cut = V1.get(..length).unwrap_or_default();
        assert!(serde_json::from_str::<OutboxState<'_>>(cut).is_err(), "cut after {length} bytes");
    }
    let first = number("TIDEWATCH_SEED", 1);
    let all = some_transitions();
    let mut read = 0;
    for seed in first..first + 3_000 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut state: Value = serde_json::from_str(V1).unwrap();
        for _ in 0..rng.random_range(1..4) {
            spoil(&mut state, &mut rng);
        }
        let Ok(state) = serde_json::from_value::<OutboxState<'static>>(state) else { continue };
        read += 1;
        let mut outbox = Outbox::restore(POLICY, state);
        assert_eq!(text(&restored(&outbox).save()), text(&outbox.save()), "TIDEWATCH_SEED={seed}");
        for step in 0..30 {
            if let Some(command) = command(&outbox, &all, &mut rng) {
                obey(&mut outbox, &command, after(step));
            }
        }
        // Whatever it says, it comes to an end.
        for round in 0.. {
            let ids: Vec<DeliveryId> = outbox.due(EventTime::MAX).map(|delivery| delivery.id.clone()).collect();
            if ids.is_empty() {
                break;
            }
            assert!(round < 20, "TIDEWATCH_SEED={seed}: it never empties");
            for id in ids {
                outbox.failed(&id, after(100), &error(Retry::Never));
            }
        }
        assert!(outbox.is_empty(), "TIDEWATCH_SEED={seed}");
    }
    assert!(read > 100, "of 3000 spoilt states {read} were read: nothing was tried");
}

#[test]
fn a_delivery_that_a_state_names_twice_waits_once() {
    let mut state: Value = serde_json::from_str(V1).unwrap();
    let waiting = state["waiting"][0].clone();
    state["done"].as_array_mut().unwrap().push(waiting["id"].clone());
    let letter = serde_json::json!({ "delivery": waiting, "died_at": 0, "reason": "" });
    state["dead"].as_array_mut().unwrap().push(letter);
    state["waiting"].as_array_mut().unwrap().push(waiting);
    let read = Outbox::restore(POLICY, serde_json::from_value(state).unwrap());
    assert_eq!(text(&read.save()), text(&example().save()));
}

//! The outbox: order, back-off, giving up, resending, limits, and that its events rebuild it.

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::SliceRandom};
use tidewatch_alerts::{Delivery, DeliveryId, Outbox, OutboxEvent, Retry, RetryPolicy, Transition};
use tidewatch_model::{EventTime, Severity, Span, limits};

use crate::deliveries::{NOW, after, error, transitions};

fn due(outbox: &Outbox, now: EventTime) -> Vec<DeliveryId> {
    outbox.due(now).map(|delivery| delivery.id.clone()).collect()
}

/// Everything that the outbox shows.
fn contents(outbox: &Outbox) -> (Vec<Delivery>, Vec<String>, usize) {
    let waiting = outbox.due(EventTime::MAX).cloned().collect();
    (waiting, outbox.dead_letters().map(|letter| format!("{letter:?}")).collect(), outbox.len())
}

#[test]
fn an_end_waits_for_its_beginning_and_other_alerts_do_not() {
    let all = transitions(&[("denied", Severity::Critical), ("failed", Severity::Critical)]);
    let [denied_fired, failed_fired, denied_resolved, failed_resolved] = all.as_slice() else { panic!("{all:?}") };
    let mut outbox = Outbox::new(RetryPolicy::default());
    for transition in &all {
        outbox.enqueue(transition, ["log", "webhook"], None, NOW);
    }
    let id = |t: &Transition, receiver: &str| DeliveryId { key: t.key, receiver: receiver.to_owned() };
    let firsts = |receiver: &str| [id(denied_fired, receiver), id(failed_fired, receiver)];
    assert_eq!(due(&outbox, NOW), [firsts("log"), firsts("webhook")].concat());

    outbox.failed(&id(denied_fired, "webhook"), NOW, &error(Retry::Backoff));
    outbox.delivered(&id(failed_fired, "webhook"), NOW);
    assert_eq!(due(&outbox, NOW)[2..], [id(failed_resolved, "webhook")]);
    outbox.delivered(&id(denied_fired, "webhook"), after(2));
    assert_eq!(due(&outbox, after(2))[2..], [id(denied_resolved, "webhook"), id(failed_resolved, "webhook")]);
}

#[test]
fn what_is_known_is_not_taken_twice() {
    let fired = &transitions(&[("denied", Severity::Critical)])[0];
    let mut outbox = Outbox::new(RetryPolicy::default());
    assert_eq!(outbox.enqueue(fired, ["log"], Some("00-a-b-01"), NOW).len(), 1);
    assert_eq!(outbox.enqueue(fired, ["log"], None, NOW).len(), 0, "it waits");
    let id = due(&outbox, NOW)[0].clone();
    assert_eq!(outbox.delivered(&id, NOW).len(), 1);
    assert_eq!(outbox.enqueue(fired, ["log"], None, NOW).len(), 0, "it was delivered");
    assert_eq!(outbox.delivered(&id, NOW).len(), 0);
    assert_eq!(outbox.failed(&id, NOW, &error(Retry::Backoff)).len(), 0);
}

#[test]
fn the_wait_doubles_within_its_jitter_up_to_the_longest() {
    let policy =
        RetryPolicy { first: Span::from_seconds(2), longest: Span::from_seconds(60), ..RetryPolicy::default() };
    let fired = &transitions(&[("denied", Severity::Critical)])[0];
    let run = || {
        let mut outbox = Outbox::new(policy);
        outbox.enqueue(fired, ["webhook"], None, NOW);
        let (mut now, mut waits) = (NOW, Vec::new());
        for _ in 0..8 {
            let delivery = outbox.due(now).next().expect("it is due").clone();
            outbox.failed(&delivery.id, now, &error(Retry::Backoff));
            let next = outbox.schedule("webhook").next().expect("it waits").due_at;
            waits.push(next.since(now).micros());
            assert_eq!(outbox.due(next.minus(Span::from_micros(1))).count(), 0);
            now = next;
        }
        waits
    };
    let waits = run();
    for (wait, whole) in waits.iter().zip([2, 4, 8, 16, 32, 60, 60, 60]) {
        let whole = whole * 1_000_000;
        assert!((whole / 2..=whole).contains(wait), "{wait} of {whole}");
    }
    assert_eq!(run(), waits, "jitter follows from the key");
}

#[test]
fn a_receiver_may_ask_for_time() {
    let fired = &transitions(&[("denied", Severity::Critical)])[0];
    for (asked, least, most) in [(120, 120, 120), (0, 0, 1), (10_000_000, 86_400, 86_400)] {
        let mut outbox = Outbox::new(RetryPolicy { max_age: Span::from_seconds(86_400), ..RetryPolicy::default() });
        outbox.enqueue(fired, ["webhook"], None, NOW);
        let id = due(&outbox, NOW)[0].clone();
        outbox.failed(&id, NOW, &error(Retry::After(Span::from_seconds(asked))));
        let wait = outbox.schedule("webhook").next().expect("it waits").due_at.since(NOW).seconds();
        assert!((least..=most).contains(&wait), "asked for {asked}, waits {wait}");
    }
}

#[test]
fn a_receiver_that_asks_for_more_time_than_there_is_gets_what_is_left() {
    let fired = &transitions(&[("denied", Severity::Critical)])[0];
    let mut outbox = Outbox::new(RetryPolicy { max_age: Span::from_seconds(86_400), ..RetryPolicy::default() });
    outbox.enqueue(fired, ["webhook"], None, NOW);
    let id = due(&outbox, NOW)[0].clone();
    outbox.failed(&id, after(1), &error(Retry::After(Span::from_seconds(86_400))));
    assert_eq!(outbox.schedule("webhook").next().map(|delivery| delivery.due_at), Some(after(86_400)));
    outbox.failed(&id, after(86_400), &error(Retry::After(Span::from_seconds(1))));
    assert_eq!((outbox.len(), outbox.dead_letters().count()), (0, 1));
}

#[test]
fn an_attempt_that_succeeds_after_all_leaves_no_dead_letter() {
    let fired = &transitions(&[("denied", Severity::Critical)])[0];
    let mut outbox = Outbox::new(RetryPolicy::default());
    outbox.enqueue(fired, ["webhook"], None, NOW);
    let id = due(&outbox, NOW)[0].clone();
    outbox.failed(&id, NOW, &error(Retry::Never));
    assert_eq!((outbox.dead_letters().count(), outbox.delivered(&id, after(1)).len()), (1, 1));
    assert_eq!((outbox.dead_letters().count(), outbox.delivered(&id, after(2)).len()), (0, 0));
    assert_eq!((outbox.enqueue(fired, ["webhook"], None, NOW).len(), outbox.resend(&id, NOW).len()), (0, 0));
}

#[test]
fn deliveries_die_visibly_and_can_be_resent() {
    let fired = &transitions(&[("denied", Severity::Critical)])[0];
    let policy = RetryPolicy { max_attempts: 3, max_age: Span::from_seconds(60), ..RetryPolicy::default() };
    for (retry, seconds, attempts, reason) in [
        (Retry::Never, 0, 1, "refused for good"),
        (Retry::Backoff, 5, 3, "3 attempts failed"),
        (Retry::Backoff, 60, 1, "not delivered within 1m"),
    ] {
        let mut outbox = Outbox::new(policy);
        outbox.enqueue(fired, ["webhook"], None, NOW);
        let id = due(&outbox, NOW)[0].clone();
        for attempt in 1..=attempts {
            assert_eq!(outbox.dead_letters().count(), 0);
            outbox.failed(&id, after(seconds * attempt), &error(retry));
        }
        let letter = outbox.dead_letters().next().expect("it died").clone();
        assert_eq!(letter.reason, format!("{reason}; last error: connection refused"));
        assert_eq!((outbox.len(), outbox.enqueue(fired, ["webhook"], None, NOW).len()), (0, 0));

        assert_eq!(outbox.resend(&id, after(1_000)).len(), 1);
        let again = outbox.due(after(1_000)).next().expect("it is due at once");
        assert_eq!((again.attempt, &again.id), (0, &id), "the same key");
        assert_eq!((outbox.dead_letters().count(), outbox.resend(&id, NOW).len()), (0, 0));
    }
}

#[test]
fn at_the_limit_the_oldest_of_the_least_severe_goes() {
    let max = limits::OUTBOX_DELIVERIES_PER_RECEIVER_MAX;
    let names: Vec<String> = (0..=max).map(|at| format!("account-{at:06}")).collect();
    let severity = |at| if at == 0 { Severity::Critical } else { Severity::Warning };
    let mut outbox = Outbox::new(RetryPolicy::default());
    let mut died = Vec::new();
    // In parts, because a rule tracks no more alerts than the outbox holds deliveries.
    for part in (0..=max).collect::<Vec<_>>().chunks(5_000) {
        let part: Vec<_> = part.iter().map(|at| (names[*at].as_str(), severity(*at))).collect();
        for transition in transitions(&part).iter().take(part.len()) {
            let events = outbox.enqueue(transition, ["webhook"], None, NOW);
            died.extend(events.into_iter().filter(|event| matches!(event, OutboxEvent::Dead { .. })));
        }
    }
    assert_eq!((outbox.len(), died.len(), outbox.counts().dead), (max, 1, 1));
    let letter = outbox.dead_letters().next().expect("one died");
    assert_eq!(letter.delivery.transition.labels["status"], names[1], "not the critical one before it");
    outbox.enqueue(&transitions(&[("other", Severity::Low)])[0], ["log"], None, NOW);
    assert_eq!((outbox.len(), outbox.counts().dead), (max + 1, 1), "each receiver has its own limit");
}

#[test]
fn events_rebuild_the_outbox() {
    let first = std::env::var("TIDEWATCH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let statuses: Vec<String> = (0..8).map(|at| format!("status-{at}")).collect();
    let statuses: Vec<_> = statuses.iter().map(|status| (status.as_str(), Severity::High)).collect();
    let all = transitions(&statuses);
    let policy = RetryPolicy { max_attempts: 3, ..RetryPolicy::default() };
    for seed in first..first + 300_u64 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut outbox = Outbox::new(policy);
        let mut journal = Vec::new();
        for step in 0..60 {
            let now = after(step * 10);
            let ids = due(&outbox, now);
            let pick = |rng: &mut SmallRng| ids.get(rng.random_range(0..ids.len().max(1)));
            let events = match rng.random_range(0..6) {
                0 | 1 => outbox.enqueue(&all[rng.random_range(0..all.len())], ["a", "b"], None, now),
                2 => pick(&mut rng).map_or_else(Vec::new, |id| outbox.delivered(id, now)),
                3 => pick(&mut rng).map_or_else(Vec::new, |id| outbox.failed(id, now, &error(Retry::Backoff))),
                4 => pick(&mut rng).map_or_else(Vec::new, |id| outbox.failed(id, now, &error(Retry::Never))),
                _ => {
                    let dead = outbox.dead_letters().next().map(|letter| letter.delivery.id.clone());
                    dead.map_or_else(Vec::new, |id| outbox.resend(&id, now))
                }
            };
            journal.extend(events.iter().map(|event| serde_json::to_string(event).unwrap()));
        }
        let read = |line: &String| serde_json::from_str::<OutboxEvent>(line).unwrap();
        let rebuilt = Outbox::rebuild(policy, journal.iter().map(read));
        assert_eq!(contents(&rebuilt), contents(&outbox), "TIDEWATCH_SEED={seed}");
        assert_eq!(rebuilt.counts(), outbox.counts(), "TIDEWATCH_SEED={seed}");

        // Whatever order two writers' events come in, nothing that is undelivered may vanish.
        journal.shuffle(&mut rng);
        let shuffled = Outbox::rebuild(policy, journal.iter().map(read));
        let known = |outbox: &Outbox, id: &DeliveryId| {
            outbox.due(EventTime::MAX).any(|d| d.id == *id) || outbox.dead_letters().any(|l| l.delivery.id == *id)
        };
        let delivered = |id: &DeliveryId| {
            journal
                .iter()
                .map(read)
                .any(|event| matches!(event, OutboxEvent::Delivered { id: done, .. } if done == *id))
        };
        for delivery in outbox.due(EventTime::MAX).filter(|delivery| !delivered(&delivery.id)) {
            let behind = shuffled.due(EventTime::MAX).any(|d| {
                d.transition.alert_id() == delivery.transition.alert_id() && d.id.receiver == delivery.id.receiver
            });
            assert!(behind || known(&shuffled, &delivery.id), "TIDEWATCH_SEED={seed}: {:?} vanished", delivery.id);
        }
    }
}

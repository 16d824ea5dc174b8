//! Alerts that are saved and restored go on as if nothing had happened: random verdicts of several rules, restored at
//! random minutes, beside a run without a break. `TIDEWATCH_SEED` replays a failure.

use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::Value;
use tidewatch_alerts::{Alerts, AlertsState, Judged, Kind, Outcome, RuleAlerting, Transition, VerdictRow};
use tidewatch_model::{Minute, Severity, Span, limits};

use crate::{
    notation::{START, row, rule},
    saved::{number, spoil, text},
};

const V1: &str = include_str!("../fixtures/alerts-v1.json");
const SEVERITIES: [Severity; 4] = [Severity::Low, Severity::Warning, Severity::High, Severity::Critical];
const STATUSES: [&str; 5] = ["denied", "failed", "reversed", "backend_reversed", ""];
const NUMBERS: [f64; 8] =
    [0.1, -0.0, 1e-310, 1.797e308, 123_456_789.123_456_79, f64::NAN, f64::INFINITY, -f64::INFINITY];

fn restored(alerts: &Alerts) -> Alerts {
    let state: AlertsState<'static> = serde_json::from_str(&text(&alerts.save())).expect("it was written just now");
    Alerts::restore_state(state)
}

/// What happens to one rule in one minute.
#[derive(Clone, Debug)]
enum Happens {
    Judged { rule: RuleAlerting, outcome: Outcome, notify: bool },
    Retired { rule: String, notify: bool },
}

fn happens(alerts: &mut Alerts, minute: Minute, what: Happens) -> Vec<Transition> {
    match what {
        Happens::Judged { rule, outcome, notify } => {
            alerts.observe(Judged { rule: &rule, minute, outcome, notify }).expect("minutes come in order")
        }
        Happens::Retired { rule, notify } => alerts.retire(&rule, minute, notify).expect("minutes come in order"),
    }
}

fn random_row(status: &str, warming_up: bool, rng: &mut SmallRng) -> VerdictRow {
    let mut row = row(status, SEVERITIES[rng.random_range(0..4)], warming_up);
    row.values.insert("score".to_owned(), NUMBERS[rng.random_range(0..NUMBERS.len())]);
    row.values.insert("value".to_owned(), rng.random());
    row
}

/// A random minute of every rule.
fn minute(rules: &[RuleAlerting], present: &mut [bool], warming_up: bool, rng: &mut SmallRng) -> Vec<Happens> {
    let mut all = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let notify = rng.random_bool(0.95);
        let rows = STATUSES.iter().enumerate().filter_map(|(status, name)| {
            let present = &mut present[at * STATUSES.len() + status];
            *present ^= rng.random_bool(0.25);
            present.then(|| random_row(name, warming_up, rng))
        });
        let outcome = Outcome::Rows(rows.collect());
        let rule = rule.clone();
        all.extend(match rng.random_range(0..40) {
            0 => None,
            1 => Some(Happens::Judged { rule, outcome: Outcome::Failed { reason: "too slow".to_owned() }, notify }),
            2 => Some(Happens::Retired { rule: rule.name, notify }),
            _ => Some(Happens::Judged { rule, outcome, notify }),
        });
    }
    all
}

fn random_rules(rng: &mut SmallRng) -> Vec<RuleAlerting> {
    let mut rules = Vec::new();
    for at in 0..rng.random_range(1..4) {
        let name = format!("rule \"{at}\"\u{1f980}");
        rules.push(RuleAlerting {
            name,
            ..rule(rng.random_range(0..4), rng.random_range(0..4), rng.random_range(0..9))
        });
    }
    rules
}

#[test]
fn a_run_with_restarts_equals_one_without() {
    let first = number("TIDEWATCH_SEED", 1);
    let cases = number("TIDEWATCH_CASES", 150);
    let (mut sent, mut restarts) = (0_u64, 0_u64);
    for seed in first..first + cases {
        let mut rng = SmallRng::seed_from_u64(seed);
        let rules = random_rules(&mut rng);
        let mut present = vec![false; rules.len() * STATUSES.len()];
        let (mut whole, mut broken) = (Alerts::new(), Alerts::new());
        for offset in 0..rng.random_range(1..60) {
            for what in minute(&rules, &mut present, offset < 3, &mut rng) {
                if rng.random_bool(0.2) {
                    broken = restored(&broken);
                    restarts += 1;
                }
                let at = Minute::from_index(START + offset);
                let (expected, made) = (happens(&mut whole, at, what.clone()), happens(&mut broken, at, what));
                // As text, because a NaN does not equal itself.
                assert_eq!(text(&made), text(&expected), "TIDEWATCH_SEED={seed}, minute {offset}");
                sent += made.iter().filter(|transition| transition.notify()).count() as u64;
            }
            let (written, expected) = (text(&broken.save()), text(&whole.save()));
            assert_eq!(written, expected, "TIDEWATCH_SEED={seed}, after minute {offset}");
            assert_eq!(text(&restored(&whole).save()), expected, "TIDEWATCH_SEED={seed}, after minute {offset}");
        }
    }
    let shown = format!("seeds {first}..{}: {sent} notices, {restarts} restarts", first + cases);
    assert!(cases < 100 || (sent > cases && restarts > cases), "the cases say too little: {shown}");
    println!("{shown}");
}

#[test]
fn the_limits_hold_over_a_restart() {
    let rows = |range: std::ops::Range<usize>| -> Vec<VerdictRow> {
        range.map(|at| row(&format!("account-{at:06}"), Severity::Warning, false)).collect()
    };
    let judge = |alerts: &mut Alerts, offset, rows| {
        let (rule, minute) = (rule(0, 0, 60), Minute::from_index(START + offset));
        alerts.observe(Judged { rule: &rule, minute, outcome: Outcome::Rows(rows), notify: true }).unwrap()
    };
    let max = limits::ALERTS_PER_RULE_MAX;
    let mut alerts = Alerts::new();
    judge(&mut alerts, 0, rows(0..max + 3));
    judge(&mut alerts, 1, rows(0..max));
    let mut again = restored(&alerts);
    assert_eq!((again.untracked(), again.history().len(), again.history().dropped()), (3, max, 1));
    assert_eq!(judge(&mut again, 2, rows(0..max + 1)), vec![], "that it is over its limit was reported already");
    judge(&mut again, 3, Vec::new());
    let quiet = judge(&mut again, 4, rows(0..1));
    assert_eq!((quiet[0].kind, quiet[0].notify()), (Kind::Fired, false), "its cooldown is running still");
}

/// The state that the fixture holds: every state of an alert, a cooldown that outlives its alert, strange values.
fn example() -> Alerts {
    let mut alerts = Alerts::new();
    let (surge, slow) = (rule(0, 2, 5), RuleAlerting { name: "slow".to_owned(), ..rule(3, 0, 0) });
    let mut judge = |rule: &RuleAlerting, offset, rows| {
        let minute = Minute::from_index(START + offset);
        alerts.observe(Judged { rule, minute, outcome: Outcome::Rows(rows), notify: true }).unwrap();
    };
    let mut odd = row("denied", Severity::Critical, false);
    odd.values.extend([
        ("rise".to_owned(), f64::INFINITY),
        ("share".to_owned(), 0.1 + 0.2),
        ("score".to_owned(), f64::NAN),
    ]);
    let failed = || row("failed", Severity::High, false);
    judge(&surge, 0, vec![row("reversed", Severity::Warning, false), failed()]);
    judge(&surge, 1, vec![odd.clone(), failed()]);
    judge(&surge, 3, vec![odd]);
    judge(&slow, 3, vec![row("denied", Severity::Low, true)]);
    alerts
}

/// `TIDEWATCH_SHOW=1 cargo test … -- --nocapture` prints what a new fixture would hold.
#[test]
fn the_fixture_of_version_1_is_read_and_written_to_the_byte() {
    if std::env::var_os("TIDEWATCH_SHOW").is_some() {
        println!("{}", serde_json::to_string_pretty(&example().save()).unwrap());
    }
    let read = Alerts::restore_state(serde_json::from_str(V1).expect("the fixture is a state"));
    assert_eq!(serde_json::to_string_pretty(&read.save()).unwrap(), V1.trim_end());
    assert_eq!(text(&read.save()), text(&example().save()), "the same verdicts give another state than they did");
    let phases: Vec<String> = read.active().map(|alert| format!("{} {}", alert.rule, alert.state.phase())).collect();
    assert_eq!(phases, ["denied-surge firing", "denied-surge firing", "slow pending"]);
    assert!(read.active().all(|alert| read.reading(alert).is_some()));
}

#[test]
fn fields_of_a_later_version_are_passed_over_and_missing_ones_are_not() {
    let mut state: Value = serde_json::from_str(V1).unwrap();
    for object in ["/rules/0", "/rules/0/cooldowns/0", "/alerts/0", "/alerts/0/alert", "/alerts/0/reading", ""] {
        let fields = state.pointer_mut(object).and_then(Value::as_object_mut).expect("the fixture has it");
        fields.insert("since_version_9".to_owned(), Value::from(9));
    }
    let read = Alerts::restore_state(serde_json::from_value(state).expect("more fields are no error"));
    assert_eq!(text(&read.save()), text(&example().save()));
    for field in ["rules", "alerts", "judged", "history", "history_dropped", "untracked"] {
        let mut state: Value = serde_json::from_str(V1).unwrap();
        state.as_object_mut().unwrap().remove(field);
        assert!(serde_json::from_value::<AlertsState<'_>>(state).is_err(), "without `{field}`");
    }
}

#[test]
fn a_spoilt_state_is_an_error_or_a_state() {
    for length in 0..V1.trim_end().len() {
        let cut = V1.get(..length).unwrap_or_default();
        assert!(serde_json::from_str::<AlertsState<'_>>(cut).is_err(), "cut after {length} bytes");
    }
    let first = number("TIDEWATCH_SEED", 1);
    let mut read = 0;
    for seed in first..first + 3_000 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut state: Value = serde_json::from_str(V1).unwrap();
        for _ in 0..rng.random_range(1..4) {
            spoil(&mut state, &mut rng);
        }
        let Ok(state) = serde_json::from_value::<AlertsState<'static>>(state) else { continue };
        read += 1;
        let mut alerts = Alerts::restore_state(state);
        assert_eq!(text(&restored(&alerts).save()), text(&alerts.save()), "TIDEWATCH_SEED={seed}");
        // It goes on, whatever it says: neither arithmetic nor an invariant may break.
        for offset in 4..20 {
            let rows = if offset % 3 == 0 { Vec::new() } else { vec![row("denied", Severity::Critical, false)] };
            let (rule, minute) = (rule(1, 1, 2), Minute::from_index(START + offset));
            let judged = Judged { rule: &rule, minute, outcome: Outcome::Rows(rows), notify: true };
            // A minute that the state claims to have seen is refused.
            let _ = alerts.observe(judged);
        }
    }
    assert!(read > 100, "of 3000 spoilt states {read} were read: nothing was tried");
}

#[test]
fn a_cooldown_without_its_alert_and_an_alert_without_its_rule_are_states() {
    let mut state: Value = serde_json::from_str(V1).unwrap();
    state["rules"] = Value::Array(Vec::new());
    let alerts = Alerts::restore_state(serde_json::from_value(state).unwrap());
    assert_eq!(alerts.active().count(), 3, "alerts whose rule has no entry");

    let mut state: Value = serde_json::from_str(V1).unwrap();
    state["alerts"] = Value::Array(Vec::new());
    let mut alerts = Alerts::restore_state(serde_json::from_value(state).unwrap());
    let (rule, minute) = (RuleAlerting { cooldown: Span::ZERO, ..rule(0, 0, 0) }, Minute::from_index(START + 4));
    let rows = vec![row("denied", Severity::Critical, false)];
    let made = alerts.observe(Judged { rule: &rule, minute, outcome: Outcome::Rows(rows), notify: true }).unwrap();
    assert_eq!((made[0].kind, made[0].notify()), (Kind::Fired, false), "its cooldown is heeded all the same");
}

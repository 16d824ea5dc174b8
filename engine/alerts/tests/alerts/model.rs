//! The state machine against a second, much simpler statement of what it should do, over random minutes; and
//! recovery at random points. `TIDEWATCH_SEED` replays a failure, `TIDEWATCH_CASES` sets how many are tried.

use rand::{Rng, SeedableRng, rngs::SmallRng};
use tidewatch_alerts::{Alerts, Kind, Phase, Transition};
use tidewatch_model::Severity;

use crate::notation::{START, Said, Step, observe, rule};

const SEVERITIES: [Severity; 4] = [Severity::Low, Severity::Warning, Severity::High, Severity::Critical];

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

struct Case {
    times: (i64, i64, i64),
    steps: Vec<Step>,
}

fn case(rng: &mut SmallRng) -> Case {
    let times = (rng.random_range(0..4), rng.random_range(0..4), rng.random_range(0..8));
    let (mut present, mut severity) = (false, Severity::Warning);
    let warm_up = rng.random_range(0..6);
    let session = rng.random_bool(0.1);
    let steps = (0..rng.random_range(1..60)).map(|offset| {
        if rng.random_bool(0.35) {
            present = !present;
        }
        if rng.random_bool(0.3) {
            severity = SEVERITIES[rng.random_range(0..4)];
        }
        let said = match rng.random_range(0..20) {
            0 => Said::Failed,
            1 => Said::NotJudged,
            _ if present => Said::Row { severity, warming_up: offset < warm_up },
            _ => Said::NoRow,
        };
        Step { said, notify: !session && rng.random_bool(0.97) }
    });
    Case { times, steps: steps.collect() }
}

/// What the outside may see of one minute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Seen {
    pending: bool,
    firing: bool,
    told: Option<Severity>,
    told_resolved: bool,
}

/// The second statement. `runs` are written as "since when has it been so": no states, no transitions.
fn expected(case: &Case) -> Vec<Seen> {
    let (for_, keep, cooldown) = case.times;
    let (mut since_present, mut since_absent): (Option<i64>, Option<i64>) = (None, None);
    let mut firing = false;
    let mut notices: Vec<(i64, Severity)> = Vec::new();
    let mut episode: Vec<Severity> = Vec::new();
    let mut last_severity = None;
    let mut seen: Vec<Seen> = Vec::new();
    for (minute, step) in (0_i64..).zip(&case.steps) {
        let mut now = Seen { told: None, told_resolved: false, ..seen.last().cloned().unwrap_or_default() };
        let row = match step.said {
            Said::Row { severity, warming_up } => Some((severity, warming_up)),
            Said::NoRow => None,
            Said::Failed | Said::NotJudged => {
                seen.push(now);
                continue;
            }
        };
        match row {
            Some((severity, warming_up)) => {
                since_absent = None;
                let began = firing;
                firing |= minute - *since_present.get_or_insert(minute) >= for_;
                let rose = !began || last_severity < Some(severity);
                let unheard = episode.iter().max() < Some(&severity);
                let quiet = notices.iter().any(|(at, told)| *told == severity && minute - at < cooldown);
                if firing && (rose || unheard) && step.notify && !warming_up && !quiet {
                    notices.push((minute, severity));
                    episode.push(severity);
                    now.told = Some(severity);
                }
                last_severity = Some(severity);
            }
            None => {
                since_present = None;
                if firing && minute - *since_absent.get_or_insert(minute) >= keep {
                    now.told_resolved = step.notify && !episode.is_empty();
                    firing = false;
                    episode.clear();
                }
            }
        }
        now.firing = firing;
        now.pending = row.is_some() && !firing;
        seen.push(now);
    }
    seen
}

fn actual(alerts: &Alerts, made: &[Transition]) -> Seen {
    let phase = alerts.active().next().map(|alert| alert.state.phase());
    let told = made.iter().find(|t| t.notify() && t.kind != Kind::Resolved).map(|t| t.severity);
    let told_resolved = made.iter().any(|t| t.notify() && t.kind == Kind::Resolved);
    Seen { pending: phase == Some(Phase::Pending), firing: phase == Some(Phase::Firing), told, told_resolved }
}

#[test]
fn the_state_machine_does_what_the_model_says() {
    let first = number("TIDEWATCH_SEED", 1);
    let cases = number("TIDEWATCH_CASES", 3_000);
    let (mut fired, mut held_back) = (0_u64, 0_u64);
    for seed in first..first + cases {
        let mut rng = SmallRng::seed_from_u64(seed);
        let case = case(&mut rng);
        let rule = rule(case.times.0, case.times.1, case.times.2);
        let mut alerts = Alerts::new();
        for ((offset, step), expected) in case.steps.iter().enumerate().zip(expected(&case)) {
            let made = observe(&mut alerts, &rule, offset, *step);
            assert!(made.len() <= 1, "one alert changes at most once a minute: {made:?}");
            let actual = actual(&alerts, &made);
            let (times, steps) = (case.times, &case.steps[..=offset]);
            assert_eq!(actual, expected, "TIDEWATCH_SEED={seed}: times {times:?}, minutes {steps:?}");
            fired += u64::from(expected.told.is_some());
            held_back += u64::from(made.iter().any(|t| t.kind == Kind::Fired && !t.notify()));
        }
    }
    let shown = format!("seeds {first}..{}: {fired} notices, {held_back} held back", first + cases);
    assert!(cases < 100 || (fired > cases / 2 && held_back > cases / 20), "the cases say too little: {shown}");
    println!("{shown}");
}

#[test]
fn recovery_at_any_point_goes_on_as_if_nothing_had_happened() {
    let first = number("TIDEWATCH_SEED", 1);
    for seed in first..first + number("TIDEWATCH_CASES", 1_000) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let case = case(&mut rng);
        let rule = rule(case.times.0, case.times.1, case.times.2);
        let mut alerts = Alerts::new();
        let mut journal: Vec<String> = Vec::new();
        for (offset, step) in case.steps.iter().enumerate() {
            let mut recovered =
                Alerts::restore(journal.iter().map(|line| serde_json::from_str(line).expect("it was written here")));
            assert!(recovered.same_state(&alerts), "TIDEWATCH_SEED={seed}, before minute {offset}");
            assert_eq!(recovered.active().count(), alerts.active().count());
            let made = observe(&mut alerts, &rule, offset, *step);
            assert_eq!(observe(&mut recovered, &rule, offset, *step), made, "TIDEWATCH_SEED={seed}, minute {offset}");
            journal.extend(made.iter().map(|t| serde_json::to_string(t).expect("a transition is plain data")));
        }
        let newest = alerts.history().iter().next_back().map(|t| t.minute.index() - START);
        assert!(newest.is_none_or(|offset| offset < case.steps.len() as i64));
    }
}

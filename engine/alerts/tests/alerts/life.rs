//! The state machine, as sequences of minutes and the transitions that follow.

use tidewatch_alerts::{Alerts, AlertsError, Judged, Outcome, Phase, Running, Transition, TransitionKey};
use tidewatch_model::{Minute, Severity};

use crate::notation::{START, observe, read, row, rule, show};

#[track_caller]
fn check(times: (i64, i64, i64), minutes: &str, expected: &[&str]) {
    let rule = rule(times.0, times.1, times.2);
    let mut alerts = Alerts::new();
    let mut all = Vec::new();
    for (offset, step) in read(minutes).into_iter().enumerate() {
        all.extend(observe(&mut alerts, &rule, offset, step));
    }
    let shown: Vec<String> = all.iter().map(show).collect();
    assert_eq!(shown, expected, "{minutes}");
    let keys: std::collections::BTreeSet<TransitionKey> = all.iter().map(|t| t.key).collect();
    assert_eq!(keys.len(), all.len(), "each transition has a key of its own");
    assert!(Alerts::restore(all).same_state(&alerts), "recovery gives another state");
}

#[test]
fn fires_at_once_and_resolves() {
    check((0, 0, 0), ". c c .", &["1 fired critical sent", "3 resolved critical sent"]);
    check((0, 0, 0), "c . c", &["0 fired critical sent", "1 resolved critical sent", "2 fired critical sent"]);
}

#[test]
fn for_wants_an_unbroken_run() {
    let pending = "0 pending warning (not_news)";
    check((2, 0, 0), "w w w", &[pending, "2 fired warning sent"]);
    check((2, 0, 0), "w w . w w", &[pending, "2 cancelled warning (not_news)", "3 pending warning (not_news)"]);
    check((2, 0, 0), "w w c", &[pending, "2 fired critical sent"]);
}

#[test]
fn a_failed_minute_neither_fires_nor_resolves() {
    check((0, 0, 0), "c F F c .", &["0 fired critical sent", "4 resolved critical sent"]);
    check((0, 0, 0), "F . F", &[]);
    let pending = "0 pending warning (not_news)";
    check((2, 0, 0), "w F F", &[pending]);
    check((2, 0, 0), "w F w", &[pending, "2 fired warning sent"]);
    check((2, 0, 0), "w _ w", &[pending, "2 fired warning sent"]);
    let held = ["0 fired critical sent", "1 held critical (not_news)"];
    check((0, 2, 0), "c . F F", &held);
    check((0, 2, 0), "c . F .", &[held[0], held[1], "3 resolved critical sent"]);
}

#[test]
fn keep_firing_for_bridges_gaps() {
    let fired = "0 fired critical sent";
    check((0, 2, 0), "c . . .", &[fired, "1 held critical (not_news)", "3 resolved critical sent"]);
    check((0, 2, 0), "c . c", &[fired, "1 held critical (not_news)", "2 returned critical (not_news)"]);
    check((0, 5, 0), "w . c", &["0 fired warning sent", "1 held warning (not_news)", "2 raised critical sent"]);
    check((0, 5, 0), "c . w", &[fired, "1 held critical (not_news)", "2 lowered warning (not_news)"]);
}

#[test]
fn cooldown_is_per_severity_and_a_rise_is_told() {
    check(
        (0, 0, 5),
        "c . c . . c",
        &[
            "0 fired critical sent",
            "1 resolved critical sent",
            "2 fired critical (cooldown)",
            "3 resolved critical (never_announced)",
            "5 fired critical sent",
        ],
    );
    check((0, 0, 5), "w c", &["0 fired warning sent", "1 raised critical sent"]);
    check((0, 0, 5), "c . w", &["0 fired critical sent", "1 resolved critical sent", "2 fired warning sent"]);
    check(
        (0, 0, 5),
        "c w c w w w c",
        &[
            "0 fired critical sent",
            "1 lowered warning (not_news)",
            "2 raised critical (cooldown)",
            "3 lowered warning (not_news)",
            "6 raised critical sent",
        ],
    );
}

#[test]
fn a_withheld_firing_is_announced_when_the_reason_is_gone() {
    check(
        (0, 0, 4),
        "c . c c c c .",
        &[
            "0 fired critical sent",
            "1 resolved critical sent",
            "2 fired critical (cooldown)",
            "4 announced critical sent",
            "6 resolved critical sent",
        ],
    );
    check(
        (0, 0, 5),
        "c~ c~ c .",
        &["0 fired critical (warm_up)", "2 announced critical sent", "3 resolved critical sent"],
    );
    check((0, 0, 5), "c~ c~ .", &["0 fired critical (warm_up)", "2 resolved critical (never_announced)"]);
    check((0, 0, 5), "c~ w", &["0 fired critical (warm_up)", "1 lowered warning sent"]);
    check((0, 0, 5), "w c~ c", &["0 fired warning sent", "1 raised critical (warm_up)", "2 announced critical sent"]);
}

#[test]
fn history_is_recorded_and_told_to_nobody() {
    check((0, 0, 5), "c- c- .-", &["0 fired critical (history)", "2 resolved critical (history)"]);
    check((0, 0, 5), "c- c", &["0 fired critical (history)", "1 announced critical sent"]);
}

#[test]
fn whoever_heard_of_the_beginning_hears_of_the_end() {
    let rule = rule(0, 0, 0);
    let mut alerts = Alerts::new();
    let mut last: Vec<Transition> = Vec::new();
    for (offset, step) in read("w c h .").into_iter().enumerate() {
        last = observe(&mut alerts, &rule, offset, step);
    }
    let [resolved] = last.as_slice() else { panic!("one transition, not {last:?}") };
    assert_eq!(resolved.severity, Severity::High);
    assert_eq!(Vec::from_iter(resolved.audience.clone()), [Severity::Warning, Severity::Critical]);
}

#[test]
fn a_minute_is_judged_once_and_in_order() {
    let rule = rule(0, 0, 0);
    let mut alerts = Alerts::new();
    let mut judge = |index| {
        let outcome = Outcome::Rows(vec![row("denied", Severity::Critical, false)]);
        alerts.observe(Judged { rule: &rule, minute: Minute::from_index(index), outcome, notify: true })
    };
    assert_eq!(judge(7).map(|t| t.len()), Ok(1));
    for index in [7, 6] {
        assert!(matches!(judge(index), Err(AlertsError::OutOfOrder { .. })), "{index}");
    }
    assert_eq!(judge(8).map(|t| t.len()), Ok(0));
}

#[test]
fn rows_of_the_same_labels_are_one_alert_as_bad_as_the_worst() {
    let rule = rule(0, 0, 0);
    let mut alerts = Alerts::new();
    let rows = [Severity::Warning, Severity::Critical, Severity::Low].map(|s| row("denied", s, false)).to_vec();
    let minute = Minute::from_index(START);
    let made = alerts.observe(Judged { rule: &rule, minute, outcome: Outcome::Rows(rows), notify: true }).unwrap();
    assert_eq!(made.iter().map(show).collect::<Vec<_>>(), ["0 fired critical sent"]);
}

#[test]
fn labels_of_the_rule_are_added_and_a_row_keeps_its_own() {
    let mut rule = rule(0, 0, 0);
    rule.labels.insert("status".to_owned(), "from the rule".to_owned());
    let mut alerts = Alerts::new();
    let step = read("c")[0];
    let made = observe(&mut alerts, &rule, 0, step);
    assert_eq!((made[0].labels["status"].as_str(), made[0].labels["team"].as_str()), ("denied", "payments"));
}

#[test]
fn active_alerts_carry_the_newest_reading() {
    let rule = rule(2, 0, 0);
    let mut alerts = Alerts::new();
    for (offset, step) in read("w h").into_iter().enumerate() {
        observe(&mut alerts, &rule, offset, step);
    }
    let alert = alerts.active().next().expect("one is pending");
    assert_eq!(alert.state, Running::Pending { since: Minute::from_index(START) });
    assert_eq!((alert.state.phase(), alert.severity), (Phase::Pending, Severity::Warning));
    let reading = alerts.reading(alert).expect("it was judged twice");
    assert_eq!((reading.severity, reading.minute), (Severity::High, Minute::from_index(START + 1)));
}

#[test]
fn a_rule_that_is_gone_leaves_no_alert_behind() {
    let rule = rule(0, 30, 0);
    let mut alerts = Alerts::new();
    for (offset, step) in read("c .").into_iter().enumerate() {
        observe(&mut alerts, &rule, offset, step);
    }
    let made = alerts.retire(&rule.name, Minute::from_index(START + 2), true).unwrap();
    assert_eq!(made.iter().map(show).collect::<Vec<_>>(), ["2 resolved critical sent"]);
    assert_eq!(alerts.active().count(), 0);
    assert_eq!(alerts.retire("never heard of", Minute::from_index(START), true), Ok(vec![]));
}

#[test]
fn transitions_survive_json_with_every_value_a_score_can_have() {
    let rule = rule(0, 0, 0);
    let mut alerts = Alerts::new();
    let mut odd = row("denied", Severity::Critical, false);
    for (name, value) in [("a", f64::NAN), ("b", f64::INFINITY), ("c", f64::NEG_INFINITY), ("d", -0.5)] {
        odd.values.insert(name.to_owned(), value);
    }
    let minute = Minute::from_index(START);
    let outcome = Outcome::Rows(vec![odd]);
    let made = alerts.observe(Judged { rule: &rule, minute, outcome, notify: true }).unwrap();
    let text = serde_json::to_string(&made).unwrap();
    assert!(text.contains(r#""a":"NaN","b":"Infinity","c":"-Infinity","d":-0.5"#), "{text}");
    let read: Vec<Transition> = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
}

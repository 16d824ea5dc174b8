//! Who is told of what.

use std::collections::BTreeSet;

use tidewatch_alerts::{Alerts, Labels, Route, Routing, RoutingError, SeverityMatch, Transition};
use tidewatch_model::Severity;

use crate::notation::{observe, read, rule};

/// The last transition of some minutes.
fn last(minutes: &str) -> Transition {
    let (mut alerts, rule) = (Alerts::new(), rule(0, 0, 60));
    for (offset, step) in read(minutes).into_iter().enumerate() {
        observe(&mut alerts, &rule, offset, step);
    }
    alerts.history().iter().next_back().cloned().expect("the minutes have a transition")
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_shipped_policy() {
    let routing = Routing::shipped("log", &["webhook".to_owned()]);
    for (minutes, receivers) in [
        ("c", vec!["log", "webhook"]),
        ("h", vec!["log"]),
        ("l", vec!["log"]),
        ("c .", vec!["log", "webhook"]),
        // It was critical once, so the webhook hears of the end although it ends as a warning.
        ("c w .", vec!["log", "webhook"]),
        ("w .", vec!["log"]),
        ("c-", vec![]),
        ("c~", vec![]),
        ("c . c", vec![]),
    ] {
        assert_eq!(Vec::from_iter(routing.receivers(&last(minutes))), receivers, "{minutes}");
    }
    assert_eq!(Vec::from_iter(Routing::shipped("log", &[]).receivers(&last("c"))), ["log"]);
}

#[test]
fn routes_match_severities_and_labels() {
    let route = |severity, labels: &[(&str, &str)], receiver: &str| Route {
        severity,
        labels: labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Labels>(),
        receivers: vec![receiver.to_owned()],
    };
    let exactly = SeverityMatch::Exactly(BTreeSet::from([Severity::Warning, Severity::Critical]));
    let known = names(&["a", "b", "c"]);
    let routes = vec![
        route(exactly, &[], "a"),
        route(SeverityMatch::AtLeast(Severity::High), &[("status", "denied")], "b"),
        route(SeverityMatch::AtLeast(Severity::Low), &[("status", "failed")], "c"),
        route(SeverityMatch::AtLeast(Severity::Critical), &[("team", "payments"), ("no", "such")], "c"),
    ];
    let routing = Routing::new(routes, &known).unwrap();
    for (minutes, receivers) in [("l", vec![]), ("w", vec!["a"]), ("h", vec!["b"]), ("c", vec!["a", "b"])] {
        assert_eq!(Vec::from_iter(routing.receivers(&last(minutes))), receivers, "{minutes}");
    }
}

#[test]
fn routes_that_could_tell_nobody_are_refused() {
    let any = || SeverityMatch::AtLeast(Severity::Low);
    let route = |severity, receivers: &[&str]| {
        let receivers = receivers.iter().map(|name| (*name).to_owned()).collect();
        vec![Route { severity, labels: Labels::new(), receivers }]
    };
    let known = names(&["log"]);
    let check = |routes| Routing::new(routes, &known).unwrap_err();
    assert_eq!(check(route(any(), &[])), RoutingError::NoReceiver(1));
    assert_eq!(check(route(SeverityMatch::Exactly(BTreeSet::new()), &["log"])), RoutingError::NoSeverity(1));
    let unknown = check(route(any(), &["log", "pager"]));
    assert_eq!(unknown, RoutingError::NoSuchReceiver(1, "pager".to_owned(), "log".to_owned()));
}

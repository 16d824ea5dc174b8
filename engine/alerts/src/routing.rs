//! Who is told: routes from an alert's severity and labels to receivers. Every route that matches counts.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tidewatch_model::Severity;

use crate::{Labels, Transition};

/// Which severities a route is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeverityMatch {
    AtLeast(Severity),
    Exactly(BTreeSet<Severity>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    pub severity: SeverityMatch,
    /// Labels that the alert must have with exactly these values. Empty: any.
    #[serde(default)]
    pub labels: Labels,
    pub receivers: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    routes: Vec<Route>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoutingError {
    #[error("route {0} names the receiver `{1}`, which is not configured; the receivers are: {2}")]
    NoSuchReceiver(usize, String, String),
    #[error("route {0} names no receiver; add one or remove the route")]
    NoReceiver(usize),
    #[error("route {0} matches no severity; list at least one of critical, high, warning, low")]
    NoSeverity(usize),
}

impl Routing {
    /// Routes are numbered from 1 in errors, as a person counts them in the file.
    ///
    /// # Errors
    /// A route could never tell anybody.
    pub fn new(routes: Vec<Route>, receivers: &BTreeSet<String>) -> Result<Self, RoutingError> {
        for (at, route) in routes.iter().enumerate() {
            let number = at + 1;
            if route.receivers.is_empty() {
                return Err(RoutingError::NoReceiver(number));
            }
            if matches!(&route.severity, SeverityMatch::Exactly(severities) if severities.is_empty()) {
                return Err(RoutingError::NoSeverity(number));
            }
            if let Some(unknown) = route.receivers.iter().find(|name| !receivers.contains(*name)) {
                let known = receivers.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                return Err(RoutingError::NoSuchReceiver(number, unknown.clone(), known));
            }
        }
        Ok(Self { routes })
    }

    /// The shipped policy: everything to the log, what is critical to every webhook as well.
    pub fn shipped(log: &str, webhooks: &[String]) -> Self {
        let route = |severity, receivers| Route {
            severity: SeverityMatch::AtLeast(severity),
            labels: Labels::new(),
            receivers,
        };
        let mut routes = vec![route(Severity::Low, vec![log.to_owned()])];
        if !webhooks.is_empty() {
            routes.push(route(Severity::Critical, webhooks.to_vec()));
        }
        Self { routes }
    }

    /// Who is told of the transition: nobody where its notice is withheld. Each receiver once.
    pub fn receivers(&self, transition: &Transition) -> BTreeSet<&str> {
        if !transition.notify() {
            return BTreeSet::new();
        }
        self.routes
            .iter()
            .filter(|route| route.matches(transition))
            .flat_map(|route| route.receivers.iter().map(String::as_str))
            .collect()
    }
}

impl Route {
    fn matches(&self, transition: &Transition) -> bool {
        let severity = transition.audience.iter().any(|severity| match &self.severity {
            SeverityMatch::AtLeast(least) => severity >= least,
            SeverityMatch::Exactly(severities) => severities.contains(severity),
        });
        severity && self.labels.iter().all(|(name, value)| transition.labels.get(name) == Some(value))
    }
}

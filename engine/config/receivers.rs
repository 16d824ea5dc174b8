//! Gives meaning to `[[receivers]]` and `[[alerts.routes]]`. Addresses and header values may hold
//! secrets: no message here repeats one.

use std::collections::BTreeMap;

use tidewatch_model::{Severity, Span};

use super::{
    environment::Environment,
    keys::{self, Key},
    nearest::nearest,
    raw::{Located, Origin, RawValue},
    read::{self, Reader},
    secret::{Secret, SecretUrl},
    settings::{Receiver, ReceiverKind, Route, Severities, Webhook},
};

/// More receivers than a bank has teams; each holds a queue of its own.
const RECEIVERS_MAX: usize = 64;
const ROUTES_MAX: usize = 256;
const HEADERS_MAX: usize = 32;
/// The receiver that is there without being configured.
const LOG: &str = "log";

/// The receivers, and the names of all that were written, those with a problem included, so that a
/// route to one of these is not a second problem. Where none of them is a log, there is one more,
/// because what nobody else hears of must at least be written down.
pub fn receivers(reader: &mut Reader<'_>, environment: &Environment) -> (Vec<Receiver>, Vec<String>) {
    let mut receivers: Vec<Receiver> = Vec::new();
    let mut names = Vec::new();
    for mut table in tables(reader, &keys::RECEIVERS, &keys::RECEIVER_KEYS, RECEIVERS_MAX) {
        let origin = table.origin.clone();
        if let Some(RawValue::Text(name)) = table.fields.get("name").map(|located| &located.value) {
            names.push(name.clone());
        }
        let Some(receiver) = table.receiver(environment) else {
            reader.problems.append(&mut table.problems);
            continue;
        };
        reader.problems.append(&mut table.problems);
        if receivers.iter().any(|other| other.name == receiver.name) {
            reader.problem(origin, format!("two receivers are named `{}`; give each its own name", receiver.name));
            continue;
        }
        receivers.push(receiver);
    }
    if !receivers.iter().any(|receiver| receiver.kind == ReceiverKind::Log) {
        if names.iter().any(|name| name == LOG) {
            let message = format!("a receiver of type webhook is named `{LOG}`, which is the name of the engine's log");
            reader.problem(reader.origin(&keys::RECEIVERS), message);
        } else {
            names.push(LOG.to_owned());
        }
        receivers.push(Receiver { name: LOG.to_owned(), kind: ReceiverKind::Log });
    }
    (receivers, names)
}

/// The routes; where none is configured, the shipped policy: everything to the log, what is critical
/// to every webhook as well. `known` are the receivers' names.
pub fn routes(reader: &mut Reader<'_>, receivers: &[Receiver], known: &[String]) -> Vec<Route> {
    if reader.raw().get(&keys::ALERTS_ROUTES).is_none() {
        let (logs, webhooks): (Vec<_>, Vec<_>) =
            receivers.iter().partition(|receiver| receiver.kind == ReceiverKind::Log);
        return [(Severity::Low, logs), (Severity::Critical, webhooks)]
            .into_iter()
            .filter(|(_, receivers)| !receivers.is_empty())
            .map(|(least, receivers)| Route {
                severities: Severities::AtLeast(least),
                labels: BTreeMap::new(),
                receivers: receivers.iter().map(|receiver| receiver.name.clone()).collect(),
            })
            .collect();
    }
    let mut routes = Vec::new();
    for mut table in tables(reader, &keys::ALERTS_ROUTES, &keys::ROUTE_KEYS, ROUTES_MAX) {
        let route = table.route(known);
        reader.problems.append(&mut table.problems);
        routes.push(route);
    }
    routes
}

/// The list's tables, each checked for keys that do not exist.
fn tables(reader: &mut Reader<'_>, list: &Key, known: &'static [&'static str], max: usize) -> Vec<Entry> {
    let Some(located) = reader.raw().get(list) else { return Vec::new() };
    let path = list.path;
    let RawValue::Array(values) = &located.value else {
        let message = format!("`{path}` is {}; write each as a table under `[[{path}]]`", located.value.form());
        reader.problem(located.origin.clone(), message);
        return Vec::new();
    };
    if values.len() > max {
        reader.problem(
            located.origin.clone(),
            format!("there are {} `[[{path}]]`; at most {max} are allowed", values.len()),
        );
        return Vec::new();
    }
    let mut entries = Vec::new();
    for value in values {
        let RawValue::Table(fields) = &value.value else {
            let message = format!("`{path}` holds {}; write each as a table under `[[{path}]]`", value.value.form());
            reader.problem(value.origin.clone(), message);
            continue;
        };
        for (name, field) in fields.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            let nearest = nearest(name, known.iter().copied()).unwrap_or_default();
            let message = format!("there is no key `{name}` in `[[{path}]]`; the nearest known one is `{nearest}`");
            reader.problem(field.origin.clone(), message);
        }
        let fields = fields.iter().cloned().collect();
        entries.push(Entry { path, origin: value.origin.clone(), fields, problems: Vec::new() });
    }
    entries
}

/// One table of a list while it is read.
struct Entry {
    path: &'static str,
    origin: Origin,
    fields: BTreeMap<String, Located>,
    problems: Vec<super::error::Problem>,
}

impl Entry {
    fn receiver(&mut self, environment: &Environment) -> Option<Receiver> {
        let name = self.required_text("name")?;
        let kind = self.required_text("type")?;
        let kind = match kind.as_str() {
            "log" => {
                for field in keys::RECEIVER_KEYS.iter().filter(|field| !["name", "type"].contains(field)) {
                    self.refuse(field, "has no meaning for a receiver of type `log`; leave it out");
                }
                ReceiverKind::Log
            }
            "webhook" => ReceiverKind::Webhook(self.webhook(environment)?),
            other => {
                self.refuse("type", &format!("is `{other}`; write webhook or log"));
                return None;
            }
        };
        Some(Receiver { name, kind })
    }

    fn webhook(&mut self, environment: &Environment) -> Option<Webhook> {
        let url = self.url(environment);
        let headers = self.headers(environment);
        let timeout = self.field("timeout", |value| read::span(value, 100, 60_000));
        Some(Webhook { url: url?, headers, timeout: timeout.unwrap_or(Span::from_seconds(10)) })
    }

    fn url(&mut self, environment: &Environment) -> Option<SecretUrl> {
        let written = self.required_text("url")?;
        let checked = expand(&written, environment).and_then(|text| {
            let url = reqwest::Url::parse(&text).map_err(|error| format!("is not a URL: {error}"))?;
            match url.scheme() {
                "http" | "https" => Ok(SecretUrl::new(&url)),
                scheme => Err(format!("begins with `{scheme}:`; write http:// or https://")),
            }
        });
        checked.map_err(|message| self.refuse("url", &message)).ok()
    }

    fn headers(&mut self, environment: &Environment) -> Vec<(String, Secret)> {
        let Some(located) = self.fields.get("headers").cloned() else { return Vec::new() };
        let RawValue::Table(entries) = located.value else {
            self.refuse("headers", &format!("is {}; write {{ Name = \"value\" }}", located.value.form()));
            return Vec::new();
        };
        if entries.len() > HEADERS_MAX {
            self.refuse("headers", &format!("has {} headers; at most {HEADERS_MAX} are allowed", entries.len()));
            return Vec::new();
        }
        let mut headers = Vec::new();
        for (name, value) in entries {
            match header(&name, &value.value, environment) {
                Ok(secret) => headers.push((name, secret)),
                Err(message) => self.refuse("headers", &format!("`{name}` {message}")),
            }
        }
        headers
    }

    fn route(&mut self, known: &[String]) -> Route {
        let severities = self.severities();
        let labels = self.field("labels", labels);
        let names = self.field("receivers", texts);
        if !self.fields.contains_key("receivers") || names.as_ref().is_some_and(Vec::is_empty) {
            self.refuse("receivers", "must name at least one receiver");
        }
        for name in names.iter().flatten() {
            if !known.contains(name) {
                let message = match nearest(name, known.iter().map(String::as_str)) {
                    Some(nearest) => format!("names `{name}`, which is no receiver; the nearest one is `{nearest}`"),
                    None => format!("names `{name}`, but there is no receiver; add a `[[receivers]]` of that name"),
                };
                self.refuse("receivers", &message);
            }
        }
        Route { severities, labels: labels.unwrap_or_default(), receivers: names.unwrap_or_default() }
    }

    /// `severity` names them, `severity_at_least` the mildest; neither means any.
    fn severities(&mut self) -> Severities {
        if self.fields.contains_key("severity") && self.fields.contains_key("severity_at_least") {
            self.refuse("severity_at_least", "stands beside `severity`; write only one of them");
        }
        let named = self.field("severity", |value| match texts(value)? {
            names if names.is_empty() => Err("is empty, so that the route would match nothing".to_owned()),
            names => names.iter().map(|name| severity(name)).collect(),
        });
        let least = self.field("severity_at_least", |value| match value {
            RawValue::Text(name) => severity(name),
            other => Err(format!("is {}; write critical, high, warning or low", other.form())),
        });
        match named {
            Some(named) => Severities::Exactly(named),
            None => Severities::AtLeast(least.unwrap_or(Severity::Low)),
        }
    }

    fn required_text(&mut self, field: &str) -> Option<String> {
        if !self.fields.contains_key(field) {
            self.refuse(field, "is missing");
            return None;
        }
        self.field(field, |value| match value {
            RawValue::Text(text) if !text.is_empty() => Ok(text.clone()),
            RawValue::Text(_) => Err("is empty".to_owned()),
            other => Err(format!("is {}; write a text in quotes", other.form())),
        })
    }

    fn field<T>(&mut self, field: &str, read: impl Fn(&RawValue) -> Result<T, String>) -> Option<T> {
        let result = read(&self.fields.get(field)?.value);
        result.map_err(|message| self.refuse(field, &message)).ok()
    }

    /// Notes a problem at the field's place, or at the table's where the field is missing. A field
    /// that is absent and need not be there has no problem.
    fn refuse(&mut self, field: &str, message: &str) {
        let origin = match self.fields.get(field) {
            Some(located) => located.origin.clone(),
            None if message.starts_with("is missing") || message.starts_with("must") => self.origin.clone(),
            None => return,
        };
        self.problems.push(super::error::Problem { origin, message: format!("`{}.{field}` {message}", self.path) });
    }
}

fn severity(name: &str) -> Result<Severity, String> {
    name.parse::<Severity>().map_err(|error| format!("is wrong: {error}"))
}

fn header(name: &str, value: &RawValue, environment: &Environment) -> Result<Secret, String> {
    if http::HeaderName::try_from(name).is_err() {
        return Err("is not a header's name".to_owned());
    }
    let RawValue::Text(text) = value else {
        return Err(format!("is {}; write a text in quotes", value.form()));
    };
    let text = expand(text, environment)?;
    if http::HeaderValue::try_from(&text).is_err() {
        return Err("has a value with line breaks or other signs that a header cannot carry".to_owned());
    }
    Ok(Secret::new(text))
}

fn labels(value: &RawValue) -> Result<BTreeMap<String, String>, String> {
    let wrong = |value: &RawValue| format!("is {}; write {{ team = \"payments\" }}", value.form());
    let RawValue::Table(entries) = value else { return Err(wrong(value)) };
    let label = |(name, value): &(String, Located)| match &value.value {
        RawValue::Text(text) => Ok((name.clone(), text.clone())),
        other => Err(format!("`{name}` {}", wrong(other))),
    };
    entries.iter().map(label).collect()
}

/// One text, or a list of them.
fn texts(value: &RawValue) -> Result<Vec<String>, String> {
    let wrong = |value: &RawValue| format!("is {}; write a list of texts, such as [\"log\"]", value.form());
    match value {
        RawValue::Text(text) => Ok(vec![text.clone()]),
        RawValue::Array(values) => values
            .iter()
            .map(|value| match &value.value {
                RawValue::Text(text) => Ok(text.clone()),
                other => Err(wrong(other).replacen("is ", "holds ", 1)),
            })
            .collect(),
        other => Err(wrong(other)),
    }
}

/// Replaces each `${NAME}` by that variable, so that secrets need not stand in the file.
fn expand(text: &str, environment: &Environment) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, behind)) = after.split_once('}') else {
            return Err("has a `${` without its `}`".to_owned());
        };
        let Some(value) = environment.get(name) else {
            return Err(format!("takes the variable {name}, which is not set; set it or write the value"));
        };
        expanded.push_str(before);
        expanded.push_str(value);
        rest = behind;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

//! Reads one raw value as the form that its key has. Each failure says what was written, where, and
//! what would be right.

use std::{net::SocketAddr, path::PathBuf};

use tidewatch_model::Span;

use super::{
    error::Problem,
    keys::{Form, Key},
    raw::{Origin, Raw, RawValue},
    size::Size,
};

/// Reads settings out of `raw`, gathering every problem instead of stopping at the first. Where a
/// value is wrong its default stands in, so that the rest can be checked; with a problem noted,
/// nothing of the result is ever used.
pub struct Reader<'a> {
    raw: &'a Raw,
    pub problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub fn new(raw: &'a Raw, problems: Vec<Problem>) -> Self {
        Self { raw, problems }
    }

    pub fn raw(&self) -> &'a Raw {
        self.raw
    }

    pub fn origin(&self, key: &Key) -> Origin {
        self.raw.get(key).map_or(Origin::Default, |located| located.origin.clone())
    }

    pub fn problem(&mut self, origin: Origin, message: String) {
        self.problems.push(Problem { origin, message });
    }

    pub fn text(&mut self, key: &Key) -> String {
        self.optional_text(key).unwrap_or_default()
    }

    pub fn optional_text(&mut self, key: &Key) -> Option<String> {
        self.read(key, |value| match value {
            RawValue::Text(text) if text.trim().is_empty() => Err("is empty".to_owned()),
            RawValue::Text(text) => Ok(text.clone()),
            other => Err(format!("is {}; write a text in quotes", other.form())),
        })
    }

    pub fn path(&mut self, key: &Key) -> PathBuf {
        PathBuf::from(self.text(key))
    }

    pub fn flag(&mut self, key: &Key) -> bool {
        self.read(key, flag).unwrap_or_default()
    }

    /// The value, which is one of the form's names.
    pub fn choice(&mut self, key: &Key) -> String {
        let Form::Choice(names) = key.form else { return String::new() };
        let chosen = self.read(key, |value| match value {
            RawValue::Text(text) if names.contains(&text.as_str()) => Ok(text.clone()),
            RawValue::Text(text) => Err(format!("is `{text}`; write {}", either(names))),
            other => Err(format!("is {}; write {}", other.form(), either(names))),
        });
        chosen.unwrap_or_default()
    }

    pub fn address(&mut self, key: &Key) -> Option<SocketAddr> {
        self.read(key, |value| match value {
            RawValue::Text(text) => address(text),
            other => Err(format!("is {}; write for example \"127.0.0.1:4700\"", other.form())),
        })
    }

    pub fn size(&mut self, key: &Key) -> Size {
        let Form::Size { min, max } = key.form else { return Size::default() };
        let size = self.read(key, |value| {
            let size = match value {
                RawValue::Integer(bytes) => u64::try_from(*bytes).map(Size::from_bytes).ok(),
                RawValue::Text(text) => text.parse().ok(),
                _ => None,
            };
            let Some(size) = size else {
                return Err(format!("{}, which {}", shown(value), super::size::SizeError));
            };
            within(size, Size::from_bytes(min), Size::from_bytes(max))
        });
        size.unwrap_or_default()
    }

    pub fn span(&mut self, key: &Key) -> Span {
        let Form::Span { min, max } = key.form else { return Span::ZERO };
        self.read(key, |value| span(value, min, max)).unwrap_or_default()
    }

    pub fn count(&mut self, key: &Key) -> u64 {
        let Form::Count { min, max } = key.form else { return 0 };
        self.read(key, |value| count(value, min, max)).unwrap_or_default()
    }

    /// Reads the given value, else the default; notes a problem where the given one is wrong.
    fn read<T>(&mut self, key: &Key, read: impl Fn(&RawValue) -> Result<T, String>) -> Option<T> {
        if let Some(located) = self.raw.get(key) {
            match read(&located.value) {
                Ok(value) => return Some(value),
                Err(message) => self.problem(located.origin.clone(), format!("`{}` {message}", key.path)),
            }
        }
        // A test reads every default, so a default that does not read cannot ship.
        key.default.and_then(|default| read(&RawValue::Text(default.to_owned())).ok())
    }
}

pub fn flag(value: &RawValue) -> Result<bool, String> {
    match value {
        RawValue::Boolean(flag) => Ok(*flag),
        RawValue::Text(text) if text == "true" || text == "1" => Ok(true),
        RawValue::Text(text) if text == "false" || text == "0" => Ok(false),
        other => Err(format!("{}; write true or false", shown(other))),
    }
}

/// Bounds are in milliseconds.
pub fn span(value: &RawValue, min: i64, max: i64) -> Result<Span, String> {
    let read = match value {
        RawValue::Text(text) => text.parse::<Span>().ok(),
        _ => None,
    };
    let Some(span) = read else {
        return Err(format!(
            "{}, which is not a length of time; write for example \"30 seconds\" or \"5m\"",
            shown(value)
        ));
    };
    within(span, Span::from_micros(min.saturating_mul(1_000)), Span::from_micros(max.saturating_mul(1_000)))
}

pub fn count(value: &RawValue, min: u64, max: u64) -> Result<u64, String> {
    let read = match value {
        RawValue::Integer(integer) => u64::try_from(*integer).ok(),
        RawValue::Text(text) => text.replace('_', "").parse().ok(),
        _ => None,
    };
    match read {
        Some(count) => within(count, min, max),
        None => Err(format!("{}; write a whole number from {min} to {max}", shown(value))),
    }
}

/// `localhost` is taken as 127.0.0.1, so that no name service decides where the engine listens.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    numeric
        .as_deref()
        .unwrap_or(text)
        .parse()
        .map_err(|_| format!("is `{text}`, which is not an IP address with a port; write for example `127.0.0.1:4700`"))
}

fn within<T: PartialOrd + std::fmt::Display>(value: T, min: T, max: T) -> Result<T, String> {
    if value < min || value > max {
        return Err(format!("is {value}; it must be from {min} to {max}"));
    }
    Ok(value)
}

/// What was written, for the forms that cannot hold a secret.
fn shown(value: &RawValue) -> String {
    match value {
        RawValue::Text(text) => format!("is `{text}`"),
        RawValue::Integer(integer) => format!("is {integer}"),
        RawValue::Boolean(flag) => format!("is {flag}"),
        other => format!("is {}", other.form()),
    }
}

fn either(names: &[&str]) -> String {
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

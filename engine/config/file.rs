//! Reads a TOML text into raw settings. Every value keeps its line; a key that does not exist is a
//! problem that names the nearest one. It opens no file: the text is handed in.

use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::{
    error::{ConfigError, Problem},
    keys::{self, Form},
    nearest::nearest,
    raw::{Located, Origin, Raw, RawValue},
};

/// Adds what `text` sets to `raw`. `name` is how messages call the file.
pub fn read(name: &str, text: &str, raw: &mut Raw, problems: &mut Vec<Problem>) {
    let place = Place { name: name.into(), text };
    match DeTable::parse(text) {
        Ok(table) => {
            for (key, value) in table.get_ref() {
                let value = place.located(value.get_ref(), key.span().start);
                take(key.get_ref(), value, raw, problems);
            }
        }
        Err(error) => problems.push(place.syntax(&error)),
    }
}

/// Reads one TOML value that stands in a variable or a flag, such as `[{ name = "log", type = "log" }]`.
pub fn read_value(text: &str, origin: &Origin) -> Result<RawValue, ConfigError> {
    match DeValue::parse(text) {
        Ok(value) => Ok(convert(value.get_ref(), &|_| origin.clone())),
        Err(error) => Err(Problem {
            origin: origin.clone(),
            message: format!(
                "is not a TOML value ({}); write for example `[{{ name = \"log\", type = \"log\" }}]`",
                error.message()
            ),
        }
        .into()),
    }
}

/// Files one value under its key, or walks into it where it is a table of keys.
fn take(path: &str, located: Located, raw: &mut Raw, problems: &mut Vec<Problem>) {
    if let Some(key) = keys::find(path) {
        raw.set(key, located);
        return;
    }
    let Located { value, origin } = located;
    match value {
        RawValue::Table(entries) if keys::is_table(path) => {
            for (name, value) in entries {
                take(&format!("{path}.{name}"), value, raw, problems);
            }
        }
        RawValue::Table(_) if !path.contains('.') => {
            let known = nearest(path, keys::tables()).unwrap_or_default();
            problems.push(Problem {
                origin,
                message: format!("there is no table `[{path}]`; the nearest known one is `[{known}]`"),
            });
        }
        _ if keys::is_table(path) => problems.push(Problem {
            origin,
            message: format!("`{path}` is a table of settings; write `[{path}]` and its keys below it"),
        }),
        _ => problems.push(Problem { origin, message: unknown_key(path) }),
    }
}

/// The message for a key that does not exist.
pub fn unknown_key(path: &str) -> String {
    let known = nearest(path, keys::KEYS.iter().map(|key| key.path)).unwrap_or_default();
    let brackets = |path: &str| match keys::find(path) {
        Some(key) if key.form == Form::Tables => format!("[[{path}]]"),
        _ => path.to_owned(),
    };
    format!("there is no key `{path}`; the nearest known one is `{}`", brackets(known))
}

/// The file that is being read, to turn byte offsets into lines.
struct Place<'a> {
    name: Arc<str>,
    text: &'a str,
}

impl Place<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().iter().take(offset);
        Origin::File { name: Arc::clone(&self.name), line: 1 + before.filter(|byte| **byte == b'\n').count() }
    }

    /// A value is said to stand where its key does: that is the line which a person looks for.
    fn located(&self, value: &DeValue<'_>, offset: usize) -> Located {
        Located { value: convert(value, &|offset| self.origin(offset)), origin: self.origin(offset) }
    }

    fn syntax(&self, error: &toml::de::Error) -> Problem {
        let offset = error.span().map_or(0, |span| span.start);
        Problem { origin: self.origin(offset), message: format!("this is not TOML: {}", error.message()) }
    }
}

fn convert(value: &DeValue<'_>, origin: &dyn Fn(usize) -> Origin) -> RawValue {
    match value {
        DeValue::String(text) => RawValue::Text(text.to_string()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => RawValue::Integer(integer),
            Err(_) => RawValue::Other("a number beyond 64 bits"),
        },
        DeValue::Boolean(flag) => RawValue::Boolean(*flag),
        DeValue::Float(_) => RawValue::Other("a decimal number"),
        DeValue::Datetime(_) => RawValue::Other("a date"),
        DeValue::Array(values) => RawValue::Array(
            values
                .iter()
                .map(|value| Located { value: convert(value.get_ref(), origin), origin: origin(value.span().start) })
                .collect(),
        ),
        DeValue::Table(entries) => RawValue::Table(
            entries
                .iter()
                .map(|(key, value)| {
                    let located = Located { value: convert(value.get_ref(), origin), origin: origin(key.span().start) };
                    (key.get_ref().to_string(), located)
                })
                .collect(),
        ),
    }
}

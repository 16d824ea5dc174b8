//! A rule file: a leading comment in TOML that ends at a line holding only `*/`, then one SELECT.
//! Only the form is judged here; what the SQL means is the business of `check`.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use tidewatch_model::{Severity, Span};

/// Why a rule does not run: where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    pub file: String,
    pub line: Option<usize>,
    pub message: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for RuleError {}

/// What the comment says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Header {
    pub name: String,
    pub severity: Severity,
    pub lookback: Span,
    /// Minutes of history before the first verdict counts. Default: the lookback.
    pub warmup: Option<Span>,
    #[serde(rename = "for", default)]
    pub for_: Span,
    #[serde(default)]
    pub keep_firing_for: Span,
    #[serde(default)]
    pub cooldown: Span,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub summary: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub runbook_url: String,
    #[serde(default = "yes")]
    pub enabled: bool,
}

const fn yes() -> bool {
    true
}

const KEYS: [&str; 12] = [
    "name",
    "severity",
    "lookback",
    "warmup",
    "for",
    "keep_firing_for",
    "cooldown",
    "labels",
    "summary",
    "description",
    "runbook_url",
    "enabled",
];

/// A rule as it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleFile {
    pub path: String,
    pub header: Header,
    pub sql: String,
    /// The line on which the SQL begins.
    pub sql_line: usize,
}

impl RuleFile {
    pub fn parse(path: &str, text: &str) -> Result<Self, RuleError> {
        let wrong = |line: usize, message: String| RuleError { file: path.to_owned(), line: Some(line), message };
        let lines: Vec<&str> = text.lines().collect();
        let open = lines.iter().position(|line| !line.trim().is_empty()).unwrap_or(0);
        if lines.get(open).map(|line| line.trim()) != Some("/*") {
            let message = "a rule begins with a comment in TOML: a line holding only `/*`, then name, severity and \
                           lookback, then a line holding only `*/`";
            return Err(wrong(open + 1, message.to_owned()));
        }
        let Some(close) = lines.iter().skip(open).position(|line| line.trim() == "*/").map(|at| at + open) else {
            return Err(wrong(open + 1, "this comment never ends; close it with a line holding only `*/`".to_owned()));
        };
        // Empty lines in the place of what came before keep the TOML parser's line numbers those of the file.
        let toml = "\n".repeat(open + 1) + &lines[open + 1..close].join("\n");
        let header = header(&toml).map_err(|(line, message)| wrong(line, message))?;
        let sql: Vec<&str> = lines[close + 1..].to_vec();
        let first = sql.iter().position(|line| !line.trim().is_empty());
        let Some(first) = first else {
            return Err(wrong(close + 1, "there is no SELECT after the comment".to_owned()));
        };
        Ok(Self {
            path: path.to_owned(),
            header,
            sql: sql[first..].join("\n").trim_end().to_owned(),
            sql_line: close + 2 + first,
        })
    }

    /// The SQL with empty lines before it, so that a parser's line numbers are those of the file.
    pub(crate) fn sql_in_place(&self) -> String {
        "\n".repeat(self.sql_line - 1) + &self.sql
    }

    /// An error of the SQL. Where the message names a line, that line becomes the error's.
    pub(crate) fn sql_error(&self, message: &str) -> RuleError {
        let (line, message) = match message.rfind(" at Line: ") {
            Some(at) => {
                let tail = &message[at + " at Line: ".len()..];
                let digits: String = tail.chars().take_while(char::is_ascii_digit).collect();
                let column = tail[digits.len()..].strip_prefix(", Column: ").map(str::trim);
                let text = match column {
                    Some(column) => format!("{} (column {column})", &message[..at]),
                    None => message[..at].to_owned(),
                };
                (digits.parse().ok(), text)
            }
            None => (None, message.to_owned()),
        };
        RuleError { file: self.path.clone(), line: Some(line.unwrap_or(self.sql_line)), message }
    }
}

fn header(toml: &str) -> Result<Header, (usize, String)> {
    let line_at = |place: usize| toml[..place.min(toml.len())].matches('\n').count() + 1;
    let first = toml.len() - toml.trim_start().len();
    let failed = |error: toml::de::Error| {
        let line = line_at(error.span().map_or(first, |span| span.start));
        (line, error.message().trim().to_owned())
    };
    let table: toml::Table = toml::from_str(toml).map_err(failed)?;
    for key in table.keys() {
        if KEYS.contains(&key.as_str()) {
            continue;
        }
        let written = |line: &str| line.trim_start().trim_start_matches(['"', '[']).starts_with(key.as_str());
        let line = toml.lines().position(written).map_or(line_at(first), |at| at + 1);
        let message = match tidewatch_model::nearest(key, KEYS) {
            Some(known) => format!("there is no key `{key}`; did you mean `{known}`?"),
            None => format!("there is no key `{key}`; the keys are {}", KEYS.join(", ")),
        };
        return Err((line, message));
    }
    let header: Header = toml::from_str(toml).map_err(failed)?;
    sensible(&header).map_err(|(key, message)| {
        let line = toml.lines().position(|line| line.trim_start().starts_with(key));
        (line.map_or(line_at(first), |at| at + 1), message)
    })?;
    Ok(header)
}

fn sensible(header: &Header) -> Result<(), (&'static str, String)> {
    let name_ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if header.name.is_empty() || header.name.len() > 100 || !header.name.chars().all(name_ok) {
        return Err((
            "name",
            format!("`{}` is no name for a rule; use 1 to 100 letters, digits, `-`, `_` and `.`", header.name),
        ));
    }
    if header.lookback.micros() <= 0 || header.lookback.micros() % 60_000_000 != 0 {
        return Err(("lookback", format!("a lookback is whole minutes, at least one; `{}` is not", header.lookback)));
    }
    if header.lookback > LOOKBACK_MAX {
        return Err((
            "lookback",
            format!("a lookback of {} is longer than the longest, {LOOKBACK_MAX}", header.lookback),
        ));
    }
    Ok(())
}

/// A verdict may need every row of its lookback in memory: a week of minutes is where that stops being sane.
const LOOKBACK_MAX: Span = Span::from_minutes(7 * 24 * 60);

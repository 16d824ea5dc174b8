//! From SQL files to compiled streams and views. What cannot be kept incrementally is refused here,
//! with file, line and reason; nothing is refused later.

mod aggregates;
mod names;
mod options;
mod shape;
mod stream;
mod view;

pub use names::{ViewFile, name_clashes};
pub use stream::{Stream, compile_stream};
pub use view::compile_view;

use std::fmt;

/// Why a file was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    pub file: String,
    pub line: u64,
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

/// A file's text, and where in it a reason belongs.
#[derive(Clone, Copy, Debug)]
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    /// A refusal of the line on which `word` first stands as a word of its own, else of the first statement.
    fn refuse_at(&self, word: &str, reason: impl Into<String>) -> Refusal {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let place = self.text.match_indices(word).find(|(at, found)| {
            let before = self.text.get(..*at).and_then(|t| t.chars().next_back());
            let after = self.text.get(at + found.len()..).and_then(|t| t.chars().next());
            let line = self.text.get(..*at).and_then(|t| t.rsplit('\n').next()).unwrap_or_default();
            !before.is_some_and(is_part) && !after.is_some_and(is_part) && !line.contains("--")
        });
        self.refuse_offset(place.map_or(0, |(at, _)| at), reason)
    }

    fn refuse(&self, reason: impl Into<String>) -> Refusal {
        self.refuse_at("CREATE", reason)
    }

    fn refuse_offset(&self, offset: usize, reason: impl Into<String>) -> Refusal {
        let before = self.text.get(..offset).unwrap_or_default();
        Refusal { file: self.file.to_owned(), line: before.matches('\n').count() as u64 + 1, reason: reason.into() }
    }

    /// A parser's message, which ends with `at Line: 3, Column: 7`.
    fn refuse_parse(&self, message: &str) -> Refusal {
        let line = message.rsplit_once("at Line: ").and_then(|(_, rest)| rest.split(',').next()?.trim().parse().ok());
        let message = message.strip_prefix("sql parser error: ").unwrap_or(message);
        Refusal { file: self.file.to_owned(), line: line.unwrap_or(1), reason: message.to_owned() }
    }

    /// A planner's message, freed of what only its programmers understand.
    fn refuse_plan(&self, error: &datafusion::error::DataFusionError) -> Refusal {
        let root = error.find_root().strip_backtrace();
        let message = root
            .trim_start_matches("Error during planning: ")
            .trim_start_matches("Schema error: ")
            .trim_start_matches("This feature is not implemented: ");
        let quoted = message.split(['\'', '`', '"']).nth(1).unwrap_or("SELECT");
        let word = quoted.rsplit('.').next().unwrap_or(quoted);
        self.refuse_at(if word.is_empty() { "SELECT" } else { word }, message.to_owned())
    }
}

//! JSON lines: one object a line. Numbers keep the text that they were written with, so that a long
//! account number or an amount never passes through a float.

use std::{collections::VecDeque, io::Read, path::PathBuf, sync::Arc};

use arrow::array::{ArrayRef, MapBuilder, StringBuilder};
use serde::de::IgnoredAny;

use crate::{
    BrokenRow, SourceError,
    attributes::map_builder,
    frame::{Framed, Framer, Quotes},
    object::{Member, members},
    raw::{RawBatch, RawReader},
};

/// The lines that are read ahead for their keys, since no line lists those of the others.
const SAMPLE_LINES: usize = 1_000;
/// Unused keys that are remembered for the notice.
const LATE_NAMES_MAX: usize = 100;

enum Line {
    Text { line: u64, text: String },
    Broken { line: u64, reason: String },
}

pub(crate) struct JsonReader {
    path: PathBuf,
    framer: Framer,
    sample: VecDeque<Line>,
    names: Vec<String>,
    wanted: Vec<String>,
    /// The slots whose values may be objects: they fill a map.
    maps: Vec<usize>,
    rest: bool,
    late: Vec<String>,
    row: u64,
    batch_rows: usize,
}

impl JsonReader {
    /// Reads the first lines for their keys.
    pub fn open(path: PathBuf, input: Box<dyn Read + Send>) -> Result<Self, SourceError> {
        let mut framer = Framer::new(input, Quotes::None);
        framer.skip_mark().map_err(|error| SourceError::unreadable(&path, error))?;
        let mut reader = Self {
            path,
            framer,
            sample: VecDeque::new(),
            names: Vec::new(),
            wanted: Vec::new(),
            maps: Vec::new(),
            rest: false,
            late: Vec::new(),
            row: 0,
            batch_rows: 1,
        };
        for _ in 0..SAMPLE_LINES {
            let Some(line) = reader.read_line()? else { break };
            if let Line::Text { text, .. } = &line
                && let Ok(members) = object(text)
            {
                for member in members {
                    if !reader.names.iter().any(|name| *name == member.name) {
                        reader.names.push(member.name.into_owned());
                    }
                }
            }
            reader.sample.push_back(line);
        }
        Ok(reader)
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn want(&mut self, names: &[String], maps: Vec<usize>, rest: bool, batch_rows: usize) {
        self.wanted = names.to_vec();
        self.maps = maps;
        self.rest = rest;
        self.batch_rows = batch_rows.max(1);
    }

    fn read_line(&mut self) -> Result<Option<Line>, SourceError> {
        loop {
            return Ok(Some(match self.framer.next().map_err(|error| SourceError::unreadable(&self.path, error))? {
                Framed::End => return Ok(None),
                Framed::Broken { line, reason } => Line::Broken { line, reason },
                Framed::Record { line, range, .. } => match std::str::from_utf8(self.framer.bytes(range)) {
                    Ok(text) if text.trim().is_empty() => continue,
                    Ok(text) => Line::Text { line, text: text.to_owned() },
                    Err(_) => Line::Broken { line, reason: "it is not valid UTF-8".to_owned() },
                },
            }));
        }
    }

    /// Puts the row's values into the columns; where it cannot, nothing is put anywhere.
    fn append(
        &mut self,
        text: &str,
        columns: &mut [StringBuilder],
        rest: &mut MapBuilder<StringBuilder, StringBuilder>,
    ) -> Result<(), String> {
        let mut cells: Vec<Option<String>> = vec![None; self.wanted.len()];
        let mut seen = vec![false; self.wanted.len()];
        let mut left: Vec<(String, String)> = Vec::new();
        for member in object(text)? {
            let Some(slot) = self.wanted.iter().position(|name| *name == member.name) else {
                if !self.rest {
                    self.remember(&member.name);
                } else if member.is_nested() {
                    return Err(format!("`{}` is nested; attributes are texts and numbers", member.name));
                } else if let Some(value) = member.text()? {
                    left.push((member.name.into_owned(), value));
                }
                continue;
            };
            if member.is_nested() && !self.maps.contains(&slot) {
                return Err(format!("`{}` is nested; a text or a number is needed", member.name));
            }
            match (seen.get_mut(slot), cells.get_mut(slot)) {
                (Some(seen), Some(cell)) if !*seen => {
                    *seen = true;
                    *cell = member.text()?;
                }
                _ => return Err(format!("the key `{}` stands there twice", member.name)),
            }
        }
        for (column, cell) in columns.iter_mut().zip(cells) {
            column.append_option(cell);
        }
        for (name, value) in &left {
            rest.keys().append_value(name);
            rest.values().append_value(value);
        }
        // Keys and values were appended in pairs above, which is all that `append` checks.
        rest.append(!left.is_empty()).map_err(|error| error.to_string())
    }

    fn remember(&mut self, name: &str) {
        if self.late.len() < LATE_NAMES_MAX && !self.names.iter().chain(&self.late).any(|known| known == name) {
            self.late.push(name.to_owned());
        }
    }
}

fn object(text: &str) -> Result<Vec<Member<'_>>, String> {
    if !text.trim_start().starts_with('{') {
        return Err("it is not a JSON object".to_owned());
    }
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(format!("it is not valid JSON: {} at column {}", reason(&error), error.column()));
    }
    Ok(members(text))
}

/// The error without the place, which for one line is always line 1.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

impl RawReader for JsonReader {
    fn next_batch(&mut self) -> Result<Option<RawBatch>, SourceError> {
        let mut columns: Vec<StringBuilder> = self.wanted.iter().map(|_| StringBuilder::new()).collect();
        let mut rest = map_builder();
        let mut batch = RawBatch::default();
        let mut ended = false;
        while batch.rows.len() + batch.broken.len() < self.batch_rows {
            let next = match self.sample.pop_front() {
                Some(line) => Some(line),
                None => self.read_line()?,
            };
            let (line, outcome) = match next {
                None => {
                    ended = true;
                    break;
                }
                Some(Line::Broken { line, reason }) => (line, Err(reason)),
                Some(Line::Text { line, text }) => (line, self.append(&text, &mut columns, &mut rest)),
            };
            self.row += 1;
            match outcome {
                Ok(()) => {
                    batch.rows.push(self.row);
                    batch.lines.push(line);
                }
                Err(reason) => batch.broken.push(BrokenRow { row: self.row, line, reason }),
            }
        }
        batch.columns = columns.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef).collect();
        batch.rest = self.rest.then(|| Arc::new(rest.finish()) as ArrayRef);
        let nothing = batch.rows.is_empty() && batch.broken.is_empty();
        Ok(if ended && nothing { None } else { Some(batch) })
    }

    fn late_names(&self) -> Vec<String> {
        self.late.clone()
    }
}

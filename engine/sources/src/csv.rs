//! CSV: every cell is text, an empty cell is absent, and nothing is guessed.

use std::{io::Read, ops::Range, path::PathBuf, sync::Arc};

use arrow::array::{ArrayRef, StringBuilder};
use csv_core::{ReadRecordResult, ReaderBuilder, Terminator};
use tidewatch_model::limits::{SOURCE_COLUMNS_MAX, SOURCE_RECORD_BYTES_MAX};

use crate::{
    BrokenRow, SourceError,
    frame::{Framed, Framer, Quotes},
    raw::{RawBatch, RawReader},
};

const FORMAT: &str = "CSV";

/// The fields of one record. `csv_core` unescapes; the framer has found the record's end before.
struct Fields {
    parser: csv_core::Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
}

impl Fields {
    fn new(delimiter: u8) -> Self {
        // A carriage return within a field stays; the framer has cut off the one before a line end.
        let parser = ReaderBuilder::new().delimiter(delimiter).terminator(Terminator::Any(b'\n')).build();
        // The text of a record is never longer than the record itself.
        Self { parser, text: vec![0; SOURCE_RECORD_BYTES_MAX + 1], ends: vec![0; SOURCE_COLUMNS_MAX + 1], count: 0 }
    }

    /// False where the record has more fields than any file may have.
    fn read(&mut self, record: &[u8]) -> bool {
        self.parser.reset();
        self.count = 0;
        let (mut used, mut written) = (0, 0);
        loop {
            // Once the record is used up, empty input tells the parser that the last field ends.
            let (Some(input), Some(text), Some(ends)) =
                (record.get(used..), self.text.get_mut(written..), self.ends.get_mut(self.count..))
            else {
                return false;
            };
            let (result, read, wrote, ended) = self.parser.read_record(input, text, ends);
            used += read;
            written += wrote;
            self.count += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record | ReadRecordResult::End => return true,
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => return false,
            }
        }
    }

    fn range(&self, field: usize) -> Range<usize> {
        let start = field.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        start..self.ends.get(field).copied().unwrap_or(start)
    }

    /// The whole text, once for the row: fields end at whole characters, since delimiters are ASCII.
    fn text(&self) -> Result<&str, std::str::Utf8Error> {
        let length = self.count.checked_sub(1).map_or(0, |last| self.range(last).end);
        std::str::from_utf8(self.text.get(..length).unwrap_or_default())
    }
}

pub(crate) struct CsvReader {
    path: PathBuf,
    framer: Framer,
    fields: Fields,
    header: Vec<String>,
    /// For each slot, the position of its column in the file.
    wanted: Vec<usize>,
    row: u64,
    batch_rows: usize,
}

impl CsvReader {
    /// Reads the header.
    pub fn open(path: PathBuf, input: Box<dyn Read + Send>, delimiter: u8) -> Result<Self, SourceError> {
        let mut framer = Framer::new(input, Quotes::After { delimiter });
        framer.skip_mark().map_err(|error| SourceError::unreadable(&path, error))?;
        let mut fields = Fields::new(delimiter);
        let header = loop {
            match framer.next().map_err(|error| SourceError::unreadable(&path, error))? {
                Framed::End => return Err(SourceError::damaged(&path, FORMAT, "it is empty; a header line is needed")),
                Framed::Broken { reason, .. } => return Err(SourceError::damaged(&path, FORMAT, reason)),
                Framed::Record { range, .. } if range.is_empty() => {}
                Framed::Record { range, .. } => {
                    if !fields.read(framer.bytes(range)) {
                        let reason = format!("its header has more than {SOURCE_COLUMNS_MAX} columns");
                        return Err(SourceError::damaged(&path, FORMAT, reason));
                    }
                    let text =
                        fields.text().map_err(|_| SourceError::damaged(&path, FORMAT, "its header is not UTF-8"))?;
                    let name = |field| text.get(fields.range(field)).unwrap_or_default().trim().to_owned();
                    break (0..fields.count).map(name).collect();
                }
            }
        };
        Ok(Self { path, framer, fields, header, wanted: Vec::new(), row: 0, batch_rows: 1 })
    }

    pub fn names(&self) -> &[String] {
        &self.header
    }

    /// Says which columns to read. Every one of them is in the header: the plan was made from it.
    pub fn want(&mut self, names: &[String], batch_rows: usize) {
        self.wanted = names.iter().filter_map(|name| self.header.iter().position(|own| own == name)).collect();
        assert_eq!(self.wanted.len(), names.len(), "a plan names only columns of the header");
        self.batch_rows = batch_rows.max(1);
    }

    /// Why the record in `fields` is no row, where it is none.
    fn fault(&self, line: u64, lines: u64, fits: bool) -> Option<String> {
        let spans = match lines {
            1 => String::new(),
            lines => format!(" (it spans the lines {line} to {}: is a quotation mark unclosed?)", line + lines - 1),
        };
        if !fits {
            return Some(format!("it has more than {SOURCE_COLUMNS_MAX} columns{spans}"));
        }
        if self.fields.count != self.header.len() {
            let (found, wanted) = (self.fields.count, self.header.len());
            return Some(format!("it has {found} columns where the header has {wanted}{spans}"));
        }
        let error = self.fields.text().err()?;
        let at = error.valid_up_to();
        let column = (0..self.fields.count).find(|field| self.fields.range(*field).contains(&at));
        let name = column.and_then(|column| self.header.get(column)).map_or("?", String::as_str);
        Some(format!("`{name}` is not valid UTF-8{spans}"))
    }
}

impl RawReader for CsvReader {
    fn next_batch(&mut self) -> Result<Option<RawBatch>, SourceError> {
        let mut columns: Vec<StringBuilder> = self.wanted.iter().map(|_| StringBuilder::new()).collect();
        let mut batch = RawBatch::default();
        let mut ended = false;
        while batch.rows.len() + batch.broken.len() < self.batch_rows {
            match self.framer.next().map_err(|error| SourceError::unreadable(&self.path, error))? {
                Framed::End => {
                    ended = true;
                    break;
                }
                Framed::Broken { line, reason } => {
                    self.row += 1;
                    batch.broken.push(BrokenRow { row: self.row, line, reason });
                }
                Framed::Record { range, .. } if range.is_empty() => {}
                Framed::Record { line, lines, range } => {
                    self.row += 1;
                    let fits = self.fields.read(self.framer.bytes(range));
                    if let Some(reason) = self.fault(line, lines, fits) {
                        batch.broken.push(BrokenRow { row: self.row, line, reason });
                        continue;
                    }
                    let text = self.fields.text().unwrap_or_default();
                    for (column, field) in columns.iter_mut().zip(&self.wanted) {
                        column.append_option(text.get(self.fields.range(*field)).filter(|cell| !cell.is_empty()));
                    }
                    batch.rows.push(self.row);
                    batch.lines.push(line);
                }
            }
        }
        batch.columns = columns.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef).collect();
        let nothing = batch.rows.is_empty() && batch.broken.is_empty();
        Ok(if ended && nothing { None } else { Some(batch) })
    }
}

//! Cuts a stream of bytes into records, each bounded, with the line on which it begins. It knows
//! lines and quotation marks and nothing of fields. A quotation mark that nobody closes costs its own
//! line, not the rest of the file.

use std::{io::Read, ops::Range};

use tidewatch_model::limits::SOURCE_RECORD_BYTES_MAX;

const READ_BYTES: usize = 256 << 10;

/// What the next piece of the input is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Framed {
    /// A record without its line end: `range` of `Framer::bytes`, valid until the next call.
    Record {
        line: u64,
        lines: u64,
        range: Range<usize>,
    },
    /// Bytes that are no record, and why.
    Broken {
        line: u64,
        reason: String,
    },
    End,
}

/// Whether a line end within quotation marks belongs to the record (CSV) or not (JSON lines).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quotes {
    None,
    After { delimiter: u8 },
}

pub(crate) struct Framer {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    ended: bool,
    line: u64,
    quotes: Quotes,
    record_max: usize,
}

/// Where a scan for the end of a record stopped.
enum Scan {
    /// At a line end: how many bytes the record has, and how many lines it spans.
    Line {
        length: usize,
        lines: u64,
    },
    Open {
        quoted: bool,
    },
}

impl Framer {
    pub fn new(input: Box<dyn Read + Send>, quotes: Quotes) -> Self {
        Self { input, buffer: Vec::new(), start: 0, ended: false, line: 1, quotes, record_max: SOURCE_RECORD_BYTES_MAX }
    }

    #[cfg(test)]
    pub fn with_record_max(mut self, bytes: usize) -> Self {
        self.record_max = bytes;
        self
    }

    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.buffer.get(range).unwrap_or_default()
    }

    /// Skips a byte order mark. UTF-16 is told apart, since all of it would be broken rows otherwise.
    pub fn skip_mark(&mut self) -> std::io::Result<()> {
        while self.buffer.len() < 3 && !self.ended {
            self.fill()?;
        }
        match self.buffer.as_slice() {
            [0xEF, 0xBB, 0xBF, ..] => self.start = 3,
            [0xFE, 0xFF, ..] | [0xFF, 0xFE, ..] => {
                return Err(std::io::Error::new(
                    std::io::ErrorKind::InvalidData,
                    "the file is UTF-16; save it as UTF-8",
                ));
            }
            _ => {}
        }
        Ok(())
    }

    pub fn next(&mut self) -> std::io::Result<Framed> {
        loop {
            let rest = self.buffer.get(self.start..).unwrap_or_default();
            match scan(rest, self.quotes) {
                Scan::Line { length, lines } => {
                    let framed = self.record(length, lines);
                    self.start += length + 1;
                    self.line += lines;
                    return Ok(framed);
                }
                Scan::Open { quoted } if rest.len() > self.record_max => return self.give_up(quoted),
                Scan::Open { quoted: true } if self.ended => return self.give_up(true),
                Scan::Open { .. } if self.ended && rest.is_empty() => return Ok(Framed::End),
                Scan::Open { .. } if self.ended => {
                    let framed = self.record(rest.len(), 1);
                    self.start = self.buffer.len();
                    return Ok(framed);
                }
                Scan::Open { .. } => self.fill()?,
            }
        }
    }

    fn record(&self, length: usize, lines: u64) -> Framed {
        let record = self.buffer.get(self.start..self.start + length).unwrap_or_default();
        if record.len() > self.record_max {
            return Framed::Broken { line: self.line, reason: self.too_long() };
        }
        let length = record.strip_suffix(b"\r").map_or(length, <[u8]>::len);
        Framed::Record { line: self.line, lines, range: self.start..self.start + length }
    }

    /// Gives up the line that begins here and goes on behind it.
    fn give_up(&mut self, quoted: bool) -> std::io::Result<Framed> {
        let line = self.line;
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let reason = match rest.iter().take(self.record_max).position(|byte| *byte == b'\n') {
            Some(length) => {
                self.start += length + 1;
                "a quotation mark is opened and never closed".to_owned()
            }
            None if quoted && self.ended => {
                self.start = self.buffer.len();
                "a quotation mark is opened and never closed".to_owned()
            }
            None => {
                self.skip_line()?;
                self.too_long()
            }
        };
        self.line += 1;
        Ok(Framed::Broken { line, reason })
    }

    /// Drops bytes up to and with the next line end, without keeping them.
    fn skip_line(&mut self) -> std::io::Result<()> {
        loop {
            let rest = self.buffer.get(self.start..).unwrap_or_default();
            if let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                self.start += at + 1;
                return Ok(());
            }
            self.start = self.buffer.len();
            if self.ended {
                return Ok(());
            }
            self.fill()?;
        }
    }

    fn too_long(&self) -> String {
        format!("the row is longer than {} bytes", self.record_max)
    }

    fn fill(&mut self) -> std::io::Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let kept = self.buffer.len();
        self.buffer.resize(kept + READ_BYTES, 0);
        let read = loop {
            match self.input.read(self.buffer.get_mut(kept..).unwrap_or_default()) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(kept + read.as_ref().map_or(0, |read| *read));
        self.ended = read? == 0;
        Ok(())
    }
}

/// Finds the first line end that is not within quotation marks. As in CSV, a mark opens only at the
/// beginning of a field, and two of them within a quoted field stand for one.
fn scan(bytes: &[u8], quotes: Quotes) -> Scan {
    let Quotes::After { delimiter } = quotes else {
        return match bytes.iter().position(|byte| *byte == b'\n') {
            Some(length) => Scan::Line { length, lines: 1 },
            None => Scan::Open { quoted: false },
        };
    };
    #[derive(PartialEq)]
    enum At {
        FieldStart,
        Field,
        Quoted,
        QuoteInQuoted,
    }
    let mut at = At::FieldStart;
    let mut lines = 1;
    for (length, byte) in bytes.iter().enumerate() {
        at = match (at, *byte) {
            (At::FieldStart, b'"') => At::Quoted,
            (At::Quoted, b'"') => At::QuoteInQuoted,
            (At::QuoteInQuoted, b'"') => At::Quoted,
            (At::Quoted, b'\n') => {
                lines += 1;
                At::Quoted
            }
            (At::Quoted, _) => At::Quoted,
            (_, b'\n') => return Scan::Line { length, lines },
            (_, byte) if byte == delimiter => At::FieldStart,
            _ => At::Field,
        };
    }
    Scan::Open { quoted: at == At::Quoted }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, so that every boundary of the buffer is met.
    struct Drip(std::io::Cursor<Vec<u8>>);

    impl Read for Drip {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let length = into.len().min(1);
            self.0.read(&mut into[..length])
        }
    }

    fn frames(text: &str, quotes: Quotes, record_max: usize) -> Vec<(u64, Result<String, String>)> {
        let mut framer =
            Framer::new(Box::new(Drip(std::io::Cursor::new(text.into()))), quotes).with_record_max(record_max);
        framer.skip_mark().unwrap();
        let mut found = Vec::new();
        loop {
            match framer.next().unwrap() {
                Framed::Record { line, range, .. } => {
                    found.push((line, Ok(String::from_utf8(framer.bytes(range).to_vec()).unwrap())));
                }
                Framed::Broken { line, reason } => found.push((line, Err(reason))),
                Framed::End => return found,
            }
        }
    }

    fn check(text: &str, quotes: Quotes, wanted: &[(u64, Result<&str, &str>)]) {
        let found = frames(text, quotes, 12);
        let found: Vec<_> = found.iter().map(|(line, item)| (*line, item.as_deref().map_err(String::as_str))).collect();
        assert_eq!(found, wanted, "{text:?}");
    }

    #[test]
    fn records_begin_where_they_begin() {
        const CSV: Quotes = Quotes::After { delimiter: b',' };
        const UNCLOSED: &str = "a quotation mark is opened and never closed";
        const LONG: &str = "the row is longer than 12 bytes";
        check("", CSV, &[]);
        check("a\r\nb", CSV, &[(1, Ok("a")), (2, Ok("b"))]);
        check("\u{feff}a\n\nb\n", CSV, &[(1, Ok("a")), (2, Ok("")), (3, Ok("b"))]);
        check("\"a\nb\",c\nd\n", CSV, &[(1, Ok("\"a\nb\",c")), (3, Ok("d"))]);
        check("\"a\"\"\nb\"\nd\n", CSV, &[(1, Ok("\"a\"\"\nb\"")), (3, Ok("d"))]);
        check("5\" pipe\nd\n", CSV, &[(1, Ok("5\" pipe")), (2, Ok("d"))]);
        check("x,\"a\nb\nc", CSV, &[(1, Err(UNCLOSED)), (2, Ok("b")), (3, Ok("c"))]);
        check("\"a", CSV, &[(1, Err(UNCLOSED))]);
        check(
            "x,\"a\nb\nc\nd\ne\nf\ng\nh",
            CSV,
            &[
                (1, Err(UNCLOSED)),
                (2, Ok("b")),
                (3, Ok("c")),
                (4, Ok("d")),
                (5, Ok("e")),
                (6, Ok("f")),
                (7, Ok("g")),
                (8, Ok("h")),
            ],
        );
        check("1234567890123\nb\n", CSV, &[(1, Err(LONG)), (2, Ok("b"))]);
        check("123456789012345678901234567890\nb", CSV, &[(1, Err(LONG)), (2, Ok("b"))]);
        check("123456789012345678901234567890", CSV, &[(1, Err(LONG))]);
        check("{\"a\n\"b", Quotes::None, &[(1, Ok("{\"a")), (2, Ok("\"b"))]);
    }
}

//! Finds where JSON records begin and end, without understanding them.
//!
//! A file of one object a line (OTLP's file format) and a file of one object on many lines look alike at first. The
//! first line decides: if its brackets close, every line is a record. If they do not, the record goes on to the line on
//! which they close, unless a line begins with `{"resourceSpans"`, which no line inside a request does: then the line
//! before was broken, and every line is a record after all.

use std::io;
use std::io::BufRead;

use super::Fault;
use super::Format;
use super::Position;
use super::RawRecord;
use super::documents::whole_objects;
use super::look::BYTE_ORDER_MARK;
use super::look::begins_record;
use super::record::Part;
use super::source::Source;
use super::source::fill;

/// The records of a JSON file, as text.
pub(super) struct JsonTexts {
    lines: Lines,
    /// A line that was read too early.
    held: Option<Line>,
    one_per_line: bool,
}

impl JsonTexts {
    pub(super) fn new(source: Source, record_bytes_max: usize) -> Self {
        Self {
            lines: Lines {
                source,
                bytes_max: record_bytes_max,
                line: 0,
                byte: 0,
                rest: None,
            },
            held: None,
            one_per_line: false,
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<RawRecord>, Fault> {
        let Some(first) = self.next_filled_line()? else {
            return Ok(None);
        };
        if first.is_too_long {
            self.one_per_line = true;
            return Err(Fault::TooLong(first.position));
        }
        if self.one_per_line {
            return Ok(Some(first.into()));
        }
        let mut brackets = Brackets::default();
        if brackets.read(&first.text) == Balance::Open {
            return self.rest_of_document(first, brackets).map(Some);
        }
        self.one_per_line = true;
        Ok(Some(first.into()))
    }

    /// Adds lines until the brackets close.
    fn rest_of_document(
        &mut self,
        first: Line,
        mut brackets: Brackets,
    ) -> Result<RawRecord, Fault> {
        let mut record = RawRecord::from(first);
        while let Some(line) = self.next_line()? {
            if begins_record(&line.text) {
                self.one_per_line = true;
                self.held = Some(line);
                break;
            }
            if line.is_too_long || record.bytes.len() + line.text.len() > self.lines.bytes_max {
                self.skip_document()?;
                return Err(Fault::TooLong(record.position));
            }
            record.bytes.extend_from_slice(&line.text);
            match brackets.read(&line.text) {
                Balance::Open => {}
                Balance::Closed => break,
                Balance::Broken => {
                    self.skip_document()?;
                    break;
                }
            }
        }
        Ok(record)
    }

    /// Passes over lines up to the next one that begins with a bracket: only an outermost object does, where the rest
    /// is indented.
    fn skip_document(&mut self) -> Result<(), Fault> {
        while let Some(line) = self.next_line()? {
            if line.text.first() == Some(&b'{') {
                self.held = Some(line);
                break;
            }
        }
        Ok(())
    }

    fn next_filled_line(&mut self) -> Result<Option<Line>, Fault> {
        loop {
            match self.next_line()? {
                Some(line) if line.text.trim_ascii().is_empty() && !line.is_too_long => {}
                found => return Ok(found),
            }
        }
    }

    fn next_line(&mut self) -> Result<Option<Line>, Fault> {
        match self.held.take() {
            Some(line) => Ok(Some(line)),
            None => self.lines.next().map_err(Fault::Io),
        }
    }
}

/// A line with its line feed, or the beginning of one that is too long.
struct Line {
    text: Vec<u8>,
    position: Position,
    /// The column of its first byte, counted from 1: more than that behind objects of the same line.
    column: u64,
    is_too_long: bool,
}

impl From<Line> for RawRecord {
    fn from(line: Line) -> Self {
        let mut record = Self::new(Format::Json, line.position);
        record.bytes = line.text;
        record.parts.push(Part {
            start: 0,
            position: line.position,
            column: line.column,
        });
        record
    }
}

struct Lines {
    source: Source,
    bytes_max: usize,
    line: u64,
    byte: u64,
    /// What follows whole objects on a line that is longer than the bound.
    rest: Option<Line>,
}

impl Lines {
    fn next(&mut self) -> io::Result<Option<Line>> {
        let new = Line {
            text: Vec::new(),
            position: Position {
                line: Some(self.line + 1),
                byte: self.byte,
            },
            column: 1,
            is_too_long: false,
        };
        let mut line = self.rest.take().unwrap_or(new);
        let mut has_ended = false;
        while !has_ended {
            let available = fill(&mut self.source)?;
            if available.is_empty() {
                break;
            }
            let end = available.iter().position(|&byte| byte == b'\n');
            let room = self.bytes_max.saturating_sub(line.text.len());
            let is_over = !line.is_too_long && end.unwrap_or(available.len()) > room;
            // Filled up to the bound first, so that what is cut does not depend on how the bytes came.
            if is_over
                && room == 0
                && let Some(rest) = line.split_off_rest()
            {
                self.rest = Some(rest);
                return Ok(Some(line));
            }
            let taken = match is_over && room > 0 {
                true => room,
                false => {
                    has_ended = end.is_some();
                    end.map_or(available.len(), |end| end + 1)
                }
            };
            line.add(available.get(..taken).unwrap_or_default(), self.bytes_max);
            self.source.consume(taken);
            self.byte += taken as u64;
        }
        if self.byte == line.position.byte {
            return Ok(None);
        }
        self.line += 1;
        if self.line == 1 && line.text.starts_with(BYTE_ORDER_MARK) {
            line.text.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(Some(line))
    }
}

impl Line {
    /// Cuts the line behind its last whole object; returns nothing if it has none.
    fn split_off_rest(&mut self) -> Option<Self> {
        let whole = whole_objects(&self.text);
        if whole == 0 || self.is_too_long {
            return None;
        }
        let start = Part {
            start: 0,
            position: self.position,
            column: self.column,
        };
        let place = start.behind(self.text.get(..whole)?);
        Some(Self {
            text: self.text.split_off(whole),
            position: place.position,
            column: place.column,
            is_too_long: false,
        })
    }

    fn add(&mut self, part: &[u8], bytes_max: usize) {
        // The line feed does not count: a line of exactly the bound is fine.
        let counted = part.strip_suffix(b"\n").unwrap_or(part);
        if self.is_too_long || self.text.len() + counted.len() > bytes_max {
            self.is_too_long = true;
            self.text.truncate(1);
            return;
        }
        self.text.extend_from_slice(part);
    }
}

/// Counts brackets outside of strings.
#[derive(Debug, Default)]
struct Brackets {
    open: usize,
    has_begun: bool,
    in_string: bool,
    is_escaped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Balance {
    Open,
    Closed,
    /// No JSON, whatever follows.
    Broken,
}

impl Brackets {
    /// Reads a whole line.
    fn read(&mut self, line: &[u8]) -> Balance {
        for &byte in line {
            if self.in_string {
                match byte {
                    // JSON has no line breaks inside strings.
                    b'\n' => return Balance::Broken,
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'{' | b'[' => self.open += 1,
                b' ' | b'\t' | b'\r' | b'\n' => continue,
                _ if !self.has_begun => return Balance::Broken,
                b'}' | b']' if self.open == 0 => return Balance::Broken,
                b'}' | b']' => self.open -= 1,
                b'"' => self.in_string = true,
                _ => {}
            }
            self.has_begun = true;
        }
        match self.open {
            0 => Balance::Closed,
            _ => Balance::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str, bytes_max: usize) -> Vec<String> {
        let source = Box::new(io::Cursor::new(text.as_bytes().to_vec()));
        let mut records = JsonTexts::new(source, bytes_max);
        let mut found = Vec::new();
        loop {
            match records.next() {
                Ok(None) => return found,
                Ok(Some(record)) => found.push(format!(
                    "{}: {}",
                    record.position.line.unwrap(),
                    String::from_utf8_lossy(record.bytes.trim_ascii())
                )),
                Err(Fault::TooLong(position)) => {
                    found.push(format!("{}: too long", position.line.unwrap()));
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn every_line_is_a_record_when_the_first_one_closes() {
        assert_eq!(
            texts("\u{feff}{\"a\":1}\r\n\n  \n{\"b\":[\n}\n{\"c\":{}}", 100),
            ["1: {\"a\":1}", "4: {\"b\":[", "5: }", "6: {\"c\":{}}"]
        );
    }

    #[test]
    fn a_record_may_go_over_many_lines() {
        assert_eq!(
            texts("{\n \"a\": \"}\\\"\",\n \"b\": []\n}\n{\n}\n", 100),
            ["1: {\n \"a\": \"}\\\"\",\n \"b\": []\n}", "5: {\n}"]
        );
    }

    #[test]
    fn a_broken_first_line_costs_itself_alone() {
        let text = "{\"resourceSpans\":[{\"scope\n{\"resourceSpans\":[]}\n{\"x\":1}\n";
        assert_eq!(
            texts(text, 100),
            [
                "1: {\"resourceSpans\":[{\"scope",
                "2: {\"resourceSpans\":[]}",
                "3: {\"x\":1}"
            ]
        );
        let text = "{\"resourceSpans\":[{\n{\"resourceSpans\":[]}\n";
        assert_eq!(
            texts(text, 100),
            ["1: {\"resourceSpans\":[{", "2: {\"resourceSpans\":[]}"]
        );
    }

    #[test]
    fn a_broken_document_costs_itself_alone() {
        let text = "{\n  \"a\": \"\n  \"b\": {\n }\n}\n{\n \"c\": 1\n}\n";
        assert_eq!(
            texts(text, 100),
            ["1: {\n  \"a\": \"", "6: {\n \"c\": 1\n}"]
        );
    }

    #[test]
    fn what_is_longer_than_the_bound_is_passed_over() {
        assert_eq!(
            texts("{\"a\":1}\n{\"a\":12}\n{\"b\":1}\n", 7),
            ["1: {\"a\":1}", "2: too long", "3: {\"b\":1}"]
        );
        assert_eq!(
            texts("{\n  \"a\": 1\n}\n{\n}\n", 10),
            ["1: too long", "4: {\n}"]
        );
    }
}

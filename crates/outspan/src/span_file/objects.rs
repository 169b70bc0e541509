//! Finds the objects in JSON that comes from elsewhere, without understanding them: spans of Zipkin, traces of Jaeger.
//!
//! ```text
//! Zipkin   [ span, span, ... ]   also one array a line, arrays of arrays (what its query returns), or one span a line
//! Jaeger   {"data": [ trace, trace, ... ], ...}   also a trace alone, an array of them, or one a line
//! ```
//!
//! Arrays are passed over, so that one of any length is read object by object. Source: `POST /api/v2/spans` and
//! `GET /api/v2/traces` of Zipkin's API, `GET /api/traces` of Jaeger's query service.

use super::Fault;
use super::Format;
use super::Position;
use super::look::BYTE_ORDER_MARK;
use super::record::Part;
use super::record::RawRecord;
use super::source::Source;
use super::source::fill;

/// From how many bytes on spans make a record. One by one they would cost more than what is in them.
const GATHERED_BYTES: usize = 64 << 10;

/// The objects of a file.
pub(super) struct Objects {
    text: Text,
    format: Format,
    bytes_max: usize,
    /// How many arrays are open around the next object.
    arrays: usize,
    /// Whether the traces of a `data` array follow.
    is_in_data: bool,
    /// What ended a record whose spans are fine.
    held: Option<Fault>,
}

/// What stands before the next object.
enum Next {
    Object,
    /// The outermost array has ended.
    ArrayEnd,
    End,
}

impl Objects {
    pub(super) fn new(source: Source, format: Format, record_bytes_max: usize) -> Self {
        Self {
            text: Text {
                source,
                position: Position::start_of_text(),
                column: 1,
            },
            format,
            bytes_max: record_bytes_max,
            arrays: 0,
            is_in_data: false,
            held: None,
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<RawRecord>, Fault> {
        if let Some(fault) = self.held.take() {
            return Err(fault);
        }
        match self.format {
            Format::ZipkinJson => self.next_spans(),
            _ => self.next_trace(),
        }
    }

    /// An array of spans: up to the end of the one they stand in, or as many as make a record.
    fn next_spans(&mut self) -> Result<Option<RawRecord>, Fault> {
        let mut record = RawRecord::new(self.format, self.text.position);
        loop {
            match self.add_span(&mut record) {
                Ok(true) if record.bytes.len() < GATHERED_BYTES.min(self.bytes_max) => {}
                Ok(_) => break,
                Err(fault) if record.parts.is_empty() => return Err(fault),
                Err(fault) => {
                    self.held = Some(fault);
                    break;
                }
            }
        }
        let Some(first) = record.parts.first() else {
            return Ok(None);
        };
        record.position = first.position;
        record.bytes.push(b']');
        Ok(Some(record))
    }

    /// Adds the next span to a record; says whether another one may follow in it.
    fn add_span(&mut self, record: &mut RawRecord) -> Result<bool, Fault> {
        let is_first = record.parts.is_empty();
        loop {
            match self.find_object()? {
                Next::Object => break,
                Next::ArrayEnd if is_first => {}
                Next::ArrayEnd | Next::End => return Ok(false),
            }
        }
        let part = self.text.part(record.bytes.len() + 1);
        let is_alone = self.arrays == 0;
        record.bytes.push(if is_first { b'[' } else { b',' });
        if let Err(fault) = self.read_object(&mut record.bytes, self.bytes_max) {
            record.bytes.truncate(part.start - 1);
            return Err(fault);
        }
        record.parts.push(part);
        Ok(!is_alone)
    }

    fn next_trace(&mut self) -> Result<Option<RawRecord>, Fault> {
        loop {
            match self.find_object()? {
                Next::Object => {}
                Next::ArrayEnd => continue,
                Next::End => return Ok(None),
            }
            let mut record = RawRecord::new(self.format, self.text.position);
            record.parts.push(self.text.part(0));
            let was_in_data = self.is_in_data;
            self.read_object(&mut record.bytes, self.bytes_max)?;
            if was_in_data == self.is_in_data {
                return Ok(Some(record));
            }
        }
    }

    /// Goes on to the first byte of an object.
    fn find_object(&mut self) -> Result<Next, Fault> {
        loop {
            let Some(byte) = self.text.peek()? else {
                return Ok(Next::End);
            };
            match byte {
                b'{' => return Ok(Next::Object),
                b'[' => self.arrays += 1,
                b']' if self.arrays > 0 => {
                    self.arrays -= 1;
                    self.text.pass(1)?;
                    if self.arrays == 0 {
                        self.leave_data()?;
                        return Ok(Next::ArrayEnd);
                    }
                    continue;
                }
                b',' | b' ' | b'\t' | b'\r' | b'\n' => {}
                _ if BYTE_ORDER_MARK.contains(&byte) && self.text.position.byte < 3 => {}
                _ => {
                    let position = self.text.position;
                    self.text.pass_line()?;
                    return Err(Fault::Stray(position, byte));
                }
            }
            self.text.pass(1)?;
        }
    }

    /// Passes over what follows the traces in the object that holds them.
    fn leave_data(&mut self) -> Result<(), Fault> {
        if !std::mem::take(&mut self.is_in_data) {
            return Ok(());
        }
        let start = self.text.position;
        let mut nesting = Nesting {
            depth: 1,
            ..Nesting::default()
        };
        loop {
            let part = fill(&mut self.text.source).map_err(Fault::Io)?;
            if part.is_empty() {
                return Err(Fault::Unfinished(start));
            }
            let (taken, found) = nesting.read(part);
            self.text.pass(taken)?;
            if found == Found::End {
                return Ok(());
            }
        }
    }

    /// Reads an object to its end, or to where its array of traces begins.
    fn read_object(&mut self, into: &mut Vec<u8>, bytes_max: usize) -> Result<(), Fault> {
        let start = self.text.position;
        let begin = into.len();
        let looks_for_data = self.format == Format::JaegerJson && !self.is_in_data;
        let mut nesting = Nesting::default();
        let mut is_too_long = false;
        loop {
            let part = fill(&mut self.text.source).map_err(Fault::Io)?;
            if part.is_empty() {
                return Err(Fault::Unfinished(start));
            }
            let (taken, mut found) = nesting.read(part);
            is_too_long |= into.len() - begin + taken > bytes_max;
            match is_too_long {
                true => into.truncate(begin),
                false => into.extend_from_slice(part.get(..taken).unwrap_or_default()),
            }
            self.text.pass(taken)?;
            if found == Found::Data && !looks_for_data {
                found = Found::Nothing;
            }
            match found {
                Found::Nothing => {}
                Found::End if is_too_long => return Err(Fault::TooLong(start)),
                Found::End => return Ok(()),
                Found::Data => {
                    self.is_in_data = true;
                    self.arrays += 1;
                    return Ok(());
                }
            }
        }
    }
}

/// Text, and where in it we are.
struct Text {
    source: Source,
    position: Position,
    /// Counted from 1, in bytes.
    column: u64,
}

impl Text {
    fn peek(&mut self) -> Result<Option<u8>, Fault> {
        let part = fill(&mut self.source).map_err(Fault::Io)?;
        Ok(part.first().copied())
    }

    /// Goes on by so many bytes of what is there.
    fn pass(&mut self, bytes: usize) -> Result<(), Fault> {
        let part = fill(&mut self.source).map_err(Fault::Io)?;
        let passed = part.get(..bytes).unwrap_or(part);
        let lines = passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.position.line = self.position.line.map(|line| line + lines);
        let behind = passed.iter().rev().position(|byte| *byte == b'\n');
        self.column = match behind {
            Some(behind) => behind as u64 + 1,
            None => self.column + passed.len() as u64,
        };
        let bytes = passed.len();
        self.position.byte += bytes as u64;
        self.source.consume(bytes);
        Ok(())
    }

    /// Goes on to the next line.
    fn pass_line(&mut self) -> Result<(), Fault> {
        loop {
            let part = fill(&mut self.source).map_err(Fault::Io)?;
            if part.is_empty() {
                return Ok(());
            }
            let end = part.iter().position(|byte| *byte == b'\n');
            let bytes = end.map_or(part.len(), |end| end + 1);
            self.pass(bytes)?;
            if end.is_some() {
                return Ok(());
            }
        }
    }

    fn part(&self, start: usize) -> Part {
        Part {
            start,
            position: self.position,
            column: self.column,
        }
    }
}

/// What bytes of an object hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// Its last bracket.
    End,
    /// The bracket of an array that is the outermost object's `data`.
    Data,
}

/// Counts brackets outside of strings.
#[derive(Debug, Default)]
struct Nesting {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    /// The beginning of the last string of the outermost object: its last key, when an array begins there.
    string: Vec<u8>,
}

impl Nesting {
    /// The longest key that matters, and a byte more.
    const STRING_BYTES_MAX: usize = 5;

    /// Reads bytes up to something that is found, and says how many it took.
    fn read(&mut self, part: &[u8]) -> (usize, Found) {
        for (at, &byte) in part.iter().enumerate() {
            let found = match self.in_string {
                true => self.in_string(byte),
                false => self.outside(byte),
            };
            if found != Found::Nothing {
                return (at + 1, found);
            }
        }
        (part.len(), Found::Nothing)
    }

    fn in_string(&mut self, byte: u8) -> Found {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' => self.is_escaped = true,
            b'"' => {
                self.in_string = false;
                return Found::Nothing;
            }
            _ => {}
        }
        if self.depth == 1 && self.string.len() < Self::STRING_BYTES_MAX {
            self.string.push(byte);
        }
        Found::Nothing
    }

    fn outside(&mut self, byte: u8) -> Found {
        match byte {
            b'"' => {
                self.in_string = true;
                if self.depth == 1 {
                    self.string.clear();
                }
            }
            b'[' if self.depth == 1 && self.string == b"data" => {
                self.depth += 1;
                return Found::Data;
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    return Found::End;
                }
            }
            _ => {}
        }
        Found::Nothing
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn records(format: Format, text: &str, bytes_max: usize) -> Vec<String> {
        let whole = text.as_bytes();
        let source = Box::new(io::Cursor::new(whole.to_vec()));
        let mut objects = Objects::new(source, format, bytes_max);
        let mut found = Vec::new();
        loop {
            let record = match objects.next() {
                Ok(None) => return found,
                Ok(Some(record)) => record,
                Err(fault) => {
                    found.push(format!("{fault:?}"));
                    if matches!(fault, Fault::Unfinished(_)) {
                        return found;
                    }
                    continue;
                }
            };
            let line = record.position.line.unwrap();
            let text = String::from_utf8(record.bytes).unwrap();
            for part in &record.parts {
                let byte = usize::try_from(part.position.byte).unwrap();
                assert_eq!(whole.get(byte), Some(&b'{'), "{part:?}");
                assert_eq!(text.as_bytes().get(part.start), Some(&b'{'), "{part:?}");
            }
            found.push(format!("{line}: {text}"));
        }
    }

    #[test]
    fn spans_stand_in_arrays_of_any_shape() {
        let zipkin = |text| records(Format::ZipkinJson, text, 1000);
        assert_eq!(zipkin(""), [""; 0]);
        assert_eq!(zipkin("[]"), [""; 0]);
        assert_eq!(
            zipkin("[{\"a\":1},\n {\"b\":\"}]\"}]"),
            [r#"1: [{"a":1},{"b":"}]"}]"#]
        );
        assert_eq!(zipkin("[[{}],[{}, {}]]"), ["1: [{},{},{}]"]);
        assert_eq!(zipkin("[{}]\n[{},{}]\n"), ["1: [{}]", "2: [{},{}]"]);
        assert_eq!(zipkin("{\"a\":[]}\n{}\n"), ["1: [{\"a\":[]}]", "2: [{}]"]);
        assert_eq!(zipkin("\u{feff}[{}]"), ["1: [{}]"]);
    }

    #[test]
    fn a_long_array_becomes_several_records() {
        let span = format!("{{\"name\":\"{}\"}}", "x".repeat(1000));
        let text = format!("[{}]", vec![span.as_str(); 200].join(",\n"));
        let records = records(Format::ZipkinJson, &text, 1 << 20);
        assert_eq!(records.len(), 4);
        let spans: usize = records
            .iter()
            .map(|record| record.matches("name").count())
            .sum();
        assert_eq!(spans, 200);
        assert!(
            records
                .iter()
                .all(|record| record.len() < GATHERED_BYTES + 1100)
        );
    }

    #[test]
    fn traces_stand_alone_or_in_the_data_of_an_answer() {
        let jaeger = |text| records(Format::JaegerJson, text, 1000);
        assert_eq!(jaeger("{\"traceID\":\"1\"}"), ["1: {\"traceID\":\"1\"}"]);
        assert_eq!(
            jaeger("[{\"a\":1},{\"b\":[]}]"),
            ["1: {\"a\":1}", "1: {\"b\":[]}"]
        );
        assert_eq!(
            jaeger(
                "{\"total\":0,\"data\": [\n{\"a\":{\"data\":[1]}},\n{}],\"errors\":[{\"}\":1}]}\n{\"c\":1}"
            ),
            ["2: {\"a\":{\"data\":[1]}}", "3: {}", "4: {\"c\":1}"]
        );
        assert_eq!(jaeger("{\"data\":[]}"), [""; 0]);
        assert_eq!(
            jaeger("{\"data\":null,\"dat\":[]}"),
            ["1: {\"data\":null,\"dat\":[]}"]
        );
    }

    #[test]
    fn what_is_broken_costs_itself_alone() {
        let zipkin = |text: &str| records(Format::ZipkinJson, text, 12);
        let long = "{\"long\":\"xxxxxxxx\"}";
        let text = format!("[{{}},{long},{{}}]");
        let told = zipkin(&text);
        assert_eq!(
            (told.len(), told[0].as_str(), told[2].as_str()),
            (3, "1: [{}]", "1: [{}]")
        );
        assert!(told[1].starts_with("TooLong"), "{told:?}");
        let told = zipkin("nonsense\n[{}]\n");
        assert!(told[0].starts_with("Stray"), "{told:?}");
        assert_eq!(told[1], "2: [{}]");
        let told = zipkin("[{},{\"a\":");
        assert_eq!(told[0], "1: [{}]");
        assert!(told[1].starts_with("Unfinished"), "{told:?}");
        let told = records(Format::JaegerJson, "{\"data\":[{},{\"a\"", 100);
        assert_eq!(told[0], "1: {}");
        assert!(told[1].starts_with("Unfinished"), "{told:?}");
    }
}

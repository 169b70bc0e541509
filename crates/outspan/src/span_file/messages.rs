//! Finds where the messages of binary formats begin and end, without understanding them.
//!
//! ```text
//! Zipkin   (0x0A length span)*           ListOfSpans of zipkin.proto: field 1, length-delimited
//! Jaeger   batch*                        structs in Thrift's binary protocol, one after the other
//! struct = (type id(2 bytes) value)* 0   numbers are big-endian
//! ```
//!
//! Sources: `zipkin.proto` of openzipkin/zipkin-api; "Thrift Binary protocol encoding" of Apache Thrift.

use std::io::BufRead;

use super::Fault;
use super::Format;
use super::Position;
use super::record::Part;
use super::record::RawRecord;
use super::source::Source;
use super::source::fill;

/// From how many bytes on spans make a record. One by one they would cost more than what is in them.
const GATHERED_BYTES: usize = 64 << 10;

/// Field 1, length-delimited.
const SPAN_TAG: u8 = 0x0a;

/// How deep values of Thrift may be nested; a batch has four levels.
const DEPTH_MAX: usize = 64;

/// Bytes, and where in them we are.
struct Input {
    source: Source,
    bytes_max: usize,
    byte: u64,
}

/// What keeps a message from being found.
enum Broken {
    Fault(Fault),
    /// The input ends here.
    End,
    /// It is longer than the bound.
    TooLong,
    /// It is none, because of this.
    Malformed(String),
}

impl Input {
    fn new(source: Source, bytes_max: usize) -> Self {
        Self {
            source,
            bytes_max,
            byte: 0,
        }
    }

    /// Reads so many bytes, and no more than there may be in a record.
    fn read(&mut self, bytes: usize, into: &mut Vec<u8>, begin: usize) -> Result<(), Broken> {
        if (into.len() - begin).saturating_add(bytes) > self.bytes_max {
            return Err(Broken::TooLong);
        }
        let mut missing = bytes;
        while missing > 0 {
            let part = fill(&mut self.source).map_err(|e| Broken::Fault(Fault::Io(e)))?;
            let part = part.get(..missing).unwrap_or(part);
            if part.is_empty() {
                return Err(Broken::End);
            }
            into.extend_from_slice(part);
            let read = part.len();
            self.source.consume(read);
            self.byte += read as u64;
            missing -= read;
        }
        Ok(())
    }

    /// Reads a fixed number of bytes and gives them out besides.
    fn read_array<const N: usize>(
        &mut self,
        into: &mut Vec<u8>,
        begin: usize,
    ) -> Result<[u8; N], Broken> {
        self.read(N, into, begin)?;
        Ok(*into.last_chunk().expect("as many bytes were just read"))
    }

    fn is_over(&mut self) -> Result<bool, Fault> {
        fill(&mut self.source)
            .map(<[u8]>::is_empty)
            .map_err(Fault::Io)
    }
}

impl Broken {
    /// What it means for a file whose message began there.
    fn into_fault(self, position: Position) -> Fault {
        match self {
            Self::Fault(fault) => fault,
            Self::End => Fault::Unfinished(position),
            Self::TooLong => Fault::TooLongToGoOn,
            Self::Malformed(why) => Fault::Malformed(position, why),
        }
    }
}

/// The spans of a file of Zipkin's protobuf.
pub(super) struct ZipkinMessages {
    input: Input,
    /// What ended a record whose spans are fine.
    held: Option<Fault>,
}

impl ZipkinMessages {
    pub(super) fn new(source: Source, record_bytes_max: usize) -> Self {
        Self {
            input: Input::new(source, record_bytes_max),
            held: None,
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<RawRecord>, Fault> {
        if let Some(fault) = self.held.take() {
            return Err(fault);
        }
        let position = Position::at_byte(self.input.byte);
        let mut record = RawRecord::new(Format::ZipkinProtobuf, position);
        while record.bytes.len() < GATHERED_BYTES.min(self.input.bytes_max) {
            match self.add_span(&mut record) {
                Ok(true) => {}
                Ok(false) => break,
                Err(fault) if record.parts.is_empty() => return Err(fault),
                Err(fault) => {
                    self.held = Some(fault);
                    break;
                }
            }
        }
        Ok((!record.parts.is_empty()).then_some(record))
    }

    /// Adds the next span to a record; says whether there was one.
    fn add_span(&mut self, record: &mut RawRecord) -> Result<bool, Fault> {
        if self.input.is_over()? {
            return Ok(false);
        }
        let begin = record.bytes.len();
        let position = Position::at_byte(self.input.byte);
        if let Err(broken) = self.read_span(&mut record.bytes, begin) {
            record.bytes.truncate(begin);
            return Err(broken.into_fault(position));
        }
        record.parts.push(Part {
            start: begin,
            position,
            column: 0,
        });
        Ok(true)
    }

    fn read_span(&mut self, into: &mut Vec<u8>, begin: usize) -> Result<(), Broken> {
        let [tag] = self.input.read_array(into, begin)?;
        if tag != SPAN_TAG {
            let why = format!("a span begins with byte 0x0a, not with 0x{tag:02x}");
            return Err(Broken::Malformed(why));
        }
        let mut length = 0_u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.input.read_array(into, begin)?;
            length |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                return self.input.read(length, into, begin);
            }
        }
        Err(Broken::Malformed(
            "the length of a span has more than five bytes".into(),
        ))
    }
}

/// The batches of a file of Jaeger's Thrift.
pub(super) struct ThriftBatches(Input);

impl ThriftBatches {
    pub(super) fn new(source: Source, record_bytes_max: usize) -> Self {
        Self(Input::new(source, record_bytes_max))
    }

    pub(super) fn next(&mut self) -> Result<Option<RawRecord>, Fault> {
        if self.0.is_over()? {
            return Ok(None);
        }
        let position = Position::at_byte(self.0.byte);
        let mut record = RawRecord::new(Format::JaegerThrift, position);
        self.read_struct(&mut record.bytes, 0)
            .map_err(|broken| broken.into_fault(position))?;
        record.parts.push(Part {
            start: 0,
            position,
            column: 0,
        });
        Ok(Some(record))
    }

    fn read_struct(&mut self, into: &mut Vec<u8>, depth: usize) -> Result<(), Broken> {
        loop {
            let [kind] = self.0.read_array(into, 0)?;
            if kind == 0 {
                return Ok(());
            }
            self.0.read(2, into, 0)?;
            self.read_value(kind, into, depth)?;
        }
    }

    fn read_value(&mut self, kind: u8, into: &mut Vec<u8>, depth: usize) -> Result<(), Broken> {
        const STRING: u8 = 11;
        const STRUCT: u8 = 12;
        const MAP: u8 = 13;
        const SET: u8 = 14;
        const LIST: u8 = 15;

        if depth > DEPTH_MAX {
            let why = format!("it is nested deeper than {DEPTH_MAX}");
            return Err(Broken::Malformed(why));
        }
        match kind {
            STRING => {
                let length = self.read_count(into)?;
                self.0.read(length, into, 0)
            }
            STRUCT => self.read_struct(into, depth + 1),
            MAP => {
                let kinds: [u8; 2] = self.0.read_array(into, 0)?;
                self.read_values(&kinds, into, depth)
            }
            SET | LIST => {
                let kinds: [u8; 1] = self.0.read_array(into, 0)?;
                self.read_values(&kinds, into, depth)
            }
            _ => {
                let bytes = width(kind)
                    .ok_or_else(|| Broken::Malformed(format!("Thrift has no type {kind}")))?;
                self.0.read(bytes, into, 0)
            }
        }
    }

    /// Reads as many values of each kind, in turns, as a count says.
    fn read_values(
        &mut self,
        kinds: &[u8],
        into: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Broken> {
        // Every value has a byte at least, so the bound of bytes bounds the turns.
        for _ in 0..self.read_count(into)? {
            for kind in kinds {
                self.read_value(*kind, into, depth + 1)?;
            }
        }
        Ok(())
    }

    fn read_count(&mut self, into: &mut Vec<u8>) -> Result<usize, Broken> {
        let count = i32::from_be_bytes(self.0.read_array(into, 0)?);
        usize::try_from(count)
            .map_err(|_| Broken::Malformed(format!("{count} is no number of bytes or values")))
    }
}

/// How many bytes values of a kind have whose length is fixed.
fn width(kind: u8) -> Option<usize> {
    match kind {
        // Booleans and bytes.
        2 | 3 => Some(1),
        // Doubles and numbers of 64 bits.
        4 | 10 => Some(8),
        6 => Some(2),
        8 => Some(4),
        // Identifiers of 128 bits.
        16 => Some(16),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn source(bytes: &[u8]) -> Source {
        Box::new(io::Cursor::new(bytes.to_vec()))
    }

    fn all(mut next: impl FnMut() -> Result<Option<RawRecord>, Fault>) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            match next() {
                Ok(None) => return found,
                Ok(Some(record)) => {
                    let bytes = record.bytes.len();
                    found.push(format!(
                        "{}: {bytes} bytes, {} parts",
                        record.position,
                        record.parts.len()
                    ));
                }
                Err(fault) => {
                    found.push(format!("{fault:?}"));
                    return found;
                }
            }
        }
    }

    fn zipkin(bytes: &[u8], bytes_max: usize) -> Vec<String> {
        let mut messages = ZipkinMessages::new(source(bytes), bytes_max);
        all(move || messages.next())
    }

    fn thrift(bytes: &[u8], bytes_max: usize) -> Vec<String> {
        let mut batches = ThriftBatches::new(source(bytes), bytes_max);
        all(move || batches.next())
    }

    #[test]
    fn spans_of_zipkin_are_gathered() {
        assert_eq!(zipkin(b"", 10), [""; 0]);
        assert_eq!(
            zipkin(b"\x0a\x02ab\x0a\x00\x0a\x01c", 10),
            ["byte 0: 9 bytes, 3 parts"]
        );
        let long = [&b"\x0a\xe8\x07"[..], &[0; 1000]].concat().repeat(200);
        let records = zipkin(&long, 1 << 20);
        assert_eq!(records.len(), 4, "{records:?}");
        assert!(
            records[1].starts_with("byte 66198: 66198 bytes, 66 parts"),
            "{records:?}"
        );
    }

    #[test]
    fn what_follows_broken_spans_of_zipkin_is_not_guessed() {
        let told = zipkin(b"\x0a\x01a\x12\x00", 10);
        assert_eq!(told[0], "byte 0: 3 bytes, 1 parts");
        assert!(
            told[1].contains("Malformed") && told[1].contains("0x12"),
            "{told:?}"
        );
        assert!(zipkin(b"\x0a\x05ab", 10)[0].starts_with("Unfinished"));
        assert_eq!(zipkin(b"\x0a\x09123456789", 10), ["TooLongToGoOn"]);
        assert!(zipkin(b"\x0a\xff\xff\xff\xff\xff\x01", 10)[0].contains("five bytes"));
    }

    #[test]
    fn batches_of_thrift_end_where_their_structs_do() {
        let value = b"\x0b\x00\x01\x00\x00\x00\x02ab\x0f\x00\x02\x0c\x00\x00\x00\x02\x02\x00\x01\x01\x00\x00\x0d\x00\x03\x0b\x08\x00\x00\x00\x01\x00\x00\x00\x01k\x00\x00\x00\x07\x10\x00\x040123456789abcdef\x00";
        assert_eq!(thrift(b"", 100), [""; 0]);
        assert_eq!(thrift(b"\x00", 100), ["byte 0: 1 bytes, 1 parts"]);
        let twice = [&value[..], value].concat();
        let length = value.len();
        assert_eq!(
            thrift(&twice, 100),
            [
                format!("byte 0: {length} bytes, 1 parts"),
                format!("byte {length}: {length} bytes, 1 parts")
            ]
        );
        for end in 1..length {
            assert!(
                thrift(&value[..end], 100)[0].starts_with("Unfinished"),
                "{end}"
            );
        }
        assert_eq!(thrift(value, length - 1), ["TooLongToGoOn"]);
    }

    #[test]
    fn thrift_that_is_none_is_not_followed() {
        assert!(thrift(b"\x07\x00\x01", 100)[0].contains("no type 7"));
        assert!(thrift(b"\x0b\x00\x01\xff\xff\xff\xff", 100)[0].contains("-1 is no number"));
        let deep = b"\x0c\x00\x01".repeat(1000);
        assert!(thrift(&deep, 10_000)[0].contains("nested deeper"));
        assert_eq!(
            thrift(b"\x0f\x00\x01\x02\x7f\xff\xff\xff", 100),
            ["Unfinished(Position { line: None, byte: 0 })"]
        );
    }
}

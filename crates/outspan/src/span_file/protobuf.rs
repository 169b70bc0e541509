//! Protobuf files: one request, or records with their length in front.
//!
//! ```text
//! file   = record*
//! record = length (4 bytes, big-endian, of what follows) message
//! message = ExportTraceServiceRequest in protobuf, or a Zstandard frame that holds one (in protobuf or in JSON)
//! ```
//!
//! Source: what the OpenTelemetry Collector's `file` exporter writes with `format: proto`, and with `compression: zstd`.

use std::io;
use std::io::Read;

use super::Fault;
use super::Format;
use super::Position;
use super::RawRecord;
use super::source::Source;
use super::source::is_zstd;

/// Reads a file that is one request.
pub(super) fn read_request(
    source: &mut Source,
    bytes_max: usize,
) -> Result<Option<RawRecord>, Fault> {
    let mut record = RawRecord::at_byte(0);
    read_bounded(source, bytes_max, &mut record.bytes)?;
    if record.bytes.is_empty() {
        return Ok(None);
    }
    Ok(Some(record))
}

fn read_bounded(source: &mut impl Read, bytes_max: usize, into: &mut Vec<u8>) -> Result<(), Fault> {
    let limit = (bytes_max as u64).saturating_add(1);
    source.take(limit).read_to_end(into).map_err(Fault::Io)?;
    if into.len() > bytes_max {
        return Err(Fault::TooLongToGoOn);
    }
    Ok(())
}

/// The records of a file with lengths.
pub(super) struct ProtobufRecords {
    source: Source,
    bytes_max: usize,
    byte: u64,
}

impl ProtobufRecords {
    pub(super) fn new(source: Source, record_bytes_max: usize) -> Self {
        Self {
            source,
            bytes_max: record_bytes_max,
            byte: 0,
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<RawRecord>, Fault> {
        let position = Position::at_byte(self.byte);
        let Some(length) = self.read_length(position)? else {
            return Ok(None);
        };
        // Errors count from the start of the message.
        let mut record = RawRecord::at_byte(self.byte);
        if usize::try_from(length).map_or(true, |length| length > self.bytes_max) {
            self.pass_over(length, position)?;
            return Err(Fault::TooLong(position));
        }
        let read = self.read_up_to(length, &mut record.bytes)?;
        if read < u64::from(length) {
            return Err(Fault::cut_off(position, length, read));
        }
        record.decompress(self.bytes_max)?;
        Ok(Some(record))
    }

    fn read_length(&mut self, position: Position) -> Result<Option<u32>, Fault> {
        let mut length = Vec::with_capacity(4);
        let read = self.read_up_to(4, &mut length)?;
        match <[u8; 4]>::try_from(length) {
            Ok(length) => Ok(Some(u32::from_be_bytes(length))),
            Err(_) if read == 0 => Ok(None),
            Err(_) => Err(Fault::cut_off(position, 4, read)),
        }
    }

    /// Reads, and grows `into`, as bytes come: a length alone reserves no memory.
    fn read_up_to(&mut self, length: u32, into: &mut Vec<u8>) -> Result<u64, Fault> {
        let mut part = self.source.by_ref().take(u64::from(length));
        let read = part.read_to_end(into).map_err(Fault::Io)? as u64;
        self.byte += read;
        Ok(read)
    }

    fn pass_over(&mut self, length: u32, position: Position) -> Result<(), Fault> {
        let mut part = self.source.by_ref().take(u64::from(length));
        let read = io::copy(&mut part, &mut io::sink()).map_err(Fault::Io)?;
        self.byte += read;
        if read < u64::from(length) {
            return Err(Fault::cut_off(position, length, read));
        }
        Ok(())
    }
}

impl RawRecord {
    fn at_byte(byte: u64) -> Self {
        Self::new(Format::Protobuf, Position::at_byte(byte))
    }

    /// Takes the message out of its frame, if it is in one, and finds out whether it is JSON.
    fn decompress(&mut self, bytes_max: usize) -> Result<(), Fault> {
        if is_zstd(&self.bytes) {
            let mut plain = Vec::new();
            let frame = zstd::Decoder::with_buffer(self.bytes.as_slice());
            let mut frame = frame.map_err(|e| Fault::Frame(self.position, e))?;
            match read_bounded(&mut frame, bytes_max, &mut plain) {
                Ok(()) => {}
                Err(Fault::Io(e)) => return Err(Fault::Frame(self.position, e)),
                Err(_) => return Err(Fault::TooLong(self.position)),
            }
            drop(frame);
            self.bytes = plain;
        }
        if self.bytes.first() == Some(&b'{') {
            self.format = Format::Json;
        }
        Ok(())
    }
}

//! Batches as they stand in files of each format.
//!
//! ```text
//! otlp-json            JSON line feed, ...              zipkin-json    [span, span, ...]
//! otlp-proto           request, ... (which is one)      zipkin-proto   list, ... (which is one)
//! otlp-proto-records   length request, ...              jaeger-thrift  batch, ...
//!                                                       jaeger-json    {"data":[trace, trace, ...]}
//! ```

use std::io;
use std::io::Write;

use outspan::Batch;
use outspan::wire::Piece;
use outspan::wire::PieceContent;
use outspan::wire::jaeger;
use outspan::wire::otlp::WireError;
use outspan::wire::zipkin;

use crate::arguments::Dialect;
use crate::arguments::FileFormat;

/// The largest batch that is turned at once.
const BATCH_BYTES: usize = 1 << 20;

/// The largest message that is written: what readers take, ours among them.
const MESSAGE_BYTES: usize = 64 << 20;

/// Encodes batches in one format.
#[derive(Debug)]
pub(super) struct Encoder {
    kind: Kind,
    /// Whether something stands before what is written next.
    has_begun: bool,
}

#[derive(Debug)]
enum Kind {
    OtlpJson,
    OtlpProto,
    OtlpProtoRecords,
    Zipkin(Box<zipkin::Writer>, zipkin::Format),
    JaegerThrift(Box<jaeger::Writer>),
    JaegerJson,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) spans: u64,
    /// Why the first of those was left out that are missing.
    pub(super) first_left_out: Option<String>,
}

impl Encoder {
    pub(super) fn new(format: FileFormat, dialect: Dialect) -> Self {
        let zipkin = |format| {
            let options = zipkin::WriteOptions::default()
                .format(format)
                .dialect(match dialect {
                    Dialect::Opentelemetry => zipkin::Dialect::Specification,
                    Dialect::Collector => zipkin::Dialect::Collector,
                })
                .bytes_max(MESSAGE_BYTES);
            Kind::Zipkin(Box::new(zipkin::Writer::new(options)), format)
        };
        let kind = match format {
            FileFormat::OtlpJson => Kind::OtlpJson,
            FileFormat::OtlpProto => Kind::OtlpProto,
            FileFormat::OtlpProtoRecords => Kind::OtlpProtoRecords,
            FileFormat::ZipkinJson => zipkin(zipkin::Format::Json),
            FileFormat::ZipkinProto => zipkin(zipkin::Format::Protobuf),
            FileFormat::JaegerThrift => {
                let options = jaeger::WriteOptions::default()
                    .dialect(match dialect {
                        Dialect::Opentelemetry => jaeger::Dialect::OpenTelemetry,
                        Dialect::Collector => jaeger::Dialect::Collector,
                    })
                    .protocol(jaeger::Protocol::Binary)
                    .envelope(jaeger::Envelope::Batch)
                    .bytes_max(MESSAGE_BYTES);
                Kind::JaegerThrift(Box::new(jaeger::Writer::new(options)))
            }
            FileFormat::JaegerJson => Kind::JaegerJson,
        };
        Self {
            kind,
            has_begun: false,
        }
    }

    /// Writes a batch.
    ///
    /// # Errors
    ///
    /// What the output says.
    pub(super) fn write(&mut self, batch: &Batch, out: &mut impl Write) -> io::Result<Written> {
        let mut written = Written::default();
        for part in batch.split_by_bytes(BATCH_BYTES) {
            if !part.is_empty() {
                self.write_part(&part, &mut written, out)?;
            }
        }
        Ok(written)
    }

    fn write_part(
        &mut self,
        batch: &Batch,
        written: &mut Written,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let request = batch.as_request();
        match &mut self.kind {
            Kind::OtlpJson => {
                out.write_all(&batch.to_json())?;
                out.write_all(b"\n")?;
            }
            Kind::OtlpProto => out.write_all(request)?,
            Kind::OtlpProtoRecords => {
                let length = u32::try_from(request.len()).map_err(io::Error::other)?;
                out.write_all(&length.to_be_bytes())?;
                out.write_all(request)?;
            }
            Kind::Zipkin(writer, format) => {
                let is_array = *format == zipkin::Format::Json;
                let has_begun = &mut self.has_begun;
                return write_pieces(writer.pieces(request), written, |message| match is_array {
                    true => write_elements(inside_of(message), b"[", has_begun, out),
                    false => out.write_all(message),
                });
            }
            Kind::JaegerThrift(writer) => {
                return write_pieces(writer.pieces(request), written, |message| {
                    out.write_all(message)
                });
            }
            Kind::JaegerJson => {
                let text = jaeger::write_query_json(request).map_err(io::Error::other)?;
                let traces = traces_of(&text);
                write_elements(traces, DATA_START, &mut self.has_begun, out)?;
            }
        }
        written.spans += batch.spans() as u64;
        Ok(())
    }

    /// Writes what belongs behind the last batch.
    ///
    /// # Errors
    ///
    /// What the output says.
    pub(super) fn finish(&mut self, out: &mut impl Write) -> io::Result<()> {
        let (start, end): (&[u8], &[u8]) = match &self.kind {
            Kind::Zipkin(_, zipkin::Format::Json) => (b"[", b"]\n"),
            Kind::JaegerJson => (DATA_START, b"]}\n"),
            _ => return Ok(()),
        };
        if !self.has_begun {
            out.write_all(start)?;
        }
        out.write_all(end)
    }
}

/// An array without its brackets.
fn inside_of(array: &[u8]) -> &[u8] {
    let inside = array.strip_prefix(b"[").unwrap_or_default();
    inside.strip_suffix(b"]").unwrap_or_default()
}

/// What the traces of Jaeger's query stand in.
const DATA_START: &[u8] = b"{\"data\":[";
const DATA_END: &[u8] = b"],\"total\":";

/// The traces of an answer of Jaeger's query, without what they stand in.
fn traces_of(answer: &[u8]) -> &[u8] {
    let traces = answer.strip_prefix(DATA_START).unwrap_or_default();
    // Inside of a text the quotes would be escaped.
    let end = traces
        .windows(DATA_END.len())
        .rposition(|window| window == DATA_END);
    end.and_then(|end| traces.get(..end)).unwrap_or_default()
}

/// Writes the inside of an array, behind `start` or those that stand there.
fn write_elements(
    inside: &[u8],
    start: &[u8],
    has_begun: &mut bool,
    out: &mut impl Write,
) -> io::Result<()> {
    if inside.is_empty() {
        return Ok(());
    }
    out.write_all(match *has_begun {
        true => b",\n",
        false => start,
    })?;
    *has_begun = true;
    out.write_all(inside)
}

fn write_pieces(
    pieces: impl Iterator<Item = Result<Piece, WireError>>,
    written: &mut Written,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    for piece in pieces {
        let piece = piece.map_err(io::Error::other)?;
        match &piece.content {
            PieceContent::Bytes(message) => {
                write(message)?;
                written.spans += piece.spans.len() as u64;
            }
            _ => {
                written
                    .first_left_out
                    .get_or_insert_with(|| format!("a span is larger than {MESSAGE_BYTES} bytes"));
            }
        }
    }
    Ok(())
}

//! Reading spans from files.

mod documents;
mod json;
mod look;
mod messages;
mod objects;
mod protobuf;
mod record;
mod source;

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use self::documents::Documents;
use self::json::JsonTexts;
use self::look::Look;
use self::messages::ThriftBatches;
use self::messages::ZipkinMessages;
use self::objects::Objects;
use self::protobuf::ProtobufRecords;
use self::record::RawRecord;
use self::source::Source;
use crate::Checked;
use crate::Compression;
use crate::Error;
use crate::Result;

/// Reads spans from a file, or from anything else that can be read, record by record.
///
/// It finds out by itself what the file is: OTLP JSON (one object a line, or one object on many lines), one OTLP request
/// in protobuf, or protobuf records with their length in front, as [`json_lines`](crate::file::json_lines) and
/// [`protobuf`](crate::file::protobuf) and the OpenTelemetry Collector's file exporter write them; spans of Zipkin v2 in JSON
/// or protobuf; batches of Jaeger in Thrift, or traces as Jaeger's query gives them out; each of them as it is or inside gzip
/// or Zstandard, of any number of members or frames. [`Format`] says more about each. What is not OTLP is turned into OTLP.
///
/// It holds one record at a time, at most [`record_bytes_max`](ReadOptions::record_bytes_max) bytes of it, however large
/// the file is and however small it was compressed. It reads no further than it must, so a pipe that is still being
/// written to is served record by record. Reading blocks; give it a thread.
///
/// As an iterator it yields every record, good or bad. A bad record does not stop the rest where the next one can be
/// found: [`Refused`](crate::ErrorKind::Refused) or [`TooLarge`](crate::ErrorKind::TooLarge) errors say which record it
/// was and what is wrong with it, with file, line and column, or byte. After an error that ends the file, such as a read
/// error, it yields `None`, and [`is_cut_short`](Self::is_cut_short) tells that there may have been more.
///
/// # Examples
///
/// ```
/// use outspan::file::ReadOptions;
/// use outspan::file::SpanFile;
///
/// let text = br#"{"resourceSpans":[]}"#;
/// let mut file = SpanFile::open(&text[..], ReadOptions::default().name("nothing.jsonl"))?;
/// let record = file.next().expect("there is one record")?;
/// assert_eq!(record.checked.batch.spans(), 0);
/// assert_eq!(record.position.to_string(), "line 1");
/// assert!(file.next().is_none());
/// # Ok::<(), outspan::Error>(())
/// ```
pub struct SpanFile {
    name: String,
    format: Format,
    compression: Compression,
    record_bytes_max: usize,
    records: Records,
    consumed: Arc<AtomicU64>,
    /// Parts of a record that is not right as a whole, to be read one by one.
    parts: VecDeque<RawRecord>,
    /// JSON that is not one object, to be read piece by piece.
    documents: Option<Documents>,
    is_done: bool,
    is_cut_short: bool,
}

/// Says how to read a span file.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    name: Option<String>,
    format: Option<Format>,
    record_bytes_max: usize,
}

/// Names what a span file is, inside its compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// OTLP JSON: one object a line, or objects that go over many lines. Several objects on one line are read as well, and
    /// what stands between objects is a bad record of its own.
    Json,
    /// One `ExportTraceServiceRequest`, or several one after the other, which is the same.
    Protobuf,
    /// `ExportTraceServiceRequest`s, each with its length in front: four bytes, big-endian.
    ProtobufRecords,
    /// Spans of Zipkin v2 in JSON: an array, an array a line, an array of arrays as Zipkin's query gives it out, or a span a
    /// line. Some 64 KiB of an array make a record.
    ZipkinJson,
    /// Spans of Zipkin v2 in protobuf: a `ListOfSpans`, or several one after the other, which is the same. Some 64 KiB make a
    /// record.
    ZipkinProtobuf,
    /// Batches of Jaeger in Thrift's binary protocol, one after the other; each is a record.
    JaegerThrift,
    /// Traces as Jaeger's query service gives them out: in the `data` of an answer, in an array, alone, or one a line. Each
    /// is a record.
    JaegerJson,
}

/// Tells where in a file a record begins, compression removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Position {
    /// The line, counted from 1; only text has lines.
    pub line: Option<u64>,
    /// How many bytes are before it.
    pub byte: u64,
}

/// Holds the spans of one record of a file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// The valid spans, and how many were left out.
    pub checked: Checked,
    /// Where it begins.
    pub position: Position,
    /// How many bytes it has in the file, compression removed.
    pub bytes: usize,
}

enum Records {
    Json(JsonTexts),
    Request(Source),
    Lengths(ProtobufRecords),
    Objects(Objects),
    Zipkin(ZipkinMessages),
    Thrift(ThriftBatches),
}

/// What keeps a record from being read.
#[derive(Debug)]
enum Fault {
    Io(io::Error),
    /// The record goes on; the next one was found.
    TooLong(Position),
    /// The file is one record.
    TooLongToGoOn,
    /// The file ends inside a record.
    CutOff {
        position: Position,
        length: u32,
        read: u64,
    },
    /// The file ends inside something whose length nobody said.
    Unfinished(Position),
    /// Where a record could begin is something else; the next line was found.
    Stray(Position, u8),
    /// What is there is no record; where the next one begins is not known.
    Malformed(Position, String),
    /// A record's own compression is broken; the next one was found.
    Frame(Position, io::Error),
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            name: None,
            format: None,
            record_bytes_max: 64 * 1024 * 1024,
        }
    }
}

impl ReadOptions {
    /// Sets what errors call the file. [`SpanFile::open_path`] sets it to the path.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the format, instead of finding it out. The compression is found out all the same.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// Sets how many bytes one record may have. The default is 64 MiB, the largest request of OTLP. Where spans are gathered
    /// (Zipkin's), it is what one span may have, and a record has twice as much at most.
    ///
    /// Above 160 MiB, set the format as well: records with a length begin like a request then.
    #[must_use]
    pub fn record_bytes_max(mut self, bytes: usize) -> Self {
        self.record_bytes_max = bytes;
        self
    }
}

impl SpanFile {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) if it cannot be opened or is no span file; it names the file.
    pub fn open_path(path: impl AsRef<Path>, options: ReadOptions) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let file = File::open(path)
            .map_err(|e| Error::config(format!("cannot open {name}")).with_source(e))?;
        if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(Error::config(format!(
                "cannot read spans from {name}: it is a directory; name a file in it"
            )));
        }
        let name = options.name.clone().unwrap_or(name);
        Self::open(file, options.name(name))
    }

    /// Reads from anything, such as standard input. Reads as much as it takes to know the format.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) if it is no span file, [`Unavailable`](crate::ErrorKind::Unavailable) if it
    /// cannot be read or decompressed.
    pub fn open(source: impl Read + Send + 'static, options: ReadOptions) -> Result<Self> {
        let name = options.name.unwrap_or_else(|| "the span file".to_owned());
        let consumed = Arc::<AtomicU64>::default();
        let bytes_max = options.record_bytes_max;
        let opened = source::open(source, Arc::clone(&consumed), options.format, bytes_max)
            .map_err(|e| unreadable(&name, e))?;
        let format = match opened.look {
            Look::Known(format) => format,
            unknown => return Err(no_span_file(&name, unknown)),
        };
        let records = match format {
            Format::Json => Records::Json(JsonTexts::new(opened.source, bytes_max)),
            Format::Protobuf => Records::Request(opened.source),
            Format::ProtobufRecords => {
                Records::Lengths(ProtobufRecords::new(opened.source, bytes_max))
            }
            Format::ZipkinJson | Format::JaegerJson => {
                Records::Objects(Objects::new(opened.source, format, bytes_max))
            }
            Format::ZipkinProtobuf => {
                Records::Zipkin(ZipkinMessages::new(opened.source, bytes_max))
            }
            Format::JaegerThrift => Records::Thrift(ThriftBatches::new(opened.source, bytes_max)),
        };
        Ok(Self {
            name,
            format,
            compression: opened.compression,
            record_bytes_max: bytes_max,
            records,
            consumed,
            parts: VecDeque::new(),
            documents: None,
            is_done: false,
            is_cut_short: false,
        })
    }

    /// What errors call the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the file is, inside its compression.
    pub fn format(&self) -> Format {
        self.format
    }

    /// What the file is compressed with.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// How many bytes were read from the outside so far, compressed as they are there: what a progress bar compares with
    /// the size of the file.
    pub fn bytes_read(&self) -> u64 {
        self.consumed.load(Ordering::Relaxed)
    }

    /// Whether an error ended the file, so that there may have been more records.
    pub fn is_cut_short(&self) -> bool {
        self.is_cut_short
    }

    fn next_raw(&mut self) -> Result<Option<RawRecord>, Fault> {
        match &mut self.records {
            Records::Json(texts) => texts.next(),
            Records::Lengths(records) => records.next(),
            Records::Objects(objects) => objects.next(),
            Records::Zipkin(messages) => messages.next(),
            Records::Thrift(batches) => batches.next(),
            Records::Request(source) => {
                self.is_done = true;
                protobuf::read_request(source, self.record_bytes_max)
            }
        }
    }

    /// Reads a record. One of several parts that is wrong is read part by part, so that only what is wrong is left out.
    fn check(&mut self, raw: RawRecord) -> Result<Record> {
        if raw.format == Format::Json {
            return self.check_json(raw);
        }
        if !raw.has_many_parts() {
            return raw.check(&self.name);
        }
        if let Ok(record) = raw.check_all(&self.name) {
            return Ok(record);
        }
        self.parts = raw.into_parts();
        match self.parts.pop_front() {
            Some(first) => first.check(&self.name),
            None => Err(Error::internal("a record of many parts has none")),
        }
    }

    /// Reads a record of OTLP JSON. One that is several objects, or holds something else as well, is read piece by piece.
    fn check_json(&mut self, raw: RawRecord) -> Result<Record> {
        let (position, bytes) = (raw.position, raw.bytes.len());
        let error = match raw.check_json(&self.name) {
            Ok(checked) => {
                return Ok(Record {
                    checked,
                    position,
                    bytes,
                });
            }
            Err(error) => error,
        };
        let mut documents = Documents::new(raw);
        if documents.is_one_piece() {
            return Err(error);
        }
        let first = documents.next();
        self.documents = Some(documents);
        match first {
            Some(first) => first.check(&self.name),
            None => Err(error),
        }
    }

    fn bad(&self, position: Position, what: &str) -> Error {
        Error::refused(format!("{}, {position}: {what}", self.name))
    }

    /// Puts a fault into words, and ends the file where the next record cannot be found.
    fn explain(&mut self, fault: Fault) -> Error {
        let name = &self.name;
        let bytes_max = self.record_bytes_max;
        match fault {
            Fault::TooLong(position) => Error::too_large(format!(
                "{name}, {position}: the record is longer than {bytes_max} bytes; write smaller records or raise the limit"
            )),
            Fault::Frame(position, e) => self
                .bad(position, "the record cannot be decompressed")
                .with_source(e),
            Fault::TooLongToGoOn => {
                self.end();
                Error::too_large(format!(
                    "{}: the request is longer than {bytes_max} bytes; write it as several or raise the limit",
                    self.name
                ))
            }
            Fault::CutOff {
                position,
                length,
                read,
            } => {
                self.end();
                self.bad(
                    position,
                    &format!(
                        "the file ends after {read} of {length} bytes of a record; whoever wrote it was interrupted or is still writing"
                    ),
                )
            }
            Fault::Unfinished(position) => {
                self.end();
                self.bad(
                    position,
                    "the file ends inside what begins here; whoever wrote it was interrupted or is still writing",
                )
            }
            Fault::Stray(position, byte) => self.bad(
                position,
                &format!(
                    "not valid {}: it does not begin with \"{}\"; went on with the next line",
                    self.format,
                    byte.escape_ascii()
                ),
            ),
            Fault::Malformed(position, why) => {
                self.end();
                self.bad(position, &format!("not valid {}: {why}", self.format))
            }
            Fault::Io(e) => {
                self.end();
                unreadable(&self.name, e)
            }
        }
    }

    fn end(&mut self) {
        self.is_done = true;
        self.is_cut_short = true;
    }
}

impl Iterator for SpanFile {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(part) = self.parts.pop_front() {
            return Some(part.check(&self.name));
        }
        if let Some(documents) = &mut self.documents {
            match documents.next() {
                Some(piece) => return Some(piece.check(&self.name)),
                None => self.documents = None,
            }
        }
        if self.is_done {
            return None;
        }
        match self.next_raw() {
            Ok(Some(raw)) => Some(self.check(raw)),
            Ok(None) => {
                self.is_done = true;
                None
            }
            Err(fault) => Some(Err(self.explain(fault))),
        }
    }
}

impl fmt::Debug for SpanFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanFile")
            .field("name", &self.name)
            .field("format", &self.format)
            .field("compression", &self.compression)
            .field("bytes_read", &self.bytes_read())
            .finish_non_exhaustive()
    }
}

impl Position {
    fn at_byte(byte: u64) -> Self {
        Self { line: None, byte }
    }

    fn start_of_text() -> Self {
        Self {
            line: Some(1),
            byte: 0,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}"),
            None => write!(f, "byte {}", self.byte),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "OTLP JSON",
            Self::Protobuf => "OTLP protobuf",
            Self::ProtobufRecords => "OTLP protobuf records",
            Self::ZipkinJson => "Zipkin JSON",
            Self::ZipkinProtobuf => "Zipkin protobuf",
            Self::JaegerThrift => "Jaeger Thrift",
            Self::JaegerJson => "Jaeger JSON",
        })
    }
}

impl Fault {
    fn cut_off(position: Position, length: u32, read: u64) -> Self {
        Self::CutOff {
            position,
            length,
            read,
        }
    }
}

fn unreadable(name: &str, error: io::Error) -> Error {
    let what = match error.kind() {
        io::ErrorKind::UnexpectedEof => format!(
            "{name}: the compressed data ends early; whoever wrote it was interrupted or is still writing, what came before was read"
        ),
        _ => format!("cannot read {name}"),
    };
    Error::unavailable(what)
        .with_temporary(false)
        .with_source(error)
}

fn no_span_file(name: &str, look: Look) -> Error {
    const EXPECTED: &str = "expected OTLP JSON (one object a line, or one object), an OTLP request in protobuf, protobuf records with a length of four bytes, \
         Zipkin's spans in JSON or protobuf, Jaeger's batches in Thrift, or traces of Jaeger's query in JSON; each may be inside gzip or zstd";
    let found = match look {
        Look::Utf16 => "it is UTF-16 text; convert it to UTF-8".to_owned(),
        Look::Unknown([b'[', ..]) => {
            "it begins with a JSON array of neither Zipkin's spans nor Jaeger's traces; write one OTLP request object a line".to_owned()
        }
        Look::Unknown(first) => format!("it begins with \"{}\"; {EXPECTED}", first.escape_ascii()),
        Look::Known(_) => EXPECTED.to_owned(),
    };
    Error::config(format!("{name} is no span file: {found}"))
}

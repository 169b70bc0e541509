//! Zipkin to OTLP.

mod assemble;
mod json;
mod meaning;
mod parts;
mod protobuf;
mod text;
mod value;

use self::assemble::Assembler;
use crate::ReadRequest;
use crate::otlp::WireError;
use crate::otlp::WireErrorKind;

/// What a tag or an annotation takes at most while a span is read: its place in a list that grows by doubling, and in the
/// table of keys.
const ENTRY_BYTES: usize = 288;

/// Bounds what a reader accepts, beyond what the size of its input bounds anyway.
///
/// What a reader makes is a small multiple of its input, whatever stands in it.
///
/// # Examples
///
/// ```
/// use outspan_wire::zipkin::ReadLimits;
///
/// let limits = ReadLimits::default().bytes_max(4 << 20);
/// assert_eq!(limits.spans_max, 1 << 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadLimits {
    /// How many bytes the input may have. The default is 64 MiB, as much as a request to an OTLP receiver usually may.
    pub bytes_max: usize,
    /// How many spans it may hold. The default is 1048576, far beyond what fits into one request of any sender.
    pub spans_max: usize,
    /// How many tags and annotations a span may have together. The default is 65536.
    pub entries_per_span_max: usize,
    /// How many bytes of memory reading may take besides the input, in all. The default is no bound of its own.
    ///
    /// The request that is returned takes up to half of it. Fewer tags and annotations than
    /// [`entries_per_span_max`](Self::entries_per_span_max) are read where their list would take more.
    pub memory_max: usize,
}

impl ReadLimits {
    /// Sets how many bytes the input may have.
    #[must_use]
    pub fn bytes_max(mut self, bytes_max: usize) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// Sets how many spans it may hold.
    #[must_use]
    pub fn spans_max(mut self, spans_max: usize) -> Self {
        self.spans_max = spans_max;
        self
    }

    /// Sets how many tags and annotations a span may have together.
    #[must_use]
    pub fn entries_per_span_max(mut self, entries_per_span_max: usize) -> Self {
        self.entries_per_span_max = entries_per_span_max;
        self
    }

    /// Sets how many bytes of memory reading may take besides the input.
    #[must_use]
    pub fn memory_max(mut self, memory_max: usize) -> Self {
        self.memory_max = memory_max;
        self
    }

    /// The same with no more entries than there is memory for.
    fn within_memory(mut self) -> Self {
        let entries = self.memory_max / ENTRY_BYTES;
        self.entries_per_span_max = self.entries_per_span_max.min(entries);
        self
    }

    fn check_bytes(&self, input: &[u8]) -> Result<(), WireError> {
        if input.len() <= self.bytes_max {
            return Ok(());
        }
        Err(limit_error(
            self.bytes_max,
            format!(
                "{} bytes are more than the {} allowed",
                input.len(),
                self.bytes_max
            ),
        ))
    }
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            bytes_max: 64 << 20,
            spans_max: 1 << 20,
            entries_per_span_max: 1 << 16,
            memory_max: usize::MAX,
        }
    }
}

/// Reads a JSON array of Zipkin v2 spans: the body of `POST /api/v2/spans`, or what a Zipkin server's query API answers.
///
/// Both dialects are understood, tags of ours included. Beyond the format it understands what real clients write:
///
/// - times with a fraction, which is cut off, and times as strings; zero and negative times count as absent;
/// - ids in any letter case, and shorter than 16 digits; 64-bit trace ids;
/// - `null` for any key, unknown keys at every level, tags that are numbers, truth values, lists or maps, which keep their type;
/// - halves of UTF-16 surrogate pairs (which become U+FFFD) and a byte order mark;
/// - traces in an array each, as `GET /api/v2/traces` answers; one span without an array; no text at all, which is no span.
///
/// A span whose trace id or span id is absent, zero or too long is left out and counted, for OTLP has no such spans.
///
/// # Errors
///
/// Says what is wrong at which line, column and byte: text that is no JSON, values of a wrong type, ids that are not
/// hexadecimal, more than the limits allow. Zipkin v1 is refused as what it is ([`WireErrorKind::Version`]).
///
/// # Examples
///
/// ```
/// use outspan_wire::zipkin::ReadLimits;
/// use outspan_wire::zipkin::read_json;
///
/// let text = br#"[{"traceId":"1","id":"2","name":"get","tags":{"http.path":"/"}}]"#;
/// let request = read_json(text, &ReadLimits::default())?;
/// assert_eq!(request.spans, 1);
/// # Ok::<(), outspan_wire::otlp::WireError>(())
/// ```
pub fn read_json(text: &[u8], limits: &ReadLimits) -> Result<ReadRequest, WireError> {
    limits.check_bytes(text)?;
    let limits = limits.within_memory();
    let mut assembler = Assembler::new(limits.memory_max);
    json::read(text, &limits, &mut assembler)?;
    assembler.finish()
}

/// Reads a `ListOfSpans` of `zipkin.proto`: the body of `POST /api/v2/spans` with `application/x-protobuf`.
///
/// Both dialects are understood, tags of ours included. Trace ids may have 8 or 16 bytes, a parent's id of zeros counts as
/// absent, and unknown fields are passed over. A span whose trace id or span id is absent, zero or of another length is left
/// out and counted.
///
/// # Errors
///
/// Says what is wrong at which byte: bytes that are no protobuf, fields of a wrong type, text that is not UTF-8, more than
/// the limits allow.
pub fn read_protobuf(bytes: &[u8], limits: &ReadLimits) -> Result<ReadRequest, WireError> {
    limits.check_bytes(bytes)?;
    let limits = limits.within_memory();
    let mut assembler = Assembler::new(limits.memory_max);
    protobuf::read(bytes, &limits, &mut assembler)?;
    assembler.finish()
}

#[cold]
fn limit_error(offset: usize, detail: String) -> WireError {
    WireError::new(WireErrorKind::Limit, offset, String::new(), String::new()).saying(detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PieceContent;
    use crate::zipkin::WriteOptions;
    use crate::zipkin::Writer;

    fn span(id: &str, tags: &str) -> String {
        format!(r#"{{"traceId":"1","id":"{id}","tags":{{{tags}}}}}"#)
    }

    /// Reads spans, and writes them again, without the brackets around them.
    fn copy(spans: &[&str]) -> String {
        let text = format!("[{}]", spans.join(","));
        let request = read_json(text.as_bytes(), &ReadLimits::default()).expect("spans");
        let mut writer = Writer::new(WriteOptions::default());
        let mut copy = String::new();
        for piece in writer.pieces(&request.bytes) {
            let PieceContent::Bytes(bytes) = piece.expect("a valid request").content else {
                panic!("no span is too large");
            };
            copy.push_str(std::str::from_utf8(&bytes).expect("JSON is UTF-8"));
        }
        copy.trim_matches(['[', ']']).to_owned()
    }

    fn sorted(spans: &str) -> Vec<&str> {
        let mut spans: Vec<&str> = spans
            .split(r#"{"traceId""#)
            .map(|span| span.trim_end_matches(','))
            .collect();
        spans.sort_unstable();
        spans
    }

    #[test]
    fn what_a_span_says_does_not_depend_on_the_span_before() {
        let tags = [
            "",
            r#""a":"1""#,
            r#""a":"1","b":"2""#,
            r#""a":"9","b":"2""#,
            r#""a":"1","b":"2","a":"3""#,
            r#""a":"1","b":"2","a":"3","b":"2""#,
            r#""b":"1","a":"2""#,
            r#""a":1,"b":[2]"#,
            r#""a" : "1" , "b" : "2""#,
            r#""\u0061":"1","b":"2""#,
            r#""a":"1","b":"2","outspan.otlp":"int=a""#,
            r#""a":"9","b":"2","outspan.otlp":"int=a""#,
            r#""outspan.otlp":"int=b","b":"2""#,
            r#""outspan.otlp":"","b":"2""#,
            r#""a":"1","b":"2"},"tags":{"a":"1","b":"2""#,
            r#""a":"1"},"tags":{"b":"2","a":"1""#,
            r#""a":"1","b":"2","outspan.otlp":"int=b flags=1""#,
            r#""a":"1","b":"2","outspan.otlp":"a resource: dropped=2 b""#,
            r#""a":"1","b":"2","error":"no""#,
            r#""a":"1","b":"2","error":"false""#,
            r#""otel.scope.name":"a","otel.library.name":"a""#,
            r#""otel.scope.name":"a","otel.library.name":"b""#,
            r#""otel.library.name":"a""#,
        ];
        let invalid: Vec<String> = tags.iter().map(|tags| span("0", tags)).collect();
        let valid: Vec<String> = tags.iter().map(|tags| span("2", tags)).collect();
        for first in &valid {
            for (second, invalid) in valid.iter().zip(&invalid) {
                let expected = format!("{},{}", copy(&[first]), copy(&[second]));
                assert_eq!(copy(&[first, second]), expected);
                assert_eq!(copy(&[first, invalid, second]), expected);
                assert_eq!(copy(&[invalid, first, second]), expected);
                for third in &valid {
                    let expected = format!("{expected},{}", copy(&[third]));
                    // Spans of one resource come together.
                    assert_eq!(sorted(&copy(&[first, second, third])), sorted(&expected));
                }
            }
        }
    }
}

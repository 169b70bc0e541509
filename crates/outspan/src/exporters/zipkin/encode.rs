//! Bodies of requests: JSON arrays or lists in protobuf, each within the limit.

use outspan_wire::zipkin::WriteOptions;
use outspan_wire::zipkin::Writer;

use crate::Batch;
use crate::Result;
use crate::net::Compressor;
use crate::net::Message;
use crate::net::messages_of;

/// How much memory [`messages`] takes: the messages, and the two that the writer works on.
pub(super) fn memory(part: &Batch, limit: usize) -> usize {
    /// What a byte of a request becomes at most, control characters included.
    const TIMES: usize = 8;

    let spread = part.spread_size().saturating_mul(TIMES);
    limit.saturating_mul(4).min(spread)
}

/// Writes spans of a batch, from the number `first` on, as requests of at most `limit` bytes: so many requests that they
/// have about that many bytes together.
pub(super) fn messages(
    part: &Batch,
    first: usize,
    options: WriteOptions,
    limit: usize,
    compressor: Compressor,
) -> Result<Vec<Message>> {
    let mut writer = Writer::new(options.bytes_max(limit));
    let pieces = writer.pieces_from(part.as_request(), first);
    messages_of(part, pieces, limit, compressor)
}

#[cfg(test)]
mod tests {
    use outspan_wire::otlp::EncodeSpan;
    use outspan_wire::otlp::EncodedResource;
    use outspan_wire::otlp::Encoder;
    use outspan_wire::otlp::ScopeWriter;
    use outspan_wire::otlp::SpanWriter;

    use super::*;
    use crate::Compression;

    struct Span(u64);

    impl EncodeSpan for Span {
        fn encode_scope(&self, _: &mut ScopeWriter<'_>) {}

        fn encode(&self, span: &mut SpanWriter<'_>) {
            span.trace_id([1; 16]);
            span.span_id(self.0.to_be_bytes());
        }
    }

    #[test]
    fn a_call_writes_a_few_messages_however_small_they_become() {
        let text = "a".repeat(100_000);
        let resource = EncodedResource::new(|resource| resource.attribute("a", text.as_str()));
        let mut encoder = Encoder::default();
        for number in 1..=900 {
            encoder.push(&resource, &Span(number));
        }
        let request = encoder.finish().unwrap();
        let batch = Batch::trusted(request.bytes, request.spans);
        let compressor = Compressor {
            compression: Compression::Gzip,
            level: 6,
        };
        // One span in each message; none fits.
        for (limit, count) in [(150_000, 4..=7), (50_000, 1..=64)] {
            let options = WriteOptions::default();
            let messages = messages(&batch, 0, options, limit, compressor).unwrap();
            assert!(count.contains(&messages.len()), "{}", messages.len());
        }
    }
}

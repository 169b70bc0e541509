//! Any bytes as Jaeger's Thrift struct `Batch`, binary and compact: nothing panics, what is read is a valid request, and what
//! is written of that is read again with as many spans.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outspan_wire::PieceContent;
use outspan_wire::jaeger::Protocol;
use outspan_wire::jaeger::ReadLimits;
use outspan_wire::jaeger::WriteOptions;
use outspan_wire::jaeger::Writer;
use outspan_wire::jaeger::read_batch;
use outspan_wire::otlp::validate;

fuzz_target!(|bytes: &[u8]| {
    for protocol in [Protocol::Binary, Protocol::Compact] {
        let Ok(read) = read_batch(bytes, protocol, &ReadLimits::default()) else {
            continue;
        };
        let summary = validate(&read.bytes).expect("what was read is a request");
        assert_eq!((summary.spans, summary.invalid_spans), (read.spans, 0));
        let mut writer = Writer::new(WriteOptions::default().protocol(protocol));
        let mut again = 0;
        for piece in writer.pieces(&read.bytes) {
            match piece.expect("all ids are good").content {
                PieceContent::Bytes(bytes) => {
                    let read = read_batch(&bytes, protocol, &ReadLimits::default());
                    again += read.expect("it was written here").spans;
                }
                _ => again += 1,
            }
        }
        assert_eq!(again, read.spans);
    }
});

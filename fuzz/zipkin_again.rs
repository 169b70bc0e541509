//! What must hold for every request that was read from Zipkin spans.

use outspan_wire::PieceContent;
use outspan_wire::ReadRequest;
use outspan_wire::otlp::validate;
use outspan_wire::zipkin::Dialect;
use outspan_wire::zipkin::Format;
use outspan_wire::zipkin::ReadLimits;
use outspan_wire::zipkin::WriteOptions;
use outspan_wire::zipkin::Writer;
use outspan_wire::zipkin::read_json;
use outspan_wire::zipkin::read_protobuf;

pub(crate) fn check(request: &ReadRequest) {
    let summary = validate(&request.bytes).expect("what is read is a request");
    assert_eq!((summary.spans, summary.invalid_spans), (request.spans, 0));
    for format in [Format::Json, Format::Protobuf] {
        let options = WriteOptions::default().format(format);
        let again = again(options.dialect(Dialect::Collector), request);
        assert_eq!(again.spans, request.spans);

        let once = self::again(options, request);
        assert_eq!((once.spans, once.invalid), (request.spans, 0));
        let twice = self::again(options, &once);
        assert_eq!(once.bytes, twice.bytes);
    }
    // Messages cut at every place hold all spans.
    let mut writer = Writer::new(WriteOptions::default().bytes_max(500));
    let mut spans = 0;
    for piece in writer.pieces(&request.bytes) {
        let piece = piece.expect("its ids are good");
        assert_eq!(piece.spans.start, spans);
        spans = piece.spans.end;
        if let PieceContent::Bytes(bytes) = piece.content {
            assert!(bytes.len() <= 500);
            let read = read_json(&bytes, &ReadLimits::default()).expect("we read what we write");
            assert_eq!(read.spans, piece.spans.len());
        }
    }
    assert_eq!(spans, request.spans);
}

/// Writes a request, and reads it again.
fn again(options: WriteOptions, request: &ReadRequest) -> ReadRequest {
    let mut writer = Writer::new(options.bytes_max(usize::MAX));
    let message = match writer.pieces(&request.bytes).next() {
        None => Default::default(),
        Some(piece) => match piece.expect("its ids are good").content {
            PieceContent::Bytes(bytes) => bytes,
            _ => panic!("nothing is too large"),
        },
    };
    let limits = ReadLimits::default();
    let read = match options.format {
        Format::Protobuf => read_protobuf(&message, &limits),
        _ => read_json(&message, &limits),
    };
    read.expect("we read what we write")
}

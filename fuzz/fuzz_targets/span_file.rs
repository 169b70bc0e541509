//! Reading a span file of any bytes ends, stays within its bounds, and gives valid batches.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use outspan::Batch;
use outspan::file::Format;
use outspan::file::ReadOptions;
use outspan::file::SpanFile;

/// Small, so that the fuzzer finds what is beyond it.
const RECORD_BYTES_MAX: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let options = || ReadOptions::default().record_bytes_max(RECORD_BYTES_MAX);
    read(data, options());
    for format in [
        Format::Json,
        Format::Protobuf,
        Format::ProtobufRecords,
        Format::ZipkinJson,
        Format::ZipkinProtobuf,
        Format::JaegerThrift,
        Format::JaegerJson,
    ] {
        read(data, options().format(format));
    }
});

fn read(data: &[u8], options: ReadOptions) {
    let Ok(mut file) = SpanFile::open(Cursor::new(data.to_vec()), options) else {
        return;
    };
    // Spans of Zipkin are gathered, and a line feed or brackets may come on top.
    let bytes_max = match file.format() {
        Format::ZipkinJson | Format::ZipkinProtobuf => 2 * RECORD_BYTES_MAX,
        _ => RECORD_BYTES_MAX,
    };
    let mut end = 0;
    for record in file.by_ref() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        assert!(record.bytes <= bytes_max + 3, "{} bytes", record.bytes);
        assert!(record.position.byte >= end, "records come in order");
        end = record.position.byte;
        let batch = record.checked.batch;
        let again = Batch::from_request(batch.as_request().clone()).expect("a batch is valid");
        assert_eq!((again.batch.spans(), again.refused), (batch.spans(), 0));
    }
    assert!(file.next().is_none(), "the end is the end");
    assert!(file.bytes_read() <= data.len() as u64);
}

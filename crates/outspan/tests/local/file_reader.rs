//! Spans read from files.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io;
use std::io::BufReader;
use std::io::Cursor;
use std::io::Read;
use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use outspan::Compression;
use outspan::Error;
use outspan::ErrorKind;
use outspan::file::Format;
use outspan::file::ReadOptions;
use outspan::file::Record;
use outspan::file::SpanFile;
use proptest::prelude::*;
use prost::Message;

use crate::golden::everything;
use crate::golden::plain;

fn options() -> ReadOptions {
    ReadOptions::default().name("spans.in")
}

fn open(bytes: impl Into<Vec<u8>>) -> SpanFile {
    SpanFile::open(Cursor::new(bytes.into()), options()).unwrap()
}

fn good(bytes: impl Into<Vec<u8>>) -> Vec<Record> {
    open(bytes).map(Result::unwrap).collect()
}

/// Names of the good records' spans, and texts of the bad ones.
fn read(bytes: impl Into<Vec<u8>>) -> Vec<Result<Vec<String>, String>> {
    open(bytes).map(named).collect()
}

fn named(record: Result<Record, Error>) -> Result<Vec<String>, String> {
    match record {
        Ok(record) => {
            let batch = record.checked.batch;
            Ok(batch.iter().map(|span| span.name().to_owned()).collect())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn one(name: &str) -> ExportTraceServiceRequest {
    plain("shop", &[(1, 1, 0, name)])
}

fn line(name: &str) -> String {
    serde_json::to_string(&one(name)).unwrap()
}

fn record(request: &ExportTraceServiceRequest) -> Vec<u8> {
    let bytes = request.encode_to_vec();
    let mut record = (bytes.len() as u32).to_be_bytes().to_vec();
    record.extend_from_slice(&bytes);
    record
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zstd_frame(plain: &[u8]) -> Vec<u8> {
    zstd::encode_all(plain, 3).unwrap()
}

/// Everything but the numbers that serde writes as `null`.
fn everything_finite() -> ExportTraceServiceRequest {
    let mut request = everything();
    let checkout = &mut request.resource_spans[0].scope_spans[0].spans[0];
    let not_finite = ["nothing.measured", "endless", "list"];
    checkout
        .attributes
        .retain(|attribute| !not_finite.contains(&attribute.key.as_str()));
    request
}

#[test]
fn every_format_in_every_compression_gives_the_same_spans() {
    let requests = [everything_finite(), one("GET /")];
    let lines: String = requests
        .iter()
        .map(|request| serde_json::to_string(request).unwrap() + "\n")
        .collect();
    let documents: String = requests
        .iter()
        .map(|request| serde_json::to_string_pretty(request).unwrap() + "\n")
        .collect();
    let records: Vec<u8> = requests.iter().flat_map(record).collect();
    let both: Vec<u8> = requests.iter().flat_map(Message::encode_to_vec).collect();
    let files = [
        (lines.into_bytes(), Format::Json, 2),
        (documents.into_bytes(), Format::Json, 2),
        (records, Format::ProtobufRecords, 2),
        (both, Format::Protobuf, 1),
    ];
    for (plain, format, records) in files {
        let (head, tail) = plain.split_at(plain.len() / 3);
        let packed = [
            (plain.clone(), Compression::None),
            (gzip(&plain), Compression::Gzip),
            (zstd_frame(&plain), Compression::Zstd),
            ([gzip(head), gzip(tail)].concat(), Compression::Gzip),
            (
                [zstd_frame(head), zstd_frame(tail)].concat(),
                Compression::Zstd,
            ),
        ];
        for (bytes, compression) in packed {
            let length = bytes.len() as u64;
            let mut file = open(bytes);
            assert_eq!((file.format(), file.compression()), (format, compression));
            let batches: Vec<_> = file
                .by_ref()
                .map(|record| record.unwrap().checked)
                .collect();
            assert_eq!(batches.len(), records);
            let mut resource_spans = Vec::new();
            for checked in &batches {
                assert_eq!(checked.refused, 0);
                let request = checked.batch.as_request().clone();
                let request = ExportTraceServiceRequest::decode(request).unwrap();
                resource_spans.extend(request.resource_spans);
            }
            let expected = requests
                .iter()
                .flat_map(|request| request.resource_spans.clone());
            assert!(resource_spans == expected.collect::<Vec<_>>());
            assert_eq!(file.bytes_read(), length);
            assert!(!file.is_cut_short());
        }
    }
}

#[test]
fn records_of_the_collector_with_zstd_inside_are_read() {
    let json = zstd_frame(line("in json").as_bytes());
    let protobuf = zstd_frame(&one("in protobuf").encode_to_vec());
    let mut file = Vec::new();
    for message in [&json, &protobuf] {
        file.extend_from_slice(&(message.len() as u32).to_be_bytes());
        file.extend_from_slice(message);
    }
    assert_eq!(
        read(file),
        [Ok(vec!["in json".into()]), Ok(vec!["in protobuf".into()])]
    );
}

#[test]
fn records_say_where_they_begin() {
    let text = format!("\n{}\r\n\n{}", line("one"), line("two"));
    let records = good(text.clone());
    assert_eq!(records[0].position.to_string(), "line 2");
    assert_eq!(records[0].position.byte, 1);
    assert_eq!(records[1].position.to_string(), "line 4");
    assert_eq!(
        records[1].position.byte as usize,
        text.len() - line("two").len()
    );

    let first = record(&one("one"));
    let records = good([first.clone(), record(&one("two"))].concat());
    assert_eq!(records[0].position.to_string(), "byte 4");
    assert_eq!(records[1].position.byte as usize, first.len() + 4);
    assert_eq!(records[1].bytes, one("two").encoded_len());
}

#[test]
fn empty_files_hold_nothing() {
    for bytes in [
        &b""[..],
        b"\n \r\n\t",
        b"\xef\xbb\xbf",
        &gzip(b""),
        &zstd_frame(b""),
    ] {
        let mut file = open(bytes);
        assert!(file.next().is_none(), "{}", bytes.escape_ascii());
        assert!(!file.is_cut_short());
    }
    assert_eq!(read("{}"), [Ok(vec![])]);
    assert_eq!(read("\x00\x00\x00\x00"), [Ok(vec![])]);
}

#[test]
fn line_endings_may_be_mixed_and_a_byte_order_mark_may_stand_in_front() {
    let text = format!(
        "\u{feff}{}\r\n{}\n\r\n  {}  ",
        line("a"),
        line("b"),
        line("c")
    );
    assert_eq!(
        read(text),
        [
            Ok(vec!["a".into()]),
            Ok(vec!["b".into()]),
            Ok(vec!["c".into()])
        ]
    );
}

#[test]
fn a_bad_line_is_told_by_file_line_and_column_and_costs_itself_alone() {
    let bad = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":[]}]}]}]}"#;
    let text = format!(
        "{}\n{bad}\n{{\"resourceSpans\":[\n{}\n",
        line("a"),
        line("b")
    );
    let found = read(text);
    assert_eq!(found[0], Ok(vec!["a".into()]));
    let error = found[1].as_ref().unwrap_err();
    let column = bad.find("[]").unwrap() + 1;
    assert!(
        error.starts_with(&format!("spans.in, line 2, column {column}: ")),
        "{error}"
    );
    assert!(error.contains("kind"), "{error}");
    assert!(!error.contains("at line 1"), "{error}");
    let error = found[2].as_ref().unwrap_err();
    assert!(error.starts_with("spans.in, line 3, column "), "{error}");
    assert_eq!(found[3], Ok(vec!["b".into()]));
    assert_eq!(found.len(), 4);
}

#[test]
fn an_error_in_a_long_document_is_told_by_its_own_line() {
    let text = "{\n  \"resourceSpans\": [\n    {\n      \"scopeSpans\": 7\n    }\n  ]\n}\n";
    let found = read(format!("{text}{}\n", line("next")));
    let error = found[0].as_ref().unwrap_err();
    assert!(
        error.starts_with("spans.in, line 4, column 21: "),
        "{error}"
    );
    assert_eq!(found[1], Ok(vec!["next".into()]));
}

#[test]
fn what_is_no_trace_request_is_said_to_be_something_else() {
    for (text, words) in [
        (r#"{"resourceMetrics":[]}"#, "holds metrics"),
        (r#"{"resourceLogs":[]}"#, "holds logs"),
        (r#"{"resource_spans":[]}"#, "snake_case"),
        (r#"{"something":[]}"#, "no OTLP trace request"),
    ] {
        let found = read(text);
        let error = found[0].as_ref().unwrap_err();
        assert!(
            error.starts_with("spans.in, line 1: no \"resourceSpans\""),
            "{error}"
        );
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn spans_without_ids_are_counted_and_the_others_go_on() {
    let mut request = plain("shop", &[(1, 1, 0, "good"), (1, 2, 0, "bad")]);
    request.resource_spans[0].scope_spans[0].spans[1].span_id = vec![0; 8];
    let records = good(record(&request));
    assert_eq!(records[0].checked.refused, 1);
    assert_eq!(records[0].checked.batch.spans(), 1);
    assert!(records[0].checked.reason.is_some());
}

#[test]
fn a_bad_protobuf_record_is_told_by_its_byte_and_costs_itself_alone() {
    let first = record(&one("a"));
    let mut bad = record(&one("GET"));
    let name = bad.windows(3).position(|bytes| bytes == b"GET").unwrap();
    bad[name] = 0xff;
    let found = read([first.clone(), bad, record(&one("b"))].concat());
    assert_eq!(found[0], Ok(vec!["a".into()]));
    let error = found[1].as_ref().unwrap_err();
    let byte = first.len() + name;
    assert!(
        error.starts_with(&format!("spans.in, byte {byte}: ")),
        "{error}"
    );
    assert!(error.contains("UTF-8"), "{error}");
    assert_eq!(error.matches("byte").count(), 1, "{error}");
    assert_eq!(found[2], Ok(vec!["b".into()]));
}

#[test]
fn a_file_that_ends_inside_a_record_gives_what_came_before() {
    let both = [record(&one("a")), record(&one("b"))].concat();
    let first = record(&one("a")).len();
    for end in first + 1..both.len() {
        let mut file = open(&both[..end]);
        assert_eq!(named(file.next().unwrap()), Ok(vec!["a".into()]));
        let error = file.next().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(
            error
                .to_string()
                .contains(&format!("byte {first}: the file ends after")),
            "{error}"
        );
        assert!(file.next().is_none());
        assert!(file.is_cut_short());
    }
}

#[test]
fn compressed_data_that_ends_early_gives_what_came_before() {
    let lines: Vec<String> = (0..2000)
        .map(|number| line(&format!("span {number}")))
        .collect();
    let text = lines.join("\n");
    for packed in [gzip(text.as_bytes()), zstd_frame(text.as_bytes())] {
        let mut file = open(&packed[..packed.len() - 9]);
        let mut good = 0;
        let mut errors = Vec::new();
        for record in file.by_ref() {
            match record {
                Ok(_) => good += 1,
                Err(error) => errors.push(error),
            }
        }
        assert!(good > 0);
        assert_eq!(errors.len(), 1);
        assert!(
            errors[0].to_string().contains("compressed data ends early"),
            "{}",
            errors[0]
        );
        assert!(file.is_cut_short());
    }
}

#[test]
fn compressed_data_that_is_broken_is_an_error_and_ends() {
    let text = line("a").repeat(100);
    let mut packed = gzip(text.as_bytes());
    let middle = packed.len() / 2;
    packed[middle] ^= 0xff;
    let mut errors = 0;
    match SpanFile::open(Cursor::new(packed), options()) {
        Err(_) => errors += 1,
        Ok(file) => errors += file.filter(|record| record.is_err()).count(),
    }
    assert!(errors > 0);
}

#[test]
fn what_is_no_span_file_is_refused_with_what_would_be_one() {
    for (bytes, words) in [
        (&b"%PDF-1.7"[..], "begins with \"%PDF\"; expected OTLP JSON"),
        (b"hello", "begins with \"hell\""),
        (
            b"[{\"resourceSpans\":[]}]",
            "one OTLP request object a line",
        ),
        (b"\xff\xfe{\x00}\x00", "convert it to UTF-8"),
        (b"\x1b[31m", "begins with \"\\x1b[31\""),
    ] {
        let error = SpanFile::open(Cursor::new(bytes), options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(
            error.to_string().starts_with("spans.in is no span file: "),
            "{error}"
        );
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_giant_line_is_passed_over_and_takes_no_memory() {
    let small = line("a");
    let bound = small.len();
    let text = format!("{small}\n{}\n{small}\n", line(&"x".repeat(10_000)));
    let file = SpanFile::open(Cursor::new(text), options().record_bytes_max(bound)).unwrap();
    let found: Vec<_> = file.map(named).collect();
    assert_eq!(found[0], Ok(vec!["a".into()]));
    let error = found[1].as_ref().unwrap_err();
    assert!(
        error.starts_with("spans.in, line 2: the record is longer than"),
        "{error}"
    );
    assert_eq!(found[2], Ok(vec!["a".into()]));
}

#[test]
fn other_giants_are_told_as_well() {
    let options = || options().record_bytes_max(100);
    let large = one(&"x".repeat(1000));
    let small = ExportTraceServiceRequest::default();
    let records = [record(&large), record(&small)].concat();
    let found: Vec<_> = SpanFile::open(
        Cursor::new(records),
        options().format(Format::ProtobufRecords),
    )
    .unwrap()
    .collect();
    assert_eq!(found[0].as_ref().unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(found[1].is_ok());

    let mut file = SpanFile::open(Cursor::new(large.encode_to_vec()), options()).unwrap();
    assert_eq!(
        file.next().unwrap().unwrap_err().kind(),
        ErrorKind::TooLarge
    );
    assert!(file.next().is_none());
    assert!(file.is_cut_short());

    let bomb = zstd_frame(&large.encode_to_vec());
    let mut packed = (bomb.len() as u32).to_be_bytes().to_vec();
    packed.extend_from_slice(&bomb);
    let mut file =
        SpanFile::open(Cursor::new(packed), options().record_bytes_max(bomb.len())).unwrap();
    assert_eq!(
        file.next().unwrap().unwrap_err().kind(),
        ErrorKind::TooLarge
    );
    assert!(file.next().is_none());
}

#[test]
fn a_length_reserves_no_memory() {
    let mut claims = (60 * 1024 * 1024_u32).to_be_bytes().to_vec();
    claims.extend_from_slice(b"\x0a\x00");
    let mut file = open(claims);
    let error = file.next().unwrap().unwrap_err();
    assert!(
        error.to_string().contains("ends after 2 of 62914560 bytes"),
        "{error}"
    );
}

/// Gives what is sent to it, and fails when told so.
struct Pipe(mpsc::Receiver<io::Result<Vec<u8>>>, Vec<u8>);

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.1.is_empty() {
            match self.0.recv_timeout(Duration::from_secs(20)) {
                Ok(sent) => self.1 = sent?,
                Err(_) => return Ok(0),
            }
        }
        let length = into.len().min(self.1.len());
        into[..length].copy_from_slice(&self.1[..length]);
        self.1.drain(..length);
        Ok(length)
    }
}

#[test]
fn a_pipe_is_served_as_it_comes_and_its_failure_ends_the_file() {
    let (send, sent) = mpsc::channel();
    send.send(Ok(format!("{}\n", line("a")).into_bytes()))
        .unwrap();
    let mut file = SpanFile::open(Pipe(sent, Vec::new()), options()).unwrap();
    assert_eq!(named(file.next().unwrap()), Ok(vec!["a".into()]));
    send.send(Err(io::ErrorKind::Interrupted.into())).unwrap();
    send.send(Ok(format!("{}\n", line("b")).into_bytes()))
        .unwrap();
    assert_eq!(named(file.next().unwrap()), Ok(vec!["b".into()]));
    send.send(Err(io::Error::other("unplugged"))).unwrap();
    let error = file.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.chain().to_string(), "cannot read spans.in: unplugged");
    assert!(file.next().is_none());
    assert!(file.is_cut_short());
}

#[test]
fn a_path_that_cannot_be_opened_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.jsonl");
    let error = SpanFile::open_path(&missing, ReadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("missing.jsonl"), "{error}");
    let error = SpanFile::open_path(directory.path(), ReadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("it is a directory"), "{error}");

    let path = directory.path().join("spans.jsonl");
    fs::write(&path, line("a")).unwrap();
    let mut file = SpanFile::open_path(&path, ReadOptions::default()).unwrap();
    assert_eq!(file.name(), path.display().to_string());
    assert!(file.next().unwrap().is_ok());
}

/// How many bytes there are to read: those that decompression gives, where it finds something to decompress.
fn unpacked_length(bytes: &[u8]) -> usize {
    let unpacked: Box<dyn Read + '_> = match bytes {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(bytes)),
        _ => match zstd::Decoder::new(bytes) {
            Ok(decoder) => Box::new(decoder),
            Err(_) => return bytes.len(),
        },
    };
    // Damage is an error; what came before it counts.
    let readable = BufReader::new(unpacked)
        .bytes()
        .take_while(io::Result::is_ok)
        .count();
    readable.max(bytes.len())
}

/// Reads everything, and checks what must hold for any bytes.
fn read_to_the_end(bytes: Vec<u8>, options: ReadOptions) {
    // Each record takes a byte at least; compressed, a few bytes can hold many.
    let length = unpacked_length(&bytes);
    let Ok(file) = SpanFile::open(Cursor::new(bytes), options) else {
        return;
    };
    let mut last = None;
    for (number, record) in file.enumerate() {
        assert!(number <= length, "more records than bytes");
        if let Ok(record) = record {
            assert!(last < Some(record.position.byte) || last.is_none());
            last = Some(record.position.byte);
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_go_on_for_ever(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for format in [None, Some(Format::Json), Some(Format::Protobuf), Some(Format::ProtobufRecords)] {
            let options = match format {
                None => options(),
                Some(format) => options().format(format),
            };
            read_to_the_end(bytes.clone(), options.record_bytes_max(100));
        }
    }

    #[test]
    fn no_damage_makes_it_panic_or_go_on_for_ever(
        kind in 0..6_usize,
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let text = format!("{}\n{}\n", line("a"), serde_json::to_string_pretty(&everything()).unwrap());
        let records = [record(&everything()), record(&one("b"))].concat();
        let mut bytes = match kind {
            0 => text.into_bytes(),
            1 => records,
            2 => gzip(text.as_bytes()),
            3 => gzip(&records),
            4 => zstd_frame(text.as_bytes()),
            _ => zstd_frame(&records),
        };
        let place = place.index(bytes.len());
        bytes[place] ^= byte;
        bytes.truncate(cut.index(bytes.len()) + 1);
        read_to_the_end(bytes, options());
    }
}

//! Spans read from files of Zipkin and Jaeger.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::io::Cursor;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use outspan::ErrorKind;
use outspan::file::Format;
use outspan::file::ReadOptions;
use outspan::file::SpanFile;
use outspan::wire::PieceContent;
use outspan::wire::jaeger;
use outspan::wire::zipkin;
use prost::Message;

use crate::golden::plain;

const TWO: &str = r#"[
  {"traceId":"1","id":"2","name":"get","localEndpoint":{"serviceName":"shop"}},
  {"traceId":"1","id":"3","parentId":"2","name":"query","localEndpoint":{"serviceName":"db"}}
]"#;

fn open(bytes: impl Into<Vec<u8>>) -> SpanFile {
    let options = ReadOptions::default().name("spans.in");
    SpanFile::open(Cursor::new(bytes.into()), options).unwrap()
}

/// What a file was taken for, and of each record the names of its spans, or what is wrong with it.
fn read(bytes: impl Into<Vec<u8>>) -> (Format, Vec<Result<Vec<String>, String>>) {
    let file = open(bytes);
    let format = file.format();
    let records = file.map(|record| {
        let batch = record.map_err(|error| error.to_string())?.checked.batch;
        Ok(batch.iter().map(|span| span.name().to_owned()).collect())
    });
    (format, records.collect())
}

fn names(names: &[&str]) -> Result<Vec<String>, String> {
    Ok(names.iter().map(|name| (*name).to_owned()).collect())
}

fn request(names: &[(u64, &str)]) -> Vec<u8> {
    let spans: Vec<_> = names.iter().map(|(id, name)| (1, *id, 0, *name)).collect();
    plain("shop", &spans).encode_to_vec()
}

fn zipkin_of(format: zipkin::Format, request: &[u8]) -> Vec<u8> {
    let options = zipkin::WriteOptions::default().format(format);
    let mut writer = zipkin::Writer::new(options);
    let pieces = writer.pieces(request).map(|piece| piece.unwrap().content);
    bytes_of(pieces)
}

fn thrift_of(request: &[u8]) -> Vec<u8> {
    let mut writer = jaeger::Writer::new(jaeger::WriteOptions::default());
    let pieces = writer.pieces(request).map(|piece| piece.unwrap().content);
    bytes_of(pieces)
}

fn bytes_of(pieces: impl Iterator<Item = PieceContent>) -> Vec<u8> {
    let bytes = pieces.map(|content| match content {
        PieceContent::Bytes(bytes) => bytes.to_vec(),
        other => panic!("{other:?}"),
    });
    bytes.collect::<Vec<_>>().concat()
}

#[test]
fn zipkin_json_is_read_in_every_shape_and_compression() {
    let one_line: String = TWO.split('\n').map(str::trim).collect();
    let spans: Vec<&str> = one_line.trim_matches(['[', ']']).split("},{").collect();
    let lines = format!("{}}}\n{{{}\n", spans[0], spans[1]);
    for (text, records) in [
        (TWO.to_owned(), vec![names(&["get", "query"])]),
        (format!("[{one_line},[]]"), vec![names(&["get", "query"])]),
        (format!("\u{feff}{TWO}"), vec![names(&["get", "query"])]),
        (
            format!("{one_line}\n{one_line}\n"),
            vec![names(&["get", "query"]), names(&["get", "query"])],
        ),
        (lines, vec![names(&["get"]), names(&["query"])]),
        ("[]".to_owned(), vec![]),
    ] {
        let mut gzip =
            flate2::read::GzEncoder::new(text.as_bytes(), flate2::Compression::default());
        let mut packed = Vec::new();
        gzip.read_to_end(&mut packed).unwrap();
        let zstd = zstd::encode_all(text.as_bytes(), 0).unwrap();
        for bytes in [text.clone().into_bytes(), packed, zstd] {
            assert_eq!(read(bytes), (Format::ZipkinJson, records.clone()), "{text}");
        }
    }
    let record = open(TWO).next().unwrap().unwrap();
    assert_eq!(record.position.to_string(), "line 2");
    let spans = record.checked.batch;
    let services: Vec<_> = spans
        .iter()
        .map(|span| {
            span.resource()
                .attribute("service.name")
                .and_then(|v| v.as_str().map(str::to_owned))
        })
        .collect();
    assert_eq!(services, [Some("shop".to_owned()), Some("db".to_owned())]);
}

#[test]
fn a_bad_span_of_zipkin_costs_itself_alone_and_is_told_by_line_and_column() {
    let text = TWO.replace("\"3\"", "\"x\"").replace(
        "\n]",
        ",\n {\"traceId\":\"1\",\"id\":\"4\",\n  \"name\":7},\n{\"traceId\":\"1\",\"id\":\"5\",\"name\":\"last\"}]",
    );
    let (_, records) = read(text.as_bytes());
    assert_eq!(records.len(), 4, "{records:?}");
    assert_eq!(records[0], names(&["get"]));
    let error = records[1].clone().unwrap_err();
    assert!(
        error.starts_with("spans.in, line 3, column 23: not valid Zipkin JSON: "),
        "{error}"
    );
    let error = records[2].clone().unwrap_err();
    assert!(
        error.starts_with("spans.in, line 5, column 10: not valid Zipkin JSON: "),
        "{error}"
    );
    assert_eq!(records[3], names(&["last"]));
}

#[test]
fn spans_that_otlp_forbids_are_counted_and_the_others_go_on() {
    let text =
        r#"[{"traceId":"0","id":"1"},{"traceId":"1","id":"2","name":"good"},{"traceId":"1"}]"#;
    let records: Vec<_> = open(text).map(Result::unwrap).collect();
    assert_eq!(records.len(), 1);
    let checked = &records[0].checked;
    assert_eq!((checked.batch.spans(), checked.refused), (1, 2));
    assert!(checked.reason.is_some());
}

#[test]
fn zipkin_protobuf_is_told_from_otlp_and_read() {
    let request = request(&[(1, "one"), (2, "two")]);
    let list = zipkin_of(zipkin::Format::Protobuf, &request);
    let twice = [list.clone(), list].concat();
    let all = vec![names(&["one", "two", "one", "two"])];
    assert_eq!(read(twice.clone()), (Format::ZipkinProtobuf, all));
    assert_eq!(read(request).0, Format::Protobuf);

    let (_, records) = read(&twice[..twice.len() - 1]);
    assert_eq!(records[0], names(&["one", "two", "one"]));
    let error = records[1].clone().unwrap_err();
    assert!(
        error.contains("the file ends inside what begins here"),
        "{error}"
    );

    let broken = [&twice[..], b"\x0a\x02\x0a\x09", &twice[..]].concat();
    let (_, records) = read(broken);
    assert_eq!(records.len(), 9, "{records:?}");
    let error = records[4].clone().unwrap_err();
    let place = format!(
        "spans.in, byte {}: not valid Zipkin protobuf: ",
        twice.len()
    );
    let start = error.get(..14).unwrap();
    assert!(
        start == &place[..14] && error.contains("not valid Zipkin protobuf: "),
        "{error}"
    );
    assert_eq!(records.iter().filter(|record| record.is_ok()).count(), 8);
}

#[test]
fn batches_of_jaeger_are_read_one_after_the_other() {
    let one = thrift_of(&request(&[(1, "one"), (2, "two")]));
    let other = thrift_of(&request(&[(3, "three")]));
    let both = [one.clone(), other].concat();
    let expected = vec![names(&["one", "two"]), names(&["three"])];
    assert_eq!(read(both.clone()), (Format::JaegerThrift, expected));

    let (_, records) = read(&both[..both.len() - 1]);
    assert_eq!(records[0], names(&["one", "two"]));
    let place = format!(
        "spans.in, byte {}: the file ends inside what begins here",
        one.len()
    );
    assert!(
        records[1].clone().unwrap_err().starts_with(&place),
        "{records:?}"
    );

    let (_, records) = read([&one[..], b"nonsense"].concat());
    let error = records[1].clone().unwrap_err();
    assert!(
        error.contains("not valid Jaeger Thrift: Thrift has no type 110"),
        "{error}"
    );
}

#[test]
fn traces_of_jaegers_query_are_read_in_every_shape() {
    let one = jaeger::write_query_json(&request(&[(1, "one"), (2, "two")])).unwrap();
    let one = String::from_utf8(one).unwrap();
    let trace = one.strip_prefix("{\"data\":[").unwrap();
    let trace = &trace[..trace.rfind("]").unwrap()];
    for text in [
        one.clone(),
        trace.to_owned(),
        format!("[{trace}]"),
        format!("{{\"total\":0,\"data\": [\n{trace}],\"errors\":null}}"),
    ] {
        let expected = vec![names(&["one", "two"])];
        assert_eq!(
            read(text.as_bytes()),
            (Format::JaegerJson, expected),
            "{text}"
        );
    }
    let (_, records) = read(format!("{{\"data\":[{trace},{{\"traceID\":7}},{trace}]}}"));
    assert_eq!(records.len(), 3, "{records:?}");
    let error = records[1].clone().unwrap_err();
    assert!(error.starts_with("spans.in, line 1, column "), "{error}");
    assert!(error.contains("not valid Jaeger JSON"), "{error}");
    assert!(records[0].is_ok() && records[2].is_ok());
}

#[test]
fn real_traces_are_found_to_be_what_they_are() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../outspan-wire/tests/vectors");
    let mut files = 0;
    for (directory, format) in [
        ("zipkin", Format::ZipkinJson),
        ("jaeger", Format::JaegerJson),
    ] {
        for entry in std::fs::read_dir(vectors.join(directory)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let is_known = ["lens.", "bench.", "uimodel.ui"]
                .iter()
                .any(|start| name.starts_with(start));
            if !is_known {
                continue;
            }
            let file = SpanFile::open_path(&path, ReadOptions::default()).unwrap();
            assert_eq!(file.format(), format, "{name}");
            let spans: usize = file
                .map(|record| record.unwrap().checked.batch.spans())
                .sum();
            assert!(spans > 0, "{name}");
            files += 1;
        }
    }
    assert!(files >= 10, "{files}");
}

#[test]
fn a_pipe_of_zipkin_arrays_is_served_as_it_comes() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let (sender, records) = mpsc::channel();
    std::thread::spawn(move || {
        for record in SpanFile::open(reader, ReadOptions::default()).unwrap() {
            sender.send(record.unwrap().checked.batch.spans()).unwrap();
        }
    });
    for _ in 0..3 {
        writeln!(writer, "{}", TWO.replace('\n', "")).unwrap();
        assert_eq!(records.recv_timeout(Duration::from_secs(30)), Ok(2));
    }
    drop(writer);
    assert!(records.recv_timeout(Duration::from_secs(30)).is_err());
}

#[test]
fn a_format_that_was_told_is_not_guessed() {
    let options = || ReadOptions::default().format(Format::ZipkinJson).name("x");
    let mut file = SpanFile::open(&b"{\"resourceSpans\":[]}"[..], options()).unwrap();
    let record = file.next().unwrap().unwrap();
    assert_eq!(
        (record.checked.batch.spans(), record.checked.refused),
        (0, 1)
    );
    let mut file = SpanFile::open(&b"7\n[]"[..], options()).unwrap();
    let error = file.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(
        error
            .to_string()
            .contains("x, line 1: not valid Zipkin JSON"),
        "{error}"
    );
    assert!(file.next().is_none() && !file.is_cut_short());
}

#[test]
fn what_is_no_span_file_hears_every_format() {
    let error = SpanFile::open(&b"%PDF-1.7"[..], ReadOptions::default()).unwrap_err();
    for format in [
        "OTLP JSON",
        "protobuf records",
        "Zipkin",
        "Jaeger",
        "Thrift",
    ] {
        assert!(error.to_string().contains(format), "{error}");
    }
    let nested = format!("[{{\"resourceSpans\":{TWO}}}]");
    let error = SpanFile::open(Cursor::new(nested), ReadOptions::default()).unwrap_err();
    assert!(
        error.to_string().contains("one OTLP request object a line"),
        "{error}"
    );
}

#[test]
fn an_array_that_never_ends_takes_no_memory() {
    /// Gives out one span again and again.
    struct Endless(usize);

    impl Read for Endless {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let span = br#"{"traceId":"1","id":"2","name":"again"},"#;
            if self.0 == 0 {
                return Ok(0);
            }
            self.0 -= 1;
            let length = span.len().min(into.len());
            into[..length].copy_from_slice(&span[..length]);
            Ok(length)
        }
    }

    let spans = 50_000;
    let source = (&b"["[..]).chain(Endless(spans));
    let file = SpanFile::open(source, ReadOptions::default()).unwrap();
    let mut found = 0;
    for record in file {
        let record = record.unwrap();
        assert!(record.bytes < 70 << 10, "{}", record.bytes);
        found += record.checked.batch.spans();
    }
    assert_eq!(found, spans);
}

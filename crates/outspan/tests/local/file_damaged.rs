//! Files with something else around their records.

use std::io::Cursor;

use outspan::Compression;
use outspan::file::Format;
use outspan::file::ReadOptions;
use outspan::file::SpanFile;
use prost::Message;

use crate::golden::plain;

fn line(name: &str) -> String {
    serde_json::to_string(&plain("shop", &[(1, 1, 0, name)])).unwrap()
}

fn open(bytes: impl Into<Vec<u8>>, options: ReadOptions) -> SpanFile {
    SpanFile::open(Cursor::new(bytes.into()), options.name("spans.in")).unwrap()
}

/// Returns the names of the spans and how many records are bad.
fn read_with(bytes: impl Into<Vec<u8>>, options: ReadOptions) -> (Vec<String>, usize) {
    let (mut names, mut bad) = (Vec::new(), 0);
    for record in open(bytes, options) {
        match record {
            Ok(record) => {
                let spans = record.checked.batch;
                names.extend(spans.iter().map(|span| span.name().to_owned()));
            }
            Err(_) => bad += 1,
        }
    }
    (names, bad)
}

fn read(bytes: impl Into<Vec<u8>>) -> (Vec<String>, usize) {
    read_with(bytes, ReadOptions::default())
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn documents_on_one_line_are_read_one_by_one() {
    let (a, b, c) = (line("a"), line("b"), line("c"));
    let all = (names(&["a", "b", "c"]), 0);
    for text in [
        format!("{a}{b}{c}"),
        format!("{a} {b}\t{c}\n"),
        format!("{a},{b},{c}\n"),
        format!("{a}\n{b}{c}\n"),
        format!("{a}{b}\n{c}"),
    ] {
        assert_eq!(read(text.clone()), all, "{text}");
    }
    let pretty = serde_json::to_string_pretty(&plain("shop", &[(1, 1, 0, "a")])).unwrap();
    assert_eq!(read(format!("{pretty}{b}{c}\n")), all);
    assert_eq!(read(format!("{a}{pretty}\n{c}")).0, names(&["a", "a", "c"]));
}

#[test]
fn a_broken_document_costs_none_of_the_others_on_its_line() {
    let (a, c) = (line("a"), line("c"));
    for broken in [
        "{\"resourceSpans\":[{\"scopeSpans\"",
        "{\"resourceSpans\":[{\"scopeSpans\":\"",
        "{\"resourceSpans\":5}",
        "nonsense ",
        "{]",
    ] {
        let text = format!("{a}{broken}{c}\n{a}\n");
        assert_eq!(read(text), (names(&["a", "c", "a"]), 1), "{broken}");
    }
    let error = open(format!("{a} nonsense"), ReadOptions::default())
        .find_map(Result::err)
        .unwrap()
        .to_string();
    let column = format!("line 1, column {}", a.len() + 2);
    assert!(error.contains(&column), "{error}");
}

#[test]
fn a_line_longer_than_a_record_may_hold_many_documents() {
    let text: String = (0..50).map(|_| line("a")).collect();
    let options = ReadOptions::default().record_bytes_max(line("a").len() * 5 / 2);
    assert_eq!(read_with(text, options.clone()), (names(&["a"; 50]), 0));
    let giant = line(&"x".repeat(10_000));
    let text = format!("{}{giant}\n{}\n", line("a"), line("b"));
    assert_eq!(read_with(text, options), (names(&["a", "b"]), 1));
}

#[test]
fn lines_of_a_log_stand_before_records() {
    let (a, b) = (line("a"), line("b"));
    for log in [
        "[INFO] started",
        "[2026-12-01T02:00:00Z] x",
        "[[x",
        "[]",
        "[1] {\"traceId\":\"1\"}",
        "[{\"level\":\"info\"}]",
        "{\"traceId\":\"1\",\"message\":\"x\"}",
        "2026-12-01 started",
        "{level=info}",
    ] {
        let text = format!("{log}\n{a}\n{b}\n");
        let file = open(text.clone(), ReadOptions::default());
        assert_eq!(file.format(), Format::Json, "{log}");
        assert_eq!(read(text), (names(&["a", "b"]), 1), "{log}");
    }
    let prefixed = format!("[INFO] {a}\n[INFO] {b}\n");
    let options = ReadOptions::default().format(Format::Json);
    assert_eq!(read_with(prefixed, options), (names(&["a", "b"]), 2));
}

#[test]
fn skippable_frames_of_zstandard_are_passed_over() {
    let frame = |text: &str| zstd::encode_all(text.as_bytes(), 3).unwrap();
    let skippable = |kind: u8, bytes: &[u8]| {
        let length = (bytes.len() as u32).to_le_bytes();
        [&[kind, 0x2a, 0x4d, 0x18][..], &length, bytes].concat()
    };
    let (a, b) = (
        frame(&format!("{}\n", line("a"))),
        frame(&format!("{}\nbad\n", line("b"))),
    );
    // As pzstd writes it: the length of each frame in a skippable one before it.
    let length = |frame: &[u8]| (frame.len() as u32).to_le_bytes();
    let pzstd = [
        skippable(0x50, &length(&a)),
        a.clone(),
        skippable(0x50, &length(&b)),
        b.clone(),
    ]
    .concat();
    let file = open(pzstd.clone(), ReadOptions::default());
    assert_eq!(
        (file.compression(), file.format()),
        (Compression::Zstd, Format::Json)
    );
    assert_eq!(read(pzstd), (names(&["a", "b"]), 1));
    let other = [skippable(0x5f, b""), a, skippable(0x57, b"index")].concat();
    assert_eq!(read(other), (names(&["a"]), 0));

    let message = plain("shop", &[(1, 1, 0, "c")]).encode_to_vec();
    let inside = [
        skippable(0x50, b"1234"),
        zstd::encode_all(&*message, 3).unwrap(),
    ]
    .concat();
    let records = [&(inside.len() as u32).to_be_bytes()[..], &inside].concat();
    let options = ReadOptions::default().format(Format::ProtobufRecords);
    assert_eq!(read_with(records, options), (names(&["c"]), 0));
}

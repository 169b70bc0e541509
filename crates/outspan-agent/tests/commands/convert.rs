//! `outspan convert`, run as a program.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use outspan::file::Format;
use outspan::file::ReadOptions;
use outspan::file::SpanFile;

use crate::running::Ran;
use crate::running::Running;
use crate::running::outspan;

/// Every format with a name that tells it.
const FORMATS: [(&str, &str, Format); 7] = [
    ("otlp-json", "x.jsonl", Format::Json),
    ("otlp-proto", "x.otlp.pb", Format::Protobuf),
    ("otlp-proto-records", "x.pb", Format::ProtobufRecords),
    ("zipkin-json", "x.zipkin.json", Format::ZipkinJson),
    ("zipkin-proto", "x.zipkin.pb", Format::ZipkinProtobuf),
    ("jaeger-thrift", "x.thrift", Format::JaegerThrift),
    ("jaeger-json", "x.jaeger.json", Format::JaegerJson),
];

struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, content: &[u8]) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// The names of all files, hidden ones as well.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

fn shop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop.jsonl")
}

fn convert(arguments: &[&str]) -> Ran {
    outspan(&[&["convert"], arguments].concat())
}

/// What every format keeps of a span.
type Kept = (String, String, String, Option<String>);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a file holds, and what it is taken for.
fn read(path: &str) -> (Format, BTreeSet<Kept>) {
    let file = SpanFile::open_path(path, ReadOptions::default()).unwrap();
    let format = file.format();
    let mut all = BTreeSet::new();
    for record in file {
        for span in record.unwrap().checked.batch.iter() {
            let service = span.resource().attribute("service.name");
            let kept = (
                hex(&span.trace_id()),
                hex(&span.span_id()),
                span.name().to_owned(),
                service.and_then(|name| name.as_str().map(str::to_owned)),
            );
            assert!(all.insert(kept), "a span is there twice");
        }
    }
    (format, all)
}

#[test]
fn every_format_becomes_every_other() {
    let directory = Directory::new();
    let shop = shop();
    let (_, expected) = read(shop.to_str().unwrap());
    assert!(expected.len() > 10);
    for (from, from_name, from_format) in FORMATS {
        let input = directory.path(from_name);
        convert(&[shop.to_str().unwrap(), &input, "--force"]).expect_status(0);
        assert_eq!(read(&input), (from_format, expected.clone()), "{from}");
        for (to, to_name, to_format) in FORMATS {
            let output = directory.path(&format!("{from}.{to_name}"));
            let ran = convert(&[&input, &output]).expect_status(0);
            let said = format!("converted {} spans from ", expected.len());
            assert!(ran.stderr.starts_with(&said), "{from} to {to}: {ran:?}");
            assert!(ran.stderr.contains(&from_format.to_string()), "{ran:?}");
            assert_eq!(
                read(&output),
                (to_format, expected.clone()),
                "{from} to {to}"
            );
        }
    }
    let hidden = directory
        .names()
        .into_iter()
        .find(|name| name.starts_with('.'));
    assert_eq!(hidden, None);
}

#[test]
fn json_outputs_are_json_to_others() {
    let directory = Directory::new();
    for (name, pointer) in [
        ("x.zipkin.json", "/0/traceId"),
        ("x.jaeger.json", "/data/0/traceID"),
    ] {
        let output = directory.path(name);
        convert(&[shop().to_str().unwrap(), &output]).expect_status(0);
        let text = std::fs::read(&output).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert!(
            value
                .pointer(pointer)
                .is_some_and(serde_json::Value::is_string),
            "{name}"
        );
        let empty = directory.write("empty.jsonl", b"");
        convert(&[&empty, &output, "--force"]).expect_status(0);
        let text = std::fs::read(&output).unwrap();
        serde_json::from_slice::<serde_json::Value>(&text).unwrap();
    }
}

#[test]
fn names_tell_the_compression_of_the_output() {
    let directory = Directory::new();
    let (_, expected) = read(shop().to_str().unwrap());
    for (name, start) in [
        ("x.zipkin.json.gz", &[0x1f, 0x8b][..]),
        ("x.pb.zst", &[0x28, 0xb5, 0x2f, 0xfd]),
    ] {
        let output = directory.path(name);
        convert(&[shop().to_str().unwrap(), &output]).expect_status(0);
        assert!(std::fs::read(&output).unwrap().starts_with(start), "{name}");
        assert_eq!(read(&output).1, expected, "{name}");
    }
}

#[test]
fn standard_input_and_output_are_taken_with_formats() {
    let text = std::fs::read(shop()).unwrap();
    let arguments = ["convert", "-", "-", "--to-format", "zipkin-json"];
    let mut running = Running::start(&arguments, &[]);
    let mut stdin = running.stdin();
    let writer = std::thread::spawn(move || stdin.write_all(&text));
    let ran = running.finish().expect_status(0);
    writer.join().unwrap().unwrap();
    let spans: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(spans.as_array().unwrap().len() > 10);
    assert!(
        ran.stderr.contains("from standard input (OTLP JSON"),
        "{}",
        ran.stderr
    );

    let unknown = convert(&["-", "-"]).expect_status(2);
    assert!(
        unknown.stderr.contains("add --to-format"),
        "{}",
        unknown.stderr
    );
}

#[test]
fn what_exists_is_replaced_only_when_asked() {
    let directory = Directory::new();
    let shop = shop();
    let shop = shop.to_str().unwrap();
    let output = directory.write("x.pb", b"precious");
    let ran = convert(&[shop, &output]).expect_status(2);
    assert!(ran.stderr.contains("exists: add --force"), "{}", ran.stderr);
    assert_eq!(std::fs::read(&output).unwrap(), b"precious");
    convert(&[shop, &output, "--force"]).expect_status(0);
    assert_eq!(read(&output).0, Format::ProtobufRecords);
    let same = convert(&[&output, &output, "--force"]).expect_status(2);
    assert!(
        same.stderr.contains("read and written at the same time"),
        "{}",
        same.stderr
    );
    assert_eq!(directory.names(), ["x.pb"]);
}

#[test]
fn what_is_wrong_is_counted_and_the_rest_converted() {
    let directory = Directory::new();
    let input = directory.write(
        "in.json",
        br#"[{"traceId":"1","id":"1","name":"one"},{"traceId":"0","id":"2"},{"traceId":"1","id":"x"},{"traceId":"1","id":"3"}]"#,
    );
    let output = directory.path("out.jsonl");
    convert(&[&input, &output]).expect_status(1).expect_said(&[
        "not everything was converted",
        "3 spans read",
        "2 spans written",
        "1 span invalid, left out",
        "1 record bad, left out",
        "line 1, column ",
    ]);
    assert_eq!(read(&output).1.len(), 2);

    let strict = directory.path("strict.jsonl");
    convert(&[&input, &strict, "--strict"])
        .expect_status(1)
        .expect_said(&["was not written", "0 spans written"]);
    assert!(!Path::new(&strict).exists());
    assert_eq!(directory.names(), ["in.json", "out.jsonl"]);
}

#[test]
fn wrong_usage_writes_nothing() {
    let directory = Directory::new();
    let pdf = directory.write("x.pdf", b"%PDF-1.7");
    let cases: [(&[&str], u8, &str); 6] = [
        (&["/no/such.jsonl", "out.pb"], 2, "no such file"),
        (&[&pdf, "out"], 2, "does not tell the format"),
        (&[&pdf, "out.pb", "--to-format", "xml"], 2, "invalid value"),
        (
            &[&pdf, "/no/such/out.pb"],
            2,
            "cannot write /no/such/out.pb",
        ),
        (&[&pdf, "/tmp"], 2, "does not tell the format"),
        (&[&pdf, &directory.path("out.pb")], 1, "Zipkin"),
    ];
    for (arguments, status, text) in cases {
        let ran = convert(arguments).expect_status(i32::from(status));
        assert!(ran.stderr.contains(text), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn a_format_that_is_told_is_used_for_reading() {
    let directory = Directory::new();
    let input = directory.write("x", b"{\"traceID\":\"1\",\"spans\":[],\"processes\":{}}");
    let output = directory.path("x.jsonl");
    let ran = convert(&[&input, &output, "--from-format", "jaeger-json"]).expect_status(0);
    assert!(ran.stderr.contains("Jaeger JSON"), "{}", ran.stderr);
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_nothing_behind() {
    for (signal, status) in [("INT", 130), ("TERM", 143)] {
        let directory = Directory::new();
        let output = directory.path("x.zipkin.json");
        let mut running = Running::start(&["convert", "-", &output], &[]);
        let mut stdin = running.stdin();
        let mut line = std::fs::read(shop()).unwrap();
        line.push(b'\n');
        stdin.write_all(&line).unwrap();
        let end = std::time::Instant::now() + crate::running::LIMIT;
        while directory.names().is_empty() {
            assert!(std::time::Instant::now() < end, "the file is begun in time");
            // Sleeps: a directory tells nobody when a file comes.
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        running.signal(signal);
        let ran = running.finish_with(stdin).expect_status(status);
        assert!(ran.stderr.contains("was not written"), "{}", ran.stderr);
        assert_eq!(directory.names(), [""; 0]);
    }
}

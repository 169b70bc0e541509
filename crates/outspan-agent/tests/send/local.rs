//! Files and standard output as destinations.

use std::fs;
use std::io::Read;
use std::process::Command;
use std::process::Stdio;

use crate::input;
use crate::input::Files;
use crate::program;

fn unpack_gzip(packed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(packed)
        .read_to_end(&mut plain)
        .unwrap();
    plain
}

#[test]
fn a_file_holds_what_was_read_in_every_format() {
    let files = Files::new();
    let requests = input::requests(3, 5);
    let source = files.write("in.jsonl", &input::json_lines(&requests));
    for name in [
        "out.jsonl",
        "out.json.gz",
        "out.jsonl.zst",
        "out.pb",
        "out.bin.gz",
        "out.pb.zst",
    ] {
        let target = files.path(name);
        program::send(&[&source, "--to", &format!("file:{target}")])
            .expect_status(0)
            .expect_said(&["delivered 15 spans"]);
        let packed = fs::read(&target).unwrap();
        let plain = match name.rsplit('.').next() {
            Some("gz") => unpack_gzip(&packed),
            Some("zst") => zstd::decode_all(&packed[..]).unwrap(),
            _ => packed,
        };
        let read = match name.contains("json") {
            true => {
                let lines = plain
                    .split(|byte| *byte == b'\n')
                    .filter(|line| !line.is_empty());
                lines
                    .map(|line| serde_json::from_slice(line).unwrap())
                    .collect()
            }
            false => input::read_length_prefixed(&plain),
        };
        assert_eq!(input::spans_of(&read), input::spans_of(&requests), "{name}");

        // And the program reads what it wrote.
        let again = files.path("again.pb");
        fs::remove_file(&again).ok();
        program::send(&[&target, "--to", &format!("file:{again}")]).expect_status(0);
        let read = input::read_length_prefixed(&fs::read(&again).unwrap());
        assert_eq!(input::spans_of(&read), input::spans_of(&requests), "{name}");
    }
}

#[test]
fn a_file_that_exists_is_not_overwritten_unasked() {
    let files = Files::new();
    let requests = input::requests(2, 5);
    let first = files.write("a.jsonl", &input::json_lines(&requests[..1]));
    let second = files.write("b.jsonl", &input::json_lines(&requests[1..]));
    let target = files.path("out.pb");
    let url = format!("file:{target}");
    program::send(&[&first, "--to", &url]).expect_status(0);
    program::send(&[&second, "--to", &url])
        .expect_status(2)
        .expect_said(&["out.pb exists: add --append or --overwrite"]);
    let read = || input::read_length_prefixed(&fs::read(&target).unwrap());
    assert_eq!(input::spans_of(&read()), input::spans_of(&requests[..1]));
    program::send(&[&second, "--to", &url, "--append"]).expect_status(0);
    assert_eq!(input::spans_of(&read()), input::spans_of(&requests));
    program::send(&[&second, "--to", &url, "--overwrite"]).expect_status(0);
    assert_eq!(input::spans_of(&read()), input::spans_of(&requests[1..]));
}

#[test]
fn a_file_is_not_read_and_written_at_the_same_time() {
    let files = Files::new();
    let content = input::json_lines(&input::requests(2, 5));
    let file = files.write("a.jsonl", &content);
    program::send(&[&file, "--to", &format!("file:{file}"), "--append"])
        .expect_status(2)
        .expect_said(&["read and written at the same time"]);
    assert_eq!(fs::read(&file).unwrap(), content);
}

#[test]
fn a_directory_that_does_not_exist_is_told_before_anything_is_read() {
    let files = Files::new();
    let source = files.write("in.jsonl", &input::json_lines(&input::requests(1, 1)));
    let target = files.path("nowhere/out.jsonl");
    program::send(&[&source, "--to", &format!("file:{target}")])
        .expect_status(2)
        .expect_said(&["nowhere"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_and_counted() {
    let files = Files::new();
    let source = files.write("in.jsonl", &input::json_lines(&input::requests(3, 5)));
    std::os::unix::fs::symlink("/dev/full", files.path("full.jsonl")).unwrap();
    program::send(&[
        &source,
        "--to",
        &format!("file:{}", files.path("full.jsonl")),
    ])
    .expect_status(1)
    .expect_said(&["full", "  0 spans delivered\n", "  15 spans failed\n"]);
}

#[test]
fn standard_output_shows_trace_trees() {
    let files = Files::new();
    let source = files.write("in.jsonl", &input::json_lines(&[shop_request()]));
    let ran = program::send(&[&source, "--to", "stdout:"]).expect_status(0);
    let golden = include_str!("golden/trees.txt");
    assert_eq!(ran.stdout, golden, "\n{}", ran.stdout);
    let ran = program::send(&[&source, "--to", "stdout:", "--attributes"]).expect_status(0);
    let golden = include_str!("golden/trees-attributes.txt");
    assert_eq!(ran.stdout, golden, "\n{}", ran.stdout);
    assert!(!ran.stdout.contains('\x1b'));
    let ran = program::send(&[&source, "--to", "stdout:", "--color", "always"]).expect_status(0);
    assert!(ran.stdout.contains("\x1b["), "{}", ran.stdout);
}

/// A trace of one request to a shop: a root, two children, one of which failed.
fn shop_request() -> input::ExportTraceServiceRequest {
    let mut request = input::request(0..3);
    let spans = &mut request.resource_spans[0].scope_spans[0].spans;
    let root = spans[0].span_id.clone();
    for span in &mut spans[1..] {
        span.parent_span_id.clone_from(&root);
    }
    spans[0].end_time_unix_nano += 5_000_000;
    if let Some(status) = &mut spans[2].status {
        status.code = 2;
        status.message = "out of stock".into();
    }
    request
}

#[test]
fn standard_output_speaks_every_format() {
    let files = Files::new();
    let requests = [input::request(0..3)];
    let source = files.write("in.jsonl", &input::json_lines(&requests));
    let shown = |format: &str| {
        let to = format!("stdout:{format}");
        program::send(&[&source, "--to", &to])
            .expect_status(0)
            .stdout
    };
    assert!(shown("pretty").contains("GET /basket/0"));
    assert_eq!(shown("compact").lines().count(), 3);
    let objects = shown("json");
    assert_eq!(objects.lines().count(), 3);
    for line in objects.lines() {
        let span: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(span.is_object());
    }
    let otlp = shown("otlp");
    let read: Vec<_> = otlp
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(input::spans_of(&read), input::spans_of(&requests));
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let files = Files::new();
    let source = files.write("in.jsonl", &input::json_lines(&input::requests(2000, 20)));
    let mut child = Command::new(env!("CARGO_BIN_EXE_outspan"))
        .args(["send", &source, "--to", "stdout:pretty"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut some = [0; 100];
    stdout.read_exact(&mut some).unwrap();
    drop(stdout);
    let ran = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(141), "{said}");
    assert!(!said.contains("error"), "{said}");
}

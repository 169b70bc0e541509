//! Usage, and options that change what goes over the wire.

use outspan_testkit::Collector;

use crate::input;
use crate::input::Files;
use crate::program;

fn grpc_url(collector: &Collector) -> String {
    collector.endpoint().replace("http", "grpc")
}

#[test]
fn help_and_version_are_there() {
    let version = program::outspan(&["--version"]).expect_status(0);
    assert_eq!(
        version.stdout,
        concat!("outspan ", env!("CARGO_PKG_VERSION"), "\n")
    );
    let help = program::outspan(&["send", "--help"]).expect_status(0);
    for text in [
        "Examples:",
        "Destinations:",
        "Exit status:",
        "--header",
        "stdout:",
    ] {
        assert!(help.stdout.contains(text), "{text}: {}", help.stdout);
    }
}

#[test]
fn wrong_usage_ends_with_status_2_and_says_what_to_do() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(1, 1)));
    let cases: [(&[&str], &str); 15] = [
        (
            &["--to", "localhost:4317"],
            "did you mean grpc://localhost:4317?",
        ),
        (&["--to", "ftp://x"], "unknown scheme \"ftp\""),
        (&["--to", "grpc://x:y"], "port"),
        (&["--to", "file:x.txt"], ".jsonl"),
        (&["--to", "stdout:xml"], "stdout:pretty"),
        (
            &["--to", "stdout:", "--header", "a=b"],
            "--header has no meaning here",
        ),
        (&["--to", "grpc://x", "--ca", "c.pem"], "grpcs://"),
        (&["--to", "grpc://x", "--protocol", "json"], "http://"),
        (&["--to", "file:x.jsonl", "--compression", "gzip"], ".gz"),
        (
            &["--to", "grpc://x", "--compression-level", "3"],
            "--compression",
        ),
        (&["--to", "grpc://x", "--header", "nothing"], "NAME=VALUE"),
        (
            &["--to", "grpc://x", "--header", "a b=c"],
            "invalid header name",
        ),
        (
            &["--to", "grpc://x", "--compression", "br"],
            "none, gzip or zstd",
        ),
        (
            &["--to", "grpcs://x", "--ca", "/no/such.pem"],
            "/no/such.pem",
        ),
        (&["--to", "grpc://x", "--rate", "fast"], "not a number"),
    ];
    for (arguments, text) in cases {
        program::send(&[&[file.as_str()], arguments].concat())
            .expect_status(2)
            .expect_said(&[text]);
    }
    program::outspan(&["send"]).expect_status(2);
    program::outspan(&[]).expect_status(2);
}

#[test]
fn headers_arrive_from_the_command_line_a_file_and_the_environment() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(1, 1)));
    let token = files.write("token", b"Bearer from-file\n");
    let collector = Collector::grpc();
    let arguments = [
        &file,
        "--to",
        &grpc_url(&collector),
        "--header",
        "x-plain=a=b",
        "--header",
        &format!("authorization=@{token}"),
        "--header",
        "x-tenant: env:OUTSPAN_TEST_TENANT",
        "--verbose",
        "--verbose",
    ];
    let environment = [("OUTSPAN_TEST_TENANT", "fr0m-env")];
    let ran = program::start(&arguments, &environment)
        .finish()
        .expect_status(0);
    let requests = collector.requests();
    assert_eq!(requests[0].header("x-plain"), Some("a=b"));
    assert_eq!(
        requests[0].header("authorization"),
        Some("Bearer from-file")
    );
    assert_eq!(requests[0].header("x-tenant"), Some("fr0m-env"));
    let agent = requests[0].header("user-agent").unwrap();
    assert!(agent.starts_with("outspan/"), "{agent}");
    assert!(!ran.stderr.contains("from-file"), "{ran:?}");
    assert!(!ran.stderr.contains("fr0m-env"), "{ran:?}");
}

#[test]
fn a_secret_in_a_wrong_option_is_not_repeated() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(1, 1)));
    for header in ["s3cret", "a b=s3cret", "x=a\ns3cret"] {
        let ran = program::send(&[&file, "--to", "grpc://x", "--header", header]);
        let ran = ran.expect_status(2);
        assert!(!ran.stderr.contains("s3cret"), "{ran:?}");
    }
}

#[test]
fn requests_are_compressed_and_encoded_as_asked() {
    let files = Files::new();
    let request = input::request(0..50);
    let file = files.write(
        "shop.jsonl",
        &input::json_lines(std::slice::from_ref(&request)),
    );
    let expected = input::spans_of(&[request]);
    for compression in ["gzip", "zstd"] {
        for collector in [Collector::grpc(), Collector::http()] {
            let url = match collector.transport() {
                outspan_testkit::Transport::Grpc => grpc_url(&collector),
                outspan_testkit::Transport::Http => collector.endpoint(),
            };
            let level = ["--compression-level", "9"];
            let arguments = [&file, "--to", &url, "--compression", compression];
            program::send(&[&arguments[..], &level].concat()).expect_status(0);
            let requests = collector.requests();
            assert_eq!(requests[0].compression(), Some(compression));
            assert!(requests[0].wire_bytes < requests[0].message.len() / 2);
            assert_eq!(input::in_order(collector.spans()), expected);
        }
    }
    let collector = Collector::http();
    let arguments = [&file, "--to", &collector.endpoint(), "--protocol", "json"];
    program::send(&arguments).expect_status(0);
    let requests = collector.requests();
    assert_eq!(requests[0].content_type(), Some("application/json"));
    assert_eq!(input::in_order(collector.spans()), expected);
}

#[test]
fn quiet_says_nothing_when_all_is_well_and_everything_when_not() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(1, 5)));
    let collector = Collector::grpc();
    let url = grpc_url(&collector);
    let ran = program::send(&[&file, "--to", &url, "--quiet"]).expect_status(0);
    assert_eq!(ran.stderr, "");
    let bad = files.write("bad.jsonl", b"{\"resourceSpans\":7}\n");
    program::send(&[&file, &bad, "--to", &url, "--quiet"])
        .expect_status(1)
        .expect_said(&["bad.jsonl, line 1", "  5 spans delivered\n"]);
}

#[test]
fn colours_are_used_only_when_asked_for_where_there_is_no_terminal() {
    let missing = ["/no/such.jsonl", "--to", "stdout:"];
    let plain = program::send(&missing).expect_status(2);
    assert!(!plain.stderr.contains('\x1b'), "{plain:?}");
    let coloured = program::send(&[&missing[..], &["--color", "always"]].concat());
    assert!(coloured.stderr.contains("\x1b["), "{coloured:?}");
}

#[test]
fn plain_lines_say_what_begins_and_what_came_of_it() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(3, 5)));
    let collector = Collector::grpc();
    let url = grpc_url(&collector);
    let ran = program::send(&[&file, "--to", &url]).expect_status(0);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{ran:?}");
    assert!(
        lines[0].starts_with(&format!("sending {file} (")),
        "{ran:?}"
    );
    assert!(lines[0].ends_with(&format!("KiB) to {url}")), "{ran:?}");
    let well = format!("delivered 15 spans from {file} to {url} in ");
    assert!(lines[1].starts_with(&well), "{ran:?}");
    assert!(lines[1].contains("(3 records, "), "{ran:?}");
}

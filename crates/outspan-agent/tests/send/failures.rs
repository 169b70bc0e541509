//! What goes wrong is said in words, counted, and told by the exit status.

use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Certificates;
use outspan_testkit::Collector;
use outspan_testkit::ServerTls;
use outspan_testkit::Transport;

use crate::input;
use crate::input::Files;
use crate::program;

fn grpc_url(collector: &Collector) -> String {
    collector.endpoint().replace("http", "grpc")
}

fn some_file(files: &Files) -> String {
    files.write("shop.jsonl", &input::json_lines(&input::requests(3, 5)))
}

#[test]
fn a_missing_file_is_named_and_nothing_is_sent() {
    let files = Files::new();
    let good = some_file(&files);
    let missing = files.path("missing.jsonl");
    let collector = Collector::grpc();
    program::send(&[&good, &missing, "--to", &grpc_url(&collector)])
        .expect_status(2)
        .expect_said(&["missing.jsonl: no such file"]);
    assert_eq!(collector.connections(), 0);
}

#[test]
fn a_bad_line_is_told_with_line_and_column_and_the_rest_goes_on() {
    let files = Files::new();
    let mut text = input::json_lines(&input::requests(2, 5));
    text.extend_from_slice(b"{\"resourceSpans\":[{\"scopeSpans\":x}]}\n");
    text.extend_from_slice(&input::json_lines(&[input::request(10..15)]));
    let file = files.write("shop.jsonl", &text);
    let collector = Collector::grpc();
    program::send(&[&file, "--to", &grpc_url(&collector)])
        .expect_status(1)
        .expect_said(&[
            "shop.jsonl, line 3, column 33: not valid OTLP JSON",
            "error: not everything was delivered: 15 spans read",
            "(3 records",
            "  15 spans delivered\n",
            "  1 record bad, not sent\n",
        ]);
    assert_eq!(collector.span_count(), 15);
}

#[test]
fn strict_stops_at_the_first_bad_record() {
    let files = Files::new();
    let mut text = input::json_lines(&input::requests(2, 5));
    text.extend_from_slice(b"{nonsense\n");
    text.extend_from_slice(&input::json_lines(&[input::request(10..15)]));
    let file = files.write("shop.jsonl", &text);
    let collector = Collector::grpc();
    program::send(&[&file, "--to", &grpc_url(&collector), "--strict"])
        .expect_status(1)
        .expect_said(&[
            "  10 spans delivered\n",
            "  1 record bad, not sent\n",
            "shop.jsonl, line 2 was not read",
        ]);
    assert_eq!(collector.span_count(), 10);
}

#[test]
fn a_truncated_file_delivers_what_was_whole_and_says_where_it_ends() {
    let files = Files::new();
    let bytes = input::length_prefixed(&input::requests(3, 5));
    let file = files.write("cut.pb", &bytes[..bytes.len() - 7]);
    let collector = Collector::http();
    program::send(&[&file, "--to", &collector.endpoint()])
        .expect_status(1)
        .expect_said(&[
            "cut.pb, byte ",
            "the file ends after",
            "  10 spans delivered\n",
        ]);
    assert_eq!(collector.span_count(), 10);
}

#[test]
fn a_file_that_holds_no_spans_is_named() {
    let files = Files::new();
    let file = files.write("picture.png", b"\x89PNG\r\n\x1a\n and so on");
    let collector = Collector::grpc();
    program::send(&[&file, "--to", &grpc_url(&collector)])
        .expect_status(1)
        .expect_said(&["picture.png", "1 record bad"]);
}

#[test]
fn spans_without_valid_ids_are_counted_and_the_good_ones_go_on() {
    let files = Files::new();
    let mut request = input::request(0..6);
    let spans = &mut request.resource_spans[0].scope_spans[0].spans;
    spans[1].trace_id = vec![0; 16];
    spans[4].span_id = vec![];
    let file = files.write("shop.pb", &input::length_prefixed(&[request]));
    let collector = Collector::grpc();
    program::send(&[&file, "--to", &grpc_url(&collector)])
        .expect_status(1)
        .expect_said(&[
            "6 spans read",
            "  4 spans delivered\n",
            "  2 spans invalid, not sent\n",
        ]);
    assert_eq!(collector.span_count(), 4);
}

#[test]
fn a_dead_endpoint_is_told_with_what_to_do() {
    let files = Files::new();
    let file = some_file(&files);
    // A collector that is stopped keeps its port and refuses connections.
    let collector = Collector::http();
    collector.stop();
    let port = collector.address().port();
    for url in [
        format!("grpc://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{port}"),
    ] {
        program::send(&[&file, "--to", &url, "--retries", "0"])
            .expect_status(1)
            .expect_said(&[
                "  0 spans delivered\n",
                "  15 spans failed\n",
                &format!("127.0.0.1:{port}"),
                "refused",
                "is the server running",
                "advice: OTLP/gRPC usually listens on port 4317",
            ]);
    }
}

#[test]
fn trouble_is_told_once_while_it_tries_again_and_when_it_is_over() {
    let files = Files::new();
    let file = some_file(&files);
    let collector = Collector::grpc();
    collector.script([
        Answer::refuse(AnswerCode::UNAVAILABLE, "warming up"),
        Answer::refuse(AnswerCode::UNAVAILABLE, "warming up"),
    ]);
    let ran = program::send(&[&file, "--to", &grpc_url(&collector)]).expect_status(0);
    assert_eq!(ran.stderr.matches("; trying again\n").count(), 1, "{ran:?}");
    assert_eq!(ran.stderr.matches("delivering again").count(), 1, "{ran:?}");
    assert_eq!(collector.span_count(), 15);
}

#[test]
fn after_the_last_retry_it_gives_up_and_says_what_was_not_read() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(2000, 5)));
    let collector = Collector::http();
    collector.always(Answer::refuse(AnswerCode::UNAVAILABLE, "maintenance"));
    let arguments = [
        &file,
        "--to",
        &collector.endpoint(),
        "--retries",
        "1",
        "--batch-spans",
        "10",
        "--concurrency",
        "1",
    ];
    program::send(&arguments).expect_status(1).expect_said(&[
        "maintenance",
        "  0 spans delivered\n",
        " was not read\n",
    ]);
    assert_eq!(collector.requests().len(), 2, "one batch, tried twice");
}

#[test]
fn a_refused_token_is_told_and_nothing_more_is_sent() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(50, 5)));
    for collector in [Collector::grpc(), Collector::http()] {
        collector.always(Answer::require_header("authorization", "Bearer right"));
        let url = match collector.transport() {
            Transport::Grpc => grpc_url(&collector),
            Transport::Http => collector.endpoint(),
        };
        let wrong = "authorization=Bearer wr0ng";
        let arguments = ["--to", &url, "--batch-spans", "10", "--concurrency", "1"];
        let refused = program::send(&[&[&file, "--header", wrong], &arguments[..]].concat())
            .expect_status(1)
            .expect_said(&["refused by the destination", "token", "--header"]);
        assert!(!refused.stderr.contains("wr0ng"), "{refused:?}");
        assert_eq!(collector.requests().len(), 1);

        let right = "authorization: Bearer right";
        program::send(&[&[&file, "--header", right], &arguments[..]].concat()).expect_status(0);
        assert_eq!(collector.span_count(), 250);
    }
}

#[test]
fn a_wrong_path_is_told() {
    let files = Files::new();
    let file = some_file(&files);
    let collector = Collector::http();
    let url = format!("{}/wrong", collector.endpoint());
    program::send(&[&file, "--to", &url])
        .expect_status(1)
        .expect_said(&["404", "/v1/traces"]);
}

#[test]
fn tls_against_plaintext_is_told_both_ways() {
    let files = Files::new();
    let file = some_file(&files);
    let certificates = Certificates::new();
    for (transport, plain, secure) in [
        (Transport::Grpc, "grpc", "grpcs"),
        (Transport::Http, "http", "https"),
    ] {
        let collector = Collector::over(transport).start();
        let url = collector.endpoint().replacen("http", secure, 1);
        let ran = program::send(&[&file, "--to", &url, "--retries", "0"]).expect_status(1);
        assert!(
            ran.stderr.contains("does not speak TLS"),
            "{secure}: {ran:?}"
        );

        let tls = ServerTls::new(certificates.server());
        let collector = Collector::over(transport).tls(tls).start();
        let url = collector.endpoint().replacen("https", plain, 1);
        let ran = program::send(&[&file, "--to", &url, "--retries", "0"]).expect_status(1);
        assert!(ran.stderr.contains("expects TLS"), "{plain}: {ran:?}");
    }
}

#[test]
fn an_untrusted_certificate_is_told_and_trusted_with_its_authority() {
    let files = Files::new();
    let file = some_file(&files);
    let certificates = Certificates::new();
    let authority = certificates.authority_file();
    let authority = authority.to_str().unwrap();
    for (transport, secure) in [(Transport::Grpc, "grpcs"), (Transport::Http, "https")] {
        let tls = ServerTls::new(certificates.server());
        let collector = Collector::over(transport).tls(tls).start();
        let url = collector.endpoint().replacen("https", secure, 1);
        program::send(&[&file, "--to", &url, "--retries", "0"])
            .expect_status(1)
            .expect_said(&["certificate"]);
        program::send(&[&file, "--to", &url, "--ca", authority]).expect_status(0);
        assert_eq!(collector.span_count(), 15);
        program::send(&[&file, "--to", &url, "--insecure-skip-verify"])
            .expect_status(0)
            .expect_said(&["warning: the certificate of 127.0.0.1 is not verified"]);
        assert_eq!(collector.span_count(), 30);
    }
}

#[test]
fn the_program_shows_its_certificate_when_asked() {
    let files = Files::new();
    let file = some_file(&files);
    let certificates = Certificates::new();
    let authority = certificates.authority_file();
    let client = certificates.write("client", &certificates.client("shop-sender"));
    let tls = ServerTls::new(certificates.server()).demand_client(certificates.authority());
    let collector = Collector::over(Transport::Grpc).tls(tls).start();
    let url = collector.endpoint().replacen("https", "grpcs", 1);
    let trusting = [&file, "--to", &url, "--ca", authority.to_str().unwrap()];
    program::send(&[&trusting[..], &["--retries", "0"]].concat()).expect_status(1);
    let shown = [
        "--cert",
        client.certificate.to_str().unwrap(),
        "--key",
        client.key.to_str().unwrap(),
    ];
    program::send(&[&trusting[..], &shown].concat()).expect_status(0);
    let peer = collector.requests()[0].peer.clone();
    assert_eq!(peer.as_deref(), Some("shop-sender"));
}

#[test]
fn what_a_server_refuses_is_in_the_summary_with_its_words() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(4, 5)));
    for collector in [Collector::grpc(), Collector::http()] {
        collector.script([
            Answer::partial(2, "span names too long"),
            Answer::refuse(AnswerCode::INVALID_ARGUMENT, "no such tenant"),
        ]);
        let url = match collector.transport() {
            Transport::Grpc => grpc_url(&collector),
            Transport::Http => collector.endpoint(),
        };
        let arguments = [
            &file,
            "--to",
            &url,
            "--batch-spans",
            "5",
            "--concurrency",
            "1",
        ];
        program::send(&arguments).expect_status(1).expect_said(&[
            "20 spans read",
            "  13 spans delivered\n",
            "  7 spans refused by the destination\n",
            "    2: span names too long\n",
            "no such tenant",
        ]);
        assert_eq!(collector.span_count(), 13);
    }
}

#[test]
fn a_warning_of_a_server_that_took_everything_is_passed_on() {
    let files = Files::new();
    let file = some_file(&files);
    let collector = Collector::grpc();
    collector.always(Answer::partial(0, "please upgrade"));
    program::send(&[&file, "--to", &grpc_url(&collector)])
        .expect_status(0)
        .expect_said(&[
            "warning: the destination says: please upgrade",
            "delivered 15 spans",
        ]);
}

#[test]
fn a_destination_that_takes_less_gets_less() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&[input::request(0..500)]));
    for collector in [Collector::grpc(), Collector::http()] {
        // The words are those of grpc-go, and so of a stock Collector; over HTTP the status says it.
        collector.always(Answer::decide(|request| match request.message.len() {
            0..=10_000 => Answer::Accept,
            bytes => Answer::refuse(
                AnswerCode::TOO_LARGE,
                &format!("grpc: received message larger than max ({bytes} vs. 10000)"),
            ),
        }));
        let url = match collector.transport() {
            Transport::Grpc => grpc_url(&collector),
            Transport::Http => collector.endpoint(),
        };
        program::send(&[&file, "--to", &url])
            .expect_status(0)
            .expect_said(&["delivered 500 spans"]);
        assert_eq!(collector.span_count(), 500);
    }
}

/// The number before ` spans WHAT` (or ` span WHAT`) in a summary, 0 where there is none.
fn counted(summary: &str, what: &str) -> u64 {
    for noun in ["spans", "span"] {
        if let Some((before, _)) = summary.split_once(&format!(" {noun} {what}")) {
            let digits = before.rsplit(' ').next().unwrap();
            return digits.replace(',', "").parse().unwrap();
        }
    }
    0
}

#[test]
fn the_summary_adds_up_whatever_happens() {
    let files = Files::new();
    let mut requests = input::requests(200, 7);
    for request in requests.iter_mut().step_by(9) {
        request.resource_spans[0].scope_spans[0].spans[3].span_id = vec![1, 2];
    }
    let mut text = Vec::new();
    for (i, request) in requests.iter().enumerate() {
        text.extend_from_slice(&input::json_lines(std::slice::from_ref(request)));
        if i % 40 == 7 {
            text.extend_from_slice(b"{\"resourceSpans\":\n");
        }
    }
    let file = files.write("shop.jsonl", &text);
    for collector in [Collector::grpc(), Collector::http()] {
        let number = std::sync::atomic::AtomicU64::new(0);
        collector.always(Answer::decide(move |_| {
            match number.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 5 {
                0 => Answer::partial(3, "too long"),
                1 => Answer::refuse(AnswerCode::INVALID_ARGUMENT, "no"),
                2 => Answer::refuse(AnswerCode::UNAVAILABLE, "busy"),
                _ => Answer::Accept,
            }
        }));
        let url = match collector.transport() {
            Transport::Grpc => grpc_url(&collector),
            Transport::Http => collector.endpoint(),
        };
        let arguments = [
            &file,
            "--to",
            &url,
            "--batch-spans",
            "40",
            "--max-elapsed",
            "10s",
        ];
        let ran = program::send(&arguments).expect_status(1);
        let count = |what| counted(&ran.stderr, what);
        assert_eq!(count("read"), 1400, "{ran:?}");
        assert_eq!(count("invalid"), 23, "{ran:?}");
        assert_eq!(
            count("delivered\n"),
            collector.span_count() as u64,
            "{ran:?}"
        );
        assert!(count("refused") > 0, "{ran:?}");
        let ends = count("delivered\n") + count("refused") + count("failed") + count("invalid");
        assert_eq!(ends, 1400, "{ran:?}");
        assert!(
            ran.stderr.contains("  5 records bad, not sent\n"),
            "{ran:?}"
        );
    }
}

//! Usage, and what is said about mistakes.

use outspan::Export;
use outspan::otlp;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Collector;
use outspan_testkit::Transport;
use outspan_testkit::batch_of;
use outspan_testkit::soon;

use crate::agent::Agent;
use crate::agent::LIMIT;
use crate::agent::deliver;
use crate::running::Running;
use crate::running::outspan;

/// An address for nothing but to be there, where a test is about something else.
const FREE: [&str; 4] = ["--listen", "grpc://127.0.0.1:0", "--admin", "off"];

#[test]
fn help_says_what_there_is() {
    let help = outspan(&["agent", "--help"]).expect_status(0);
    for text in [
        "Examples:",
        "Destinations:",
        "Options of destinations:",
        "Exit status:",
        "--listen",
        "--memory",
        "stdout:",
    ] {
        assert!(help.stdout.contains(text), "{text}: {}", help.stdout);
    }
}

#[test]
fn wrong_usage_ends_with_status_2_and_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let garbage = directory.path().join("garbage.pem");
    std::fs::write(&garbage, "this is no certificate").unwrap();
    let garbage = garbage.to_str().unwrap();
    let full = directory.path().join("full.pb");
    std::fs::write(&full, "something").unwrap();
    let full = format!("file:{}", full.display());
    let secure = ["--to", "stdout:", "--listen", "grpcs://127.0.0.1:0"];
    let with_certificate = ["--listen-cert", garbage, "--listen-key", garbage];
    let secure = [&secure[..], &with_certificate].concat();
    let cases: [(&[&str], &str); 21] = [
        (&[], "--to <URL>"),
        (&["--header", "a=b"], "--to <URL>"),
        (
            &["--to", "localhost:4317"],
            "did you mean grpc://localhost:4317?",
        ),
        (&["--to", "ftp://x"], "unknown scheme \"ftp\""),
        (&["--to", "grpc://x", "--listen", "ftp://x"], "--listen: "),
        // Whether Kafka is there or not, this says what to do.
        (&["--to", "grpc://x", "--listen", "kafka:"], "--listen: "),
        (&["--to", "kafka:"], "--to: "),
        (
            &["--to", "grpc://x", "--listen", "localhost:4317"],
            "grpc://",
        ),
        (
            &["--to", "grpc://x", "--memory", "1MiB"],
            "16.0 MiB at least",
        ),
        (&["--to", "grpc://x", "--memory", "lots"], "unknown unit"),
        (&["--to", "grpc://x", "--listen-key", "k"], "--listen-cert"),
        (&["--to", "grpc://x", "--listen-cert", "c"], "--listen-key"),
        (&secure, garbage),
        (&["--to", "grpcs://x", "--ca", garbage], garbage),
        (&["--to", "grpcs://x", "--cert", garbage], "--key"),
        (
            &["--to", "stdout:", "--header", "a=b"],
            "--header has no meaning here",
        ),
        (
            &["--to", "grpc://x", "--append"],
            "--append has no meaning here",
        ),
        (&["--to", &full], "exists: add --append or --overwrite"),
        (
            &["--to", "file:/no/such/directory/x.pb"],
            "/no/such/directory",
        ),
        (
            &["--to", "stdout:", "--to", "stdout:json"],
            "two destinations",
        ),
        (
            &["--to", "grpc://x", "--batch-delay", "0s"],
            "more than zero",
        ),
    ];
    for (arguments, text) in cases {
        outspan(&[&["agent"], &FREE[..], arguments].concat())
            .expect_status(2)
            .expect_said(&[text]);
    }
}

#[test]
fn an_address_that_is_taken_is_named() {
    let agent = Agent::start(&["--to", "stdout:"]);
    let address = agent.grpc().replacen("http", "grpc", 1);
    let port = address.rsplit(':').next().unwrap();
    let arguments = [
        "agent", "--to", "stdout:", "--admin", "off", "--listen", &address,
    ];
    outspan(&arguments).expect_status(2).expect_said(&[port]);
    let admin = address.trim_start_matches("grpc://");
    let arguments = ["agent", "--to", "stdout:", "--listen", "grpc://127.0.0.1:0"];
    outspan(&[&arguments[..], &["--admin", admin]].concat())
        .expect_status(2)
        .expect_said(&[port, "--admin"]);
    agent.stop("TERM").expect_status(0);
}

#[test]
fn an_agent_says_where_it_listens_and_where_it_sends_to() {
    let arguments = ["agent", "--to", "grpc://127.0.0.1:1", "--to", "stdout:"];
    let listen = ["--listen", "http://127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut running = Running::start(&[&arguments[..], &listen].concat(), &[]);
    running.wait_until_said("admin on http://127.0.0.1:");
    running.signal("TERM");
    let ran = running.finish().expect_status(0);
    let lines: Vec<_> = ran.stderr.lines().collect();
    assert!(
        lines[0].starts_with("listening on http://127.0.0.1:"),
        "{lines:?}"
    );
    assert_eq!(lines[1], "sending to grpc://127.0.0.1:1");
    assert_eq!(lines[2], "sending to standard output");
    assert_eq!(
        lines[3],
        format!(
            "requests may have {}",
            "48.0 MiB at most, because --memory is 256.0 MiB"
        )
    );
    assert!(
        lines[4].starts_with("admin on http://127.0.0.1:"),
        "{lines:?}"
    );
    assert_eq!(lines[5], "terminated: stopping");
    assert!(lines[6].starts_with("received 0 spans in "), "{lines:?}");
    assert_eq!(lines.len(), 9, "{lines:?}");
}

#[tokio::test]
async fn a_quiet_agent_says_nothing_while_all_is_well() {
    let collector = Collector::grpc();
    let url = collector.endpoint().replacen("http", "grpc", 1);
    let address = free_address();
    let listen = format!("grpc://{address}");
    let arguments = [
        "agent", "--quiet", "--to", &url, "--admin", "off", "--listen", &listen,
    ];
    let running = Running::start(&arguments, &[]);
    let sender = otlp::grpc(format!("http://{address}")).build().unwrap();
    // It says nothing, so only an answer tells that it is there.
    let sender = sender
        .retry(outspan::Retry::default().initial_interval(std::time::Duration::from_millis(50)));
    deliver(&sender, &batch_of(3)).await;
    collector.wait_for_spans(3, LIMIT).await;
    running.signal("TERM");
    let ran = running.finish().expect_status(0);
    assert_eq!(ran.stderr, "");
    assert_eq!(ran.stdout, "");
}

/// An address that was free a moment ago.
fn free_address() -> String {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn secrets_are_in_no_output() {
    const SECRETS: [&str; 5] = ["t0ken", "s3cret", "passw0rd", "ap1key", "l1sten"];

    let collector = Collector::over(Transport::Http)
        .path("/v1/traces?key=ap1key")
        .start();
    collector.script([Answer::refuse(AnswerCode::UNAVAILABLE, "not now")]);
    let host = collector.address();
    let arguments = [
        "-vv",
        "--header",
        "x-shared=s3cret",
        "--to",
        &format!("http://me:passw0rd@{host}/v1/traces?key=ap1key"),
        "--header",
        "authorization=Bearer t0ken",
        "--listen-token",
        "l1sten",
    ];
    let mut agent = Agent::start(&arguments);
    for (url, is_grpc) in [
        (agent.grpc().to_owned(), true),
        (agent.http().to_owned(), false),
    ] {
        let builder = |token: &str| {
            let builder = match is_grpc {
                true => otlp::grpc(&url),
                false => otlp::http(&url),
            };
            let builder = builder.header("authorization", format!("Bearer {token}"));
            builder.build().unwrap()
        };
        deliver(&builder("l1sten"), &batch_of(2)).await;
        let refused = builder("not-the-l1sten").export(batch_of(2), soon()).await;
        assert!(refused.is_err_and(|error| !error.is_temporary()));
    }
    collector.wait_for_spans(4, LIMIT).await;
    agent.running().wait_until_said("TRACE");
    let ran = agent.stop("TERM").expect_status(0);
    let request = &collector.requests()[0];
    assert_eq!(request.header("x-shared"), Some("s3cret"));
    for secret in SECRETS {
        let line = ran.stderr.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
        assert!(!ran.stdout.contains(secret));
    }
}

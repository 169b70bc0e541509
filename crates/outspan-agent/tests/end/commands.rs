//! The other commands that take their time: signals end them in order, or are ignored.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use outspan_testkit::Answer;
use outspan_testkit::Collector;
use outspan_testkit::Gate;

use crate::agent::LIMIT;
use crate::agent::detached;
use crate::agent::url_of;
use crate::running::Running;

/// Signals that end a program in order, with the word for them and the exit status.
const STOPS: [(&str, &str, i32); 4] = [
    ("HUP", "hung up", 129),
    ("INT", "interrupted", 130),
    ("QUIT", "quit", 131),
    ("TERM", "terminated", 143),
];

const SPAN: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"x"}]}]}]}"#;

fn start(arguments: &[&str]) -> Running {
    let mut command: Command = detached();
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Running::of_command(&mut command)
}

#[tokio::test]
async fn send_ends_in_order_and_names_what_was_not_read() {
    for (signal, word, status) in STOPS {
        let collector = Collector::grpc();
        let gate = Gate::new();
        collector.always(Answer::stall_until(&gate, Answer::Accept));
        let mut running = start(&["send", "-", "--to", &url_of(&collector)]);
        let mut stdin = running.stdin();
        stdin.write_all(format!("{SPAN}\n").as_bytes()).unwrap();
        collector.wait_for_in_flight(1, LIMIT).await;
        running.signal("USR1");
        running.wait_until_said("ignored SIGUSR1");
        running.signal(signal);
        running.wait_until_said(&format!("{word}: reading stopped"));
        // A closed terminal sends several; only another kind of signal ends the program at once.
        running.signal("HUP");
        gate.open();
        let ran = running.finish_with(stdin).expect_status(status);
        ran.expect_said(&["1 span delivered"]);
        assert_eq!(collector.span_count(), 1);
    }
}

#[tokio::test]
async fn generate_ends_in_order_with_its_summary() {
    for (signal, word, status) in STOPS {
        let collector = Collector::grpc();
        let arguments = ["generate", "--duration", "1h", "--to", &url_of(&collector)];
        let mut running = start(&arguments);
        collector.wait_for_spans(1, LIMIT).await;
        running.signal("XFSZ");
        running.wait_until_said("ignored SIGXFSZ");
        running.signal(signal);
        let ran = running.finish().expect_status(status);
        ran.expect_said(&[word]);
    }
}

#[test]
fn convert_leaves_its_output_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    for (signal, _, status) in STOPS {
        let output = directory.path().join("out.pb");
        let mut running = start(&["convert", "-", &output.display().to_string()]);
        let mut stdin = running.stdin();
        // More than a pipe holds: somebody reads, and handles signals before.
        stdin
            .write_all(format!("{SPAN}\n").repeat(5000).as_bytes())
            .unwrap();
        running.signal("USR2");
        running.wait_until_said("ignored SIGUSR2");
        running.signal(signal);
        running.finish_with(stdin).expect_status(status);
        assert_is_empty(directory.path());
    }
}

fn assert_is_empty(directory: &Path) {
    let left: Vec<_> = std::fs::read_dir(directory).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn demo_ends_in_order_with_its_summary() {
    for (signal, word, _) in STOPS {
        let mut running = start(&["demo", "--spans", "0", "--rate", "100"]);
        running.wait_until_said("made");
        running.signal(signal);
        let ran = running.finish().expect_status(0);
        ran.expect_said(&[&format!("{word}: no more visits")]);
    }
}

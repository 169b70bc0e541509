//! Files and outputs that cannot be written any more, or that others take away: what is counted as delivered is there.

#![cfg(target_os = "linux")]

use std::fs;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use outspan::file::ReadOptions;
use outspan::file::SpanFile;
use outspan_testkit::batch_of;
use tempfile::TempDir;

use crate::agent::Agent;
use crate::agent::Outcome;

/// Limits the size of files, in blocks of 512 or 1024 bytes, and ignores the signal that tells of it.
const LIMITED: &str = "trap '' XFSZ; ulimit -f 16";

const EVERY_FORMAT: [&str; 5] = [
    "stdout:compact",
    "stdout:pretty",
    "stdout:json",
    "stdout:otlp",
    "stdout:trees",
];

/// Sends so many batches of five spans, and stops the agent.
async fn send_and_stop(agent: Agent, batches: usize, name: &str) -> (Outcome, String) {
    for _ in 0..batches {
        agent.send(&batch_of(5)).await;
    }
    let ran = agent.stop("TERM");
    (Outcome::of(&ran, name), ran.stderr)
}

fn spans_in(path: &Path) -> u64 {
    let records = SpanFile::open_path(path, ReadOptions::default()).unwrap();
    let spans = records.map(|record| record.unwrap().checked.batch.spans() as u64);
    spans.sum()
}

#[tokio::test]
async fn full_device_is_an_error_and_nothing_is_delivered() {
    for to in EVERY_FORMAT {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let arguments = ["--to", to, "--shutdown-timeout", "1s"];
        let agent = Agent::start_with_output(&arguments, full.into());
        let (outcome, log) = send_and_stop(agent, 2, "standard output").await;
        assert_eq!((outcome.delivered, outcome.lost), (0, 10), "{to}: {log}");
        assert!(log.contains("disk is full"), "{to}: {log}");
    }
}

#[tokio::test]
async fn closed_pipe_is_an_error_and_nothing_is_delivered() {
    for to in EVERY_FORMAT {
        let (reader, writer) = std::io::pipe().unwrap();
        // Another destination keeps the agent running.
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("spans.jsonl");
        let file = format!("file:{}", path.display());
        let agent = Agent::start_with_output(&["--to", to, "--to", &file], writer.into());
        drop(reader);
        agent.send(&batch_of(5)).await;
        let ran = agent.stop("TERM");
        let outcome = Outcome::of(&ran, "standard output");
        assert_eq!(
            (outcome.delivered, outcome.lost),
            (0, 5),
            "{to}: {}",
            ran.stderr
        );
        assert_eq!(spans_in(&path), 5);
    }
}

#[tokio::test]
async fn limit_of_file_size_is_an_error_and_what_is_delivered_is_in_the_file() {
    for name in ["spans.jsonl", "spans.pb", "spans.jsonl.gz", "spans.pb.zst"] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join(name);
        let to = format!("file:{}", path.display());
        let arguments = ["--to", &to, "--batch-delay", "1ms"];
        let agent = Agent::start_after(LIMITED, &arguments, Stdio::null());
        let (outcome, log) = send_and_stop(agent, 80, &path.display().to_string()).await;
        assert_eq!(outcome.received, 400);
        assert_eq!(outcome.delivered, spans_in(&path), "{name}: {log}");
        assert!(outcome.delivered > 0, "{name}: {log}");
        if outcome.lost > 0 {
            assert!(log.contains("may not grow any more"), "{name}: {log}");
        }
        if name == "spans.jsonl" {
            assert!(outcome.lost > 0, "{log}");
        }
    }
}

#[tokio::test]
async fn limit_of_file_size_of_standard_output_counts_the_spans_that_are_whole() {
    for to in ["stdout:compact", "stdout:json"] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("out");
        let output = File::create(&path).unwrap();
        let arguments = ["--to", to, "--batch-delay", "1ms"];
        let agent = Agent::start_after(LIMITED, &arguments, output.into());
        let (outcome, log) = send_and_stop(agent, 80, "standard output").await;
        assert_eq!(outcome.received, 400);
        assert!(outcome.lost > 0 && outcome.delivered > 0, "{to}: {log}");
        let lines = fs::read(&path).unwrap();
        let whole = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(outcome.delivered, whole, "{to}: {log}");
    }
}

#[tokio::test]
async fn removed_and_renamed_files_are_made_anew() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spans.jsonl");
    let aside = directory.path().join("aside.jsonl");
    let to = format!("file:{}", path.display());
    for is_removed in [true, false] {
        let agent = Agent::start(&["--to", &to, "--batch-delay", "1ms"]);
        agent.send(&batch_of(5)).await;
        wait_for_spans(&path, 5).await;
        match is_removed {
            true => fs::remove_file(&path).unwrap(),
            false => fs::rename(&path, &aside).unwrap(),
        }
        let (outcome, log) = send_and_stop(agent, 1, &path.display().to_string()).await;
        assert_eq!(outcome, Outcome::all(10));
        match is_removed {
            // The last record is written again.
            true => {
                assert_eq!(spans_in(&path), 10, "{log}");
                assert!(log.contains("was removed by another program"), "{log}");
            }
            false => {
                assert_eq!((spans_in(&path), spans_in(&aside)), (5, 5), "{log}");
                assert!(log.contains("was renamed by another program"), "{log}");
            }
        }
        fs::remove_file(&path).unwrap();
    }
}

async fn wait_for_spans(path: &Path, spans: u64) {
    let begun = std::time::Instant::now();
    while !path.exists() || spans_in(path) < spans {
        assert!(begun.elapsed() < crate::agent::LIMIT);
        // Sleeps: a file that another program writes tells nobody when it grows.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

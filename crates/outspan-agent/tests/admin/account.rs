//! What was sent is what status and metrics say, at every moment.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;

use outspan::Export;
use outspan::Exporter;
use outspan::otlp;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Collector;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use serde_json::Value;

use crate::agent::Agent;
use crate::agent::post;
use crate::agent::read_status;
use crate::running::LIMIT;

/// Sends batches of `spans` spans, each acknowledged before the next.
async fn send(exporter: &Exporter, batches: usize, spans: usize) {
    for _ in 0..batches {
        let delivery = exporter.export(batch_of(spans), soon()).await.unwrap();
        assert_eq!(delivery.accepted, spans as u64, "{delivery:?}");
    }
}

fn is_idle(status: &Value) -> bool {
    let mut destinations = status["destinations"].as_array().unwrap().iter();
    destinations.all(|to| to["spans"]["queued"] == 0 && to["spans"]["in_flight"] == 0)
}

#[tokio::test]
async fn status_and_metrics_say_what_was_sent_and_every_reading_closes() {
    let (one, two) = (Collector::grpc(), Collector::http());
    let (to_one, to_two) = (one.endpoint().replace("http", "grpc"), two.endpoint());
    let agent = Agent::start(&["--to", &to_one, "--to", &to_two]);
    let is_over = Arc::new(AtomicBool::new(false));
    let readings = {
        let (admin, is_over) = (agent.admin(), Arc::clone(&is_over));
        thread::spawn(move || {
            let mut readings = 0;
            while !is_over.load(Ordering::Acquire) {
                // Fails where an account does not close.
                read_status(&admin);
                readings += 1;
            }
            readings
        })
    };

    let grpc = otlp::grpc(agent.grpc()).build().unwrap();
    let http = otlp::http(agent.http()).build().unwrap();
    tokio::join!(send(&grpc, 100, 30), send(&http, 50, 10));
    one.wait_for_spans(3500, LIMIT).await;
    two.wait_for_spans(3500, LIMIT).await;
    let status = agent.wait_for("idle agent", is_idle);
    is_over.store(true, Ordering::Release);
    assert!(readings.join().unwrap() > 0);

    for (receiver, transport, requests, spans) in [(0, "grpc", 100, 3000), (1, "http", 50, 500)] {
        let receiver = &status["receivers"][receiver];
        assert_eq!(receiver["transport"], transport);
        assert_eq!(receiver["requests"]["accepted"], requests);
        assert_eq!(receiver["requests"]["refused"], 0);
        assert_eq!(receiver["spans"]["accepted"], spans);
        assert!(receiver["bytes"].as_u64().unwrap() > spans * 20);
    }
    for destination in status["destinations"].as_array().unwrap() {
        assert_eq!(destination["spans"]["received"], 3500);
        assert_eq!(destination["spans"]["delivered"], 3500);
        assert_eq!(destination["trouble"], Value::Null);
    }
    assert!(status["connections"]["open"].as_u64().unwrap() >= 2);

    let metrics = agent.metrics();
    let accepted = "otelcol_receiver_accepted_spans_total";
    assert_eq!(metrics.sum(accepted, &[("transport", "grpc")]), 3000.0);
    assert_eq!(metrics.sum(accepted, &[("transport", "http")]), 500.0);
    for name in [
        "otelcol_exporter_sent_spans_total",
        "outspan_exporter_received_spans_total",
    ] {
        for destination in status["destinations"].as_array().unwrap() {
            let label = [("exporter", destination["name"].as_str().unwrap())];
            assert_eq!(metrics.sum(name, &label), 3500.0, "{name} {label:?}");
        }
    }
    for name in [
        "outspan_exporter_dropped_spans_total",
        "otelcol_exporter_send_failed_spans_total",
        "otelcol_exporter_queue_size",
        "otelcol_receiver_refused_spans_total",
    ] {
        assert_eq!(metrics.sum(name, &[]), 0.0, "{name}");
    }
    assert_eq!(metrics.sum("outspan_ready", &[]), 1.0);
    if cfg!(target_os = "linux") {
        assert!(metrics.sum("otelcol_process_memory_rss_bytes", &[]) > f64::from(1 << 20));
        assert!(metrics.sum("otelcol_process_cpu_seconds_total", &[]) > 0.0);
    }
}

#[tokio::test]
async fn what_a_destination_refuses_is_counted_as_its_refusal() {
    let collector = Collector::grpc();
    collector.always(Answer::refuse(
        AnswerCode::INVALID_ARGUMENT,
        "not like this",
    ));
    let agent = Agent::start(&["--to", &collector.endpoint().replace("http", "grpc")]);
    let grpc = otlp::grpc(agent.grpc()).build().unwrap();
    send(&grpc, 3, 5).await;
    let status = agent.wait_for("refusal", |status| {
        status["destinations"][0]["spans"]["received"] == 15 && is_idle(status)
    });
    let spans = &status["destinations"][0]["spans"];
    let metrics = agent.metrics();
    let failed = metrics.sum("otelcol_exporter_send_failed_spans_total", &[]);
    assert_eq!(failed, 15.0, "{spans:#}");
    let refused = spans["refused"].as_u64().unwrap();
    let dropped = spans["dropped"]["failed"].as_u64().unwrap();
    assert_eq!(refused + dropped, 15, "{spans:#}");
    let rejected = [("error_type", "rejected")];
    assert_eq!(
        metrics.sum("otelcol_exporter_send_failed_spans_total", &rejected),
        refused as f64
    );
    assert_eq!(metrics.sum("otelcol_exporter_sent_spans_total", &[]), 0.0);
}

#[tokio::test]
async fn a_malformed_request_is_a_refused_request_without_spans() {
    let collector = Collector::http();
    let agent = Agent::start(&["--to", &collector.endpoint()]);
    let address = agent.http();
    let address = address.strip_prefix("http://").unwrap();
    let answer = post(address, "/v1/traces", b"\xffnonsense");
    assert_eq!(answer.status, 400, "{answer:?}");
    let status = agent.status();
    let http = &status["receivers"][1];
    assert_eq!(http["requests"]["refused"], 1, "{http:#}");
    assert_eq!(http["spans"]["accepted"], 0, "{http:#}");
    let metrics = agent.metrics();
    for name in [
        "otelcol_receiver_requests_total",
        "outspan_receiver_requests_total",
    ] {
        let refused = [("transport", "http"), ("outcome", "refused")];
        assert_eq!(metrics.sum(name, &refused), 1.0, "{name}");
    }
}

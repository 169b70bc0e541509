//! What was received is delivered, whatever happens to backends.

use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::trace::SdkTracerProvider;
use outspan::Batch;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Collector;
use outspan_testkit::Gate;
use outspan_testkit::Transport;
use outspan_testkit::batch_of;

use crate::agent::Agent;
use crate::agent::LIMIT;
use crate::agent::Outcome;
use crate::agent::assert_has_all;
use crate::agent::deliver;
use crate::agent::url_of;

fn batches(count: usize, spans: usize) -> Vec<Batch> {
    (0..count).map(|_| batch_of(spans)).collect()
}

#[tokio::test]
async fn everything_that_comes_over_either_transport_is_delivered_over_either() {
    for collector in [Collector::grpc(), Collector::http()] {
        let url = url_of(&collector);
        let agent = Agent::start(&["--to", &url]);
        let batches = batches(20, 7);
        for (number, batch) in batches.iter().enumerate() {
            let transport = match number % 2 {
                0 => Transport::Grpc,
                _ => Transport::Http,
            };
            deliver(&agent.sender(transport), batch).await;
        }
        collector.wait_for_spans(140, LIMIT).await;
        let ran = agent.stop("TERM").expect_status(0);
        assert_has_all(&collector, &batches);
        assert_eq!(Outcome::of(&ran, &url), Outcome::all(140));
        ran.expect_said(&["received 140 spans in "]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_with_the_stock_exporter_is_passed_on() {
    let collector = Collector::grpc();
    let agent = Agent::start(&["--to", &url_of(&collector), "--compression", "gzip"]);
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(agent.grpc())
        .build()
        .unwrap();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .build();
    let tracer = provider.tracer("shop");
    for _ in 0..10 {
        tracer.in_span("GET /basket", |_| ());
    }
    let flushed = tokio::task::spawn_blocking(move || provider.shutdown());
    flushed.await.unwrap().unwrap();
    let spans = collector.wait_for_spans(10, LIMIT).await;
    assert!(spans.iter().all(|span| span.span.name == "GET /basket"));
    assert!(
        spans
            .iter()
            .all(|span| span.scope.as_ref().unwrap().name == "shop")
    );
    let request = &collector.requests()[0];
    assert_eq!(request.compression(), Some("gzip"));
    assert!(
        request
            .header("user-agent")
            .unwrap()
            .starts_with("outspan/")
    );
    agent.stop("INT").expect_status(0);
}

#[tokio::test]
async fn a_dead_destination_costs_the_others_nothing_and_its_loss_is_told() {
    let (healthy, dead) = (Collector::grpc(), Collector::grpc());
    dead.stop();
    let (healthy_url, dead_url) = (url_of(&healthy), url_of(&dead));
    let arguments = [
        "--to",
        &dead_url,
        "--to",
        &healthy_url,
        "--shutdown-timeout",
        "500ms",
    ];
    let mut agent = Agent::start(&arguments);
    let batches = batches(10, 10);
    for batch in &batches {
        agent.send(batch).await;
    }
    healthy.wait_for_spans(100, LIMIT).await;
    agent.running().wait_until_said("warning: ");
    let ran = agent.stop("TERM").expect_status(1);
    assert_has_all(&healthy, &batches);
    assert_eq!(Outcome::of(&ran, &healthy_url), Outcome::all(100));
    let lost = Outcome {
        received: 100,
        lost: 100,
        ..Outcome::default()
    };
    assert_eq!(Outcome::of(&ran, &dead_url), lost);
    ran.expect_said(&[
        "terminated: delivering 100 spans within 0.50 s; a second signal stops at once",
        "(100 shutdown)",
    ]);
}

#[tokio::test]
async fn a_destination_that_comes_back_gets_what_it_missed() {
    let (healthy, dead) = (Collector::grpc(), Collector::http());
    dead.stop();
    let arguments = ["--to", &url_of(&healthy), "--to", &url_of(&dead)];
    let mut agent = Agent::start(&arguments);
    let batches = batches(10, 10);
    for batch in &batches {
        agent.send(batch).await;
    }
    healthy.wait_for_spans(100, LIMIT).await;
    agent.running().wait_until_said("warning: ");
    dead.restart();
    dead.wait_for_spans(100, LIMIT).await;
    agent.running().wait_until_said("takes spans again");
    let ran = agent.stop("TERM").expect_status(0);
    assert_has_all(&healthy, &batches);
    assert_has_all(&dead, &batches);
    assert_eq!(Outcome::of(&ran, &url_of(&dead)), Outcome::all(100));
}

#[tokio::test]
async fn a_backend_that_is_killed_and_comes_back_misses_nothing() {
    let collector = Collector::grpc();
    let url = url_of(&collector);
    let mut agent = Agent::start(&["--to", &url]);
    let batches = batches(30, 5);
    for batch in &batches[..10] {
        agent.send(batch).await;
    }
    collector.wait_for_spans(50, LIMIT).await;
    collector.stop();
    for batch in &batches[10..20] {
        agent.send(batch).await;
    }
    agent.running().wait_until_said("warning: ");
    collector.restart();
    for batch in &batches[20..] {
        agent.send(batch).await;
    }
    collector.wait_for_spans(150, LIMIT).await;
    let ran = agent.stop("TERM").expect_status(0);
    assert_has_all(&collector, &batches);
    assert_eq!(Outcome::of(&ran, &url), Outcome::all(150));
}

#[tokio::test]
async fn what_a_backend_refuses_for_good_is_counted_and_told() {
    let collector = Collector::grpc();
    collector.always(Answer::refuse(
        AnswerCode::INVALID_ARGUMENT,
        "not like this",
    ));
    let url = url_of(&collector);
    let mut agent = Agent::start(&["--to", &url]);
    agent.send(&batch_of(9)).await;
    agent.running().wait_until_said("not like this");
    let ran = agent.stop("TERM").expect_status(1);
    let refused = Outcome {
        received: 9,
        refused: 9,
        ..Outcome::default()
    };
    assert_eq!(Outcome::of(&ran, &url), refused);
}

#[tokio::test]
async fn an_option_after_a_destination_goes_to_that_destination_alone() {
    let (one, other) = (Collector::grpc(), Collector::http());
    let arguments = [
        "--header",
        "x-both=1",
        "--to",
        &url_of(&one),
        "--header",
        "authorization=Bearer t0ken",
        "--to",
        &url_of(&other),
        "--compression",
        "zstd",
    ];
    let agent = Agent::start(&arguments);
    agent.send(&batch_of(3)).await;
    one.wait_for_spans(3, LIMIT).await;
    other.wait_for_spans(3, LIMIT).await;
    agent.stop("TERM").expect_status(0);
    let (one, other) = (one.requests(), other.requests());
    assert_eq!(one[0].header("x-both"), Some("1"));
    assert_eq!(one[0].header("authorization"), Some("Bearer t0ken"));
    assert_eq!(one[0].compression(), None);
    assert_eq!(other[0].header("x-both"), Some("1"));
    assert_eq!(other[0].header("authorization"), None);
    assert_eq!(other[0].compression(), Some("zstd"));
}

#[tokio::test]
async fn a_token_in_a_file_may_be_replaced_while_the_agent_runs() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let header = format!("authorization=@{}", file.display());
    for collector in [Collector::grpc(), Collector::http()] {
        std::fs::write(&file, "Bearer 0ld").unwrap();
        collector.always(Answer::require_header("authorization", "Bearer n3w"));
        let agent = Agent::start(&["--header", &header, "--to", &url_of(&collector)]);
        std::fs::write(&file, "Bearer n3w").unwrap();
        let batches = batches(3, 4);
        for batch in &batches {
            agent.send(batch).await;
        }
        collector.wait_for_spans(12, LIMIT).await;
        agent.stop("TERM").expect_status(0);
        assert_has_all(&collector, &batches);
    }
}

#[tokio::test]
async fn as_many_batches_are_on_the_way_as_asked_for() {
    let collector = Collector::grpc();
    let gate = Gate::new();
    collector.always(Answer::stall_until(&gate, Answer::Accept));
    let url = url_of(&collector);
    let arguments = ["--to", &url, "--concurrency", "7", "--batch-spans", "5"];
    let agent = Agent::start(&[&arguments[..], &["--timeout", "50s"]].concat());
    let batches = batches(40, 5);
    for batch in &batches {
        agent.send(batch).await;
    }
    collector.wait_for_in_flight(7, LIMIT).await;
    gate.open();
    collector.wait_for_spans(200, LIMIT).await;
    agent.stop("TERM").expect_status(0);
    assert_eq!(collector.in_flight_most(), 7);
    assert_has_all(&collector, &batches);
}

#[tokio::test]
async fn limits_of_trying_are_those_of_the_command_line() {
    let collector = Collector::grpc();
    collector.always(Answer::refuse(AnswerCode::UNAVAILABLE, "not now"));
    let url = url_of(&collector);
    let agent = Agent::start(&["--to", &url, "--retries", "0"]);
    agent.send(&batch_of(4)).await;
    collector.wait_for_requests(1, LIMIT).await;
    let ran = agent.stop("TERM").expect_status(1);
    assert_eq!(Outcome::of(&ran, &url).lost, 4);
    assert_eq!(collector.requests().len(), 1);

    // On a busy machine the time is up before the request has left; either way it is not stopping that ends the trying.
    let agent = Agent::start(&["--to", &url, "--max-elapsed", "1ms"]);
    agent.send(&batch_of(4)).await;
    let ran = agent.stop("TERM").expect_status(1);
    assert_eq!(Outcome::of(&ran, &url).lost, 4);
    assert!(ran.stderr.contains("lost 4 (4 expired)"), "{}", ran.stderr);
}

//! What Kafka's library says reaches the program's subscriber, and nothing else does.

#![cfg(feature = "kafka")]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use outspan::Deadline;
use outspan::Export;
use outspan::kafka;
use outspan_testkit::Written;
use outspan_testkit::batch_of;
use tracing_subscriber::layer::SubscriberExt;

#[tokio::test]
async fn a_broker_that_is_away_is_a_warning_of_ours_and_the_password_is_not_in_it() {
    let lines = Written::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::registry().with(
        tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone()),
    );
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    drop(socket);
    let exporter = kafka::brokers(&*address)
        .property("sasl.password", "hunter2")
        .property("debug", "broker,msg")
        .build()
        .unwrap();
    let until = Deadline::after(Duration::from_millis(700));
    exporter.export(batch_of(1), until).await.unwrap_err();
    drop(exporter.shutdown(until).await.unwrap());

    let text = lines.text();
    let warnings: Vec<&str> = text
        .lines()
        .filter(|line| line.contains(" WARN "))
        .collect();
    assert!((1..=10).contains(&warnings.len()), "{text}");
    let is_ours = |line: &&str| line.contains(" outspan: kafka: ");
    assert!(warnings.iter().all(is_ours), "{text}");
    assert!(
        warnings.iter().any(|line| line.contains(&address)),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
}

//! What a fan-out tells of children for which nobody waits.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use outspan::Export;
use outspan::combinators::FanOut;
use outspan::combinators::WaitFor;
use outspan_testkit::Act;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::Written;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use tracing_subscriber::layer::SubscriberExt;

#[tokio::test]
async fn a_child_behind_that_loses_or_refuses_spans_is_in_the_log() {
    let lines = Written::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::registry().with(
        tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone()),
    );
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let [first, loses, refuses] = std::array::from_fn(|_| ScriptedExporter::new());
    loses.always(Act::unavailable());
    refuses.always(Act::Refuse(2));
    let exporter = FanOut::new()
        .wait_for(WaitFor::First)
        .to("first", first.exporter())
        .to("loses", loses.exporter())
        .to("refuses", refuses.exporter())
        .build()
        .unwrap();
    let delivery = exporter.export(batch_of(3), soon()).await.unwrap();
    assert!(delivery.is_complete());
    drop(exporter.shutdown(soon()).await.unwrap());

    let text = lines.text();
    let warned = |name: &str, spans: &str| {
        text.lines()
            .any(|line| line.contains("outspan") && line.contains(name) && line.contains(spans))
    };
    assert!(warned("loses", "3 spans"), "{text}");
    assert!(warned("refuses", "2 spans"), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
}

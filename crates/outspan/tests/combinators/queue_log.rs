//! What a queue tells of refused spans and of words that come with an answer; alone in its process, because the log is the
//! process's.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::DropReason;
use outspan::Export;
use outspan::Exporter;
use outspan::Losses;
use outspan::Result;
use outspan::engine::Ack;
use outspan::engine::MemoryQueue;
use outspan_testkit::Written;
use outspan_testkit::batch_of;
use outspan_testkit::soon;

/// Answers every batch with these numbers and words, and a flush with what became of spans since.
#[derive(Clone, Debug, Default)]
struct Answering {
    refused: u64,
    message: Option<&'static str>,
    lost: Losses,
}

impl Export for Answering {
    async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
        let mut delivery = Delivery::of(&batch);
        delivery.accepted -= self.refused;
        delivery.refused = self.refused;
        delivery.message = self.message.map(str::to_owned);
        Ok(delivery)
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        let mut drained = Drained::default();
        drained.lost = self.lost;
        Ok(drained)
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }
}

/// Sends three spans through a queue of their own.
async fn send(exporter: Answering) {
    let queue = MemoryQueue::builder(Exporter::new(exporter))
        .start()
        .unwrap();
    let batch = batch_of(3);
    let permit = queue.try_reserve(batch.memory(), batch.spans()).unwrap();
    queue.push(batch, permit, Ack::none()).unwrap();
    drop(queue.flush(soon()).await.unwrap());
    drop(queue.shutdown(soon()).await.unwrap());
}

#[tokio::test]
async fn refusals_and_words_are_told_and_nothing_else_is() {
    outspan_testkit::alone!();
    let lines = Written::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();

    send(Answering::default()).await;
    assert_eq!(lines.take(), "", "all is well");

    let filtered_behind = {
        let mut lost = Losses::default();
        lost.add(DropReason::Filtered, 2);
        lost
    };
    send(Answering {
        lost: filtered_behind,
        ..Answering::default()
    })
    .await;
    assert_eq!(lines.take(), "", "a filter did as it was told");

    let dropped_behind = {
        let mut lost = Losses::default();
        lost.add(DropReason::QueueFull, 2);
        lost
    };
    send(Answering {
        lost: dropped_behind,
        ..Answering::default()
    })
    .await;
    let told = lines.take();
    assert!(told.contains("WARN") && told.contains("2 spans"), "{told}");

    send(Answering {
        message: Some("slowly, please"),
        ..Answering::default()
    })
    .await;
    let told = lines.take();
    let words = "the destination warns: slowly, please";
    assert!(told.contains("INFO") && told.contains(words), "{told}");

    send(Answering {
        refused: 2,
        ..Answering::default()
    })
    .await;
    let told = lines.take();
    let refused = "the destination refused 2 spans: it does not say why";
    assert!(told.contains("WARN") && told.contains(refused), "{told}");
}

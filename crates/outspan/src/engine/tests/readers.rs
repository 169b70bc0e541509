//! A queue with several readers.

use std::time::Duration;

use tokio::runtime::Handle;

use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Error;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::engine::Ack;
use crate::engine::MemoryQueue;
use crate::engine::SpanQueue;

/// Rejects everything, and may hang in a flush.
#[derive(Debug)]
struct Rejecting {
    hangs: bool,
}

impl Export for Rejecting {
    async fn export(&self, _batch: Batch, _until: Deadline) -> Result<Delivery> {
        Err(Error::refused("bad spans"))
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }
}

#[tokio::test(start_paused = true)]
async fn flush_whose_future_is_dropped_leaves_its_counts_to_the_next() {
    let reader = |name: &str, hangs| {
        MemoryQueue::builder(Exporter::new(Rejecting { hangs }))
            .name(name)
            .runtime(Handle::current())
    };
    let queue = reader("quick", false).with_reader(reader("hanging", true));
    let queue = queue.start().unwrap();
    let batch = super::batch_of(3);
    let permit = queue.try_reserve(batch.memory(), batch.spans()).unwrap();
    queue.push(batch, permit, Ack::none()).unwrap();

    let dropped = queue.flush_readers(Deadline::after(Duration::from_secs(60)));
    let second = Duration::from_secs(1);
    tokio::time::timeout(second, dropped).await.unwrap_err();

    let results = queue.flush_readers(Deadline::after(second)).await;
    let quick = results[0].as_ref().unwrap();
    assert_eq!(quick.refused, 3, "reported by the flush that returns");
    let results = queue.flush_readers(Deadline::after(second)).await;
    let quick = results[0].as_ref().unwrap();
    assert_eq!(quick.refused, 0, "reported once");
}

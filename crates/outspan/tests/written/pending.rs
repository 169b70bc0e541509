//! Spans that an exporter holds before it writes them.

use std::io;
use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use outspan::Account;
use outspan::DropReason;
use outspan::Exporter;
use outspan::combinators::FanOut;
use outspan::engine::Ack;
use outspan::engine::MemoryQueue;
use outspan::stdout;
use outspan_testkit::batch_of;
use outspan_testkit::soon;

const LIMIT: Duration = Duration::from_secs(20);

/// A writer that fails on request.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<(Vec<u8>, Option<io::ErrorKind>)>>);

impl Page {
    fn fail_with(&self, error: io::ErrorKind) {
        self.0.lock().unwrap().1 = Some(error);
    }

    fn works(&self) {
        self.0.lock().unwrap().1 = None;
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut page = self.0.lock().unwrap();
        if let Some(error) = page.1 {
            return Err(error.into());
        }
        page.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.lock().unwrap().1 {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

fn trees(page: &Page, wait: Duration) -> Exporter {
    let builder = stdout::trees().quiet(wait).patience(wait);
    builder.writer(page.clone()).build().unwrap()
}

fn queue(exporter: Exporter) -> MemoryQueue {
    MemoryQueue::builder(exporter).start().unwrap()
}

fn push(queue: &MemoryQueue, spans: usize) {
    let batch = batch_of(spans);
    let permit = queue.try_reserve(batch.memory(), batch.spans()).unwrap();
    queue.push(batch, permit, Ack::none()).unwrap();
}

/// Reads the account until it is as wanted. `delivered` never decreases, and all spans are accounted for.
fn wait_for(queue: &MemoryQueue, is_wanted: impl Fn(&Account) -> bool) -> Account {
    let begun = Instant::now();
    let mut delivered = 0;
    loop {
        let account = queue.account();
        assert!(account.closes(), "{account}");
        assert!(account.delivered >= delivered, "{account}");
        delivered = account.delivered;
        if is_wanted(&account) {
            return account;
        }
        assert!(begun.elapsed() < LIMIT, "{account}");
        std::thread::yield_now();
    }
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn spans_in_trees_are_in_flight_until_they_are_shown() {
    let page = Page::default();
    let queue = queue(trees(&page, LONG));
    push(&queue, 3);
    wait_for(&queue, |account| {
        account.queued == 0 && account.in_flight == 3
    });
    assert_eq!(queue.account().delivered, 0);
    let drained = queue.flush(soon()).await.unwrap();
    assert_eq!((drained.delivered, drained.left), (3, 0));
    let account = queue.account();
    assert_eq!((account.delivered, account.in_flight), (3, 0));
    // What was delivered before stays so, whatever happens later.
    push(&queue, 4);
    wait_for(&queue, |account| account.queued == 0);
    page.fail_with(io::ErrorKind::BrokenPipe);
    queue.flush(soon()).await.unwrap_err();
    let account = wait_for(&queue, |_| true);
    assert_eq!((account.delivered, account.in_flight), (3, 4));
    let drained = queue.shutdown(soon()).await.unwrap();
    assert_eq!(drained.delivered, 0);
    assert_eq!(drained.lost.of(DropReason::Failed), 4);
    let account = queue.account();
    assert_eq!((account.delivered, account.dropped.total()), (3, 4));
    assert_eq!(account.open(), 0);
}

#[tokio::test]
async fn shown_trees_are_counted_without_a_flush() {
    let page = Page::default();
    let queue = queue(trees(&page, Duration::ZERO));
    push(&queue, 5);
    wait_for(&queue, |account| account.delivered == 5);
    assert_eq!(queue.account().open(), 0);
}

#[tokio::test]
async fn spans_that_cannot_be_written_now_stay_in_flight() {
    let page = Page::default();
    let queue = queue(trees(&page, LONG));
    push(&queue, 2);
    wait_for(&queue, |account| {
        account.in_flight == 2 && account.queued == 0
    });
    page.fail_with(io::ErrorKind::StorageFull);
    let drained = queue.flush(soon()).await.unwrap();
    assert_eq!((drained.delivered, drained.left), (0, 2));
    let account = queue.account();
    assert_eq!((account.delivered, account.in_flight), (0, 2));
    page.works();
    let drained = queue.flush(soon()).await.unwrap();
    assert_eq!((drained.delivered, drained.left), (2, 0));
    page.fail_with(io::ErrorKind::StorageFull);
    push(&queue, 7);
    wait_for(&queue, |account| account.queued == 0);
    let drained = queue.shutdown(soon()).await.unwrap();
    assert_eq!(drained.lost.total(), 7, "{drained}");
    let account = queue.account();
    assert_eq!((account.delivered, account.dropped.total()), (2, 7));
}

/// A writer that does not return before the test ends.
struct Hang(std::sync::mpsc::Receiver<()>);

impl Write for Hang {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.recv() {
            Ok(()) | Err(_) => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn shutdown_counts_what_a_hanging_writer_holds_once() {
    let (release, hang) = std::sync::mpsc::channel();
    let exporter = stdout::trees()
        .quiet(LONG)
        .patience(LONG)
        .writer(Hang(hang))
        .build()
        .unwrap();
    let queue = queue(exporter);
    push(&queue, 3);
    wait_for(&queue, |account| {
        account.in_flight == 3 && account.queued == 0
    });
    let until = outspan::Deadline::after(Duration::from_millis(50));
    let drained = queue.shutdown(until).await;
    let account = queue.account();
    assert!(account.closes(), "{account}");
    assert_eq!(account.open(), 0, "{account}");
    assert_eq!(account.dropped.of(DropReason::Shutdown), 3, "{drained:?}");
    // Written after all; the account stays as it was told.
    drop(release);
    drop(queue);
}

#[tokio::test]
async fn fan_out_to_trees_is_delivered_when_both_are_shown() {
    let pages = [Page::default(), Page::default()];
    let fan_out = FanOut::new()
        .to("one", trees(&pages[0], LONG))
        .to("other", trees(&pages[1], LONG));
    let queue = queue(fan_out.build().unwrap());
    push(&queue, 4);
    wait_for(&queue, |account| {
        account.in_flight == 4 && account.queued == 0
    });
    pages[1].fail_with(io::ErrorKind::PermissionDenied);
    let drained = queue.shutdown(soon()).await.unwrap();
    let account = queue.account();
    assert!(account.closes(), "{account}");
    assert_eq!(account.dropped.of(DropReason::Failed), 4, "{drained}");
    assert_eq!((account.delivered, account.open()), (0, 0), "{account}");
}

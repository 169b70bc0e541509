//! Balance over addresses that are looked up, when a user's function panics and when members that are gone do not end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outspan::Deadline;
use outspan::DropReason;
use outspan::Export;
use outspan::Exporter;
use outspan::combinators::Balance;
use outspan_testkit::Act;
use outspan_testkit::DrainAct;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

/// Exports again and again, until an export succeeds or twenty seconds are over.
async fn first_success(exporter: &Exporter) {
    let deadline = Instant::now() + SECOND * 20;
    loop {
        let until = Deadline::after(SECOND / 4);
        match exporter.export(batch_of(1), until).await {
            Ok(_) => return,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn make_that_panics_once_is_called_again() {
    let child = ScriptedExporter::new();
    let made = child.clone();
    let calls = AtomicUsize::new(0);
    let exporter = Balance::looked_up(
        || Ok(vec![address(1)]),
        move |_| {
            assert!(
                calls.fetch_add(1, Ordering::SeqCst) > 0,
                "the first call panics"
            );
            Ok(made.exporter())
        },
    )
    .every(SECOND)
    .build()
    .unwrap();
    first_success(&exporter).await;
    assert_eq!(child.received().len(), 1);
    drop(exporter.shutdown(soon()).await.unwrap());
}

#[tokio::test]
async fn make_that_always_panics_for_one_address_keeps_the_others() {
    let child = ScriptedExporter::new();
    let made = child.clone();
    let lookups = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lookups);
    let exporter = Balance::looked_up(
        move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(vec![address(1), address(2)])
        },
        move |address| {
            assert!(address.port() == 1, "no member for {address}");
            Ok(made.exporter())
        },
    )
    .every(SECOND)
    .build()
    .unwrap();
    let deadline = Instant::now() + SECOND * 20;
    while lookups.load(Ordering::SeqCst) < 3 {
        assert!(Instant::now() < deadline, "the look-ups have ended");
        exporter.export(batch_of(1), soon()).await.unwrap();
        tokio::task::yield_now().await;
    }
    drop(exporter.shutdown(soon()).await.unwrap());
}

#[tokio::test]
async fn error_says_that_make_or_look_up_always_panics() {
    let makes = Balance::looked_up(|| Ok(vec![address(1)]), |_| panic!("make of the test"));
    let looks = Balance::looked_up(
        || panic!("look-up of the test"),
        |_| Ok(ScriptedExporter::new().exporter()),
    );
    for (balance, words) in [(makes, "make of the test"), (looks, "look-up of the test")] {
        let exporter = balance.build().unwrap();
        let until = Deadline::after(SECOND / 4);
        let error = exporter.export(batch_of(1), until).await.unwrap_err();
        assert!(error.is_temporary());
        assert!(error.to_string().contains(words), "{error}");
        drop(exporter.shutdown(soon()).await.unwrap());
    }
}

#[tokio::test]
async fn look_up_that_panics_once_is_made_again() {
    let child = ScriptedExporter::new();
    let made = child.clone();
    let calls = AtomicUsize::new(0);
    let exporter = Balance::looked_up(
        move || {
            assert!(
                calls.fetch_add(1, Ordering::SeqCst) > 0,
                "the first call panics"
            );
            Ok(vec![address(1)])
        },
        move |_| Ok(made.exporter()),
    )
    .every(SECOND)
    .build()
    .unwrap();
    first_success(&exporter).await;
    drop(exporter.shutdown(soon()).await.unwrap());
}

/// A balance whose first member is gone, and is asked to shut down.
struct Moved {
    exporter: Exporter,
    gone: ScriptedExporter,
    stays: ScriptedExporter,
    /// Spans that were accepted so far.
    accepted: u64,
}

impl Moved {
    /// `around` makes the first member of what is scripted.
    async fn begin(
        prepare: impl FnOnce(&ScriptedExporter),
        around: impl Fn(Exporter) -> Exporter + Send + Sync + 'static,
    ) -> Self {
        let [gone, stays] = [ScriptedExporter::new(), ScriptedExporter::new()];
        prepare(&gone);
        let addresses = Arc::new(Mutex::new(vec![address(1)]));
        let known = Arc::clone(&addresses);
        let (first, second) = (gone.clone(), stays.clone());
        let exporter = Balance::looked_up(
            move || {
                let addresses = known.lock().map_err(|e| io::Error::other(e.to_string()))?;
                Ok(addresses.clone())
            },
            move |address| match address.port() {
                1 => Ok(around(first.exporter())),
                _ => Ok(second.exporter()),
            },
        )
        .every(SECOND)
        .build()
        .unwrap();
        let mut accepted = exporter.export(batch_of(3), soon()).await.unwrap().accepted;
        *addresses.lock().unwrap() = vec![address(2)];
        let deadline = Instant::now() + SECOND * 20;
        while stays.received().is_empty() {
            assert!(Instant::now() < deadline, "the new member gets nothing");
            match exporter.export(batch_of(1), soon()).await {
                Ok(delivery) => accepted += delivery.accepted,
                // It met the member just when that was gone: the next attempt goes to another one.
                Err(error) => assert!(error.is_temporary(), "{error}"),
            }
            // Sleeps: the address changes within a second, and thousands of batches would be held by then.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self {
            exporter,
            gone,
            stays,
            accepted,
        }
    }
}

#[tokio::test]
async fn flush_does_not_wait_out_its_deadline_for_a_member_that_is_gone() {
    let hangs = |gone: &ScriptedExporter| gone.script_shutdowns([DrainAct::Hang, DrainAct::Hang]);
    let moved = Moved::begin(hangs, |exporter| exporter).await;
    for _ in 0..2 {
        let began = Instant::now();
        let flushed = moved.exporter.flush(Deadline::after(SECOND)).await;
        drop(flushed.unwrap());
        assert!(began.elapsed() < SECOND * 3 / 4, "{:?}", began.elapsed());
    }
    assert_eq!(moved.stays.flushes(), 2);
    assert_eq!(moved.gone.shutdowns(), 1);
    let began = Instant::now();
    let shut_down = moved.exporter.shutdown(Deadline::after(SECOND / 2)).await;
    drop(shut_down.unwrap());
    assert!(began.elapsed() < SECOND * 3 / 4, "{:?}", began.elapsed());
}

#[tokio::test]
async fn member_that_panics_when_it_is_gone_holds_up_nothing() {
    let panics = |gone: &ScriptedExporter| gone.script_shutdowns([DrainAct::Panic]);
    let moved = Moved::begin(panics, |exporter| exporter).await;
    // The first flush may begin before the panic.
    drop(moved.exporter.flush(Deadline::after(SECOND)).await.unwrap());
    let began = Instant::now();
    drop(moved.exporter.flush(Deadline::after(SECOND)).await.unwrap());
    assert!(began.elapsed() < SECOND / 4, "{:?}", began.elapsed());
    drop(moved.exporter.shutdown(soon()).await.unwrap());
}

#[tokio::test]
async fn shutdown_tells_what_a_member_that_is_gone_loses() {
    let hangs = |gone: &ScriptedExporter| gone.always(Act::Hang);
    let moved = Moved::begin(hangs, |exporter| exporter.queued().unwrap()).await;
    let held = moved.accepted - moved.stays.received().len() as u64;
    let end = Deadline::after(SECOND / 2);
    let drained = moved.exporter.shutdown(end).await.unwrap();
    assert_eq!(drained.lost.of(DropReason::Shutdown), held, "{drained}");
    assert!(held >= 3 && drained.cause().is_some(), "{drained}");
}

#[tokio::test]
async fn export_that_meets_a_member_just_gone_may_be_tried_again() {
    for _ in 0..3 {
        let moved = Moved::begin(|_| {}, |exporter| exporter).await;
        let received = moved.gone.received().len() + moved.stays.received().len();
        assert_eq!(received as u64, moved.accepted);
        drop(moved.exporter.shutdown(soon()).await.unwrap());
    }
}

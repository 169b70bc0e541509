//! What a retry tells, which errors it tries again, and its settings, under a paused clock.
//!
//! The waits themselves are tested in `combinators.rs`, and what a collector's answers mean in `otlp/`.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::Retry;
use outspan::combinators::RetryEvent;
use outspan_testkit::Act;
use outspan_testkit::DrainAct;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// Waits that are the same in every run.
fn exact() -> Retry {
    Retry::default().jitter(0.0)
}

/// A hook that remembers what it was told, and settings with it.
fn listening(settings: Retry) -> (Retry, Arc<Mutex<Vec<RetryEvent>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&events);
    let settings = settings.on_retry(move |event| told.lock().unwrap().push(event.clone()));
    (settings, events)
}

async fn export(exporter: &Exporter, batch: &Batch) -> Result<Delivery> {
    exporter.export(batch.clone(), Deadline::never()).await
}

/// The error with which a retry gives up after this one.
async fn given_up(error: Error) -> Error {
    let child = ScriptedExporter::new();
    child.script([Act::Fail(error)]);
    let exporter = child.exporter().retry(exact().max_retries(0));
    export(&exporter, &batch_of(1)).await.unwrap_err()
}

mod what_is_tried_again {
    use super::*;

    /// By OTLP's table: what the destination says may pass is tried again, everything else is not, and for a delay that
    /// is asked for it waits.
    #[tokio::test(start_paused = true)]
    async fn temporary_errors_alone_whatever_their_kind() {
        let kinds = [
            (ErrorKind::Config, false),
            (ErrorKind::Refused, false),
            (ErrorKind::TooLarge, false),
            (ErrorKind::Unavailable, true),
            (ErrorKind::Throttled, true),
            (ErrorKind::Timeout, true),
            (ErrorKind::ShutDown, false),
            (ErrorKind::Internal, false),
        ];
        for (kind, by_default) in kinds {
            let plain = Error::new(kind, "x");
            let temporary = plain.clone().with_temporary(true);
            let permanent = plain.clone().with_temporary(false);
            let asked = plain.clone().with_retry_after(SECOND);
            let used_up = given_up(temporary.clone()).await;
            for (error, is_tried_again) in [
                (plain, by_default),
                (temporary, true),
                (permanent, false),
                // A delay alone makes no error temporary: the exporter has decided that.
                (asked, by_default),
                (used_up, false),
            ] {
                let child = ScriptedExporter::new();
                child.script([Act::Fail(error.clone())]);
                // Several spans that are too large would be sent in parts.
                let result = export(&child.exporter().retry(exact()), &batch_of(1)).await;
                let attempts = if is_tried_again { 2 } else { 1 };
                assert_eq!(child.exports().len(), attempts, "{error:#?}");
                assert_eq!(result.is_ok(), is_tried_again, "{error:#?}");
            }
        }
    }

    /// `RESOURCE_EXHAUSTED` without RetryInfo is refused, with it throttled: the one line of the table that a delay decides.
    #[tokio::test(start_paused = true)]
    async fn a_throttled_batch_comes_back_after_the_delay() {
        let child = ScriptedExporter::new();
        child.script([Act::throttled(7 * SECOND), Act::refused()]);
        let began = Instant::now();
        let error = export(&child.exporter().retry(exact()), &batch_of(1)).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Refused);
        assert!(began.elapsed() >= 7 * SECOND);
    }
}

#[tokio::test]
async fn a_flush_reaches_the_destination() {
    let child = ScriptedExporter::new();
    let mut holds = Drained::default();
    holds.left = 3;
    child.script_flushes([DrainAct::Done(holds)]);
    let drained = child.exporter().retry(exact()).flush(soon()).await.unwrap();
    assert_eq!((child.flushes(), drained.left), (1, 3));
}

mod hook {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_told_of_each_wait_before_it() {
        let child = ScriptedExporter::new();
        child.script([
            Act::after(SECOND, Act::unavailable()),
            Act::DeliverHalf(Error::throttled("slower").with_retry_after(SECOND)),
        ]);
        let (settings, events) = listening(exact());
        let exporter = child.exporter().retry(settings);
        export(&exporter, &batch_of(6)).await.unwrap();
        let events = events.lock().unwrap().clone();
        let told: Vec<_> = events
            .iter()
            .map(|event| (event.attempt, event.delay, event.error.kind(), event.spans))
            .collect();
        let second = Duration::from_millis(7_500);
        assert_eq!(
            told,
            [
                (1, 5 * SECOND, ErrorKind::Unavailable, 6),
                (2, second, ErrorKind::Throttled, 3)
            ]
        );
        let elapsed = events.iter().map(|event| event.elapsed.as_millis() / 100);
        assert_eq!(elapsed.collect::<Vec<_>>(), [10, 60]);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_as_set_up_to_the_longest() {
        let child = ScriptedExporter::new();
        child.always(Act::unavailable());
        let growing = exact()
            .initial_interval(SECOND)
            .max_interval(20 * SECOND)
            .max_retries(5)
            .multiplier(3.0);
        let (settings, events) = listening(growing);
        let exporter = child.exporter().retry(settings);
        export(&exporter, &batch_of(1)).await.unwrap_err();
        let events = events.lock().unwrap().clone();
        let waits: Vec<_> = events.iter().map(|event| event.delay).collect();
        assert_eq!(waits, [1, 3, 9, 20, 20].map(|wait| wait * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_not_told_of_giving_up() {
        let child = ScriptedExporter::new();
        child.always(Act::unavailable());
        let (settings, events) = listening(exact().max_retries(2));
        let error = export(&child.exporter().retry(settings), &batch_of(1)).await;
        assert_eq!(error.unwrap_err().attempt().attempts, 3);
        assert_eq!(events.lock().unwrap().len(), 2);

        child.clear();
        let (settings, events) = listening(exact());
        let exporter = child.exporter().retry(settings);
        let until = Deadline::after(3 * SECOND);
        exporter.export(batch_of(1), until).await.unwrap_err();
        assert_eq!(events.lock().unwrap().len(), 0, "no wait fits");
    }

    #[tokio::test(start_paused = true)]
    async fn the_delay_it_is_told_is_the_one_that_is_waited() {
        let child = ScriptedExporter::new();
        child.script([Act::unavailable(), Act::throttled(9 * SECOND)]);
        let (settings, events) = listening(Retry::default());
        export(&child.exporter().retry(settings), &batch_of(1))
            .await
            .unwrap();
        let exports = child.exports();
        let waits = exports.windows(2).map(|pair| pair[1].at - pair[0].at);
        for (wait, event) in waits.zip(events.lock().unwrap().iter()) {
            let late = wait.checked_sub(event.delay).unwrap();
            assert!(late <= Duration::from_millis(2), "{late:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hook_that_panics_changes_nothing() {
        let child = ScriptedExporter::new();
        child.script([Act::unavailable()]);
        let settings = exact().on_retry(|_| panic!("a bad day"));
        let delivery = export(&child.exporter().retry(settings), &batch_of(2)).await;
        assert_eq!(delivery.unwrap().accepted, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_errors_the_one_with_the_longest_wait_speaks() {
        let child = ScriptedExporter::new();
        child.script([Act::DeliverHalf(Error::unavailable("first"))]);
        let (settings, events) = listening(exact().max_retries(3));
        let exporter = child.exporter().retry(settings);
        export(&exporter, &batch_of(4)).await.unwrap();
        let events = events.lock().unwrap();
        assert_eq!(events[0].error.message(), "first");
        assert_eq!(events[0].spans, 2);
    }
}

mod settings {
    use super::*;

    #[test]
    fn the_defaults_make_sense() {
        Retry::default().check().unwrap();
        Retry::default().max_elapsed(None).check().unwrap();
        let equal = Retry::default()
            .initial_interval(SECOND)
            .max_interval(SECOND)
            .max_elapsed(SECOND);
        equal.check().unwrap();
    }

    #[test]
    fn contradictions_are_named() {
        for (settings, words) in [
            (
                Retry::default().initial_interval(31 * SECOND),
                "the longest wait between retries, 30s, is shorter than the first, 31s",
            ),
            (
                Retry::default().max_elapsed(29 * SECOND),
                "retries may take 29s in all, and a wait between them 30s",
            ),
        ] {
            let error = settings.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn settings_are_equal_with_the_same_hook_only() {
        let plain = Retry::default();
        assert_eq!(plain, Retry::default());
        assert_ne!(plain, Retry::default().max_retries(3));
        let hooked = Retry::default().on_retry(|_| {});
        assert_eq!(hooked, hooked.clone());
        assert_ne!(hooked, plain);
        assert!(format!("{hooked:?}").contains("on_retry: true"));
    }
}

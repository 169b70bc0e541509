//! Combinators and handles around a scripted exporter, under a paused clock.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::Barrier;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use outspan::Attempt;
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
use outspan_testkit::Act;
use outspan_testkit::Ended;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::span_ids;
use outspan_testkit::watched_batch;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// Waits that are the same in every run.
fn exact() -> Retry {
    Retry::default().jitter(0.0)
}

/// When each export began, counted from the first.
fn begins(child: &ScriptedExporter) -> Vec<f64> {
    let exports = child.exports();
    let first = exports[0].at;
    let since = exports.iter().map(|call| call.at - first);
    since.map(|since| round(since.as_secs_f64())).collect()
}

/// Timers have a grain of 1 ms.
fn round(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}

async fn export(exporter: &Exporter, batch: &Batch) -> Result<Delivery> {
    exporter.export(batch.clone(), Deadline::never()).await
}

mod timeout {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_done_in_time_is_untouched() {
        let child = ScriptedExporter::new();
        child.script([
            Act::after(9 * SECOND, Act::Deliver),
            Act::after(9 * SECOND, Act::refused()),
        ]);
        let exporter = child.exporter().timeout(10 * SECOND);
        assert_eq!(export(&exporter, &batch_of(3)).await.unwrap().accepted, 3);
        let error = export(&exporter, &batch_of(3)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert_eq!(child.exports()[0].left, Some(10 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_never_ends_is_given_up_just_after_the_limit() {
        let child = ScriptedExporter::new();
        child.script([Act::Hang]);
        let exporter = child.exporter().timeout(10 * SECOND);
        let (batch, released) = watched_batch(1);
        let began = Instant::now();
        let error = exporter.export(batch, Deadline::never()).await.unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.is_temporary());
        assert_eq!(error.attempt().attempts, 1);
        assert_eq!(
            error.to_string(),
            "no answer: attempt timeout of 10s passed"
        );
        let took = began.elapsed();
        assert!(took >= 10 * SECOND && took < 11 * SECOND, "{took:?}");
        assert_eq!(child.exports()[0].ended, Ended::Dropped);
        released.by(Deadline::after(SECOND)).await;
    }

    /// The child knows best what arrived; it is asked for that, not cut off in the middle of saying it.
    #[tokio::test(start_paused = true)]
    async fn what_a_child_says_when_time_is_up_is_heard() {
        let child = ScriptedExporter::new();
        let late = 10 * SECOND + Duration::from_millis(20);
        let rest = Error::unavailable("the second half is late");
        child.script([Act::after(late, Act::DeliverHalf(rest)), Act::Stall]);
        let exporter = child.exporter().timeout(10 * SECOND);
        let delivery = export(&exporter, &batch_of(4)).await.unwrap();
        assert_eq!((delivery.accepted, delivery.undelivered()), (2, 2));
        let error = export(&exporter, &batch_of(4)).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("stall: attempt timeout of 10s passed"),
            "{text}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_caller_s_earlier_deadline_counts_and_is_named() {
        let child = ScriptedExporter::new();
        child.always(Act::Stall);
        let exporter = child.exporter().timeout(10 * SECOND);
        let began = Instant::now();
        let until = Deadline::after(3 * SECOND).named("patience");
        let error = exporter.export(batch_of(1), until).await.unwrap_err();
        assert!(error.to_string().contains("patience of 3s"), "{error}");
        assert_eq!(round(began.elapsed().as_secs_f64()), 3.0);
    }

    /// The last one written is the outermost: inside a retry the limit is each attempt's, outside it is the whole's.
    #[tokio::test(start_paused = true)]
    async fn its_place_decides_what_it_limits() {
        let child = ScriptedExporter::new();
        child.always(Act::Stall);
        let retry = exact().max_retries(2);
        let each = child.exporter().timeout(10 * SECOND).retry(retry.clone());
        let began = Instant::now();
        let error = export(&each, &batch_of(1)).await.unwrap_err();
        assert!(error.to_string().contains("attempt timeout of 10s"));
        assert_eq!(error.attempt().attempts, 3);
        assert_eq!(round(began.elapsed().as_secs_f64()), 42.5);
        assert_eq!(begins(&child), [0.0, 15.0, 32.5]);

        child.clear();
        let whole = child.exporter().retry(retry).export_deadline(10 * SECOND);
        let began = Instant::now();
        let error = export(&whole, &batch_of(1)).await.unwrap_err();
        assert!(error.to_string().contains("export deadline of 10s"));
        assert_eq!(round(began.elapsed().as_secs_f64()), 10.0);
        assert_eq!(begins(&child), [0.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn flush_and_shutdown_are_handed_on() {
        let child = ScriptedExporter::new();
        let exporter = child.exporter().timeout(SECOND);
        drop(exporter.flush(Deadline::never()).await.unwrap());
        drop(exporter.shutdown(Deadline::never()).await.unwrap());
        assert_eq!((child.flushes(), child.shutdowns()), (1, 1));
        assert_eq!(
            child.calls()[0].left,
            None,
            "the limit is for exports alone"
        );
    }
}

mod retry {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_by_half_until_the_minute_is_over() {
        let child = ScriptedExporter::new();
        child.always(Act::unavailable());
        let exporter = child.exporter().retry(exact());
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        // 5, 7.5, 11.25, 16.875; the next, 25.3125, would end after 65.9 s.
        assert_eq!(begins(&child), [0.0, 5.0, 12.5, 23.75, 40.63]);
        assert_eq!(error.attempt().attempts, 5);
        assert!(!crate::is_tried_again(&error).await);
        assert!(error.is_temporary(), "others may still see what it was");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }

    #[tokio::test(start_paused = true)]
    async fn no_wait_is_longer_than_the_cap() {
        let child = ScriptedExporter::new();
        child.always(Act::unavailable());
        let settings = exact()
            .max_elapsed(None)
            .max_retries(8)
            .initial_interval(20 * SECOND)
            .max_interval(30 * SECOND);
        export(&child.exporter().retry(settings), &batch_of(1))
            .await
            .unwrap_err();
        let begins = begins(&child);
        let waits: Vec<f64> = begins.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(waits.len(), 8);
        assert_eq!(round(waits[0]), 20.0);
        assert!(waits[1..].iter().all(|wait| round(*wait) == 30.0));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_are_spread_to_both_sides() {
        let mut waits = Vec::new();
        for _ in 0..200 {
            let child = ScriptedExporter::new();
            child.script([Act::unavailable()]);
            let exporter = child.exporter().retry(Retry::default());
            export(&exporter, &batch_of(1)).await.unwrap();
            waits.push(begins(&child)[1]);
        }
        assert!(waits.iter().all(|wait| (2.49..=7.51).contains(wait)));
        assert!(waits.iter().any(|wait| *wait < 4.0), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait > 6.0), "{waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_delay_asked_for_is_a_lower_bound_and_a_little_spread() {
        let mut waits = Vec::new();
        for _ in 0..100 {
            let child = ScriptedExporter::new();
            child.script([Act::throttled(20 * SECOND)]);
            let exporter = child.exporter().retry(Retry::default());
            export(&exporter, &batch_of(1)).await.unwrap();
            waits.push(begins(&child)[1]);
        }
        assert!(waits.iter().all(|wait| (20.0..=22.01).contains(wait)));
        assert!(waits.iter().any(|wait| *wait < 20.8), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait > 21.2), "{waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_delay_asked_for_does_not_shorten_the_wait() {
        let child = ScriptedExporter::new();
        child.script([Act::throttled(Duration::from_millis(1))]);
        export(&child.exporter().retry(exact()), &batch_of(1))
            .await
            .unwrap();
        assert_eq!(begins(&child), [0.0, 5.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_beyond_the_budget_ends_it_at_once() {
        let child = ScriptedExporter::new();
        child.always(Act::throttled(61 * SECOND));
        let began = Instant::now();
        let error = export(&child.exporter().retry(exact()), &batch_of(1))
            .await
            .unwrap_err();
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(error.kind(), ErrorKind::Throttled);
        assert!(!crate::is_tried_again(&error).await);
        assert_eq!(error.retry_after(), Some(61 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_beyond_the_caller_s_deadline_ends_it_at_once() {
        let child = ScriptedExporter::new();
        child.always(Act::unavailable());
        let exporter = child.exporter().retry(exact().max_elapsed(None));
        let began = Instant::now();
        let until = Deadline::after(20 * SECOND);
        let error = exporter.export(batch_of(1), until).await.unwrap_err();
        // 5 and 7.5 fit; 11.25 more do not.
        assert_eq!(begins(&child), [0.0, 5.0, 12.5]);
        assert_eq!(round(began.elapsed().as_secs_f64()), 12.5);
        assert!(!crate::is_tried_again(&error).await);
        assert!(child.exports().iter().all(|call| call.until == until));
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_retries_has_a_limit_where_one_is_set() {
        for (limit, attempts) in [(0, 1), (1, 2), (3, 4)] {
            let child = ScriptedExporter::new();
            child.always(Act::unavailable());
            let exporter = child.exporter().retry(exact().max_retries(limit));
            let error = export(&exporter, &batch_of(1)).await.unwrap_err();
            assert_eq!(child.exports().len(), attempts);
            assert_eq!(error.attempt().attempts as usize, attempts);
            assert!(!crate::is_tried_again(&error).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_for_good_is_not_sent_again() {
        let child = ScriptedExporter::new();
        child.script([Act::unavailable(), Act::refused()]);
        let exporter = child.exporter().retry(exact());
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(crate::is_tried_again(&error).await, "nobody gave up");
        assert_eq!((error.attempt().attempts, child.exports().len()), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_partial_refusal_is_not_sent_again() {
        let child = ScriptedExporter::new();
        child.script([Act::Refuse(2)]);
        let exporter = child.exporter().retry(exact());
        let delivery = export(&exporter, &batch_of(5)).await.unwrap();
        assert_eq!((delivery.accepted, delivery.refused), (3, 2));
        assert_eq!(child.exports().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_rest_is_sent_again() {
        let child = ScriptedExporter::new();
        let trouble = || Act::DeliverHalf(Error::unavailable("the rest is late"));
        child.script([trouble(), Act::unavailable(), trouble()]);
        let batch = batch_of(8);
        let exporter = child.exporter().retry(exact());
        let delivery = export(&exporter, &batch).await.unwrap();
        assert_eq!(delivery.accepted, 8);
        assert!(delivery.is_complete());
        assert_eq!(child.received(), span_ids(&batch));
        let exports = child.exports();
        let sent: Vec<_> = exports.iter().map(|call| call.span_ids().len()).collect();
        assert_eq!(sent, [8, 4, 4, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_for_good_stays_and_the_other_rest_is_sent_again() {
        let child = Parts::new([
            vec![("a", Fate::Later), ("b", Fate::Never), ("c", Fate::Taken)],
            vec![("a", Fate::Taken)],
        ]);
        let exporter = Exporter::new(child.clone()).retry(exact());
        let delivery = export(&exporter, &batch_of(6)).await.unwrap();
        assert_eq!((delivery.accepted, delivery.undelivered()), (4, 2));
        assert_eq!(delivery.rest[0].error.message(), "b never");
        assert_eq!(child.sizes(), [6, 2]);
        assert_eq!(delivery.attempt.attempts, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn each_part_keeps_its_own_error_when_it_gives_up() {
        let child = Parts::new([vec![
            ("a", Fate::Later),
            ("b", Fate::Later),
            ("c", Fate::Taken),
        ]]);
        let exporter = Exporter::new(child).retry(exact().max_retries(0));
        let delivery = export(&exporter, &batch_of(6)).await.unwrap();
        let rest = &delivery.rest;
        let messages: Vec<_> = rest.iter().map(|part| part.error.message()).collect();
        assert_eq!(messages, ["a later", "b later"]);
        for part in rest {
            assert!(!crate::is_tried_again(&part.error).await);
        }
        assert!(rest.iter().all(|part| part.error.is_temporary()));
    }

    #[tokio::test(start_paused = true)]
    async fn two_retries_do_not_multiply() {
        let child = ScriptedExporter::new();
        child.always(Act::unavailable());
        let inner = child.exporter().retry(exact().max_retries(2));
        let exporter = inner.retry(exact().max_retries(5));
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert_eq!(child.exports().len(), 3);
        assert_eq!(error.attempt().attempts, 3);
        assert!(error.is_temporary() && !crate::is_tried_again(&error).await);

        child.clear();
        let rest = Error::unavailable("the rest is late");
        child.always(Act::DeliverHalf(rest));
        let delivery = export(&exporter, &batch_of(16)).await.unwrap();
        assert_eq!(child.exports().len(), 3);
        assert_eq!((delivery.accepted, delivery.undelivered()), (14, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_ends_a_wait_at_once_with_one_more_attempt() {
        let child = ScriptedExporter::new();
        child.always(Act::throttled(30 * SECOND));
        let exporter = Arc::new(child.exporter().retry(exact()));
        let exporting = {
            let exporter = Arc::clone(&exporter);
            tokio::spawn(async move { export(&exporter, &batch_of(3)).await })
        };
        child.wait_for_exports(1).await;
        let began = Instant::now();
        drop(exporter.shutdown(Deadline::never()).await.unwrap());
        let error = exporting.await.unwrap().unwrap_err();
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(error.kind(), ErrorKind::Throttled, "its last error");
        assert!(!crate::is_tried_again(&error).await);
        assert_eq!(child.exports().len(), 2);
        assert_eq!(child.shutdowns(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_under_way_at_shutdown_is_the_last() {
        let child = ScriptedExporter::new();
        child.always(Act::after(SECOND, Act::unavailable()));
        let exporter = Arc::new(child.exporter().retry(exact()));
        let exporting = {
            let exporter = Arc::clone(&exporter);
            tokio::spawn(async move { export(&exporter, &batch_of(3)).await })
        };
        child.wait_for_exports(1).await;
        let began = Instant::now();
        drop(exporter.shutdown(Deadline::never()).await.unwrap());
        let error = exporting.await.unwrap().unwrap_err();
        assert_eq!(round(began.elapsed().as_secs_f64()), 1.0);
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(child.exports().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_wait_frees_the_batch() {
        let child = ScriptedExporter::new();
        child.always(Act::unavailable());
        let exporter = child.exporter().retry(exact());
        let (batch, released) = watched_batch(3);
        let exporting = tokio::spawn(async move {
            let exported = exporter.export(batch, Deadline::never()).await;
            drop(exported);
        });
        child.wait_for_exports(1).await;
        child.wait_until_idle().await;
        exporting.abort();
        released.by(Deadline::after(SECOND)).await;
        assert_eq!(child.exports().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_and_bytes_of_all_attempts_are_counted() {
        let child = ScriptedExporter::new();
        let failed =
            || Act::Fail(Error::unavailable("x").with_attempt(Attempt::one().with_wire_bytes(10)));
        child.script([failed(), failed()]);
        let exporter = child.exporter().retry(exact());
        let delivery = export(&exporter, &batch_of(1)).await.unwrap();
        assert_eq!(
            (delivery.attempt.attempts, delivery.attempt.wire_bytes),
            (3, 20)
        );
        child.always(failed());
        let exporter = child.exporter().retry(exact().max_retries(2));
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert_eq!(
            (error.attempt().attempts, error.attempt().wire_bytes),
            (3, 30)
        );
    }

    /// Nobody should set these, and nobody should see a panic over them.
    #[tokio::test(start_paused = true)]
    async fn an_interval_of_zero_still_pauses_between_attempts() {
        let child = ScriptedExporter::new();
        child.always(Act::Fail(Error::unavailable("x")));
        let settings = exact()
            .initial_interval(Duration::ZERO)
            .max_interval(Duration::ZERO)
            .max_elapsed(None);
        let exporter = child.exporter().retry(settings);
        let until = Deadline::after(Duration::from_millis(20));
        let error = exporter.export(batch_of(1), until).await.unwrap_err();
        assert!(!crate::is_tried_again(&error).await);
        assert!(
            error.attempt().attempts <= 21,
            "{} attempts in 20 ms",
            error.attempt().attempts
        );
    }

    #[tokio::test(start_paused = true)]
    async fn settings_without_sense_do_no_harm() {
        let longest = Duration::MAX;
        let settings = [
            exact().initial_interval(longest).max_interval(longest),
            exact().multiplier(f64::INFINITY).max_elapsed(None),
            exact().multiplier(f64::NAN),
            exact().multiplier(-7.0),
            Retry::default().jitter(f64::NAN),
            Retry::default().jitter(-1.0),
            Retry::default().jitter(f64::INFINITY),
            exact().max_elapsed(longest),
            exact()
                .initial_interval(Duration::ZERO)
                .max_interval(Duration::ZERO)
                .max_retries(50),
        ];
        for settings in settings {
            for asked in [None, Some(Duration::ZERO), Some(Duration::MAX)] {
                let child = ScriptedExporter::new();
                let error = Error::unavailable("x");
                child.always(Act::Fail(match asked {
                    Some(asked) => error.with_retry_after(asked),
                    None => error,
                }));
                let exporter = child.exporter().retry(settings.clone());
                let until = Deadline::after(300 * SECOND);
                let error = exporter.export(batch_of(1), until).await.unwrap_err();
                assert!(
                    !crate::is_tried_again(&error).await,
                    "{settings:?} {asked:?}"
                );
            }
        }
    }
}

mod handles {
    use super::*;

    #[tokio::test]
    async fn the_last_owner_closes_and_the_others_flush() {
        let child = ScriptedExporter::new();
        let one = child.exporter();
        let two = one.clone();
        let three = two.clone();
        drop(one.shutdown(Deadline::never()).await.unwrap());
        assert_eq!((child.flushes(), child.shutdowns()), (1, 0));
        assert_eq!(
            export(&one, &batch_of(1)).await.unwrap_err().kind(),
            ErrorKind::ShutDown
        );
        export(&two, &batch_of(1)).await.unwrap();
        drop(two);
        drop(three.shutdown(Deadline::never()).await.unwrap());
        assert_eq!((child.flushes(), child.shutdowns()), (1, 1));
        drop(three.shutdown(Deadline::never()).await.unwrap());
        drop(one.shutdown(Deadline::never()).await.unwrap());
        assert_eq!((child.flushes(), child.shutdowns()), (1, 1));
    }

    #[tokio::test]
    async fn the_clone_of_one_that_is_shut_down_is_shut_down() {
        let child = ScriptedExporter::new();
        let one = child.exporter();
        let other = one.clone();
        drop(one.shutdown(Deadline::never()).await.unwrap());
        let clone = one.clone();
        assert_eq!(
            export(&clone, &batch_of(1)).await.unwrap_err().kind(),
            ErrorKind::ShutDown
        );
        drop(clone);
        export(&other, &batch_of(1)).await.unwrap();
        drop(other.shutdown(Deadline::never()).await.unwrap());
        assert_eq!(child.shutdowns(), 1);
    }

    #[tokio::test]
    async fn a_wrapped_exporter_closes_with_the_last_owner_of_the_wrapping() {
        let child = ScriptedExporter::new();
        let one = child.exporter().timeout(SECOND).retry(Retry::default());
        let other = one.clone();
        drop(one.shutdown(Deadline::never()).await.unwrap());
        export(&other, &batch_of(1)).await.unwrap();
        drop(other.shutdown(Deadline::never()).await.unwrap());
        assert_eq!(child.shutdowns(), 1);
    }

    /// However clones, shutdowns and drops of several threads meet, what stands behind closes exactly once.
    #[test]
    fn owners_on_many_threads_close_exactly_once() {
        for _ in 0..300 {
            let child = ScriptedExporter::new();
            let exporter = Arc::new(child.exporter());
            let start = Barrier::new(3);
            thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    let ended = exporter.shutdown(Deadline::never());
                    drop(futures_executor::block_on(ended).unwrap());
                });
                for _ in 0..2 {
                    scope.spawn(|| {
                        start.wait();
                        let clone = Exporter::clone(&exporter);
                        let sent = futures_executor::block_on(export(&clone, &batch_of(1)));
                        if let Err(error) = sent {
                            assert_eq!(error.kind(), ErrorKind::ShutDown);
                        }
                        drop(
                            futures_executor::block_on(clone.shutdown(Deadline::never())).unwrap(),
                        );
                    });
                }
            });
            assert_eq!(child.shutdowns(), 1);
        }
    }
}

/// Answers in parts, each two spans of a batch: more than one rest, each with an error of its own.
#[derive(Clone, Debug)]
struct Parts {
    script: Arc<Mutex<Vec<Answer>>>,
    sizes: Arc<Mutex<Vec<usize>>>,
}

/// What becomes of each part of a batch, by name.
#[derive(Clone, Debug)]
struct Answer(Vec<(&'static str, Fate)>);

#[derive(Clone, Copy, Debug)]
enum Fate {
    Taken,
    Later,
    Never,
}

impl Parts {
    fn new<const N: usize>(script: [Vec<(&'static str, Fate)>; N]) -> Self {
        let script = script.into_iter().rev().map(Answer).collect();
        Self {
            script: Arc::new(Mutex::new(script)),
            sizes: Arc::default(),
        }
    }

    fn sizes(&self) -> Vec<usize> {
        self.sizes.lock().unwrap().clone()
    }
}

impl Export for Parts {
    async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
        self.sizes.lock().unwrap().push(batch.spans());
        let Answer(fates) = self.script.lock().unwrap().pop().unwrap();
        let parts: Vec<_> = batch.split_by_spans(2).collect();
        assert_eq!(parts.len(), fates.len());
        let mut delivery = Delivery::default();
        delivery.attempt.attempts = 1;
        for (part, (name, fate)) in parts.into_iter().zip(fates) {
            match fate {
                Fate::Taken => delivery.accepted += part.spans() as u64,
                Fate::Later => delivery.leave(part, Error::unavailable(format!("{name} later"))),
                Fate::Never => delivery.leave(part, Error::refused(format!("{name} never"))),
            }
        }
        Ok(delivery)
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }
}

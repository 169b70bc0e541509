//! Fan-out around scripted exporters, under a paused clock.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use outspan::Attempt;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::Retry;
use outspan::combinators::FanOut;
use outspan::combinators::WaitFor;
use outspan::engine::Ack;
use outspan::engine::MemoryQueue;
use outspan_testkit::Act;
use outspan_testkit::Gate;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use outspan_testkit::span_ids;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

fn children<const N: usize>() -> [ScriptedExporter; N] {
    std::array::from_fn(|_| ScriptedExporter::new())
}

fn fan_out(children: &[ScriptedExporter], wait_for: WaitFor) -> Exporter {
    let names = ["a", "b", "c"];
    let mut fan_out = FanOut::new().wait_for(wait_for);
    for (name, child) in names.into_iter().zip(children) {
        fan_out = fan_out.to(name, child.exporter());
    }
    fan_out.build().unwrap()
}

async fn export(exporter: &Exporter, batch: &Batch) -> Result<Delivery> {
    exporter.export(batch.clone(), soon()).await
}

fn quick() -> Retry {
    Retry::default()
        .initial_interval(SECOND)
        .max_elapsed(None)
        .max_retries(3)
        .jitter(0.0)
}

mod all {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_child_gets_the_same_bytes_at_the_same_time() {
        let children = children::<3>();
        for child in &children {
            child.always(Act::after(SECOND, Act::Deliver));
        }
        let exporter = fan_out(&children, WaitFor::All);
        let batch = batch_of(4);
        let began = Instant::now();
        let delivery = export(&exporter, &batch).await.unwrap();
        assert_eq!((delivery.accepted, delivery.attempt.attempts), (4, 3));
        assert!(delivery.is_complete());
        assert!(began.elapsed() < SECOND * 2);
        for child in &children {
            let got = &child.exports()[0];
            assert_eq!(got.span_ids(), span_ids(&batch));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_error_names_every_child_that_failed_and_what_it_misses() {
        let children = children::<3>();
        children[0].script([Act::unavailable()]);
        children[2].script([Act::DeliverHalf(Error::throttled("slow down"))]);
        let exporter = fan_out(&children, WaitFor::All);
        let delivery = export(&exporter, &batch_of(4)).await.unwrap();
        assert_eq!((delivery.accepted, delivery.refused), (0, 0));
        assert_eq!(delivery.undelivered(), 4);
        let text = delivery.rest[0].error.to_string();
        assert!(text.contains("2 of 3 destinations failed"), "{text}");
        assert!(text.contains("a (4 of 4 spans)"), "{text}");
        assert!(text.contains("c (2 of 4 spans)"), "{text}");
        assert!(!text.contains("b ("), "{text}");
        assert!(delivery.rest[0].error.is_temporary());
    }

    #[tokio::test]
    async fn spans_that_were_lost_refused_and_filtered_here_and_there_are_in_one_place() {
        let batch = batch_of(5);
        let kept = span_ids(&batch).split_off(3);
        let keep_two = |child: &ScriptedExporter| {
            let kept = kept.clone();
            let is_kept = move |id: [u8; 8]| kept.iter().any(|kept| kept.as_bytes() == id);
            child
                .exporter()
                .filtered(move |span| is_kept(span.span_id()))
        };
        let children = children::<2>();
        children[0].always(Act::refused());
        children[1].always(Act::Refuse(2));
        let exporter = FanOut::new()
            .to("a", keep_two(&children[0]))
            .to("b", keep_two(&children[1]))
            .build()
            .unwrap();
        let delivery = export(&exporter, &batch).await.unwrap();
        let account = (delivery.accepted, delivery.refused, delivery.filtered);
        assert_eq!(account, (0, 2, 1));
        assert_eq!(delivery.undelivered(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_and_bytes_of_all_children_count() {
        let children = children::<2>();
        for (child, bytes) in children.iter().zip([5, 7]) {
            let error =
                Error::unavailable("half").with_attempt(Attempt::default().with_wire_bytes(bytes));
            child.script([Act::DeliverHalf(error)]);
        }
        let exporter = fan_out(&children, WaitFor::All);
        let delivery = export(&exporter, &batch_of(4)).await.unwrap();
        assert_eq!(
            (delivery.attempt.attempts, delivery.attempt.wire_bytes),
            (2, 12)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_outside_sends_to_each_child_only_what_it_misses() {
        let children = children::<3>();
        children[0].script([Act::unavailable(), Act::unavailable()]);
        children[2].script([Act::DeliverHalf(Error::unavailable("half"))]);
        let exporter = fan_out(&children, WaitFor::All).retry(quick());
        let batch = batch_of(4);
        let delivery = export(&exporter, &batch).await.unwrap();
        assert_eq!(delivery.accepted, 4);
        assert!(delivery.is_complete());
        for child in &children {
            assert_eq!(child.received().len(), 4, "everything once");
        }
        assert_eq!(children[0].exports().len(), 3);
        assert_eq!(children[1].exports().len(), 1);
        let sizes: Vec<_> = children[2]
            .exports()
            .iter()
            .map(|call| call.span_ids().len())
            .collect();
        assert_eq!(sizes, [4, 2]);
    }

    #[tokio::test]
    async fn a_queue_outside_sends_to_each_child_only_what_it_misses() {
        let children = children::<2>();
        children[1].script([Act::unavailable(), Act::unavailable()]);
        let retry = Retry::default().initial_interval(Duration::from_millis(1));
        let queue = MemoryQueue::builder(fan_out(&children, WaitFor::All))
            .retry(retry)
            .start()
            .unwrap();
        let permit = queue.try_reserve(1000, 4).unwrap();
        queue.push(batch_of(4), permit, Ack::none()).unwrap();
        drop(queue.flush(soon()).await.unwrap());
        assert_eq!(queue.account().delivered, 4);
        assert_eq!(children[0].exports().len(), 1);
        assert_eq!(children[1].exports().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn fan_outs_nest_and_nobody_gets_anything_twice() {
        let inner = children::<2>();
        let outer = children::<1>();
        inner[1].script([Act::unavailable()]);
        let exporter = FanOut::new()
            .to("inner", fan_out(&inner, WaitFor::All))
            .to("outer", outer[0].exporter())
            .build()
            .unwrap()
            .retry(quick());
        let delivery = export(&exporter, &batch_of(2)).await.unwrap();
        assert_eq!(delivery.accepted, 2);
        let calls = |child: &ScriptedExporter| child.exports().len();
        assert_eq!((calls(&inner[0]), calls(&inner[1])), (1, 2));
        assert_eq!(calls(&outer[0]), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fan_out_around_another_one_alone_forgets_nothing() {
        let inner = children::<2>();
        inner[1].script([Act::unavailable()]);
        let exporter = FanOut::new()
            .to("inner", fan_out(&inner, WaitFor::All))
            .build()
            .unwrap()
            .retry(quick());
        assert!(export(&exporter, &batch_of(2)).await.unwrap().is_complete());
        for child in &inner {
            assert_eq!(child.received().len(), 2, "everything once");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fallback_of_fan_outs_remembers_who_has_what_in_each() {
        let near = children::<2>();
        let far = children::<2>();
        near[1].always(Act::unavailable());
        far[1].script([Act::unavailable(), Act::unavailable()]);
        let primary = fan_out(&near, WaitFor::All);
        let exporter = primary.fallback(fan_out(&far, WaitFor::All)).retry(quick());
        let delivery = export(&exporter, &batch_of(3)).await.unwrap();
        assert!(delivery.is_complete());
        let got = |child: &ScriptedExporter| child.received().len();
        assert_eq!((got(&near[0]), got(&near[1])), (3, 0), "once");
        assert_eq!((got(&far[0]), got(&far[1])), (3, 3), "once");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_large_and_has_no_time_to_be_halved_is_tried_again() {
        let children = children::<1>();
        let batch = batch_of(8);
        let most = batch.size() / 3;
        children[0].script([Act::after(SECOND, Act::AtMost(most))]);
        children[0].always(Act::AtMost(most));
        let exporter = fan_out(&children, WaitFor::All);
        let exporter = exporter.timeout(SECOND).retry(quick());
        assert!(export(&exporter, &batch).await.unwrap().is_complete());
        assert_eq!(children[0].received().len(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_child_will_never_take_is_told_after_the_others_took_it() {
        let children = children::<2>();
        children[0].script([Act::refused()]);
        children[1].script([Act::unavailable()]);
        let exporter = fan_out(&children, WaitFor::All).retry(quick());
        let error = export(&exporter, &batch_of(3)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(!error.is_temporary());
        assert!(error.to_string().contains("destination: a"), "{error}");
        assert_eq!(children[0].exports().len(), 1);
        assert_eq!(children[1].received().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_anywhere_is_an_error() {
        let children = children::<2>();
        children[0].script([Act::unavailable()]);
        children[1].script([Act::throttled(SECOND * 7)]);
        let exporter = fan_out(&children, WaitFor::All);
        let error = export(&exporter, &batch_of(3)).await.unwrap_err();
        assert!(error.is_temporary());
        assert_eq!(error.retry_after(), Some(SECOND * 7));
        assert!(crate::is_tried_again(&error).await);
    }

    #[tokio::test(start_paused = true)]
    async fn refused_spans_are_told_with_the_name() {
        let children = children::<2>();
        children[1].script([Act::Refuse(1)]);
        let exporter = fan_out(&children, WaitFor::All);
        let delivery = export(&exporter, &batch_of(3)).await.unwrap();
        assert_eq!((delivery.accepted, delivery.refused), (2, 1));
        let message = delivery.message.unwrap();
        assert!(message.starts_with("b refused 1: "), "{message}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_finds_it_too_large_gets_parts_and_the_others_do_not() {
        let children = children::<2>();
        let batch = batch_of(8);
        children[0].always(Act::AtMost(batch.size() / 3));
        let exporter = fan_out(&children, WaitFor::All);
        let delivery = export(&exporter, &batch).await.unwrap();
        assert_eq!(delivery.accepted, 8);
        let mut got = children[0].received();
        got.sort_unstable();
        let mut sent = span_ids(&batch);
        sent.sort_unstable();
        assert_eq!(got, sent);
        assert_eq!(children[1].exports().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_span_that_is_too_large_for_one_child_is_that_child_s_loss_alone() {
        let children = children::<2>();
        children[0].always(Act::AtMost(1));
        let exporter = fan_out(&children, WaitFor::All);
        let delivery = export(&exporter, &batch_of(2)).await.unwrap();
        assert_eq!(delivery.rest.len(), 2);
        for left in &delivery.rest {
            assert_eq!(left.error.kind(), ErrorKind::TooLarge);
        }
        assert_eq!(children[1].received().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn several_spans_that_are_too_large_for_all_are_refused_because_halving_them_again_is_of_no_use()
     {
        let children = children::<2>();
        for child in &children {
            child.always(Act::AtMost(1));
        }
        let exporter = fan_out(&children, WaitFor::All);
        for (spans, kind) in [(2, ErrorKind::Refused), (1, ErrorKind::TooLarge)] {
            let answer = export(&exporter, &batch_of(spans)).await;
            let error = answer.map_or_else(|error| error, |it| it.rest[0].error.clone());
            assert_eq!(error.kind(), kind, "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_panics_or_hangs_fails_alone() {
        let children = children::<3>();
        children[0].always(Act::Panic);
        children[1].always(Act::Hang);
        let exporter = fan_out(&children, WaitFor::All);
        let until = Deadline::after(SECOND).named("the test's limit");
        let delivery = exporter.export(batch_of(2), until).await.unwrap();
        assert_eq!(delivery.undelivered(), 2);
        let text = delivery.rest[0].error.to_string();
        assert!(
            text.contains("a (2 of 2 spans): the exporter panicked"),
            "{text}"
        );
        assert!(text.contains("the test's limit"), "{text}");
        assert_eq!(children[2].received().len(), 2);
    }
}

mod any {
    use super::*;

    #[tokio::test]
    async fn the_first_success_is_enough_and_the_others_go_on() {
        let gate = Gate::new();
        let children = children::<3>();
        children[0].script([Act::unavailable()]);
        children[1].always(Act::when(&gate, Act::Deliver));
        let exporter = fan_out(&children, WaitFor::Any);
        let batch = batch_of(2);
        let delivery = export(&exporter, &batch).await.unwrap();
        assert_eq!(delivery.accepted, 2);
        assert_eq!(children[1].received(), []);
        gate.open();
        drop(exporter.flush(soon()).await.unwrap());
        assert_eq!(children[1].received(), span_ids(&batch));
    }

    #[tokio::test]
    async fn fails_when_all_fail() {
        let children = children::<2>();
        children[0].always(Act::unavailable());
        children[1].always(Act::refused());
        let exporter = fan_out(&children, WaitFor::Any);
        let error = export(&exporter, &batch_of(2)).await.unwrap_err();
        assert!(error.is_temporary(), "{error}");
        assert!(error.to_string().contains("2 of 2 destinations failed"));
    }

    #[tokio::test]
    async fn a_child_that_refuses_some_is_not_enough_while_others_may_take_all() {
        let gate = Gate::new();
        let children = children::<2>();
        children[0].always(Act::Refuse(1));
        children[1].always(Act::when(&gate, Act::Deliver));
        let exporter = fan_out(&children, WaitFor::Any);
        let batch = batch_of(3);
        let answer = export(&exporter, &batch);
        let open = async {
            children[0].wait_for_exports(1).await;
            children[0].wait_until_idle().await;
            gate.open();
        };
        let (answer, ()) = futures_util::join!(answer, open);
        assert_eq!(answer.unwrap().accepted, 3);
    }

    #[tokio::test]
    async fn a_child_that_filters_everything_is_not_enough_while_others_may_take_it() {
        let gate = Gate::new();
        let slow = ScriptedExporter::new();
        slow.always(Act::when(&gate, Act::Deliver));
        let filters_all = ScriptedExporter::new().exporter().filtered(|_| false);
        let exporter = FanOut::new()
            .wait_for(WaitFor::Any)
            .to("a", filters_all)
            .to("b", slow.exporter())
            .build()
            .unwrap();
        let batch = batch_of(3);
        let answer = export(&exporter, &batch);
        let open = async {
            slow.wait_for_exports(1).await;
            gate.open();
        };
        let (answer, ()) = futures_util::join!(answer, open);
        assert_eq!(answer.unwrap().accepted, 3);
    }

    #[tokio::test]
    async fn of_those_that_refuse_some_the_one_that_takes_most_speaks() {
        for refused in [[1, 2], [2, 1]] {
            let children = children::<2>();
            for (child, refused) in children.iter().zip(refused) {
                child.always(Act::Refuse(refused));
            }
            let exporter = fan_out(&children, WaitFor::Any);
            let delivery = export(&exporter, &batch_of(3)).await.unwrap();
            assert_eq!((delivery.accepted, delivery.refused), (2, 1));
        }
    }

    #[tokio::test]
    async fn a_child_that_refuses_some_is_better_than_none() {
        let children = children::<2>();
        children[0].always(Act::unavailable());
        children[1].always(Act::Refuse(1));
        let exporter = fan_out(&children, WaitFor::Any);
        let delivery = export(&exporter, &batch_of(3)).await.unwrap();
        assert_eq!((delivery.accepted, delivery.refused), (2, 1));
    }
}

mod first {
    use super::*;

    #[tokio::test]
    async fn only_the_first_child_is_waited_for() {
        let gate = Gate::new();
        let children = children::<2>();
        children[1].always(Act::when(&gate, Act::Deliver));
        let exporter = fan_out(&children, WaitFor::First);
        let batch = batch_of(2);
        assert!(export(&exporter, &batch).await.unwrap().is_complete());
        children[0].script([Act::refused()]);
        export(&exporter, &batch).await.unwrap_err();
        gate.open();
        drop(exporter.flush(soon()).await.unwrap());
        assert_eq!(children[1].received().len(), 4);
    }

    #[tokio::test]
    async fn a_retry_outside_asks_the_first_child_alone() {
        let children = children::<2>();
        children[0].script([
            Act::unavailable(),
            Act::DeliverHalf(Error::unavailable("half")),
        ]);
        let exporter = fan_out(&children, WaitFor::First);
        let exporter = exporter.retry(quick().initial_interval(Duration::from_millis(1)));
        let delivery = export(&exporter, &batch_of(4)).await.unwrap();
        assert_eq!((delivery.accepted, delivery.attempt.attempts), (4, 3));
        drop(exporter.flush(soon()).await.unwrap());
        for child in &children {
            assert_eq!(child.received().len(), 4, "everything once");
        }
        assert_eq!(children[1].exports().len(), 1);
    }

    #[tokio::test]
    async fn a_first_child_that_finds_it_too_large_gets_parts() {
        let children = children::<2>();
        let batch = batch_of(8);
        children[0].always(Act::AtMost(batch.size() / 3));
        let exporter = fan_out(&children, WaitFor::First);
        assert!(export(&exporter, &batch).await.unwrap().is_complete());
        drop(exporter.flush(soon()).await.unwrap());
        assert_eq!(children[0].received().len(), 8);
        assert_eq!(children[1].exports().len(), 1);
    }

    #[tokio::test]
    async fn a_child_that_hangs_behind_is_bounded() {
        let gate = Gate::new();
        let children = children::<2>();
        children[1].always(Act::when(&gate, Act::Deliver));
        let exporter = fan_out(&children, WaitFor::First);
        for _ in 0..100 {
            export(&exporter, &batch_of(1)).await.unwrap();
        }
        children[1].wait_for_exports(16).await;
        gate.open();
        drop(exporter.shutdown(soon()).await.unwrap());
        assert_eq!(children[0].received().len(), 100);
        assert_eq!(children[1].received().len(), 16);
        assert_eq!(children[1].shutdowns(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn flush_and_shutdown_reach_every_child_though_one_fails() {
    let children = children::<2>();
    let failure = || outspan_testkit::DrainAct::Fail(Error::unavailable("gone"));
    children[0].script_flushes([failure()]);
    children[0].script_shutdowns([failure()]);
    let exporter = fan_out(&children, WaitFor::All);
    let error = exporter.flush(soon()).await.unwrap_err();
    assert!(error.to_string().contains("a: gone"), "{error}");
    exporter.shutdown(soon()).await.unwrap_err();
    for child in &children {
        assert_eq!((child.flushes(), child.shutdowns()), (1, 1));
    }
}

#[test]
fn mistakes_are_found_when_it_is_built() {
    let child = ScriptedExporter::new();
    let none = FanOut::new().build().unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Config);
    let twice = FanOut::new()
        .to("a", child.exporter())
        .to("a", child.exporter())
        .build();
    assert!(twice.unwrap_err().to_string().contains("\"a\""));
    let many = (0..65).fold(FanOut::new(), |fan_out, i| {
        fan_out.to(i.to_string(), child.exporter())
    });
    assert!(many.build().unwrap_err().to_string().contains("65"));
}

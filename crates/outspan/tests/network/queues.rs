//! Queues in front of destinations that fail one batch, or answer nothing for a while, over each transport: no batch waits for
//! another one's fault, and what was not delivered in time says nothing about the destination.

#![cfg(all(unix, feature = "grpc", feature = "http", feature = "zipkin"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::time::Duration;
use std::time::Instant;

use outspan::Batch;
use outspan::DropReason;
use outspan::Exporter;
use outspan::Retry;
use outspan::combinators::QueueHandle;
use outspan::combinators::Queued;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::batch_of;
use outspan_testkit::span_ids;
use tokio::sync::mpsc;

use crate::unanswered::LONG;
use crate::unanswered::Peer;
use crate::unanswered::RECOVERY;
use crate::unanswered::SHORT;
use crate::unanswered::SOON;
use crate::unanswered::Way;
use crate::unanswered::export;
use crate::unanswered::over;

/// How long a batch may take that has nothing to wait for. The shortest wait between retries is longer.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A server that gives one batch another answer than all others.
fn answer_one(peer: &Peer, batch: &Batch, answer: Answer) {
    let bad = span_ids(batch);
    peer.collector.always(Answer::decide(move |request| {
        match request.span_ids().iter().any(|id| bad.contains(id)) {
            true => answer.clone(),
            false => Answer::Accept,
        }
    }));
}

/// The first wait between retries of the defaults, without its spread.
fn retry() -> Retry {
    Retry::default().jitter(0.0)
}

/// Sends batches one after the other, each of which has to arrive at once.
async fn all_arrive_at_once(peer: &Peer, queue: &Exporter, batches: &[Batch]) {
    let before = peer.collector.span_count();
    for (number, batch) in batches.iter().enumerate() {
        export(queue, batch).await.unwrap();
        peer.collector
            .wait_for_spans(before + number + 1, AT_ONCE)
            .await;
    }
}

async fn one_batch_keeps_no_other_waiting(way: Way, answer: Answer) {
    let peer = Peer::start(way);
    let (queue, handle) = Queued::new(peer.exporter())
        .retry(retry())
        .attempt_timeout(Some(LONG))
        .build_with_handle()
        .unwrap();
    let batches: Vec<_> = (0..30).map(|_| batch_of(1)).collect();
    let bad = batch_of(2);
    answer_one(&peer, &bad, answer);
    all_arrive_at_once(&peer, &queue, &batches[..2]).await;
    export(&queue, &bad).await.unwrap();
    peer.collector.wait_for_requests(3, SOON).await;
    all_arrive_at_once(&peer, &queue, &batches[2..20]).await;
    // Its next attempt fails as well.
    let is_again = |peer: &Peer| {
        let requests = peer.collector.requests();
        let of_bad = requests.iter().filter(|request| request.span_count() == 2);
        of_bad.count() >= 2
    };
    let mut seen = peer.collector.requests().len();
    while !is_again(&peer) {
        seen = peer.collector.wait_for_requests(seen + 1, SOON).await.len();
    }
    all_arrive_at_once(&peer, &queue, &batches[20..]).await;
    peer.assert_kept(&batches);
    until(|| handle.account().delivered == 30).await;
    let account = handle.account();
    assert_eq!(account.dropped.total(), 0, "{way:?}: {account:?}");
}

#[test]
fn a_batch_that_always_fails_keeps_no_other_waiting() {
    over(Way::ALL, |way| {
        let answer = Answer::refuse(AnswerCode::UNAVAILABLE, "not this one");
        one_batch_keeps_no_other_waiting(way, answer)
    });
}

#[test]
fn a_batch_that_is_never_answered_keeps_no_other_waiting() {
    over(Way::ALL, |way| {
        one_batch_keeps_no_other_waiting(way, Answer::Stall)
    });
}

/// Waits for what follows from an answer that is on its way.
async fn until(mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(SOON, async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap();
}

fn is_up(handle: &QueueHandle) -> bool {
    handle.trouble().is_none() && handle.next_attempt_in().is_none()
}

#[test]
fn batches_that_expire_while_the_peer_hangs_do_not_delay_its_recovery() {
    over(Way::ALL, |way| async move {
        let peer = Peer::start(way);
        let (drops, mut dropped) = mpsc::unbounded_channel();
        let (queue, handle) = Queued::new(peer.exporter())
            .retry(retry().initial_interval(Duration::from_millis(200)))
            .attempt_timeout(Some(SHORT))
            .export_limit(Some(Duration::from_secs(1)))
            .on_drop(move |event| drops.send((event.reason, event.spans)).unwrap())
            .build_with_handle()
            .unwrap();
        let (first, last) = (batch_of(1), batch_of(2));
        export(&queue, &first).await.unwrap();
        peer.collector.wait_for_spans(1, SOON).await;
        peer.hang();
        for _ in 0..10 {
            export(&queue, &batch_of(3)).await.unwrap();
        }
        let mut expired = 0;
        while expired < 30 {
            let (reason, spans) = tokio::time::timeout(SOON, dropped.recv())
                .await
                .unwrap()
                .unwrap();
            assert_eq!(reason, DropReason::Expired, "{way:?}");
            expired += spans;
        }
        peer.recover_for_new_connections();
        let began = Instant::now();
        export(&queue, &last).await.unwrap();
        peer.collector.wait_for_spans(3, RECOVERY).await;
        assert!(began.elapsed() < RECOVERY, "{way:?}");
        peer.assert_kept(&[first, last]);
        until(|| is_up(&handle)).await;
        let account = handle.account();
        assert_eq!(account.dropped.of(DropReason::Expired), 30, "{way:?}");
        assert!(account.closes(), "{way:?}: {account:?}");
    });
}

//! Sending batches over HTTP: one request after the other.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use http::Method;
use http::Request;
use http::StatusCode;
use tokio::sync::Semaphore;

use crate::Attempt;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Error;
use crate::Result;
use crate::Secret;
use crate::Undelivered;
use crate::export;
use crate::export::Turn;
use crate::failures::Failures;
use crate::runtime::Runtime;

use super::Accepted;
use super::Answer;
use super::Body;
use super::Connections;
use super::Endpoint;
use super::Headers;
use super::Message;
use super::Sent;
use super::fit_to_show;
use super::hedge::hedged;
use super::read_limited;

/// The bounds of an exporter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) request_bytes: usize,
    pub(crate) response_bytes: usize,
    pub(crate) exports: usize,
}

/// Tells what one protocol over HTTP does that others do not.
pub(crate) trait Protocol: fmt::Debug + Send + Sync + 'static {
    /// Makes messages for the spans of a batch from the number `first` on, in their order, each of at most `limit` bytes.
    ///
    /// They need not hold all of the spans: more are asked for when these are sent.
    fn messages(
        &self,
        part: &Batch,
        first: usize,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Message>>> + Send;

    /// How many bytes of OTLP a part may have that becomes messages. Parts are copies, and messages are made of each.
    fn max_part_bytes(&self, limit: usize) -> usize {
        /// So that the parts of several exports at once take little memory; batches usually are smaller.
        const BYTES_MAX: usize = 4 << 20;

        limit.min(BYTES_MAX)
    }

    /// Lets go of messages that are sent, unless others can use them.
    fn forget(&self, _part: &Batch, _first: usize) {}

    /// Sets the headers that belong to the protocol.
    fn set_headers(&self, headers: &mut HeaderMap, until: Deadline) -> Result<()>;

    /// What stands before a message on the wire: nothing, in most.
    fn prefix(&self, _message: &Bytes) -> Result<Bytes> {
        Ok(Bytes::new())
    }

    /// Reads what the server answered. The secrets must not be shown.
    fn read(&self, answer: &Answer, secrets: &[Secret]) -> Result<Accepted>;

    /// The status that says that the server does not know us, which is HTTP's in most.
    fn unauthenticated(&self) -> u16 {
        StatusCode::UNAUTHORIZED.as_u16()
    }
}

/// Sends batches to one destination.
pub(crate) struct Sender<P> {
    protocol: P,
    endpoint: Endpoint,
    headers: Headers,
    connections: Connections,
    limits: Limits,
    /// Where the connections are, and every request.
    runtime: Runtime,
    permits: Semaphore,
    /// One request at a time is sent again before it has an answer.
    hedges: Semaphore,
    is_closed: AtomicBool,
}

impl<P: Protocol> Sender<P> {
    pub(crate) fn new(
        protocol: P,
        endpoint: Endpoint,
        headers: Headers,
        connections: Connections,
        limits: Limits,
        runtime: Runtime,
    ) -> Self {
        Self {
            protocol,
            endpoint,
            headers,
            connections,
            limits,
            runtime,
            permits: Semaphore::new(limits.exports.min(Semaphore::MAX_PERMITS)),
            hedges: Semaphore::new(1),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Refuses every later export, and closes the connections as soon as they are idle.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.connections.close();
    }

    /// Delivers a batch from within any executor.
    pub(crate) async fn export(
        self: &Arc<Self>,
        batch: Batch,
        until: Deadline,
    ) -> Result<Delivery> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::shut_down());
        }
        if batch.is_empty() {
            return Ok(Delivery::default());
        }
        export::note_server(&self.endpoint.server);
        let sender = Arc::clone(self);
        let work = async move { sender.deliver(batch, until).await };
        self.runtime.run_network(until, work).await
    }

    /// Delivers a batch, in parts where it has more bytes than a request may. One part is held at a time.
    async fn deliver(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let permit = until.run(self.permits.acquire()).await;
        let Some(Ok(_permit)) = permit else {
            let running = self.limits.exports;
            let message = format!("no export could begin: {running} others are running");
            return Err(Error::timeout(message, until));
        };
        let limit = self.limits.request_bytes;
        let mut progress = Progress {
            until,
            turn: Turn::begin(),
            failed: 0,
            total: Delivery::default(),
            failures: Failures::default(),
        };
        let mut start = 0;
        for part in batch.parts_by_bytes(self.protocol.max_part_bytes(limit)) {
            let spans = part.batch.spans();
            let size = part.batch.size();
            if part.is_oversized && size > limit {
                let error = too_large(&part.batch, 0..1, size, limit);
                progress.fail(start..start + spans, error);
            } else if let Err(kept_back) = self
                .deliver_part(&batch, &part.batch, start, &mut progress)
                .await
            {
                // What keeps this part back would keep the others back as well.
                let rest = kept_back.from..batch.spans();
                let rests = match kept_back.error.is_giving_way() {
                    true => export::apart(&batch, &[rest]),
                    false => vec![vec![rest]],
                };
                progress.total.count(&kept_back.error);
                for ranges in rests {
                    progress.total.rest.push(Undelivered {
                        batch: batch.cut_all(&ranges),
                        error: kept_back.error.clone(),
                    });
                }
                break;
            }
            start += spans;
        }
        let mut total = progress.total;
        progress.failures.leave(&batch, &mut total);
        total.into_result()
    }

    /// Sends the messages of a part, whose first span has the number `start` in the batch.
    async fn deliver_part(
        &self,
        batch: &Batch,
        part: &Batch,
        start: usize,
        progress: &mut Progress,
    ) -> std::result::Result<(), KeptBack> {
        let mut next = 0;
        while next < part.spans() {
            if progress.gives_way(batch, start + next) {
                return Err(KeptBack {
                    from: start + next,
                    error: Error::giving_way(),
                });
            }
            let messages = self.messages(part, next, progress.until).await;
            let first = next;
            for message in messages {
                let spans = start + message.spans.start..start + message.spans.end;
                next = message.spans.end;
                let sent = match message.body {
                    Ok(body) => {
                        let bytes = body.len();
                        let sent = self.send(body, spans.len(), progress.until).await;
                        let share = part.size() as u64 * spans.len() as u64 / part.spans() as u64;
                        sent.map_err(|error| limit_in_otlp(error, bytes as u64, share))
                    }
                    Err(error) => Err(error),
                };
                match sent {
                    Ok(delivery) => progress.total.absorb(delivery),
                    Err(error) if error.is_temporary() => {
                        self.protocol.forget(part, first);
                        let from = spans.start;
                        return Err(KeptBack { from, error });
                    }
                    Err(error) => progress.fail(spans, error),
                }
            }
            self.protocol.forget(part, first);
        }
        Ok(())
    }

    /// The next messages of a part, from a span on: every span is in exactly one of them, in order. There is one at least.
    async fn messages(&self, part: &Batch, first: usize, until: Deadline) -> Vec<Message> {
        let whole = |error| {
            vec![Message {
                spans: first..part.spans(),
                body: Err(error),
            }]
        };
        let limit = self.limits.request_bytes;
        let making = until.run(self.protocol.messages(part, first, limit));
        match making.await {
            Some(Ok(messages)) if are_next(&messages, first, part.spans()) => {
                messages.into_iter().map(|m| checked(m, limit)).collect()
            }
            Some(Ok(_)) => whole(Error::internal(
                "the messages do not hold the batch's spans",
            )),
            Some(Err(error)) => whole(error),
            None => {
                let (spans, bytes) = (part.spans() - first, part.size());
                let server = &self.endpoint.server;
                whole(Error::timeout(
                    format!(
                        "writing {spans} spans of {bytes} bytes in the format of the destination is not done, \
                         and nothing of them was sent to {server}"
                    ),
                    until,
                )
                .before_sending())
            }
        }
    }

    /// Sends one request; once more with fresh headers when the server does not know us.
    async fn send(&self, body: Bytes, spans: usize, until: Deadline) -> Result<Delivery> {
        let sent = Sent::default();
        let mut attempts = 0;
        let mut refresh = false;
        loop {
            attempts += 1;
            let attempt = self.attempt_hedged(&body, refresh, until, &sent);
            let result = until.run(attempt).await.unwrap_or_else(|| {
                let server = &self.endpoint.server;
                Err(Error::timeout(format!("no answer from {server}"), until))
            });
            match result {
                Ok(accepted) => {
                    let mut delivery = delivery(spans as u64, accepted);
                    delivery.attempt = self.measured(delivery.attempt, attempts, &sent);
                    return Ok(delivery);
                }
                Err(error) if self.may_refresh(&error) && !refresh => refresh = true,
                Err(error) => {
                    return Err(self
                        .connections
                        .name_proxy(error)
                        .with_context("endpoint", self.endpoint.to_string())
                        .map_attempt(|answered| self.measured(answered, attempts, &sent)));
                }
            }
        }
    }

    /// Adds what was measured to what the answer said.
    fn measured(&self, answered: Attempt, attempts: u32, sent: &Sent) -> Attempt {
        answered
            .with_server(Arc::clone(&self.endpoint.server))
            .with_attempts(attempts + sent.repeats())
            .with_wire_bytes(sent.bytes())
    }

    fn may_refresh(&self, error: &Error) -> bool {
        self.headers.can_refresh()
            && error.attempt().status == Some(self.protocol.unauthenticated())
    }

    /// Sends one request and reads its answer. While the destination answers nothing, the request is sent again over a new
    /// connection every few seconds: that one may reach a server that works.
    ///
    /// A destination that is slow gets no request twice: one that waits is sent again only if an attempt before ended
    /// without an answer and nothing was answered since, and only one request at a time.
    async fn attempt_hedged(
        &self,
        body: &Bytes,
        refresh: bool,
        until: Deadline,
        sent: &Sent,
    ) -> Result<Accepted> {
        let is_silent = self.connections.is_silent();
        let attempt = |permit| {
            // Boxed, because two of them may run, and all that is around them is copied with them.
            let attempt = Box::pin(self.attempt(body.clone(), refresh, until, sent));
            attempt.map(move |result| {
                drop(permit);
                result
            })
        };
        let another = || {
            if !is_silent {
                return None;
            }
            let permit = self.hedges.try_acquire().ok()?;
            sent.repeat();
            Some(attempt(Some(permit)))
        };
        // An error that the server answered ends the silence as well; that a connection failed does not.
        let is_answered = |_: &Result<Accepted>| !self.connections.is_silent();
        hedged(attempt(None), another, is_answered).await
    }

    /// Sends one request and reads its answer.
    async fn attempt(
        &self,
        mut body: Bytes,
        refresh: bool,
        until: Deadline,
        sent: &Sent,
    ) -> Result<Accepted> {
        let mut headers = HeaderMap::new();
        let mut secrets = self.headers.apply(&mut headers, refresh).await?;
        self.protocol.set_headers(&mut headers, until)?;
        self.headers
            .intercept(&self.endpoint.uri, &mut headers, &mut body, &mut secrets)?;
        let prefix = self.protocol.prefix(&body)?;
        let mut request = Request::new(Body::new(prefix, body, sent.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.uri.clone();
        *request.headers_mut() = headers;
        let (response, waiting) = self.connections.send(request).await?;
        let (head, body) = response.into_parts();
        let (body, trailers) = read_limited(body, self.limits.response_bytes).await?;
        waiting.answered();
        let answer = Answer {
            status: head.status,
            headers: head.headers,
            trailers,
            body,
        };
        let accepted = self.protocol.read(&answer, &secrets)?;
        Ok(Accepted {
            message: fit_to_show(&accepted.message, &secrets),
            ..accepted
        })
    }
}

impl<P: Protocol> fmt::Debug for Sender<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("protocol", &self.protocol)
            .field("endpoint", &self.endpoint)
            .field("headers", &self.headers)
            .field("connections", &self.connections)
            .field("limits", &self.limits)
            .field("is_closed", &self.is_closed)
            .finish_non_exhaustive()
    }
}

/// From which span on a batch could not be sent this time, and why.
struct KeptBack {
    from: usize,
    error: Error,
}

/// What became of the spans of a batch so far.
struct Progress {
    until: Deadline,
    turn: Turn,
    failed: u64,
    total: Delivery,
    failures: Failures,
}

impl Progress {
    /// Whether others get their turn now, before the span with the number `next`. Every turn achieves something.
    fn gives_way(&self, batch: &Batch, next: usize) -> bool {
        let achieved = self.total.accepted + self.total.refused + self.failed;
        achieved > 0 && self.turn.is_over(batch, next)
    }

    /// Notes spans that failed for good, or are too large together.
    fn fail(&mut self, spans: Range<usize>, error: Error) {
        self.total.count(&error);
        self.failed += spans.len() as u64;
        self.failures.add(spans, error);
    }
}

/// Names an exporter among the forms of a batch.
pub(crate) fn exporter_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // The number only has to be another one for each.
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Says that spans of a batch are too large, and which where it is one. `bytes` is how many they have at least.
pub(crate) fn too_large(batch: &Batch, spans: Range<usize>, bytes: usize, limit: usize) -> Error {
    let text = match (spans.len(), batch.iter().nth(spans.start)) {
        (1, Some(span)) => format!(
            "span \"{}\" has {bytes} bytes, more than the request limit of {limit}",
            fit_to_show(span.name(), &[])
        ),
        (spans, _) => {
            format!("{spans} spans have {bytes} bytes, more than the request limit of {limit}")
        }
    };
    Error::too_large(text).with_limit(limit as u64)
}

/// Converts the limit that a server named into bytes of OTLP, where the message has more bytes than its spans have in OTLP. A
/// smaller message is compressed or has about as many bytes; servers bound what is uncompressed.
fn limit_in_otlp(error: Error, message_bytes: u64, otlp_bytes: u64) -> Error {
    match error.limit() {
        // An eighth less, because spans do not all grow alike.
        Some(limit) if message_bytes > otlp_bytes => {
            let limit = u128::from(limit) * u128::from(otlp_bytes) / u128::from(message_bytes);
            error.with_limit(u64::try_from(limit - limit / 8).unwrap_or(u64::MAX))
        }
        _ => error,
    }
}

/// Whether messages hold spans from the number `first` on, each exactly once and in order, and no more than there are.
fn are_next(messages: &[Message], first: usize, spans: usize) -> bool {
    let mut next = first;
    for message in messages {
        if message.spans.start != next || message.spans.is_empty() {
            return false;
        }
        next = message.spans.end;
    }
    next > first && next <= spans
}

/// Compressed, some data has more bytes than before.
fn checked(message: Message, limit: usize) -> Message {
    let body = message.body.and_then(|body| match body.len() > limit {
        true => Err(Error::too_large(format!(
            "{} spans have {} bytes after compression, more than the request limit of {limit}",
            message.spans.len(),
            body.len()
        ))),
        false => Ok(body),
    });
    Message {
        spans: message.spans,
        body,
    }
}

/// Turns the server's answer into what became of the spans. A server cannot refuse more than it got.
fn delivery(spans: u64, accepted: Accepted) -> Delivery {
    let refused = accepted.refused.min(spans);
    Delivery {
        accepted: spans - refused,
        refused,
        message: Some(accepted.message).filter(|message| !message.is_empty()),
        attempt: Attempt::default().with_status(accepted.status),
        ..Delivery::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(spans: Range<usize>, body: &'static [u8]) -> Message {
        Message {
            spans,
            body: Ok(Bytes::from_static(body)),
        }
    }

    #[test]
    fn messages_hold_the_next_spans_each_once() {
        let are_next = |ranges: &[(usize, usize)], first, spans| {
            let messages = ranges.iter().map(|(start, end)| message(*start..*end, b""));
            let messages: Vec<_> = messages.collect();
            are_next(&messages, first, spans)
        };
        assert!(are_next(&[(0, 3)], 0, 3));
        assert!(are_next(&[(0, 1), (1, 3)], 0, 3));
        assert!(are_next(&[(0, 2)], 0, 3), "the last one comes later");
        assert!(are_next(&[(2, 3)], 2, 3));
        assert!(!are_next(&[], 0, 1), "nothing is no progress");
        assert!(!are_next(&[(0, 4)], 0, 3), "one is not in the batch");
        assert!(!are_next(&[(1, 3)], 0, 3), "one is missing at the start");
        assert!(
            !are_next(&[(0, 1), (2, 3)], 0, 3),
            "one is missing in between"
        );
        assert!(!are_next(&[(0, 2), (1, 3)], 0, 3), "one is there twice");
        assert!(!are_next(&[(0, 3), (3, 3)], 0, 3), "one message is empty");
    }

    #[test]
    fn a_message_may_have_as_many_bytes_as_the_limit() {
        for (limit, fits) in [(4, false), (5, true), (6, true)] {
            let checked = checked(message(0..2, b"12345"), limit);
            assert_eq!(checked.spans, 0..2);
            match checked.body {
                Ok(body) => assert!(fits && body == "12345"),
                Err(error) => assert!(!fits && error.is_too_large(), "{error}"),
            }
        }
    }

    #[test]
    fn a_limit_counts_bytes_of_otlp() {
        let of = |limit, message_bytes| {
            let error = Error::too_large("x").with_limit(limit);
            limit_in_otlp(error, message_bytes, 8).limit()
        };
        assert_eq!(of(800, 8), Some(800), "as OTLP");
        assert_eq!(of(800, 4), Some(800), "compressed");
        assert_eq!(of(800, 80), Some(70), "ten times as large");
        assert_eq!(of(0, 80), Some(0));
        assert!(of(u64::MAX, 9).is_some_and(|limit| limit > 1 << 60));
        let none = limit_in_otlp(Error::too_large("x"), 80, 8);
        assert_eq!(none.limit(), None);
    }

    #[test]
    fn a_server_refuses_no_more_spans_than_it_got() {
        for (refused, accepted) in [(0, 3), (2, 1), (3, 0), (9, 0)] {
            let answer = Accepted {
                refused,
                ..Accepted::all(StatusCode::OK)
            };
            let delivery = delivery(3, answer);
            assert_eq!(delivery.accepted, accepted);
            assert_eq!(delivery.refused, 3 - accepted);
            assert_eq!(
                (delivery.message, delivery.attempt.status),
                (None, Some(200))
            );
        }
    }
}

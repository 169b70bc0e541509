//! Sending batches over HTTP: one request after the other, in parts where they are too large.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::Method;
use http::Request;
use http::StatusCode;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Error;
use crate::Result;
use crate::Secret;
use crate::engine;
use crate::engine::Turns;
use crate::failures::Failures;
use crate::forms::Charge;
use crate::forms::paid;
use crate::runtime::Runtime;

use super::Body;
use super::Connections;
use super::Endpoint;
use super::Headers;
use super::Sent;
use super::fit_to_show;
use super::read_limited;

/// How long the requests of a batch go on while others wait.
const TURN: Duration = Duration::from_millis(500);

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

/// One request's worth of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Which spans of the batch, counted from 0.
    pub(crate) spans: Range<usize>,
    /// Their bytes, compressed, or why there are none.
    pub(crate) body: Result<Bytes>,
}

impl Message {
    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.body.as_ref().map_or(0, Bytes::len)
    }

    /// Holds a charge for as long as anybody holds the bytes.
    pub(crate) fn paid_by(self, charge: &Arc<Charge>) -> Self {
        Self {
            body: self.body.map(|body| paid(body, charge)),
            ..self
        }
    }
}

/// An answer of the server's, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// What a server said that took a message.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    /// How many of its spans it refused all the same.
    pub(crate) refused: u64,
    pub(crate) message: String,
    pub(crate) status: u16,
}

impl Accepted {
    /// Every span was taken, and nothing else said.
    pub(crate) fn all(status: StatusCode) -> Self {
        Self {
            status: status.as_u16(),
            ..Self::default()
        }
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
        engine::note_server(&self.endpoint.server);
        let sender = Arc::clone(self);
        let work = async move { sender.deliver(batch, until).await };
        self.runtime.run_network(until, work).await
    }

    /// Delivers a batch, in parts where it is too large. One part is held at a time.
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
            began: Instant::now(),
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
                let mut ranges = kept_back.ranges;
                ranges.push(start + spans..batch.spans());
                let rests = match kept_back.error.is_giving_way() {
                    true => apart(&batch, &ranges),
                    false => vec![ranges],
                };
                for ranges in rests {
                    let rest = batch.cut_all(&ranges);
                    progress.total.leave(rest, kept_back.error.clone());
                }
                break;
            }
            start += spans;
        }
        let mut total = progress.total;
        progress.failures.leave(&batch, &mut total);
        total.into_result()
    }

    /// Sends the messages of a part, whose first span has the number `start` in the batch. What is too large is tried in
    /// halves, one at a time.
    async fn deliver_part(
        &self,
        batch: &Batch,
        part: &Batch,
        start: usize,
        progress: &mut Progress,
    ) -> std::result::Result<(), KeptBack> {
        // What of the part is still to be sent, in its numbers, the first at the end.
        let whole = 0..part.spans();
        let mut left = vec![whole];
        while let Some(range) = left.pop() {
            let piece = part.cut(range.clone());
            let place = start + range.start;
            match self.deliver_piece(batch, &piece, place, progress).await {
                Ok(halves) => {
                    let halves = halves.into_iter().rev();
                    left.extend(halves.map(|half| half.start - start..half.end - start));
                }
                Err(mut kept_back) => {
                    let others = left.into_iter().rev();
                    let others = others.map(|other| other.start + start..other.end + start);
                    kept_back.ranges.extend(others);
                    return Err(kept_back);
                }
            }
        }
        Ok(())
    }

    /// Sends the messages of a piece, whose first span has the number `start` in the batch. What is to be tried in halves
    /// comes back, in numbers of the batch.
    async fn deliver_piece(
        &self,
        batch: &Batch,
        piece: &Batch,
        start: usize,
        progress: &mut Progress,
    ) -> std::result::Result<Vec<Range<usize>>, KeptBack> {
        let mut halves = Vec::new();
        let mut next = 0;
        while next < piece.spans() {
            if progress.gives_way(batch, start + next) {
                halves.push(start + next..start + piece.spans());
                return Err(KeptBack {
                    ranges: halves,
                    error: Error::giving_way(),
                });
            }
            let messages = self.messages(piece, next, progress.until).await;
            let first = next;
            for message in messages {
                let spans = start + message.spans.start..start + message.spans.end;
                next = message.spans.end;
                let sent = match message.body {
                    Ok(body) => self.send(body, spans.len(), progress.until).await,
                    Err(error) => Err(error),
                };
                match sent {
                    Ok(delivery) => progress.total.absorb(delivery),
                    Err(error) if error.is_divisible() && spans.len() > 1 => {
                        progress.total.attempts += error.attempts();
                        progress.total.wire_bytes += error.wire_bytes();
                        let middle = spans.start + spans.len().div_ceil(2);
                        halves.push(spans.start..middle);
                        halves.push(middle..spans.end);
                    }
                    Err(error) if error.is_temporary() => {
                        self.protocol.forget(piece, first);
                        halves.push(spans.start..start + piece.spans());
                        return Err(KeptBack {
                            ranges: halves,
                            error,
                        });
                    }
                    Err(error) => progress.fail(spans, error),
                }
            }
            self.protocol.forget(piece, first);
        }
        Ok(halves)
    }

    /// The next messages of a piece, from a span on: every span is in exactly one of them, in order. There is one at least.
    async fn messages(&self, piece: &Batch, first: usize, until: Deadline) -> Vec<Message> {
        let whole = |error| {
            vec![Message {
                spans: first..piece.spans(),
                body: Err(error),
            }]
        };
        let limit = self.limits.request_bytes;
        let making = until.run(self.protocol.messages(piece, first, limit));
        match making.await {
            Some(Ok(messages)) if are_next(&messages, first, piece.spans()) => {
                messages.into_iter().map(|m| checked(m, limit)).collect()
            }
            Some(Ok(_)) => whole(Error::internal(
                "the messages do not hold the batch's spans",
            )),
            Some(Err(error)) => whole(error),
            None => {
                let (spans, bytes) = (piece.spans() - first, piece.size());
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
            let attempt = self.attempt(body.clone(), refresh, until, &sent);
            let result = until.run(attempt).await.unwrap_or_else(|| {
                let server = &self.endpoint.server;
                Err(Error::timeout(format!("no answer from {server}"), until))
            });
            match result {
                Ok(accepted) => {
                    let mut delivery = delivery(spans as u64, accepted);
                    delivery.attempts = attempts;
                    delivery.wire_bytes = sent.bytes();
                    delivery.server = Some(Arc::clone(&self.endpoint.server));
                    return Ok(delivery);
                }
                Err(error) if self.may_refresh(&error) && !refresh => refresh = true,
                Err(error) => {
                    return Err(self
                        .connections
                        .name_proxy(error)
                        .with_context("endpoint", self.endpoint.to_string())
                        .with_server(Arc::clone(&self.endpoint.server))
                        .with_attempts(attempts)
                        .with_wire_bytes(sent.bytes()));
                }
            }
        }
    }

    fn may_refresh(&self, error: &Error) -> bool {
        self.headers.can_refresh() && error.status() == Some(self.protocol.unauthenticated())
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
        let response = self.connections.send(request).await?;
        let (head, body) = response.into_parts();
        let (body, trailers) = read_limited(body, self.limits.response_bytes).await?;
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

/// What could not be sent this time, in numbers of the batch's spans, and why.
struct KeptBack {
    ranges: Vec<Range<usize>>,
    error: Error,
}

/// What became of the spans of a batch so far.
struct Progress {
    until: Deadline,
    began: Instant,
    failed: u64,
    total: Delivery,
    failures: Failures,
}

impl Progress {
    /// Whether others get their turn now, before the span with the number `next`: other batches, or the spans of other
    /// resources in this one. Every turn achieves something.
    fn gives_way(&self, batch: &Batch, next: usize) -> bool {
        let achieved = self.total.accepted + self.total.refused + self.failed;
        achieved > 0
            && self.began.elapsed() >= TURN
            && match engine::turns() {
                Turns::No => false,
                Turns::OthersWait => true,
                Turns::NobodyWaits => end_of_resource(batch, next) < batch.spans(),
            }
    }

    /// Notes spans that failed for good.
    fn fail(&mut self, spans: Range<usize>, error: Error) {
        self.failed += spans.len() as u64;
        self.failures.add(spans, error);
    }
}

/// The number of the span behind those of the resource to which the span with the number `place` belongs.
fn end_of_resource(batch: &Batch, place: usize) -> usize {
    let mut end = 0;
    for resource_spans in batch.view().resource_spans() {
        let scopes = resource_spans.scope_spans();
        end += scopes.map(|scope| scope.spans().count()).sum::<usize>();
        if end > place {
            break;
        }
    }
    end
}

/// Divides what is left of a batch: the spans of the resource that was being sent, and then those of the others, which need
/// not take as long.
fn apart(batch: &Batch, ranges: &[Range<usize>]) -> Vec<Vec<Range<usize>>> {
    let first = ranges.iter().map(|range| range.start).min();
    let end = end_of_resource(batch, first.unwrap_or(0));
    let same = ranges.iter().map(|range| range.start..range.end.min(end));
    let others = ranges.iter().map(|range| range.start.max(end)..range.end);
    let parts = [same.collect::<Vec<_>>(), others.collect()];
    let parts = parts.into_iter().map(|mut ranges| {
        ranges.retain(|range| !range.is_empty());
        ranges
    });
    parts.filter(|ranges| !ranges.is_empty()).collect()
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
    Error::too_large(text)
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
        status: Some(accepted.status),
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
    fn what_is_left_is_divided_behind_the_resource_that_was_being_sent() {
        // Two resources of three spans each, ids 1 to 6.
        let field =
            |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
        let span = |id: u8| field(2, &[field(1, &[id; 16]), field(2, &[id; 8])].concat());
        let resource = |ids: [u8; 3]| field(1, &field(2, &ids.map(span).concat()));
        let request = [resource([1, 2, 3]), resource([4, 5, 6])].concat();
        let batch = Batch::from_request(request).unwrap().batch;
        let ends: Vec<_> = (0..6).map(|place| end_of_resource(&batch, place)).collect();
        assert_eq!(ends, [3, 3, 3, 6, 6, 6]);
        let parts = |ranges: &[Range<usize>]| -> Vec<Vec<_>> {
            let parts = apart(&batch, ranges).into_iter();
            parts
                .map(|part| part.iter().map(|range| (range.start, range.end)).collect())
                .collect()
        };
        let both: [&[_]; 2] = [&[(1, 2), (2, 3)], &[(3, 6)]];
        assert_eq!(parts(&[1..2, 2..6]), both);
        assert_eq!(parts(&[4..5, 5..6]), [[(4, 5), (5, 6)]]);
        assert_eq!(parts(&[0..2, 6..6]), [[(0, 2)]]);
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
    fn a_server_refuses_no_more_spans_than_it_got() {
        for (refused, accepted) in [(0, 3), (2, 1), (3, 0), (9, 0)] {
            let answer = Accepted {
                refused,
                ..Accepted::all(StatusCode::OK)
            };
            let delivery = delivery(3, answer);
            assert_eq!(delivery.accepted, accepted);
            assert_eq!(delivery.refused, 3 - accepted);
            assert_eq!((delivery.message, delivery.status), (None, Some(200)));
        }
    }
}

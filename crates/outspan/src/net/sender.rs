//! Sending batches over HTTP: one request after the other, in parts where they are too large.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::HeaderMap;
use http::Method;
use http::Request;
use http::StatusCode;
use outspan_wire::otlp;
use tokio::sync::Semaphore;

use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Error;
use crate::Result;
use crate::Secret;
use crate::queue;
use crate::runtime;

use super::Body;
use super::Connections;
use super::Endpoint;
use super::Headers;
use super::Sent;
use super::fit_to_show;
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
    /// Makes the messages for the spans of a batch, in their order, each of at most `limit` bytes.
    fn messages(
        &self,
        part: &Batch,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Message>>> + Send;

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
#[derive(Debug)]
pub(crate) struct Message {
    /// Which spans of the batch, counted from 0.
    pub(crate) spans: Range<usize>,
    /// Their bytes, compressed, or why there are none.
    pub(crate) body: Result<Bytes>,
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
    ) -> Self {
        Self {
            protocol,
            endpoint,
            headers,
            connections,
            limits,
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
        queue::note_server(&self.endpoint.server);
        let sender = Arc::clone(self);
        runtime::run(async move { sender.deliver(batch, until).await }).await
    }

    /// Delivers a batch, in parts where it is too large.
    async fn deliver(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let permit = until.run(self.permits.acquire()).await;
        let Some(Ok(_permit)) = permit else {
            let running = self.limits.exports;
            let message = format!("no export could begin: {running} others are running");
            return Err(Error::timeout(message, until));
        };
        let mut total = Delivery::default();
        let mut parts = batch.split_by_bytes(self.limits.request_bytes);
        parts.reverse();
        while let Some(part) = parts.pop() {
            let halves = match self.deliver_part(&part, until, &mut total).await {
                Ok(halves) => halves,
                Err(kept_back) => {
                    // What keeps this part back would keep the others back as well.
                    parts.extend(kept_back.batches.into_iter().rev());
                    parts.reverse();
                    total.leave(Batch::concatenate(&parts), kept_back.error);
                    break;
                }
            };
            parts.extend(halves.into_iter().rev());
        }
        total.into_result()
    }

    /// Sends the messages of a part. What became of them joins `total`; what is to be tried in smaller parts comes
    /// back.
    async fn deliver_part(
        &self,
        part: &Batch,
        until: Deadline,
        total: &mut Delivery,
    ) -> std::result::Result<Vec<Batch>, KeptBack> {
        let mut halves = Vec::new();
        for message in self.messages(part).await {
            let spans = message.spans;
            let sent = match message.body {
                Ok(body) => self.send(body, spans.len(), until).await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(delivery) => total.absorb(delivery),
                Err(error) if error.is_too_large() && spans.len() > 1 => {
                    total.attempts += error.attempts();
                    total.wire_bytes += error.wire_bytes();
                    let half = spans.len().div_ceil(2);
                    halves.extend(cut(part, spans).split_by_spans(half));
                }
                Err(error) if error.is_temporary() => {
                    halves.push(cut(part, spans.start..part.spans()));
                    return Err(KeptBack {
                        batches: halves,
                        error,
                    });
                }
                Err(error) => total.leave(cut(part, spans), error),
            }
        }
        Ok(halves)
    }

    /// The messages of a part: every span is in exactly one of them.
    async fn messages(&self, part: &Batch) -> Vec<Message> {
        let whole = |error| {
            vec![Message {
                spans: 0..part.spans(),
                body: Err(error),
            }]
        };
        let limit = self.limits.request_bytes;
        match self.protocol.messages(part, limit).await {
            Ok(messages) if covers(&messages, part.spans()) => {
                messages.into_iter().map(|m| checked(m, limit)).collect()
            }
            Ok(_) => whole(Error::internal(
                "the messages do not hold the batch's spans",
            )),
            Err(error) => whole(error),
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

/// What could not be sent this time, and why.
struct KeptBack {
    batches: Vec<Batch>,
    error: Error,
}

/// Says that spans are too large, and which where it is one.
pub(crate) fn too_large(part: &Batch, bytes: usize, limit: usize) -> Error {
    let text = match (part.spans(), part.iter().next()) {
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

/// Takes a range of a batch's spans, counted from 0, into a batch of its own.
pub(crate) fn cut(batch: &Batch, spans: Range<usize>) -> Batch {
    if spans.start == 0 && spans.end >= batch.spans() {
        return batch.clone();
    }
    let mut ordinal = 0;
    let cut = otlp::retain_spans(batch.as_request(), |_span| {
        ordinal += 1;
        spans.contains(&(ordinal - 1))
    });
    match cut {
        Ok(cut) => Batch::trusted(cut.bytes, spans.len()),
        // It fails on bytes that are no request alone, which a batch never holds.
        Err(_) => batch.clone(),
    }
}

/// Whether each of so many spans is in exactly one message, in order.
fn covers(messages: &[Message], spans: usize) -> bool {
    let mut next = 0;
    for message in messages {
        if message.spans.start != next || message.spans.is_empty() {
            return false;
        }
        next = message.spans.end;
    }
    next == spans
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
    fn each_span_has_to_be_in_exactly_one_message() {
        let covers = |ranges: &[(usize, usize)], spans| {
            let messages = ranges.iter().map(|(start, end)| message(*start..*end, b""));
            let messages: Vec<_> = messages.collect();
            covers(&messages, spans)
        };
        assert!(covers(&[], 0));
        assert!(covers(&[(0, 3)], 3));
        assert!(covers(&[(0, 1), (1, 3)], 3));
        assert!(!covers(&[], 1));
        assert!(!covers(&[(0, 2)], 3), "one is missing at the end");
        assert!(!covers(&[(1, 3)], 3), "one is missing at the start");
        assert!(!covers(&[(0, 1), (2, 3)], 3), "one is missing in between");
        assert!(!covers(&[(0, 2), (1, 3)], 3), "one is there twice");
        assert!(!covers(&[(0, 3), (3, 3)], 3), "one message is empty");
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

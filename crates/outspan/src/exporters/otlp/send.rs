//! Sending: one request after the other, and what the answers mean.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::header;
use outspan_wire::grpc::write_timeout;
use outspan_wire::otlp::PartialSuccess;
use tokio::sync::Semaphore;

use crate::Batch;
use crate::Compression;
use crate::Deadline;
use crate::Delivery;
use crate::Error;
use crate::Result;
use crate::Secret;
use crate::batch::Encoding;
use crate::net::Body;
use crate::net::Connections;
use crate::net::Endpoint;
use crate::net::Headers;
use crate::net::Sent;
use crate::net::read_limited;

use super::Protocol;
use super::encode;
use super::grpc;
use super::http as over_http;

/// The bounds of an exporter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) request_bytes: usize,
    pub(super) response_bytes: usize,
    pub(super) exports: usize,
}

/// Sends batches to one destination.
pub(super) struct Sender {
    protocol: Protocol,
    endpoint: Endpoint,
    headers: Headers,
    encoding: Encoding,
    connections: Connections,
    limits: Limits,
    permits: Semaphore,
    is_closed: AtomicBool,
}

impl Sender {
    pub(super) fn new(
        protocol: Protocol,
        endpoint: Endpoint,
        headers: Headers,
        encoding: Encoding,
        connections: Connections,
        limits: Limits,
    ) -> Self {
        Self {
            protocol,
            endpoint,
            headers,
            encoding,
            connections,
            limits,
            permits: Semaphore::new(limits.exports.min(Semaphore::MAX_PERMITS)),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.connections.close();
    }

    /// Delivers a batch, in parts where it is too large.
    pub(super) async fn deliver(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
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
            let sent = match self.check_size(&part) {
                Ok(()) => self.send(&part, until).await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(delivery) => total.absorb(delivery),
                Err(error) if error.is_too_large() && part.spans() > 1 => {
                    total.attempts += error.attempts();
                    total.wire_bytes += error.wire_bytes();
                    let half = part.spans().div_ceil(2);
                    parts.extend(part.split_by_spans(half).into_iter().rev());
                }
                Err(error) if error.is_temporary() => {
                    // What keeps this part back would keep the others back as well.
                    parts.push(part);
                    parts.reverse();
                    total.leave(Batch::concatenate(&parts), error);
                    break;
                }
                Err(error) => total.leave(part, error),
            }
        }
        total.into_result()
    }

    /// A part of one span can still be over the limit.
    fn check_size(&self, part: &Batch) -> Result<()> {
        let limit = self.limits.request_bytes;
        if part.size() <= limit {
            return Ok(());
        }
        Err(too_large(part, part.size(), limit))
    }

    /// Sends one request; once more with fresh headers when the server does not know us.
    async fn send(&self, part: &Batch, until: Deadline) -> Result<Delivery> {
        let sent = Sent::default();
        let mut attempts = 0;
        let mut refresh = false;
        loop {
            let body = self.body(part).await?;
            attempts += 1;
            let answer = until.run(self.attempt(body, refresh, until, &sent)).await;
            let result = answer.unwrap_or_else(|| {
                let server = &self.endpoint.server;
                Err(Error::timeout(format!("no answer from {server}"), until))
            });
            match result {
                Ok(partial) => {
                    let mut delivery = delivery(part, partial);
                    delivery.attempts = attempts;
                    delivery.wire_bytes = sent.bytes();
                    delivery.status = Some(if self.protocol.is_grpc() { 0 } else { 200 });
                    delivery.server = Some(Arc::clone(&self.endpoint.server));
                    return Ok(delivery);
                }
                Err(error) if self.may_refresh(&error) && !refresh => refresh = true,
                Err(error) => {
                    return Err(error
                        .with_context("endpoint", self.endpoint.to_string())
                        .with_server(Arc::clone(&self.endpoint.server))
                        .with_attempts(attempts)
                        .with_wire_bytes(sent.bytes()));
                }
            }
        }
    }

    fn may_refresh(&self, error: &Error) -> bool {
        let unauthenticated = if self.protocol.is_grpc() { 16 } else { 401 };
        self.headers.can_refresh() && error.status() == Some(unauthenticated)
    }

    /// The body of a request; its size is checked before compression as well as after.
    async fn body(&self, part: &Batch) -> Result<Bytes> {
        let limit = self.limits.request_bytes;
        let body = part.encoded(self.encoding, limit).await?;
        match body.len() > limit {
            true => Err(too_large(part, body.len(), limit)),
            false => Ok(body),
        }
    }

    /// Sends one request and reads its answer.
    async fn attempt(
        &self,
        mut body: Bytes,
        refresh: bool,
        until: Deadline,
        sent: &Sent,
    ) -> Result<PartialSuccess> {
        let mut headers = HeaderMap::new();
        let mut secrets = self.headers.apply(&mut headers, refresh).await?;
        self.protocol_headers(&mut headers, until)?;
        self.headers
            .intercept(&self.endpoint.uri, &mut headers, &mut body, &mut secrets)?;
        let request = self.request(headers, body, sent)?;
        let response = self.connections.send(request).await?;
        let (head, body) = response.into_parts();
        let (body, trailers) = read_limited(body, self.limits.response_bytes).await?;
        let partial = match self.protocol.is_grpc() {
            true => read_grpc(&head, &trailers, &body, &secrets)?,
            false => read_http(&head, &body, &secrets)?,
        };
        Ok(PartialSuccess {
            error_message: over_http::fit_to_show(&partial.error_message, &secrets),
            ..partial
        })
    }

    fn protocol_headers(&self, headers: &mut HeaderMap, until: Deadline) -> Result<()> {
        let compression = self.encoding.compression;
        let content_type = match self.protocol {
            Protocol::Grpc => "application/grpc",
            Protocol::HttpProtobuf => "application/x-protobuf",
            Protocol::HttpJson => "application/json",
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if self.protocol.is_grpc() {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            if let Some(left) = until.remaining() {
                let timeout = HeaderValue::from_str(&write_timeout(left))
                    .map_err(|e| Error::internal("grpc-timeout").with_source(e))?;
                headers.insert("grpc-timeout", timeout);
            }
        }
        if compression != Compression::None {
            let name = match self.protocol.is_grpc() {
                true => header::HeaderName::from_static("grpc-encoding"),
                false => header::CONTENT_ENCODING,
            };
            headers.insert(name, HeaderValue::from_static(compression.as_str()));
        }
        Ok(())
    }

    fn request(&self, headers: HeaderMap, body: Bytes, sent: &Sent) -> Result<Request<Body>> {
        let prefix = match self.protocol.is_grpc() {
            true => {
                encode::grpc_prefix(self.encoding.compression != Compression::None, body.len())?
            }
            false => Bytes::new(),
        };
        let mut request = Request::new(Body::new(prefix, body, sent.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.uri.clone();
        *request.headers_mut() = headers;
        Ok(request)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otlp")
            .field("protocol", &self.protocol.as_str())
            .field("endpoint", &self.endpoint)
            .field("headers", &self.headers)
            .field("encoding", &self.encoding)
            .field("connections", &self.connections)
            .field("limits", &self.limits)
            .field("is_closed", &self.is_closed)
            .finish_non_exhaustive()
    }
}

fn read_grpc(
    head: &http::response::Parts,
    trailers: &HeaderMap,
    body: &[u8],
    secrets: &[Secret],
) -> Result<PartialSuccess> {
    let status = grpc::Status::of(head.status, &head.headers, trailers);
    if status.code != 0 {
        let message = over_http::fit_to_show(&status.message, secrets);
        return Err(grpc::Status { message, ..status }.into_error());
    }
    // OK without a message, or with one that is none, is not what a unary call may answer: gRPC libraries call it INTERNAL.
    let message = encode::grpc_message(body)?;
    let message =
        message.ok_or_else(|| Error::internal("the server answered OK without a message"))?;
    outspan_wire::otlp::read_response(message)
        .map_err(|e| Error::internal("the server's answer cannot be read").with_source(e))
}

fn read_http(
    head: &http::response::Parts,
    body: &[u8],
    secrets: &[Secret],
) -> Result<PartialSuccess> {
    match head.status.is_success() {
        true => over_http::read_success(&head.headers, body),
        false => Err(over_http::read_failure(
            head.status,
            &head.headers,
            body,
            secrets,
        )),
    }
}

/// Turns the server's answer into what became of the spans.
fn delivery(part: &Batch, partial: PartialSuccess) -> Delivery {
    if partial.rejected_spans == 0 && partial.error_message.is_empty() {
        return Delivery::of(part);
    }
    Delivery::partial(part, partial.rejected_spans, partial.error_message)
}

fn too_large(part: &Batch, bytes: usize, limit: usize) -> Error {
    let text = match (part.spans(), part.iter().next()) {
        (1, Some(span)) => format!(
            "span \"{}\" has {bytes} bytes, more than the request limit of {limit}",
            over_http::fit_to_show(span.name(), &[])
        ),
        (spans, _) => {
            format!("{spans} spans have {bytes} bytes, more than the request limit of {limit}")
        }
    };
    Error::too_large(text)
}

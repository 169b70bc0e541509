//! OTLP on the wire, over gRPC and over HTTP: headers, framing, and what the answers mean.

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;
use outspan_wire::grpc::write_timeout;
use outspan_wire::otlp::PartialSuccess;

use crate::Batch;
use crate::Compression;
use crate::Deadline;
use crate::Error;
use crate::Result;
use crate::Secret;
use crate::batch::Encoding;
use crate::batch::forms::FormKey;
use crate::batch::forms::Recipe;
use crate::batch::forms::form_of;
use crate::net;
use crate::net::Accepted;
use crate::net::Answer;
use crate::net::Message;
use crate::net::fit_to_show;
use crate::net::too_large;

use super::Protocol;
use super::encode;
use super::grpc;
use super::http as over_http;

/// OTLP in one of its forms.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) protocol: Protocol,
    pub(super) encoding: Encoding,
    /// The bound of an answer that came compressed, in bytes.
    pub(super) response_bytes: usize,
}

impl net::Protocol for Wire {
    /// A batch is a message as it is; the form for the wire is made once for all clones of the batch.
    async fn messages(&self, part: &Batch, _first: usize, limit: usize) -> Result<Vec<Message>> {
        // A part of one span can still be over the limit; the size is checked before compression as well as after.
        if part.size() > limit {
            return Err(too_large(part, 0..part.spans(), part.size(), limit));
        }
        if self.is_as_it_is() {
            return Ok(vec![Message {
                spans: 0..part.spans(),
                body: Ok(part.as_request().clone()),
            }]);
        }
        let encoding = self.encoding;
        let spans = part.clone();
        let recipe = Recipe {
            key: FormKey::Otlp { encoding, limit },
            memory: encode::memory(encoding, part.size(), limit),
            make: move || encode::message(&spans, encoding, limit).map(|message| vec![message]),
        };
        form_of(part, recipe).await
    }

    /// A batch is not copied where it is a message as it is.
    fn max_part_bytes(&self, limit: usize) -> usize {
        const CONVERTED_BYTES_MAX: usize = 12 << 20;

        match self.is_as_it_is() {
            true => limit,
            false => limit.min(CONVERTED_BYTES_MAX),
        }
    }

    fn set_headers(&self, headers: &mut HeaderMap, until: Deadline) -> Result<()> {
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
                true => HeaderName::from_static("grpc-encoding"),
                false => header::CONTENT_ENCODING,
            };
            let value = HeaderValue::from_static(compression.as_str());
            if self.protocol.is_grpc() {
                // The answer comes in it as well, from servers in Go even if this is not said.
                headers.insert("grpc-accept-encoding", value.clone());
            }
            headers.insert(name, value);
        }
        Ok(())
    }

    fn prefix(&self, message: &Bytes) -> Result<Bytes> {
        match self.protocol.is_grpc() {
            true => encode::grpc_prefix(
                self.encoding.compression != Compression::None,
                message.len(),
            ),
            false => Ok(Bytes::new()),
        }
    }

    fn read(&self, answer: &Answer, secrets: &[Secret]) -> Result<Accepted> {
        let (partial, status) = match self.protocol.is_grpc() {
            true => (self.read_grpc(answer, secrets)?, 0),
            false => (read_http(answer, secrets)?, answer.status.as_u16()),
        };
        Ok(Accepted {
            refused: partial.rejected_spans,
            message: partial.error_message,
            status,
        })
    }

    fn unauthenticated(&self) -> u16 {
        if self.protocol.is_grpc() { 16 } else { 401 }
    }
}

impl Wire {
    fn is_as_it_is(&self) -> bool {
        !self.encoding.json && self.encoding.compression == Compression::None
    }

    fn read_grpc(&self, answer: &Answer, secrets: &[Secret]) -> Result<PartialSuccess> {
        let status = grpc::Status::of(answer.status, &answer.headers, &answer.trailers);
        if status.code != 0 {
            let message = fit_to_show(&status.message, secrets);
            return Err(grpc::Status { message, ..status }.into_error());
        }
        let encoding = answer.headers.get("grpc-encoding");
        let encoding = encoding.and_then(|name| name.to_str().ok()).unwrap_or("");
        // OK without a message, or with one that is none, is not what a unary call may answer: gRPC libraries call it INTERNAL.
        let message = encode::grpc_message(&answer.body, encoding, self.response_bytes)?;
        let message =
            message.ok_or_else(|| Error::internal("the server answered OK without a message"))?;
        outspan_wire::otlp::read_response(&message)
            .map_err(|e| Error::internal("the server's answer cannot be read").with_source(e))
    }
}

fn read_http(answer: &Answer, secrets: &[Secret]) -> Result<PartialSuccess> {
    match answer.status.is_success() {
        true => over_http::read_success(&answer.headers, &answer.body),
        false => Err(net::read_failure(&over_http::STATUSES, answer, secrets)),
    }
}

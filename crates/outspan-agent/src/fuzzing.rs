//! What fuzz targets run: the program's own parts, with inputs made of bytes. Not for programs.

pub(crate) mod body;
mod request;

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use http_body::Body;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::engine::BatchLimits;
use outspan::engine::MemoryQueue;
use outspan::wire::grpc;
use outspan::wire::otlp;
use tokio::runtime::Runtime;

use crate::agent::Intake;
use crate::pipeline::Pipeline;
use crate::receivers::AckSettings;
use crate::receivers::Answer;
use crate::receivers::Counters;
use crate::receivers::Kind;
use crate::receivers::Service;
use crate::receivers::Settings;
use crate::receivers::Tokens;

/// So little of everything that inputs of a few KiB reach every bound.
const REQUEST_BYTES: usize = 8 << 10;
const MEMORY_BYTES: usize = 256 << 10;
const QUEUE_BYTES: usize = 64 << 10;

/// Answers a request made of `input`: method, path, version, headers, and a body in pieces.
///
/// # Panics
///
/// If the answer is not one that senders can read, memory is not given back, or the request is not counted once.
pub fn receive(input: &[u8]) {
    static PARTS: OnceLock<Parts> = OnceLock::new();

    let parts = PARTS.get_or_init(Parts::new);
    parts.runtime.block_on(parts.receive(input));
}

/// Everything that answering needs, made once.
struct Parts {
    runtime: Runtime,
    service: Service,
    intake: Arc<Intake>,
    counters: Arc<Counters>,
}

impl Parts {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime starts");
        let queue = MemoryQueue::builder(Exporter::new(Nowhere))
            .name("nowhere")
            .bytes(QUEUE_BYTES);
        let limits = BatchLimits {
            spans: 1,
            bytes: 1,
            delay: Duration::from_millis(1),
        };
        let settings = Settings {
            max_request_bytes: REQUEST_BYTES,
            request_timeout: Duration::from_millis(1),
            max_connections: 1,
            max_connection_age: None,
            tls: None,
            cors_origins: vec!["https://a.example".to_owned()],
            tokens: Tokens::default(),
            acks: AckSettings::queued(),
        };
        let intake = Arc::new(Intake::new(MEMORY_BYTES));
        let counters = Arc::new(Counters::new(Kind::ALL));
        let service = Service::new(
            settings,
            Arc::clone(&intake),
            Arc::new(Pipeline::new(
                queue.batches(limits).start().expect("a queue starts"),
            )),
            Arc::clone(&counters),
        );
        Self {
            runtime,
            service,
            intake,
            counters,
        }
    }

    async fn receive(&self, input: &[u8]) {
        let Some((protocol, request)) = request::read(input) else {
            return;
        };
        let before = self.requests();
        let response = self.service.answer(protocol, request).await;
        assert_eq!(self.intake.used(), 0, "memory that was not given back");
        let counted = self.requests() - before;
        let is_preflight = response.status() == http::StatusCode::NO_CONTENT;
        assert_eq!(counted, u64::from(!is_preflight), "times counted");
        check(response);
    }

    fn requests(&self) -> u64 {
        let all = self.counters.status().into_iter();
        all.map(|of| {
            of.accepted_requests + of.refused_requests + of.deferred_requests + of.broken_requests
        })
        .sum()
    }
}

/// An answer that a sender can read, in the form that its content type says.
fn check(response: http::Response<Answer>) {
    let (head, mut answer) = response.into_parts();
    let (body, trailers) = take(&mut answer);
    let content_type = head.headers.get("content-type");
    let content_type = content_type.and_then(|value| value.to_str().ok());
    match content_type {
        Some("application/grpc") => {
            assert_eq!(head.status, 200);
            let status = trailers
                .as_ref()
                .unwrap_or(&head.headers)
                .get("grpc-status");
            let code = status.and_then(|status| grpc::read_code(status.as_bytes()));
            match code.expect("a status of gRPC") {
                0 => {
                    let frame = grpc::read_frame(&body).expect("a message");
                    let (_, message) = frame.expect("a message");
                    otlp::read_response(message).expect("a response");
                }
                code => {
                    assert!(body.is_empty() && trailers.is_none());
                    assert_ne!(code, grpc::Code::Unknown.number());
                }
            }
        }
        Some("application/x-protobuf") if head.status == 200 => {
            otlp::read_response(&body).expect("a response");
        }
        Some("application/json") if head.status == 200 => {
            otlp::read_json_response(&body).expect("a response");
        }
        Some("application/x-protobuf") => {
            let status = otlp::read_status(&body).expect("a status");
            assert!(!status.message.is_empty());
        }
        Some("application/json") => {
            let status = otlp::read_json_status(&body).expect("a status");
            assert!(!status.message.is_empty());
        }
        Some("text/plain; charset=utf-8") => {
            let is_partial = head.status == 202;
            let is_later = head.status == 503 && head.headers.contains_key("retry-after");
            let is_refused = head.status.is_client_error() || head.status == 505;
            assert!(is_partial || is_later || is_refused, "{}", head.status);
            assert!(std::str::from_utf8(&body).is_ok_and(|text| text.len() > 1));
        }
        None => {
            assert!(matches!(head.status.as_u16(), 202 | 204));
            assert_eq!(body.len(), 0);
        }
        other => panic!("content type {other:?}"),
    }
    assert_ne!(head.status, 500);
}

/// All that an answer holds; it never has to be waited for.
fn take(answer: &mut Answer) -> (Vec<u8>, Option<http::HeaderMap>) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let (mut body, mut trailers) = (Vec::new(), None);
    while let std::task::Poll::Ready(Some(Ok(frame))) =
        std::pin::Pin::new(&mut *answer).poll_frame(&mut context)
    {
        match frame.into_data() {
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    assert!(answer.is_end_stream());
    (body, trailers)
}

/// Takes everything.
#[derive(Debug)]
struct Nowhere;

impl Export for Nowhere {
    async fn export(&self, batch: Batch, _: Deadline) -> Result<Delivery> {
        Ok(Delivery::of(&batch))
    }

    async fn flush(&self, _: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }
}

#[cfg(test)]
mod tests {
    use outspan::wire::PieceContent;

    use super::*;

    #[test]
    fn inputs_of_every_kind_are_answered() {
        for first in 0..=255_u8 {
            for second in 0..8_u8 {
                let input = [
                    first, second, first, second, 7, first, 0x0A, 2, 0x12, 0, first,
                ];
                receive(&input);
            }
        }
        receive(&[]);
    }

    /// A harness whose requests all fail early finds nothing.
    #[test]
    fn spans_get_through_in_every_format() {
        const NO_PREFIX: u8 = 16;
        const ZIPKIN: u8 = 64 + NO_PREFIX;
        const JAEGER: u8 = 128 + NO_PREFIX;

        let spans = outspan_testkit::batch_of(1).as_request().to_vec();
        let zipkin = br#"[{"traceId":"1","id":"2","tags":{"a":"b"}}]"#;
        let thrift = outspan::wire::jaeger::Writer::new(Default::default())
            .pieces(&spans)
            .map(|piece| match piece.expect("a batch is valid").content {
                PieceContent::Bytes(bytes) => bytes,
                other => panic!("{other:?}"),
            })
            .next()
            .expect("there is one");
        for input in [
            request::written(0, 1, 0, &spans),
            request::written(NO_PREFIX, 0, 1, &spans),
            request::written(ZIPKIN, 5, 2, zipkin),
            request::written(JAEGER, 6, 6, &thrift),
        ] {
            let parts = Parts::new();
            parts.runtime.block_on(parts.receive(&input));
            let status = parts.counters.status();
            let accepted: u64 = status.iter().map(|of| of.accepted_spans).sum();
            assert_eq!(accepted, 1, "{:?}", &input[..5]);
        }
    }
}

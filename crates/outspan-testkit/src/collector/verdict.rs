//! What both transports share once a request has been read: it is kept or not, and answered.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use http_body::Body;
use http_body::Frame;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;

use super::Answer;
use super::AnswerCode;
use super::CollectedRequest;
use super::Disconnect;
use super::Garbage;
use super::Outcome;
use super::RetryDelay;
use super::connection::Connection;
use super::shared::Shared;

/// Says what to put on the wire.
#[derive(Debug)]
pub(super) enum Verdict {
    /// A success, whole or partial.
    Taken(ExportTraceServiceResponse),
    /// An error.
    Error {
        code: AnswerCode,
        message: String,
        delay: Option<RetryDelay>,
    },
    /// The first bytes of an answer, and then no connection.
    Cut,
    /// Something that is no answer.
    Garbage(Garbage),
}

/// Keeps the request, waits as long as the answer says, and decides.
///
/// Never returns when the answer is to stall or to disconnect without a word.
pub(super) async fn decide(
    shared: &Arc<Shared>,
    connection: &Connection,
    answer: Answer,
    request: CollectedRequest,
) -> Verdict {
    let spans = request.span_count();
    let answer = settle_on(answer, &request);
    let Some(ticket) = shared.record(request) else {
        shared.complain("the collector is full and keeps no more requests".to_owned());
        return error(AnswerCode::INTERNAL, "the test's collector is full");
    };
    let (outcome, verdict) = match wait_at_gates(answer).await {
        Answer::PartialSuccess { rejected, message } => {
            let refused = usize::try_from(rejected).unwrap_or(0).min(spans);
            let outcome = Outcome::Kept { rejected: refused };
            (outcome, Verdict::Taken(partial(rejected, message)))
        }
        Answer::Refuse { code, message } => (Outcome::NotKept, error(code, &message)),
        Answer::RetryLater { code, delay } => {
            let verdict = Verdict::Error {
                code,
                message: "come again later".to_owned(),
                delay: Some(delay),
            };
            (Outcome::NotKept, verdict)
        }
        Answer::Disconnect(Disconnect::MidAnswer) => (Outcome::Kept { rejected: 0 }, Verdict::Cut),
        Answer::Disconnect(_) => {
            shared.settle(ticket, Outcome::NotKept);
            return vanish(connection).await;
        }
        Answer::Garbage(garbage) => (Outcome::NotKept, Verdict::Garbage(garbage)),
        Answer::Stall => return std::future::pending().await,
        _accepts => {
            let response = ExportTraceServiceResponse::default();
            (Outcome::Kept { rejected: 0 }, Verdict::Taken(response))
        }
    };
    shared.settle(ticket, outcome);
    verdict
}

/// Breaks the connection and waits for the end that brings.
pub(super) async fn vanish<T>(connection: &Connection) -> T {
    connection.break_off();
    std::future::pending().await
}

/// Turns answers that depend on the request into ones that do not.
fn settle_on(mut answer: Answer, request: &CollectedRequest) -> Answer {
    loop {
        answer = match answer {
            Answer::Decide(decision) => decision.choose(request),
            Answer::RequireHeader { name, value } => {
                if request.header(&name) == Some(&value) {
                    return Answer::Accept;
                }
                let message = format!("header {name} is missing or wrong");
                return Answer::refuse_with(AnswerCode::UNAUTHENTICATED, message);
            }
            Answer::AtMost { bytes } => {
                let largest = request.wire_bytes.max(request.message.len());
                if largest <= bytes {
                    return Answer::Accept;
                }
                // The words of grpc-go, which stock Collectors are built on.
                let message =
                    format!("grpc: received message larger than max ({largest} vs. {bytes})");
                return Answer::refuse_with(AnswerCode::TOO_LARGE, message);
            }
            Answer::StallUntil(gate, then) => {
                return Answer::StallUntil(gate, Box::new(settle_on(*then, request)));
            }
            settled => return settled,
        }
    }
}

async fn wait_at_gates(mut answer: Answer) -> Answer {
    while let Answer::StallUntil(gate, then) = answer {
        gate.passed().await;
        answer = *then;
    }
    answer
}

fn error(code: AnswerCode, message: &str) -> Verdict {
    Verdict::Error {
        code,
        message: message.to_owned(),
        delay: None,
    }
}

fn partial(rejected_spans: i64, error_message: String) -> ExportTraceServiceResponse {
    ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans,
            error_message,
        }),
    }
}

/// Makes a sound answer of about so many bytes: everything is taken, with a very long warning.
pub(super) fn oversize(bytes: usize) -> ExportTraceServiceResponse {
    partial(0, "x".repeat(bytes))
}

/// Says how long a client is asked to wait; `None` where the answer is to be nonsense.
pub(super) fn delay_left(delay: &RetryDelay) -> Option<Duration> {
    match delay {
        RetryDelay::After(delay) => Some(*delay),
        RetryDelay::At(time) => Some(
            time.duration_since(SystemTime::now())
                .unwrap_or(Duration::ZERO),
        ),
        RetryDelay::Nonsense => None,
    }
}

/// Compresses so many zero bytes, a piece at a time.
pub(super) fn gzip_bomb(zeros: usize) -> Vec<u8> {
    use std::io::Read as _;

    let plain = std::io::repeat(0).take(zeros as u64);
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(plain, flate2::Compression::best())
        .read_to_end(&mut packed)
        .expect("zeros are read from memory");
    packed
}

/// A body that gives its bytes and then ends the connection.
pub(super) struct CutBody {
    first: Option<Bytes>,
    connection: Arc<Connection>,
}

impl CutBody {
    pub(super) fn new(first: Bytes, connection: &Arc<Connection>) -> Self {
        Self {
            first: Some(first),
            connection: Arc::clone(connection),
        }
    }
}

impl Body for CutBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        self.connection.cut();
        Poll::Pending
    }
}

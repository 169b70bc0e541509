//! Answers requests.
//!
//! ```text
//! head ──route, token──▶ admission ──▶ body ──▶ decompressed content ──▶ spans ──▶ pipeline ──▶ answer
//!                        is there room     every byte is taken                     takes over or
//!                        for it at all?    from the intake first                   sends back
//! ```

#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::Version;
use http::header;
use http::request::Parts;
use http_body::Body;
use outspan::engine::AckOutcome;
use outspan::wire::otlp::PartialSuccess;
use tokio::time::Instant;
use tokio::time::timeout;

use super::Counters;
use super::Protocol;
use super::Settings;
use super::Tokens;
use super::acks::Wait;
use super::acks::WaitingAnswers;
use super::answer::Answer;
use super::answer::Form;
use super::body::Content;
use super::body::Turns;
use super::body::no_room;
use super::cors::Cors;
use super::counters::Transport;
use super::failure::Failure;
use super::grpc;
use super::grpc::Message;
use super::inflate::Encoding;
use super::route;
use super::spans::Spans;
use super::tally::Outcome;
use super::tally::Tally;
use crate::agent::Intake;
use crate::agent::Taken;
use crate::pipeline::Pipeline;
use crate::pipeline::Refusal;

/// Up to which size a content is read in place, in bytes: in well below a millisecond. Longer ones are read on a thread that
/// may take its time.
const PROTOBUF_IN_PLACE: usize = 512 << 10;
const CONVERTED_IN_PLACE: usize = 64 << 10;

/// How much longer JSON and the like may well be than what it becomes, for guessing whether there is room.
const JSON_EXPANSION: usize = 4;

/// Of the time that a caller over gRPC waits, how much an answer may wait for destinations.
const PATIENCE_SHARE: f64 = 0.9;

/// Answers every request that comes to the agent's addresses, whatever it is.
///
/// It waits for the request's body, and a moment before it acknowledges spans while queues are crowded; or, with
/// `--ack delivered`, until destinations have the spans. It never waits for room: what there is none for is sent back at once.
#[derive(Debug)]
pub(crate) struct Service {
    max_request_bytes: usize,
    request_timeout: Duration,
    tokens: Tokens,
    cors: Option<Cors>,
    waiting: Arc<WaitingAnswers>,
    intake: Arc<Intake>,
    pipeline: Arc<Pipeline>,
    counters: Arc<Counters>,
}

impl Service {
    /// Passes what it receives on to `pipeline`, and holds what is on its way in within `intake`.
    pub(crate) fn new(
        settings: Settings,
        intake: Arc<Intake>,
        pipeline: Arc<Pipeline>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            max_request_bytes: settings.max_request_bytes,
            request_timeout: settings.request_timeout,
            cors: Cors::new(&settings.cors_origins),
            waiting: Arc::new(WaitingAnswers::new(settings.acks)),
            tokens: settings.tokens,
            intake,
            pipeline,
            counters,
        }
    }

    /// The answers that wait.
    pub(super) fn waiting(&self) -> Arc<WaitingAnswers> {
        Arc::clone(&self.waiting)
    }

    /// Answers a request that came to an address where this protocol is spoken.
    ///
    /// An answer may come before the end of the body; over HTTP/1 the connection is then to be closed, which the answer
    /// says. Every request is counted once, but for the questions that browsers ask beforehand.
    ///
    /// # Cancellation
    ///
    /// Until its spans are accepted the request counts as broken, and nothing of it was taken over. A content that is read on
    /// another thread still is, and then dropped. Spans that were accepted are delivered, whether the answer is waited for or
    /// not.
    pub(crate) async fn answer<B>(
        &self,
        protocol: Protocol,
        request: Request<B>,
    ) -> Response<Answer>
    where
        B: Body<Data = Bytes, Error: Display> + Unpin,
    {
        let began = Instant::now();
        let (head, body) = request.into_parts();
        if let Some(answer) = self.cors.as_ref().and_then(|cors| cors.preflight(&head)) {
            return answer;
        }
        let (form, routed) = route::route(protocol, &head, self.cors.is_some());
        let transport = match form {
            Form::Grpc => Transport::Grpc,
            _ => Transport::http(protocol),
        };
        let mut pieces = Pieces::of(body, Tally::begin(self.counters.of(transport)));
        let received = match routed {
            Ok(()) => self.receive(form, &head, &mut pieces).await,
            Err(failure) => Err(failure),
        };
        let tally = &mut pieces.tally;
        let mut response = match received {
            Ok(spans) => {
                let patience = match form {
                    Form::Grpc => grpc::timeout(&head.headers),
                    _ => None,
                };
                let patience = patience.map(|patience| patience.saturating_sub(began.elapsed()));
                self.accept(form, spans, patience, tally).await
            }
            Err(failure) => {
                tally.outcome = failure.outcome;
                tally.refused_spans = failure.refused_spans;
                form.failure(failure)
            }
        };
        if let Some(cors) = &self.cors {
            cors.decorate(&head.headers, response.headers_mut());
        }
        if head.version < Version::HTTP_2 && !pieces.has_ended() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }

    /// Hands spans over, and says what became of them. The room that they took on their way in is free again after that. A
    /// sender that waits no longer than `patience` gets its answer before.
    async fn accept(
        &self,
        form: Form,
        (spans, taken): (Spans, Taken),
        patience: Option<Duration>,
        tally: &mut Tally<'_>,
    ) -> Response<Answer> {
        let count = spans.batch.spans();
        let begun = self.waiting.begin(&spans.batch);
        let begun = begun.map_err(|bound| Failure::too_many_waiting(bound, self.pipeline.wait()));
        let accepted = begun.and_then(|(ack, wait)| {
            match wait.is_some() {
                true => self.pipeline.accept_waiting(spans.batch, ack)?,
                false => self.pipeline.accept(spans.batch, ack)?,
            }
            Ok(wait)
        });
        drop(taken);
        let wait = match accepted {
            Ok(wait) => wait,
            Err(failure) => {
                tally.outcome = failure.outcome;
                match failure.outcome {
                    Outcome::Deferred => tally.deferred_spans = count + spans.refused,
                    _ => tally.refused_spans = count + spans.refused,
                }
                return form.failure(failure);
            }
        };
        tally.outcome = Outcome::Accepted;
        tally.accepted_spans = count;
        tally.refused_spans = spans.refused;
        let Some(wait) = wait else {
            self.pipeline.slow_down().await;
            return form.accepted_with(spans.partial);
        };
        // Before the wait: the sender may go away meanwhile, and the spans are ours all the same.
        tally.count();
        match self.wait(wait, patience).await {
            Ok(outcome) => form.accepted_with(with_rejected(spans.partial, outcome)),
            Err(failure) => {
                tally.count_unacknowledged();
                form.failure(failure)
            }
        }
    }

    /// Waits until destinations have the spans of a request.
    async fn wait(
        &self,
        wait: Wait,
        patience: Option<Duration>,
    ) -> Result<AckOutcome, Box<Failure>> {
        // The answer takes its time as well.
        let patience = patience.map(|patience| patience.mul_f64(PATIENCE_SHARE));
        let outcome = wait.outcome(patience, || self.pipeline.hand_over()).await;
        let outcome = outcome.map_err(|end| Failure::unacknowledged(end, self.pipeline.wait()))?;
        match &outcome.dropped {
            Some(dropped) => Err(Failure::dropped(dropped, self.pipeline.wait())),
            None => Ok(outcome),
        }
    }

    /// Reads a request whose head is right.
    async fn receive<B>(
        &self,
        form: Form,
        head: &Parts,
        pieces: &mut Pieces<'_, B>,
    ) -> Result<(Spans, Taken), Box<Failure>>
    where
        B: Body<Data = Bytes, Error: Display> + Unpin,
    {
        if !self.tokens.allow(&head.headers).await {
            return Err(Failure::unauthenticated());
        }
        let (content, taken) = match form {
            Form::Grpc => {
                let patience = grpc::timeout(&head.headers);
                let limit = patience.map_or(self.request_timeout, |t| t.min(self.request_timeout));
                let message = timeout(limit, self.read_message(head, pieces));
                message
                    .await
                    .unwrap_or_else(|_| Err(Failure::slow(limit)))?
            }
            _ => {
                let limit = self.request_timeout;
                let content = timeout(limit, self.read_body(form, head, pieces));
                content
                    .await
                    .unwrap_or_else(|_| Err(Failure::slow(limit)))?
            }
        };
        self.read_spans(form, content, taken).await
    }

    /// Reads the body of a request over HTTP.
    async fn read_body<B>(
        &self,
        form: Form,
        head: &Parts,
        pieces: &mut Pieces<'_, B>,
    ) -> Result<(Bytes, Taken), Box<Failure>>
    where
        B: Body<Data = Bytes, Error: Display> + Unpin,
    {
        let encoding = route::content_encoding(head)?;
        let declared = pieces.body.size_hint().exact();
        let declared = declared.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let mut content = self.begin(form, encoding, declared)?;
        while let Some(piece) = pieces.next().await? {
            content.add(piece, &mut pieces.turns).await?;
        }
        content.finish()
    }

    /// Reads the message of a call of gRPC.
    async fn read_message<B>(
        &self,
        head: &Parts,
        pieces: &mut Pieces<'_, B>,
    ) -> Result<(Bytes, Taken), Box<Failure>>
    where
        B: Body<Data = Bytes, Error: Display> + Unpin,
    {
        let mut message = Message::default();
        let mut content = None;
        while let Some(mut piece) = pieces.next().await? {
            if let Some(prefix) = message.read_prefix(&mut piece)? {
                let encoding = grpc::encoding(&head.headers, prefix)?;
                let declared = grpc::length(prefix.length);
                content = Some(self.begin(Form::Grpc, encoding, Some(declared))?);
            }
            if piece.is_empty() {
                continue;
            }
            message.receive(piece.len())?;
            if let Some(content) = &mut content {
                content.add(piece, &mut pieces.turns).await?;
            }
        }
        message.finish()?;
        match content {
            Some(content) => content.finish(),
            None => Err(Failure::no_message()),
        }
    }

    /// Admits a content of this length, or says why not before more of it is read.
    fn begin(
        &self,
        form: Form,
        encoding: Encoding,
        declared: Option<usize>,
    ) -> Result<Content, Box<Failure>> {
        let limit = self.limit(form);
        let content = Content::begin(&self.intake, limit, encoding, declared)?;
        let is_kept = form.expansion() == 0;
        let expected = match is_kept {
            true => declared.unwrap_or(0),
            false => declared.unwrap_or(0) / JSON_EXPANSION,
        };
        let is_exact = is_kept && encoding == Encoding::Identity;
        match self.pipeline.check(expected) {
            Ok(()) => Ok(content),
            // It is a guess, and the spans themselves may well fit.
            Err(Refusal::TooLarge { .. }) if !is_exact => Ok(content),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// How many bytes a content may have. What is turned into OTLP needs room for what it becomes besides.
    fn limit(&self, form: Form) -> usize {
        self.max_request_bytes.min(form.len_max(self.intake.max()))
    }

    /// Makes spans of a content; of a large one on another thread, so that nobody waits meanwhile.
    async fn read_spans(
        &self,
        form: Form,
        content: Bytes,
        mut taken: Taken,
    ) -> Result<(Spans, Taken), Box<Failure>> {
        let in_place = match form.expansion() {
            0 => PROTOBUF_IN_PLACE,
            _ => CONVERTED_IN_PLACE,
        };
        let besides = form.conversion(content.len());
        if !taken.grow(besides) {
            return Err(no_room(taken.bytes() + besides, &self.intake));
        }
        let intake = Arc::clone(&self.intake);
        let is_in_place = content.len() <= in_place;
        let read = move || {
            let spans = Spans::read_within(form, content, &mut taken, &intake)?;
            let kept = spans.batch.memory();
            // What was held on the way to the batch is free again.
            taken.shrink(taken.bytes().saturating_sub(kept));
            let missing = kept.saturating_sub(taken.bytes());
            match taken.grow(missing) {
                true => Ok((spans, taken)),
                false => Err(no_room(kept, &intake)),
            }
        };
        if is_in_place {
            return read();
        }
        match tokio::task::spawn_blocking(read).await {
            Ok(read) => read,
            Err(error) if error.is_cancelled() => Err(Failure::stopping()),
            Err(_) => Err(Failure::internal()),
        }
    }
}

/// Adds what destinations rejected to what is wrong with a request already.
fn with_rejected(partial: Option<PartialSuccess>, outcome: AckOutcome) -> Option<PartialSuccess> {
    if outcome.rejected == 0 {
        return partial;
    }
    let message = outcome.message.unwrap_or_default();
    let rejected = match outcome.rejected {
        1 => format!("1 span was rejected by a destination: {message}"),
        spans => format!("{spans} spans were rejected by a destination: {message}"),
    };
    Some(match partial {
        Some(before) => PartialSuccess {
            rejected_spans: before.rejected_spans.saturating_add(outcome.rejected),
            error_message: format!("{}; {rejected}", before.error_message),
        },
        None => PartialSuccess {
            rejected_spans: outcome.rejected,
            error_message: rejected,
        },
    })
}

/// Brings the pieces of a body, and counts them.
struct Pieces<'a, B> {
    body: B,
    turns: Turns,
    tally: Tally<'a>,
    is_over: bool,
}

impl<'a, B> Pieces<'a, B>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    fn of(body: B, tally: Tally<'a>) -> Self {
        Self {
            body,
            turns: Turns::default(),
            tally,
            is_over: false,
        }
    }

    /// The next bytes; nothing at the end. Trailers are passed over.
    async fn next(&mut self) -> Result<Option<Bytes>, Box<Failure>> {
        loop {
            let frame = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context));
            let Some(frame) = frame.await else {
                self.is_over = true;
                return Ok(None);
            };
            match frame.map_err(Failure::interrupted)?.into_data() {
                Ok(piece) if !piece.is_empty() => {
                    self.tally.bytes += piece.len();
                    return Ok(Some(piece));
                }
                _ => self.turns.work(0).await,
            }
        }
    }

    /// Whether all of it was read. A body of chunks does not know it before it is asked once more.
    fn has_ended(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }
}

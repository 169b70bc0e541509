//! The requests of a connection: between HTTP and whoever answers them.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::stream::Stream as _;
use h2::Reason;
use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::Version;
use http::header::CONNECTION;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::Service;
use tokio::time::timeout;

use super::accept::Hub;
use super::activity::Activity;
use super::limits;
use super::listen::Protocol;
use crate::agent::Intake;
use crate::agent::Taken;

/// What an open request costs without its body, in bytes: its task, its stream, its place among others.
const REQUEST_BYTES: usize = 2 << 10;

/// What a header costs besides its name and its value, in bytes.
const HEADER_BYTES: usize = 96;

/// Answers requests, whatever connection they come on.
pub(super) trait Answers: fmt::Debug + Send + Sync + 'static {
    /// The body of an answer. All of it is there when the answer is given.
    type Body: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static;

    /// Answers a request at an address where this protocol is spoken.
    ///
    /// # Cancellation
    ///
    /// Dropped when the sender goes away, takes the request back, or the connection is closed.
    fn answer(
        &self,
        protocol: Protocol,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Passes a connection's requests on.
///
/// A connection of HTTP/2 may have a hundred requests open, and there are thousands of connections. So the heads of open
/// requests have a bound of their own, over all connections. A request beyond it is refused in the way of HTTP/2 that says
/// that it may be sent again (RFC 9113, 8.7), for even an answer would take room.
#[derive(Debug)]
pub(super) struct Requests<A> {
    hub: Arc<Hub<A>>,
    protocol: Protocol,
    activity: Arc<Activity>,
    /// Where the rests of bodies are drained; only for HTTP/2.
    drains: Option<Drains>,
}

/// Brings the body of a request, and notes whether all of it was taken.
///
/// Over HTTP/2 the rest of a body that was answered early is drained when this is dropped. Without that the stream would
/// be reset while its sender still sends. The library for HTTP/2 remembers 50 such streams for a second; each frame that
/// arrives for one that it has forgotten counts as an error of the sender, and after a hundred errors the connection is
/// closed with ENHANCE_YOUR_CALM. Senders that do nothing wrong take that as final.
#[derive(Debug)]
pub(super) struct RequestBody {
    /// There until this is dropped.
    incoming: Option<Incoming>,
    activity: Arc<Activity>,
    drains: Option<Drains>,
    has_ended: bool,
}

/// Starts to drain the rests of bodies, within a bound over all connections.
#[derive(Clone, Debug)]
struct Drains {
    streams: NewStreams,
    room: Arc<Intake>,
    limit: Duration,
}

impl<A: Answers> Requests<A> {
    pub(super) fn new(hub: Arc<Hub<A>>, protocol: Protocol, activity: Arc<Activity>) -> Self {
        Self {
            hub,
            protocol,
            activity,
            drains: None,
        }
    }

    /// Drains the rests of bodies among these streams.
    pub(super) fn draining(mut self, streams: NewStreams) -> Self {
        self.drains = Some(Drains {
            streams,
            room: Arc::clone(&self.hub.drains),
            limit: self.hub.limits.linger,
        });
        self
    }
}

impl<A: Answers> Service<Request<Incoming>> for Requests<A> {
    type Response = Response<A::Body>;
    type Error = h2::Error;
    type Future = BoxFuture<'static, Result<Self::Response, h2::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let is_http2 = request.version() == Version::HTTP_2;
        let mut room = self.hub.heads.begin();
        if is_http2 && !room.grow(head_bytes(request.headers())) {
            self.hub.refuse_request(self.protocol, request.headers());
            return refuse(request.into_body(), self.drains.as_ref());
        }
        let hub = Arc::clone(&self.hub);
        let protocol = self.protocol;
        let activity = Arc::clone(&self.activity);
        let drains = self.drains.clone();
        Box::pin(async move {
            let _room = room;
            let _open = activity.begin();
            let request = request.map(|incoming| RequestBody {
                has_ended: incoming.is_end_stream(),
                incoming: Some(incoming),
                activity: Arc::clone(&activity),
                drains,
            });
            let mut response = hub.answers.answer(protocol, request).await;
            if !is_http2 && activity.now().is_last_answer {
                let headers = response.headers_mut();
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        })
    }
}

/// Refuses a request without an answer, once its sender has sent all of it: see [`RequestBody`].
fn refuse<R: 'static>(
    body: Incoming,
    drains: Option<&Drains>,
) -> BoxFuture<'static, Result<R, h2::Error>> {
    let drain = drains.and_then(|drains| drains.begin(body));
    Box::pin(async move {
        if let Some(drain) = drain {
            drain.await;
        }
        Err(Reason::REFUSED_STREAM.into())
    })
}

impl Drains {
    /// Drains the rest of a body behind its answer.
    fn start(&self, body: Incoming) {
        if let Some(drain) = self.begin(body) {
            self.streams.lock().push(drain);
        }
    }

    /// Makes a future that drains a body, if there is something to drain and room for one more. Without room the stream is
    /// reset.
    fn begin(&self, body: Incoming) -> Option<BoxFuture<'static, ()>> {
        if body.is_end_stream() {
            return None;
        }
        let mut room = self.room.begin();
        room.grow(REQUEST_BYTES)
            .then(|| -> BoxFuture<'static, ()> { Box::pin(drain(body, self.limit, room)) })
    }
}

/// Reads a body to its end and throws it away. Gives up at a bound of bytes and of time; the stream is reset then.
async fn drain(mut body: Incoming, limit: Duration, _room: Taken) {
    let reading = async {
        let mut bytes = 0;
        while bytes < limits::LINGER_BYTES_MAX {
            let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
            let Some(Ok(frame)) = frame.await else {
                return;
            };
            let length = frame.data_ref().map_or(0, Bytes::len);
            // Empty frames cost something as well.
            bytes += length.max(limits::DRAINED_FRAME_BYTES_MIN);
        }
    };
    // At the limit there is nothing else to do.
    drop(timeout(limit, reading).await);
}

/// What a request holds before its body comes, in bytes.
fn head_bytes(headers: &HeaderMap) -> usize {
    let headers = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + HEADER_BYTES);
    REQUEST_BYTES + headers.sum::<usize>()
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(context));
        let has_ended = !matches!(frame, Some(Ok(_))) || incoming.is_end_stream();
        self.has_ended = has_ended;
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.incoming {
            Some(incoming) => incoming.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        self.activity.change(|now| now.has_unread = true);
        if let (Some(drains), Some(incoming)) = (&self.drains, self.incoming.take()) {
            drains.start(incoming);
        }
    }
}

/// Runs the requests of one connection of HTTP/2 in the connection's own task.
///
/// What the connection reads is so taken or turned away before it reads more; nothing waits in between, uncounted, for
/// a thread. And when the connection is dropped, so are its requests.
#[derive(Default)]
pub(super) struct Streams {
    new: NewStreams,
    running: FuturesUnordered<BoxFuture<'static, ()>>,
}

/// Takes requests from a connection that has just read them.
#[derive(Clone, Default)]
pub(super) struct NewStreams(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl Streams {
    /// What the connection is to hand its requests to.
    pub(super) fn new_streams(&self) -> NewStreams {
        self.new.clone()
    }

    /// Lets each request that can go on do so; says whether one has ended.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> bool {
        self.running.extend(self.new.lock().drain(..));
        let mut has_ended = false;
        while let Poll::Ready(Some(())) = Pin::new(&mut self.running).poll_next(context) {
            has_ended = true;
        }
        has_ended
    }
}

impl NewStreams {
    fn lock(&self) -> MutexGuard<'_, Vec<BoxFuture<'static, ()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Executor<F> for NewStreams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.lock().push(Box::pin(stream));
    }
}

impl fmt::Debug for NewStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewStreams").finish_non_exhaustive()
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}

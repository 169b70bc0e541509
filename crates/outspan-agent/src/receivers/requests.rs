//! The requests of a connection: between HTTP and whoever answers them.

use std::fmt;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

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

use super::accept::Hub;
use super::activity::Activity;
use super::listen::Protocol;

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
}

/// Brings the body of a request, and notes whether all of it was taken.
#[derive(Debug)]
pub(super) struct RequestBody {
    incoming: Incoming,
    activity: Arc<Activity>,
    has_ended: bool,
}

impl<A: Answers> Requests<A> {
    pub(super) fn new(hub: Arc<Hub<A>>, protocol: Protocol, activity: Arc<Activity>) -> Self {
        Self {
            hub,
            protocol,
            activity,
        }
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
            return Box::pin(ready(Err(Reason::REFUSED_STREAM.into())));
        }
        let hub = Arc::clone(&self.hub);
        let protocol = self.protocol;
        let activity = Arc::clone(&self.activity);
        Box::pin(async move {
            let _room = room;
            let _open = activity.begin();
            let request = request.map(|incoming| RequestBody {
                has_ended: incoming.is_end_stream(),
                incoming,
                activity: Arc::clone(&activity),
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
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(context));
        self.has_ended = !matches!(frame, Some(Ok(_))) || self.incoming.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.has_ended {
            self.activity.change(|now| now.has_unread = true);
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

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}

//! Request bodies that are not copied, and response bodies that are bounded.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::body::SizeHint;

use crate::Error;
use crate::Result;

/// A request body: an optional prefix and the payload, each sent as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    prefix: Bytes,
    payload: Bytes,
    sent: Sent,
}

/// Counts the bytes of payload that were handed to connections, and how often a request was sent again. Clones count
/// together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<Counts>);

// Numbers for reports: nothing else is published with them, so every access is relaxed.
#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    repeats: AtomicU32,
}

impl Sent {
    /// How many bytes there were so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Takes note that a request is sent once more within its attempt.
    pub(crate) fn repeat(&self) {
        self.0.repeats.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a request was sent once more.
    pub(crate) fn repeats(&self) -> u32 {
        self.0.repeats.load(Ordering::Relaxed)
    }
}

impl Body {
    pub(crate) fn new(prefix: Bytes, payload: Bytes, sent: Sent) -> Self {
        Self {
            prefix,
            payload,
            sent,
        }
    }

    /// Where the requests of this body are counted.
    pub(crate) fn sent(&self) -> &Sent {
        &self.sent
    }

    fn take_payload(&mut self) -> Bytes {
        let payload = std::mem::take(&mut self.payload);
        self.sent
            .0
            .bytes
            .fetch_add(payload.len() as u64, Ordering::Relaxed);
        payload
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.prefix.is_empty() {
            false => std::mem::take(&mut self.prefix),
            true => self.take_payload(),
        };
        match next.is_empty() {
            true => Poll::Ready(None),
            false => Poll::Ready(Some(Ok(Frame::data(next)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.prefix.is_empty() && self.payload.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.prefix.len() + self.payload.len()) as u64)
    }
}

/// Reads a response body of at most `limit` bytes, and its trailers.
///
/// # Errors
///
/// A permanent error over the limit, as OTLP demands; a temporary one when the connection breaks.
pub(crate) async fn read_limited(mut body: Incoming, limit: usize) -> Result<(Vec<u8>, HeaderMap)> {
    let mut bytes = Vec::new();
    let mut trailers = HeaderMap::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Error::unavailable("the answer broke off").with_source(e))?;
        match frame.into_data() {
            Ok(data) if bytes.len() + data.len() > limit => {
                return Err(Error::refused(format!(
                    "the answer is larger than the limit of {limit} bytes"
                )));
            }
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => {
                if let Ok(map) = frame.into_trailers() {
                    trailers = map;
                }
            }
        }
    }
    Ok((bytes, trailers))
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    #[tokio::test]
    async fn a_body_is_over_with_its_last_byte() {
        let sent = Sent::default();
        let mut body = Body::new(
            Bytes::from_static(b"12345"),
            Bytes::from_static(b"payload"),
            sent.clone(),
        );
        for (left, frame, counted) in [(12, "12345", 0), (7, "payload", 7)] {
            assert!(!body.is_end_stream());
            assert_eq!(body.size_hint().exact(), Some(left));
            let next = body.frame().await.unwrap().unwrap();
            assert_eq!(next.into_data().unwrap(), frame);
            assert_eq!(sent.bytes(), counted);
        }
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
        assert!(body.frame().await.is_none());
    }
}

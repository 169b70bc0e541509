//! One body a batch, made by a function of the user's.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;

use crate::Batch;
use crate::Deadline;
use crate::Result;
use crate::Secret;
use crate::net::Accepted;
use crate::net::Answer;
use crate::net::Compressor;
use crate::net::Message;
use crate::net::Protocol;
use crate::net::Statuses;
use crate::net::beside_if_large;
use crate::net::read_failure;
use crate::net::too_large;

/// Without a specification: what RFC 9110 (15.5.9, 15.6) calls a state of the server rather than of the request.
const STATUSES: Statuses = Statuses {
    unavailable: &[408, 500, 502, 503, 504],
    usual_path: "",
    other_formats: "another content type, or no compression",
};

/// Makes the body of a request from the spans in it.
pub(super) trait MakeBody: Fn(&Batch) -> Result<Vec<u8>> + Send + Sync {}

impl<F: Fn(&Batch) -> Result<Vec<u8>> + Send + Sync> MakeBody for F {}

/// Bodies of the user's making.
pub(super) struct Post {
    pub(super) content_type: HeaderValue,
    pub(super) compressor: Compressor,
    pub(super) body: Arc<dyn MakeBody>,
}

impl Protocol for Post {
    async fn messages(&self, part: &Batch, limit: usize) -> Result<Vec<Message>> {
        let compressor = self.compressor;
        let body = Arc::clone(&self.body);
        let spans = part.clone();
        let make = move || {
            let plain = Bytes::from(body(&spans)?);
            if plain.len() > limit {
                return Err(too_large(&spans, plain.len(), limit));
            }
            compressor.compress(&plain)
        };
        Ok(vec![Message {
            spans: 0..part.spans(),
            body: beside_if_large(part.size(), make).await,
        }])
    }

    fn set_headers(&self, headers: &mut HeaderMap, _until: Deadline) -> Result<()> {
        self.compressor
            .set_headers(headers, self.content_type.clone());
        Ok(())
    }

    fn read(&self, answer: &Answer, secrets: &[Secret]) -> Result<Accepted> {
        if answer.status.is_success() {
            return Ok(Accepted::all(answer.status));
        }
        Err(read_failure(&STATUSES, answer, secrets))
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post")
            .field("content_type", &self.content_type)
            .field("compressor", &self.compressor)
            .finish_non_exhaustive()
    }
}

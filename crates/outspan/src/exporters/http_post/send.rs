//! One body a batch, made by a function of the user's.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;

use crate::Batch;
use crate::Compression;
use crate::Deadline;
use crate::Error;
use crate::Result;
use crate::Secret;
use crate::batch::forms::FORM_BYTES_MAX;
use crate::batch::forms::FormKey;
use crate::batch::forms::Recipe;
use crate::batch::forms::form_of;
use crate::net::Accepted;
use crate::net::Answer;
use crate::net::Compressor;
use crate::net::Message;
use crate::net::Protocol;
use crate::net::Statuses;
use crate::net::read_failure;
use crate::net::too_large;

use super::BodyWriter;

/// Without a specification: what RFC 9110 (15.5.9, 15.6) calls a state of the server rather than of the request.
const STATUSES: Statuses = Statuses {
    unavailable: &[408, 500, 502, 503, 504],
    usual_path: "",
    other_formats: "another content type, or no compression",
};

/// Makes the body of a request from the spans in it.
pub(super) enum MakeBody {
    Whole(Box<MakeWhole>),
    Written(Box<WriteBody>),
}

type MakeWhole = dyn Fn(&Batch) -> Result<Vec<u8>> + Send + Sync;
type WriteBody = dyn Fn(&Batch, &mut BodyWriter) -> fmt::Result + Send + Sync;

impl MakeBody {
    fn make(&self, batch: &Batch, limit: usize) -> Result<Bytes> {
        match self {
            Self::Whole(make) => {
                let plain = make(batch)?;
                match plain.len() > limit {
                    true => Err(too_large(batch, 0..batch.spans(), plain.len(), limit)),
                    false => Ok(plain.into()),
                }
            }
            Self::Written(write) => {
                let mut body = BodyWriter::new(limit);
                let written = write(batch, &mut body);
                if body.is_full() {
                    return Err(too_large(batch, 0..batch.spans(), limit + 1, limit));
                }
                written.map_err(|e| {
                    Error::internal("the body of a request cannot be written").with_source(e)
                })?;
                Ok(body.into_bytes().into())
            }
        }
    }
}

/// Bodies of the user's making.
pub(super) struct Post {
    pub(super) content_type: HeaderValue,
    pub(super) compressor: Compressor,
    pub(super) body: Arc<MakeBody>,
    pub(super) id: u64,
}

impl Post {
    fn key(&self, first: usize) -> FormKey {
        FormKey::Messages {
            exporter: self.id,
            first,
        }
    }
}

impl Protocol for Post {
    async fn messages(&self, part: &Batch, first: usize, limit: usize) -> Result<Vec<Message>> {
        /// What a byte of a request becomes at most, control characters included.
        const TIMES: usize = 8;

        let compressor = self.compressor;
        let body = Arc::clone(&self.body);
        let batch = part.clone();
        let limit = limit.min(FORM_BYTES_MAX);
        let plain = part.spread_size().saturating_mul(TIMES).min(limit);
        let recipe = Recipe {
            key: self.key(first),
            memory: match compressor.compression {
                Compression::None => plain,
                _ => 2 * plain,
            },
            make: move || {
                let plain = body.make(&batch, limit);
                let body = plain.and_then(|plain| compressor.compress_within(&plain, limit));
                Ok(vec![Message {
                    spans: 0..batch.spans(),
                    body,
                }])
            },
        };
        form_of(part, recipe).await
    }

    fn forget(&self, part: &Batch, first: usize) {
        part.forms().forget(self.key(first));
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

//! The options of a poster, checked when it is built.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;

use crate::Batch;
use crate::Error;
use crate::Result;
use crate::export;
use crate::net::HttpOptions;
use crate::net::Manner;
use crate::net::OUR_USER_AGENT;
use crate::net::Versions;
use crate::net::exporter_id;
use crate::net::http_options;

use super::Poster;
use super::body::BodyWriter;
use super::send::MakeBody;
use super::send::Post;

const MANNER: Manner = Manner {
    user_agent: OUR_USER_AGENT,
    versions: Versions::OneOrTwo,
    max_request_bytes: 8 << 20,
    wrong_version_hint: " (the server speaks HTTP/2 without TLS, which only gRPC does)",
};

/// Collects the options of a [`Poster`]; see [`to`](super::to).
///
/// Every mistake is found by [`build`](Self::build).
#[must_use]
pub struct Builder {
    content_type: String,
    http: HttpOptions,
}

impl Builder {
    pub(super) fn new(url: String) -> Self {
        Self {
            content_type: "application/json".to_owned(),
            http: HttpOptions::new(url),
        }
    }

    /// Sets what the bodies are. Default: `application/json`.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = content_type.into();
        self
    }

    http_options! {
        " Default: 8 MiB, which most servers take. A function that makes larger bodies is called again with half the spans."
    }

    /// Builds the poster, with the function that makes the body of a request from the spans in it. Nothing is dialled yet.
    ///
    /// The function is called with every batch or part of one, and again for each retry; for large ones on a thread of its
    /// own. An error of its own ends that part: make it temporary only if trying again can help.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for whatever is wrong: URL, content type, header, path, level, TLS file, zero
    /// limits.
    pub fn build(
        self,
        body: impl Fn(&Batch) -> Result<Vec<u8>> + Send + Sync + 'static,
    ) -> Result<Poster> {
        self.build_with(MakeBody::Whole(Box::new(body)))
    }

    /// Builds the poster, as [`build`](Self::build) does, with a function that writes the body of a request.
    ///
    /// The writer takes at most [`max_request_bytes`](Self::max_request_bytes) and fails beyond, so that a body takes no more
    /// memory than a request may have, whatever the spans are like. A function returns when writing fails, and is called again
    /// with half the spans. An error of its own, without a write that failed, ends that part.
    ///
    /// # Errors
    ///
    /// Those of [`build`](Self::build).
    pub fn build_writing(
        self,
        write: impl Fn(&Batch, &mut BodyWriter) -> fmt::Result + Send + Sync + 'static,
    ) -> Result<Poster> {
        self.build_with(MakeBody::Written(Box::new(write)))
    }

    fn build_with(self, body: MakeBody) -> Result<Poster> {
        let content_type = HeaderValue::from_str(&self.content_type).map_err(|_| {
            let shown = self.content_type.escape_debug();
            Error::config(format!("invalid content type \"{shown}\""))
        })?;
        let endpoint = self.http.parse_endpoint("/")?;
        let post = Post {
            content_type,
            compressor: self.http.compressor()?,
            body: Arc::new(body),
            id: exporter_id(),
        };
        let sender = self.http.into_sender(post, endpoint, &MANNER)?;
        Ok(Poster {
            sender: Arc::new(sender),
            number: export::exporter_number(),
        })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Builder");
        shown.field("content_type", &self.content_type);
        self.http.show(&mut shown);
        shown.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_found_when_building() {
        let said = |builder: Builder| builder.build(|_| Ok(Vec::new())).unwrap_err().to_string();
        assert!(said(super::super::to("example.com")).contains("http:// or https://"));
        let to = || super::super::to("http://example.com/x?key=hunter2");
        assert!(said(to().content_type("text\n/plain")).contains("content type"));
        assert!(said(to().max_request_bytes(0)).contains("at least 1"));
        assert!(!format!("{:?}", to()).contains("hunter2"));
        let poster = to().build(|_| Ok(Vec::new())).unwrap();
        assert!(!format!("{poster:?}").contains("hunter2"), "{poster:?}");
    }
}

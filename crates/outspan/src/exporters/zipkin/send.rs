//! Zipkin on the wire: headers, and what the answers mean.

use http::HeaderMap;
use http::HeaderValue;
use outspan_wire::zipkin::Format;
use outspan_wire::zipkin::WriteOptions;

use crate::Batch;
use crate::Deadline;
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
use crate::net::read_status;

use super::encode;

/// Zipkin's API (zipkin2-api.yaml) names 202 alone. Its server answers 500 when it could not hand spans to the storage and
/// 503 when it has too many of them, and 400 for what it cannot read; the others are those of servers in between.
const STATUSES: Statuses = Statuses {
    unavailable: &[408, 500, 502, 503, 504],
    usual_path: "; Zipkin usually is at /api/v2/spans on port 9411",
    other_formats: "the other of JSON and protobuf, or no compression",
};

/// Zipkin in one of its forms.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) options: WriteOptions,
    pub(super) compressor: Compressor,
    pub(super) id: u64,
}

impl Wire {
    fn key(&self, first: usize) -> FormKey {
        FormKey::Messages {
            exporter: self.id,
            first,
        }
    }
}

impl Protocol for Wire {
    async fn messages(&self, part: &Batch, first: usize, limit: usize) -> Result<Vec<Message>> {
        let (options, compressor) = (self.options, self.compressor);
        let limit = limit.min(FORM_BYTES_MAX);
        let spans = part.clone();
        let recipe = Recipe {
            key: self.key(first),
            memory: encode::memory(part, limit),
            make: move || encode::messages(&spans, first, options, limit, compressor),
        };
        form_of(part, recipe).await
    }

    fn forget(&self, part: &Batch, first: usize) {
        part.forms().forget(self.key(first));
    }

    fn set_headers(&self, headers: &mut HeaderMap, _until: Deadline) -> Result<()> {
        let content_type = match self.options.format {
            Format::Protobuf => "application/x-protobuf",
            _ => "application/json",
        };
        self.compressor
            .set_headers(headers, HeaderValue::from_static(content_type));
        Ok(())
    }

    fn read(&self, answer: &Answer, secrets: &[Secret]) -> Result<Accepted> {
        let ports = "Zipkin usually listens on port 9411";
        read_status(&STATUSES, ("Zipkin", ports), answer, secrets)
    }
}

//! Thrift over HTTP on the wire: headers, and what the answers mean.

use http::HeaderMap;
use http::HeaderValue;
use outspan_wire::jaeger::WriteOptions;

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

/// Jaeger's collector answers 400 to what it cannot decode and 500 when its queue or its storage did not take the spans;
/// the others are those of servers in between.
const STATUSES: Statuses = Statuses {
    unavailable: &[408, 500, 502, 503, 504],
    usual_path: "; Jaeger usually is at /api/traces on port 14268",
    other_formats: "no compression",
};

/// Thrift in its binary protocol, the one that the collector takes.
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
        let (options, compressor) = (self.options.clone(), self.compressor);
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
        let thrift = HeaderValue::from_static("application/vnd.apache.thrift.binary");
        self.compressor.set_headers(headers, thrift);
        Ok(())
    }

    fn read(&self, answer: &Answer, secrets: &[Secret]) -> Result<Accepted> {
        let ports = "Jaeger usually listens for Thrift over HTTP on port 14268";
        read_status(&STATUSES, ("Jaeger", ports), answer, secrets)
    }
}

//! Formats over HTTP that are not OTLP.

use std::fmt;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::SpanId;

/// Finds the ids of the spans in a body of some content type.
#[derive(Clone)]
pub(super) struct Foreign(Arc<dyn ReadIds>);

/// What the test gives: content type and body to ids, or what is wrong.
pub(super) trait ReadIds:
    Fn(&str, &[u8]) -> Result<Vec<SpanId>, String> + Send + Sync
{
}

impl<F: Fn(&str, &[u8]) -> Result<Vec<SpanId>, String> + Send + Sync> ReadIds for F {}

impl Foreign {
    pub(super) fn new(read: impl ReadIds + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The spans of a body, with ids and nothing else.
    pub(super) fn decode(
        &self,
        content_type: &str,
        body: &[u8],
    ) -> Result<ExportTraceServiceRequest, String> {
        let ids = (self.0)(content_type, body)?;
        let spans = ids.iter().map(|id| Span {
            span_id: id.as_bytes().to_vec(),
            ..Span::default()
        });
        let scope_spans = vec![ScopeSpans {
            spans: spans.collect(),
            ..ScopeSpans::default()
        }];
        Ok(ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                scope_spans,
                ..ResourceSpans::default()
            }],
        })
    }
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Foreign")
    }
}

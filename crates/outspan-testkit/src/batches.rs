//! Batches to send, and what is in them as others' decoder sees it.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use tokio::sync::oneshot;

use outspan::Batch;
use outspan::Deadline;

use crate::SpanId;

/// Makes a deadline that no healthy exporter misses, also on a machine with much to do: 10 s.
pub fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10)).named("soon")
}

/// Makes a batch of so many small spans. No two spans of a process have the same id.
pub fn batch_of(spans: usize) -> Batch {
    batch_with(spans, |_, _| {})
}

/// Makes a batch of so many spans, each of which `change` has seen with its number from 0.
///
/// # Panics
///
/// If a changed span has no valid ids.
pub fn batch_with(spans: usize, change: impl FnMut(usize, &mut Span)) -> Batch {
    batch_from(&request_with(spans, change))
}

/// Makes a batch of a request, encoded by others' encoder.
///
/// # Panics
///
/// If a span of it has no valid ids.
pub fn batch_from(request: &ExportTraceServiceRequest) -> Batch {
    batch_of_bytes(request.encode_to_vec())
}

/// Makes a request of so many spans, each of which `change` has seen with its number from 0.
pub fn request_with(
    spans: usize,
    mut change: impl FnMut(usize, &mut Span),
) -> ExportTraceServiceRequest {
    let spans = (0..spans).map(|number| {
        let mut span = small_span();
        change(number, &mut span);
        span
    });
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![attribute("service.name", "promises")],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "outspan-testkit".to_owned(),
                    ..InstrumentationScope::default()
                }),
                spans: spans.collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

/// Reads the ids of a batch's spans in order, with others' decoder.
///
/// # Panics
///
/// If the batch holds no request.
pub fn span_ids(batch: &Batch) -> Vec<SpanId> {
    let request = decode(batch);
    let resources = request.resource_spans.iter();
    let scopes = resources.flat_map(|resource| resource.scope_spans.iter());
    let spans = scopes.flat_map(|scope| scope.spans.iter());
    spans.map(|span| SpanId::new(&span.span_id)).collect()
}

/// Decodes a batch with others' decoder.
///
/// # Panics
///
/// If the batch holds no request.
pub fn decode(batch: &Batch) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(batch.as_request().clone())
        .expect("a batch is a request that prost decodes")
}

/// Cuts a batch in two with others' decoder and encoder: the first half of its spans, and the rest,
/// which is empty when there is only one.
pub(crate) fn halves(batch: &Batch) -> (Batch, Batch) {
    let half = batch.spans().div_ceil(2);
    let first = decode_some(batch, |number| number < half);
    let rest = decode_some(batch, |number| number >= half);
    (batch_from(&first), batch_from(&rest))
}

/// Decodes a batch without the spans that are not wanted, by their number from 0.
fn decode_some(batch: &Batch, wanted: impl Fn(usize) -> bool) -> ExportTraceServiceRequest {
    let mut request = decode(batch);
    let mut number = 0;
    for resource in &mut request.resource_spans {
        for scope in &mut resource.scope_spans {
            scope.spans.retain(|_| {
                number += 1;
                wanted(number - 1)
            });
        }
        resource.scope_spans.retain(|scope| !scope.spans.is_empty());
    }
    let resources = &mut request.resource_spans;
    resources.retain(|resource| !resource.scope_spans.is_empty());
    request
}

/// Tells when the memory of a batch, and of everything that was cloned from it, is free.
#[derive(Debug)]
pub struct Released(oneshot::Receiver<()>);

impl Released {
    /// Waits until nobody holds the batch any more.
    ///
    /// # Panics
    ///
    /// If somebody still does when the time is up.
    pub async fn by(self, until: Deadline) {
        let released = until.run(self.0).await;
        // The sender speaks when it is dropped, so its message is what comes, never its absence.
        assert!(
            matches!(released, Some(Ok(()))),
            "the batch is still held: its memory leaks"
        );
    }
}

/// Makes a batch of so many spans that tells when it is gone.
pub fn watched_batch(spans: usize) -> (Batch, Released) {
    let (freed, released) = oneshot::channel();
    let owner = Owner {
        bytes: request_with(spans, |_, _| {}).encode_to_vec(),
        freed: Some(freed),
    };
    (batch_of_bytes(Bytes::from_owner(owner)), Released(released))
}

struct Owner {
    bytes: Vec<u8>,
    freed: Option<oneshot::Sender<()>>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(freed) = self.freed.take() {
            // An error means that nobody waits for it.
            freed.send(()).unwrap_or_default();
        }
    }
}

fn batch_of_bytes(bytes: impl Into<Bytes>) -> Batch {
    let checked = Batch::from_request(bytes).expect("prost writes valid requests");
    assert_eq!(checked.refused, 0, "{:?}", checked.reason);
    checked.batch
}

fn small_span() -> Span {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    const START: u64 = 1_700_000_000_000_000_000;

    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Span {
        trace_id: (u128::from(number / 10) + 1).to_be_bytes().to_vec(),
        span_id: number.to_be_bytes().to_vec(),
        name: format!("span {number}"),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: START + number,
        end_time_unix_nano: START + number + 1_000_000,
        attributes: vec![attribute("greeting", "hello")],
        ..Span::default()
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_batch_has_so_many_spans_with_ids_of_their_own() {
        let batches = [batch_of(7), batch_of(5)];
        assert_eq!(batches[0].spans(), 7);
        let ids: HashSet<_> = batches.iter().flat_map(span_ids).collect();
        assert_eq!(ids.len(), 12);
    }

    #[test]
    fn spans_can_be_changed() {
        let batch = batch_with(2, |number, span| span.name = format!("changed {number}"));
        let request = decode(&batch);
        let spans = &request.resource_spans[0].scope_spans[0].spans;
        assert_eq!(spans[1].name, "changed 1");
    }

    #[test]
    fn a_watched_batch_tells_when_its_last_clone_is_gone() {
        let (batch, mut released) = watched_batch(2);
        let clone = batch.clone();
        let bytes = batch.as_request().slice(1..3);
        drop(batch);
        drop(clone);
        assert!(released.0.try_recv().is_err());
        drop(bytes);
        futures_executor::block_on(released.by(soon()));
    }

    #[test]
    #[should_panic(expected = "still held")]
    fn a_batch_that_is_kept_is_a_leak() {
        let (batch, released) = watched_batch(2);
        futures_executor::block_on(released.by(Deadline::after(Duration::from_millis(20))));
        drop(batch);
    }
}

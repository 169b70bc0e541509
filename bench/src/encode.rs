//! Spans to request bytes: ours against the two paths of `opentelemetry-otlp`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::trace::SpanData;
use outspan::sdk::SdkSpan;
use outspan::wire::otlp::EncodedResource;
use outspan::wire::otlp::Encoder;
use outspan::wire::otlp::SpanLimits;
use prost::Message;

use crate::measure::Outcome;
use crate::measure::check;
use crate::measure::in_turn;
use crate::measure::less_is_better;
use crate::measure::nanos_each;
use crate::measure::note;
use crate::measure::time;
use crate::spans;
use crate::spans::BATCH;

pub(crate) fn run(quick: bool) -> Outcome {
    let (rounds, repeats) = if quick { (5, 4) } else { (101, 20) };
    let batch = spans::spans(0, BATCH);
    let mut ours = Ours::new();
    check_same(&ours.encode(&batch), &batch)?;

    let (our_time, grpc) = in_turn(
        rounds,
        || ours.time(&batch, repeats),
        || time_owned(&batch, repeats, grpc_path),
    );
    let count = BATCH * repeats;
    less_is_better(
        "encode/grpc",
        "ns/span",
        nanos_each(our_time, count),
        nanos_each(grpc, count),
    );
    let (our_time, http) = in_turn(
        rounds,
        || ours.time(&batch, repeats),
        || time_owned(&batch, repeats, http_path),
    );
    less_is_better(
        "encode/http",
        "ns/span",
        nanos_each(our_time, count),
        nanos_each(http, count),
    );

    let allocations = allocations_of(|| drop(black_box(ours.encode(&batch))));
    let owned = batch.clone();
    let theirs = allocations_of(|| drop(black_box(grpc_path(owned))));
    note(&format!(
        "a batch of {BATCH} spans: ours {allocations} allocations, peer {theirs}"
    ));
    // One allocation for the batch itself is not one for a span; more than a handful would be.
    check(allocations < 8, || {
        format!("{allocations} allocations a batch")
    })?;
    less_is_better(
        "encode/allocs",
        "allocations/span",
        allocations as f64 / BATCH as f64,
        theirs as f64 / BATCH as f64,
    );
    Ok(())
}

/// Our encoder, with its resource encoded once, as the processor holds it.
struct Ours {
    encoder: Encoder,
    resource: EncodedResource,
}

impl Ours {
    fn new() -> Self {
        Self {
            encoder: Encoder::new(SpanLimits::default()),
            resource: outspan::sdk::encode_resource(&spans::resource()),
        }
    }

    fn encode(&mut self, batch: &[SpanData]) -> Bytes {
        for span in batch {
            self.encoder.push(&self.resource, &SdkSpan(span));
        }
        self.encoder
            .finish()
            .map(|request| request.bytes)
            .unwrap_or_default()
    }

    fn time(&mut self, batch: &[SpanData], repeats: usize) -> Duration {
        time(|| {
            for _ in 0..repeats {
                black_box(self.encode(black_box(batch)));
            }
        })
    }
}

/// Times work that takes the batch away; handing it over is not part of the time.
fn time_owned(batch: &[SpanData], repeats: usize, work: fn(Vec<SpanData>) -> Bytes) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..repeats {
        let owned = batch.to_vec();
        total += time(|| work(owned));
    }
    total
}

/// What the peer does over gRPC: each attempt clones the batch out of an `Arc`, transforms it, and encodes the tree.
fn grpc_path(batch: Vec<SpanData>) -> Bytes {
    let shared = std::sync::Arc::new(batch);
    let request = peer_request((*shared).clone());
    Bytes::from(request.encode_to_vec())
}

/// What the peer does over HTTP: it transforms the batch, and encodes the tree.
fn http_path(batch: Vec<SpanData>) -> Bytes {
    Bytes::from(peer_request(batch).encode_to_vec())
}

/// The peer's transformation.
pub(crate) fn peer_request(batch: Vec<SpanData>) -> ExportTraceServiceRequest {
    let resource = ResourceAttributesWithSchema::from(&spans::resource());
    ExportTraceServiceRequest {
        resource_spans: group_spans_by_resource_and_scope(batch, &resource),
    }
}

fn allocations_of(work: impl FnOnce()) -> usize {
    allocation_counter::measure(work).count_total as usize
}

/// Both sides must say the same of every span; the order of spans is each side's own.
fn check_same(bytes: &[u8], batch: &[SpanData]) -> Outcome {
    let ours = ExportTraceServiceRequest::decode(bytes).map_err(|e| e.to_string())?;
    let peer = peer_request(batch.to_vec());
    let (ours, theirs) = (by_id(&ours), by_id(&peer));
    check(ours.len() == BATCH, || {
        format!("{} spans instead of {BATCH}", ours.len())
    })?;
    for (id, theirs) in &theirs {
        let ours = ours.get(id).ok_or("a span is missing")?;
        check(ours == theirs, || {
            format!("ours {ours:?}, theirs {theirs:?}")
        })?;
    }
    note(&format!(
        "{BATCH} spans, {} bytes each: prost decodes ours to what the peer sends",
        bytes.len() / BATCH
    ));
    Ok(())
}

fn by_id(request: &ExportTraceServiceRequest) -> BTreeMap<Vec<u8>, Span> {
    request
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans)
        .map(|span| {
            let mut span = span.clone();
            // No status and an unset one are the same; ours leaves it out.
            span.status = span.status.filter(|status| *status != Status::default());
            (span.span_id.clone(), span)
        })
        .collect()
}

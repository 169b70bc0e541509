//! Zipkin's JSON: written, against `opentelemetry-zipkin`; read, against `serde_json` and `prost`.

#![expect(
    deprecated,
    reason = "the peer is what there is, though nobody maintains it any more"
)]

use std::collections::HashMap;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_http::HttpClient;
use opentelemetry_http::HttpError;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanExporter;
use opentelemetry_zipkin::ZipkinExporter;
use outspan::sdk::SdkSpan;
use outspan::wire::PieceContent;
use outspan::wire::otlp::EncodedResource;
use outspan::wire::otlp::Encoder;
use outspan::wire::otlp::SpanLimits;
use outspan::wire::zipkin::ReadLimits;
use outspan::wire::zipkin::WriteOptions;
use outspan::wire::zipkin::Writer;
use outspan::wire::zipkin::read_json;
use prost::Message;
use serde::Deserialize;

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
    let peer = Peer::new()?;
    let count = BATCH * repeats;

    let json = ours.encode(&batch);
    check_written(&json, &peer.encode(batch.clone())?)?;
    // What an exporter does with what it is given: ours with a batch, the peer with spans.
    let request = ours.request(&batch);
    let (our_time, peer_time) = in_turn(
        rounds,
        || ours.time_of_writing(&request, repeats),
        || peer.time(&batch, repeats),
    );
    let (our_time, peer_time) = (nanos_each(our_time, count), nanos_each(peer_time, count));
    less_is_better("formats/zipkin-json-encode", "ns/span", our_time, peer_time);
    // With making the batch, which all destinations share.
    let (our_time, peer_time) = in_turn(
        rounds,
        || ours.time(&batch, repeats),
        || peer.time(&batch, repeats),
    );
    let (our_time, peer_time) = (nanos_each(our_time, count), nanos_each(peer_time, count));
    less_is_better(
        "formats/zipkin-json-encode-with-batch",
        "ns/span",
        our_time,
        peer_time,
    );

    check_read(&json)?;
    let (our_time, peer_time) = in_turn(
        rounds,
        || time_of(repeats, || read_by_us(black_box(&json))),
        || time_of(repeats, || read_by_others(black_box(&json))),
    );
    let (our_time, peer_time) = (nanos_each(our_time, count), nanos_each(peer_time, count));
    less_is_better("formats/zipkin-json-decode", "ns/span", our_time, peer_time);
    Ok(())
}

/// Our encoder and writer, as the processor and the exporter hold them.
struct Ours {
    encoder: Encoder,
    resource: EncodedResource,
    writer: Writer,
}

impl Ours {
    fn new() -> Self {
        Self {
            encoder: Encoder::new(SpanLimits::default()),
            resource: outspan::sdk::encode_resource(&spans::resource()),
            writer: Writer::new(WriteOptions::default()),
        }
    }

    fn request(&mut self, batch: &[SpanData]) -> Bytes {
        for span in batch {
            self.encoder.push(&self.resource, &SdkSpan(span));
        }
        let request = self.encoder.finish();
        request.map(|request| request.bytes).unwrap_or_default()
    }

    fn write(&mut self, request: &[u8]) -> Bytes {
        match self.writer.pieces(request).next() {
            Some(Ok(piece)) => match piece.content {
                PieceContent::Bytes(bytes) => bytes,
                _ => Bytes::new(),
            },
            _ => Bytes::new(),
        }
    }

    fn encode(&mut self, batch: &[SpanData]) -> Bytes {
        let request = self.request(batch);
        self.write(&request)
    }

    fn time(&mut self, batch: &[SpanData], repeats: usize) -> Duration {
        time_of(repeats, || self.encode(black_box(batch)))
    }

    fn time_of_writing(&mut self, request: &[u8], repeats: usize) -> Duration {
        time_of(repeats, || self.write(black_box(request)))
    }
}

fn time_of<R>(repeats: usize, mut work: impl FnMut() -> R) -> Duration {
    time(|| {
        for _ in 0..repeats {
            black_box(work());
        }
    })
}

/// The peer's exporter, which sends to where its bytes are kept.
struct Peer {
    exporter: ZipkinExporter,
    sent: Sent,
}

#[derive(Clone, Debug, Default)]
struct Sent {
    last: Arc<Mutex<Bytes>>,
}

impl HttpClient for Sent {
    fn send_bytes<'s, 'f>(
        &'s self,
        request: http::Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<http::Response<Bytes>, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = request.into_body();
        Box::pin(std::future::ready(Ok(http::Response::new(Bytes::new()))))
    }
}

impl Peer {
    fn new() -> Result<Self, String> {
        let sent = Sent::default();
        let builder = ZipkinExporter::builder().with_http_client(sent.clone());
        let exporter = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { exporter, sent })
    }

    fn encode(&self, batch: Vec<SpanData>) -> Result<Bytes, String> {
        let export = pin!(self.exporter.export(batch));
        // Nothing in it waits.
        match export.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Err(error.to_string()),
            Poll::Pending => return Err("the peer waits for something".to_owned()),
        }
        let mut last = self
            .sent
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut last))
    }

    /// Times the peer; handing the batch over is not part of the time.
    fn time(&self, batch: &[SpanData], repeats: usize) -> Duration {
        let mut total = Duration::ZERO;
        for _ in 0..repeats {
            let owned = batch.to_vec();
            total += time(|| self.encode(owned));
        }
        total
    }
}

/// A span of Zipkin as one writes it down for serde.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ZipkinSpan {
    trace_id: String,
    id: String,
    parent_id: Option<String>,
    kind: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    timestamp: u64,
    #[serde(default)]
    duration: u64,
    local_endpoint: Option<ZipkinEndpoint>,
    #[serde(default)]
    annotations: Vec<ZipkinAnnotation>,
    #[serde(default)]
    tags: HashMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ZipkinEndpoint {
    #[serde(default)]
    service_name: String,
}

#[derive(Debug, Deserialize)]
struct ZipkinAnnotation {
    timestamp: u64,
    value: String,
}

fn read_by_us(json: &[u8]) -> Bytes {
    match read_json(json, &ReadLimits::default()) {
        Ok(request) => request.bytes,
        Err(_) => Bytes::new(),
    }
}

/// Reads spans into types for serde, makes types for prost of them, and encodes these. Tags stay texts; all spans of a service
/// share a resource.
fn read_by_others(json: &[u8]) -> Bytes {
    let spans: Vec<ZipkinSpan> = serde_json::from_slice(json).unwrap_or_default();
    let mut services: HashMap<String, Vec<Span>> = HashMap::new();
    for span in spans {
        let endpoint = span.local_endpoint.as_ref();
        let service = endpoint.map(|endpoint| endpoint.service_name.clone());
        let spans = services.entry(service.unwrap_or_default()).or_default();
        spans.push(as_otlp(span));
    }
    let resource_spans = services.into_iter().map(|(service, spans)| ResourceSpans {
        resource: Some(Resource {
            attributes: vec![attribute("service.name".to_owned(), service)],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            spans,
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    });
    let request = ExportTraceServiceRequest {
        resource_spans: resource_spans.collect(),
    };
    request.encode_to_vec().into()
}

fn as_otlp(span: ZipkinSpan) -> Span {
    let id = |id: &str| {
        u64::from_str_radix(id, 16)
            .unwrap_or_default()
            .to_be_bytes()
    };
    let trace_id = u128::from_str_radix(&span.trace_id, 16).unwrap_or_default();
    let kind = match span.kind.as_deref() {
        Some("SERVER") => 2,
        Some("CLIENT") => 3,
        Some("PRODUCER") => 4,
        Some("CONSUMER") => 5,
        _ => 0,
    };
    let attributes = span
        .tags
        .into_iter()
        .map(|(key, value)| attribute(key, value));
    let events = span.annotations.into_iter().map(|annotation| Event {
        time_unix_nano: annotation.timestamp * 1000,
        name: annotation.value,
        ..Event::default()
    });
    Span {
        trace_id: trace_id.to_be_bytes().to_vec(),
        span_id: id(&span.id).to_vec(),
        parent_span_id: span
            .parent_id
            .map(|parent| id(&parent).to_vec())
            .unwrap_or_default(),
        name: span.name,
        kind,
        start_time_unix_nano: span.timestamp * 1000,
        end_time_unix_nano: (span.timestamp + span.duration) * 1000,
        attributes: attributes.collect(),
        events: events.collect(),
        ..Span::default()
    }
}

fn attribute(key: String, value: String) -> KeyValue {
    KeyValue {
        key,
        value: Some(AnyValue {
            value: Some(Value::StringValue(value)),
        }),
        ..KeyValue::default()
    }
}

/// Both sides must say the same of every span, as far as the peer says anything.
fn check_written(ours: &[u8], theirs: &[u8]) -> Outcome {
    let parse = |json: &[u8]| {
        serde_json::from_slice::<Vec<ZipkinSpan>>(json).map_err(|error| error.to_string())
    };
    let (ours_read, theirs_read) = (parse(ours)?, parse(theirs)?);
    check(
        ours_read.len() == BATCH && theirs_read.len() == BATCH,
        || {
            format!(
                "{} and {} spans instead of {BATCH}",
                ours_read.len(),
                theirs_read.len()
            )
        },
    )?;
    for (ours, theirs) in ours_read.iter().zip(&theirs_read) {
        let is_same = ours.trace_id == theirs.trace_id
            && ours.id == theirs.id
            && ours.parent_id == theirs.parent_id
            && ours.kind == theirs.kind
            && ours.name == theirs.name
            && ours.timestamp == theirs.timestamp
            && ours.duration == theirs.duration
            && ours.annotations.len() == theirs.annotations.len()
            && theirs
                .tags
                .iter()
                .all(|(key, value)| ours.tags.get(key) == Some(value));
        check(is_same, || format!("ours {ours:?}, theirs {theirs:?}"))?;
    }
    note(&format!(
        "{BATCH} spans, {} bytes each, the peer's {}: every tag of the peer's is in ours",
        ours.len() / BATCH,
        theirs.len() / BATCH
    ));
    Ok(())
}

/// Both sides must have read the same spans. The peer keeps parents that are the span itself; Zipkin, and we, do not.
fn check_read(json: &[u8]) -> Outcome {
    let parse = |bytes: Bytes| {
        let request =
            ExportTraceServiceRequest::decode(bytes).map_err(|error| error.to_string())?;
        let resources = request.resource_spans.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        Ok::<Vec<Span>, String>(scopes.flat_map(|scope| scope.spans).collect())
    };
    let (ours, theirs) = (parse(read_by_us(json))?, parse(read_by_others(json))?);
    check(ours.len() == BATCH && theirs.len() == BATCH, || {
        format!(
            "{} and {} spans instead of {BATCH}",
            ours.len(),
            theirs.len()
        )
    })?;
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let is_same = ours.span_id == theirs.span_id
            && ours.trace_id == theirs.trace_id
            && (ours.parent_span_id == theirs.parent_span_id
                || theirs.parent_span_id == ours.span_id)
            && (ours.kind, &ours.name) == (theirs.kind, &theirs.name)
            && ours.start_time_unix_nano == theirs.start_time_unix_nano
            && ours.end_time_unix_nano == theirs.end_time_unix_nano
            && ours.events.len() == theirs.events.len();
        check(is_same, || format!("ours {ours:?}, theirs {theirs:?}"))?;
    }
    Ok(())
}

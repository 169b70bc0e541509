//! The validating pass that lets bytes go on as they are, against decoding them into a tree.

use std::hint::black_box;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use outspan::wire::otlp;
use prost::Message;

use crate::encode;
use crate::measure::Outcome;
use crate::measure::check;
use crate::measure::in_turn;
use crate::measure::less_is_better;
use crate::measure::nanos_each;
use crate::measure::note;
use crate::measure::time;
use crate::spans::BATCH;

pub(crate) fn run(quick: bool) -> Outcome {
    let (rounds, repeats) = if quick { (5, 10) } else { (101, 40) };
    let bytes = encode::peer_request(crate::spans::spans(0, BATCH)).encode_to_vec();

    let decoded = ExportTraceServiceRequest::decode(&bytes[..]).map_err(|e| e.to_string())?;
    let summary = otlp::validate(&bytes).map_err(|e| e.to_string())?;
    let spans: usize = decoded
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans)
        .map(|scope| scope.spans.len())
        .sum();
    check(summary.spans == spans && spans == BATCH, || {
        format!("validated {} spans, decoded {spans}", summary.spans)
    })?;
    for cut in [1, bytes.len() / 2, bytes.len() - 1] {
        check(otlp::validate(&bytes[..cut]).is_err(), || {
            format!("a request cut at byte {cut} passed")
        })?;
    }
    let size = bytes.len() / BATCH;
    note(&format!(
        "{spans} spans of {size} bytes: both sides counted the same, three broken copies were refused"
    ));

    let ours = || {
        time(|| {
            for _ in 0..repeats {
                black_box(otlp::validate(black_box(&bytes)).is_ok());
            }
        })
    };
    let peer = || {
        time(|| {
            for _ in 0..repeats {
                black_box(ExportTraceServiceRequest::decode(black_box(&bytes[..])).is_ok());
            }
        })
    };
    let (ours, peer) = in_turn(rounds, ours, peer);
    let count = BATCH * repeats;
    less_is_better(
        "validate/decode",
        "ns/span",
        nanos_each(ours, count),
        nanos_each(peer, count),
    );
    Ok(())
}

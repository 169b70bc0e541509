//! The same spans through our exporters over each protocol and compression: CPU, bytes on the wire, latency; a table.

use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use outspan::Batch;
use outspan::Compression;
use outspan::Deadline;
use outspan::Export;
use outspan::Exporter;
use outspan::otlp;
use prost::Message;

use crate::encode;
use crate::measure::Outcome;
use crate::measure::check;
use crate::measure::note;
use crate::measure::quantile;
use crate::measure::table;
use crate::roles::program::Cpu;
use crate::roles::receiver;
use crate::roles::receiver::Receiver;
use crate::roles::wire::Protocol;
use crate::spans;
use crate::spans::BATCH;

/// How many different batches are exported in turn.
const DIFFERENT: u64 = 16;

/// Exports that are not counted: the first ones connect, and fill caches.
const WARM_UP: usize = 50;

pub(crate) fn run(quick: bool) -> Outcome {
    let exports = if quick { 200 } else { 4_000 };
    let requests: Vec<Bytes> = (0..DIFFERENT)
        .map(|batch| spans::spans(batch * BATCH as u64, BATCH))
        .map(|batch| encode::peer_request(batch).encode_to_vec().into())
        .collect();
    note(&format!(
        "{exports} exports of {BATCH} spans, one after the other; exporter and server on the same machine"
    ));
    let protocols = [
        otlp::Protocol::Grpc,
        otlp::Protocol::HttpProtobuf,
        otlp::Protocol::HttpJson,
    ];
    let compressions = [Compression::None, Compression::Gzip, Compression::Zstd];
    let mut rows = Vec::new();
    for protocol in protocols {
        for compression in compressions {
            rows.push(row(protocol, compression, &requests, exports)?);
        }
    }
    table(
        &[
            "protocol",
            "compression",
            "CPU, us/span",
            "bytes/span on the wire",
            "p50, ms",
            "p99, ms",
        ],
        &rows,
    );
    Ok(())
}

fn row(
    protocol: otlp::Protocol,
    compression: Compression,
    requests: &[Bytes],
    exports: usize,
) -> Result<Vec<String>, String> {
    let mut receiver = Receiver::start(receiver::Options {
        protocol: match protocol {
            otlp::Protocol::Grpc => Protocol::Grpc,
            _ => Protocol::Http,
        },
        // Decoding takes longer than an export: more than one in a hundred would be what p99 shows.
        look_every: 512,
        ..receiver::Options::default()
    })?;
    let builder = match protocol {
        otlp::Protocol::Grpc => otlp::grpc(&receiver.endpoint),
        _ => otlp::http(&receiver.endpoint).protocol(protocol),
    };
    let exporter = builder.compression(compression).build();
    let exporter = exporter.map_err(|e| e.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;

    runtime.block_on(export_all(&exporter, batches(requests, WARM_UP)?))?;
    let batches = batches(requests, exports)?;
    let wire_bytes_before = receiver.arrived()?.wire_bytes;
    let cpu_before = Cpu::of(std::process::id())?;
    let mut latencies = runtime.block_on(export_all(&exporter, batches))?;
    let cpu = Cpu::of(std::process::id())?.since(&cpu_before);
    let shutdown = exporter.shutdown(Deadline::after(Duration::from_secs(10)));
    let drained = runtime.block_on(shutdown).map_err(|e| e.to_string())?;
    if !drained.is_complete() {
        return Err(drained.to_string());
    }

    let arrived = receiver.finish()?;
    let spans = (exports * BATCH) as f64;
    let sent = ((exports + WARM_UP) * BATCH) as u64;
    let name = format!("{} {compression}", protocol.as_str());
    check(arrived.spans == sent && arrived.wrong == 0, || {
        format!("{name}: {sent} spans sent, {arrived:?}")
    })?;
    let wire_bytes = arrived.wire_bytes - wire_bytes_before;
    let millis = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1e3);
    Ok(vec![
        protocol.as_str().to_owned(),
        compression.to_string(),
        format!("{:.2}", cpu.as_secs_f64() * 1e6 / spans),
        format!("{:.0}", wire_bytes as f64 / spans),
        millis(quantile(&mut latencies, 0.5)),
        millis(quantile(&mut latencies, 0.99)),
    ])
}

/// Makes as many batches; each is new, because a batch keeps its compressed form.
fn batches(requests: &[Bytes], count: usize) -> Result<Vec<Batch>, String> {
    let requests = requests.iter().cycle().take(count);
    requests
        .map(|request| Batch::from_request(request.clone()).map(|checked| checked.batch))
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())
}

/// Exports one batch after the other, and returns how long each took.
async fn export_all(exporter: &Exporter, batches: Vec<Batch>) -> Result<Vec<Duration>, String> {
    let mut latencies = Vec::with_capacity(batches.len());
    for batch in batches {
        let until = Deadline::after(Duration::from_secs(10));
        let began = Instant::now();
        let delivery = exporter.export(batch, until).await;
        latencies.push(began.elapsed());
        let delivery = delivery.map_err(|e| e.to_string())?;
        check(delivery.is_complete() && delivery.refused == 0, || {
            format!("a batch was not delivered: {delivery:?}")
        })?;
    }
    Ok(latencies)
}

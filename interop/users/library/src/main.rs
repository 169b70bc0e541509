//! Spans that are no SDK's: `library FORM ENDPOINT FILE` delivers a file of spans by an exporter made in code.

use std::time::Duration;

use outspan::Deadline;
use outspan::Export;
use outspan::Exporter;
use outspan::Retry;
use outspan::file::ReadOptions;
use outspan::file::SpanFile;
use outspan::jaeger;
use outspan::otlp;
use outspan::zipkin;

fn exporter(form: &str, endpoint: &str) -> outspan::Result<Exporter> {
    match form {
        "otlp-grpc" => otlp::grpc(endpoint).build(),
        "otlp-http" => otlp::http(endpoint).build(),
        "otlp-json" => otlp::http(endpoint)
            .protocol(otlp::Protocol::HttpJson)
            .build(),
        "zipkin-json" => zipkin::http(endpoint).build(),
        "zipkin-protobuf" => zipkin::http(endpoint)
            .format(zipkin::Format::Protobuf)
            .build(),
        "jaeger-http" => jaeger::collector(endpoint).build(),
        form => panic!("no exporter is called {form}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> outspan::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [form, endpoint, file] = &arguments[..] else {
        panic!("usage: library FORM ENDPOINT FILE");
    };
    let exporter = exporter(form, endpoint)?
        .timeout(Duration::from_secs(10))
        .retry(Retry::default());
    for record in SpanFile::open_path(file, ReadOptions::default())? {
        let batch = record?.checked.batch;
        exporter
            .export(batch, Deadline::after(Duration::from_secs(60)))
            .await?;
    }
    exporter
        .shutdown(Deadline::after(Duration::from_secs(10)))
        .await?;
    Ok(())
}

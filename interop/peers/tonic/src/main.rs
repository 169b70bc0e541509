//! A service on tonic that another part of the program calls: the trace goes along in the call's metadata.

use opentelemetry::Context;
use opentelemetry::global;
use opentelemetry::propagation::Extractor;
use opentelemetry::propagation::Injector;
use opentelemetry::trace::SpanKind;
use opentelemetry::trace::TraceContextExt;
use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::net::TcpListener;
use tonic::Request;
use tonic::Status;
use tonic::metadata::KeyRef;
use tonic::metadata::MetadataKey;
use tonic::metadata::MetadataMap;
use tonic::service::interceptor;
use tonic::transport::Channel;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

struct Metadata<M>(M);

impl Injector for Metadata<&mut MetadataMap> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (MetadataKey::from_bytes(key.as_bytes()), value.parse()) {
            self.0.insert(key, value);
        }
    }
}

impl Extractor for Metadata<&MetadataMap> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        let keys = self.0.keys();
        keys.map(|key| match key {
            KeyRef::Ascii(key) => key.as_str(),
            KeyRef::Binary(key) => key.as_str(),
        })
        .collect()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let exporter = SpanExporter::builder().with_http().build()?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .build();
    global::set_tracer_provider(provider.clone());
    global::set_text_map_propagator(TraceContextPropagator::new());
    let (_, health) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let service = Server::builder()
        .layer(interceptor::InterceptorLayer::new(served))
        .add_service(health);
    let server = tokio::spawn(service.serve_with_incoming(TcpIncoming::from(listener)));

    let channel = Channel::from_shared(format!("http://{address}"))?;
    let mut client = HealthClient::new(channel.connect().await?);
    let tracer = provider.tracer("tonic");
    let span = tracer
        .span_builder("grpc.health.v1.Health/Check")
        .with_kind(SpanKind::Client)
        .start(&tracer);
    let context = Context::current_with_span(span);
    let mut request = Request::new(HealthCheckRequest::default());
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut Metadata(request.metadata_mut()));
    });
    client.check(request).await?;
    context.span().end();
    server.abort();
    provider.shutdown()?;
    Ok(())
}

fn served(request: Request<()>) -> Result<Request<()>, Status> {
    let parent = global::get_text_map_propagator(|propagator| {
        propagator.extract(&Metadata(request.metadata()))
    });
    let tracer = global::tracer("tonic");
    let span = tracer
        .span_builder("grpc.health.v1.Health/Check")
        .with_kind(SpanKind::Server)
        .start_with_context(&tracer, &parent);
    drop(span);
    Ok(request)
}

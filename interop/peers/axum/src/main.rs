//! A service on axum: a span for each request, ended by SIGTERM.

use axum::Router;
use axum::extract::Path;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use opentelemetry::Context;
use opentelemetry::global;
use opentelemetry::trace::FutureExt;
use opentelemetry::trace::SpanKind;
use opentelemetry::trace::TraceContextExt;
use opentelemetry::trace::Tracer;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let exporter = SpanExporter::builder().with_http().build()?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .build();
    global::set_tracer_provider(provider.clone());
    let routes = Router::new()
        .route("/cart/{id}", get(cart))
        .layer(axum::middleware::from_fn(trace));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    let mut term = signal(SignalKind::terminate())?;
    let server = axum::serve(listener, routes);
    server
        .with_graceful_shutdown(async move {
            term.recv().await;
        })
        .await?;
    provider.shutdown()?;
    Ok(())
}

async fn trace(request: Request, next: Next) -> Response {
    let tracer = global::tracer("axum");
    let name = format!("{} {}", request.method(), request.uri().path());
    let span = tracer
        .span_builder(name)
        .with_kind(SpanKind::Server)
        .start(&tracer);
    next.run(request)
        .with_context(Context::current_with_span(span))
        .await
}

async fn cart(Path(id): Path<u32>) -> String {
    global::tracer("axum").in_span("price", |_| format!("cart {id}: 12.50\n"))
}

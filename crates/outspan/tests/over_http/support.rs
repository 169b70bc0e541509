//! The formats, exporters for them, and servers that read them.

use std::future::Future;

use outspan::Batch;
use outspan::Compression;
use outspan::Delivery;
use outspan::Error;
use outspan::Export;
use outspan::Exporter;
use outspan::http_json;
use outspan::http_post;
use outspan::jaeger;
use outspan::zipkin;
use outspan_testkit::Collector;
use outspan_testkit::CollectorBuilder;
use outspan_testkit::SpanId;
use outspan_testkit::Transport;
use outspan_testkit::run_test;
use outspan_testkit::soon;
use prost::Message;
use serde_json::Value;

use crate::thrift;

/// Names what goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    ZipkinJson,
    ZipkinProtobuf,
    Jaeger,
    HttpJson,
}

/// The options that tests set, as one value for builders of different types.
#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) bytes: Option<usize>,
    pub(crate) compression: Compression,
    pub(crate) tls: Option<zipkin::Tls>,
    pub(crate) basic_auth: Option<(&'static str, &'static str)>,
    pub(crate) token: Option<fn(bool) -> &'static str>,
    pub(crate) proxy: Option<String>,
}

macro_rules! with_options {
    ($builder:expr, $options:expr) => {{
        let mut builder = $builder.header("x-tenant", "shop");
        let options: Options = $options;
        builder = builder.compression(options.compression);
        if let Some(bytes) = options.bytes {
            builder = builder.max_request_bytes(bytes);
        }
        if let Some(tls) = options.tls {
            builder = builder.tls(tls);
        }
        if let Some((user, password)) = options.basic_auth {
            builder = builder.basic_auth(user, password);
        }
        if let Some(proxy) = options.proxy {
            builder = builder.proxy(proxy);
        }
        if let Some(token) = options.token {
            builder = builder.header_provider(move |refresh| async move {
                Ok(vec![("authorization".to_owned(), token(refresh).into())])
            });
        }
        builder
    }};
}

impl Wire {
    pub(crate) const ALL: [Self; 4] = [
        Self::ZipkinJson,
        Self::ZipkinProtobuf,
        Self::Jaeger,
        Self::HttpJson,
    ];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::ZipkinJson | Self::ZipkinProtobuf => "/api/v2/spans",
            Self::Jaeger => "/api/traces",
            Self::HttpJson => "/spans",
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::ZipkinJson | Self::HttpJson => "application/json",
            Self::ZipkinProtobuf => "application/x-protobuf",
            Self::Jaeger => "application/vnd.apache.thrift.binary",
        }
    }

    /// How many bytes a request needs so that some spans of a batch fit and not all.
    pub(crate) fn set_up(self) -> CollectorBuilder {
        let wanted = self.content_type();
        Collector::over(Transport::Http)
            .path(self.path())
            .reads(move |content_type, body| match content_type == wanted {
                true => self.ids(body),
                false => Err(format!("the content type is {content_type}")),
            })
    }

    pub(crate) fn collector(self) -> Collector {
        self.set_up().start()
    }

    /// An exporter to an endpoint without a path; plain JSON has no path of its own.
    pub(crate) fn exporter_to(self, endpoint: &str, options: Options) -> Exporter {
        let built = match self {
            Self::ZipkinJson => with_options!(zipkin::http(endpoint), options).build(),
            Self::ZipkinProtobuf => {
                let builder = zipkin::http(endpoint).format(zipkin::Format::Protobuf);
                with_options!(builder, options).build()
            }
            Self::Jaeger => with_options!(jaeger::collector(endpoint), options).build(),
            Self::HttpJson => {
                let builder = http_post::to(format!("{endpoint}{}", self.path()));
                http_json::exporter(with_options!(builder, options))
            }
        };
        built.unwrap()
    }

    pub(crate) fn exporter(self, collector: &Collector, options: Options) -> Exporter {
        self.exporter_to(&collector.endpoint(), options)
    }

    /// The ids of the spans in a body, in order.
    pub(crate) fn ids(self, body: &[u8]) -> Result<Vec<SpanId>, String> {
        match self {
            Self::ZipkinJson => json_ids(body, "id"),
            Self::HttpJson => json_ids(body, "span_id"),
            Self::ZipkinProtobuf => {
                let list = ListOfSpans::decode(body).map_err(|error| error.to_string())?;
                Ok(list
                    .spans
                    .iter()
                    .map(|span| SpanId::new(&span.id))
                    .collect())
            }
            Self::Jaeger => {
                let batch = thrift::read_struct(body)?;
                let spans = batch.field(2).list();
                Ok(spans.iter().map(jaeger_id).collect())
            }
        }
    }
}

fn jaeger_id(span: &thrift::Value) -> SpanId {
    SpanId::new(&span.field(3).integer().to_be_bytes())
}

fn json_ids(body: &[u8], key: &str) -> Result<Vec<SpanId>, String> {
    let spans: Vec<Value> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let id = |span: &Value| {
        let id = span[key].as_str().ok_or("no id")?;
        let number = u64::from_str_radix(id, 16).map_err(|error| error.to_string())?;
        Ok(SpanId::new(&number.to_be_bytes()))
    };
    spans.iter().map(id).collect()
}

/// What these tests read of `zipkin.proto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ListOfSpans {
    #[prost(message, repeated, tag = "1")]
    pub(crate) spans: Vec<ZipkinSpan>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ZipkinSpan {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(crate) name: String,
}

/// Exports with a deadline that is not meant to pass.
pub(crate) async fn export(exporter: &Exporter, batch: &Batch) -> Result<Delivery, Error> {
    exporter.export(batch.clone(), soon()).await
}

/// Runs a test over each format, in a runtime of one thread, and no longer than any test takes.
pub(crate) fn over_each<F: Future<Output = ()>>(test: impl Fn(Wire) -> F) {
    for wire in Wire::ALL {
        run_test(test(wire));
    }
}

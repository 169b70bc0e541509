//! What the tests share: the three forms of OTLP, and how to run a test over each.

use std::time::Duration;

use outspan::Batch;
use outspan::Delivery;
use outspan::Error;
use outspan::Export;
use outspan::Exporter;
use outspan::otlp;
use outspan_testkit::Collector;
use outspan_testkit::CollectorBuilder;
use outspan_testkit::Transport;
use outspan_testkit::soon;

/// How long a test waits for what is sure to come.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Names the three forms in which OTLP goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Grpc,
    HttpProtobuf,
    HttpJson,
}

impl Wire {
    pub(crate) fn is_grpc(self) -> bool {
        self == Self::Grpc
    }

    pub(crate) fn transport(self) -> Transport {
        match self {
            Self::Grpc => Transport::Grpc,
            Self::HttpProtobuf | Self::HttpJson => Transport::Http,
        }
    }

    pub(crate) fn collector(self) -> Collector {
        self.set_up().start()
    }

    pub(crate) fn set_up(self) -> CollectorBuilder {
        Collector::over(self.transport())
    }

    /// Starts an exporter to any endpoint.
    pub(crate) fn to(self, endpoint: &str) -> otlp::Builder {
        match self {
            Self::Grpc => otlp::grpc(endpoint),
            Self::HttpProtobuf => otlp::http(endpoint),
            Self::HttpJson => otlp::http(endpoint).protocol(otlp::Protocol::HttpJson),
        }
    }

    /// Starts an exporter to the collector.
    pub(crate) fn to_collector(self, collector: &Collector) -> otlp::Builder {
        self.to(&collector.endpoint())
    }

    /// Makes an exporter to the collector, with the defaults.
    pub(crate) fn exporter(self, collector: &Collector) -> Exporter {
        self.to_collector(collector).build().unwrap()
    }
}

/// Exports with a deadline that is not meant to pass.
pub(crate) async fn export(exporter: &Exporter, batch: &Batch) -> Result<Delivery, Error> {
    exporter.export(batch.clone(), soon()).await
}

/// Makes three tests of each function: over gRPC, over HTTP with protobuf, over HTTP with JSON.
macro_rules! over_each_wire {
    ($($test:ident),* $(,)?) => {
        $crate::support::over_wires! { grpc: Grpc, $($test)* }
        $crate::support::over_wires! { http_protobuf: HttpProtobuf, $($test)* }
        $crate::support::over_wires! { http_json: HttpJson, $($test)* }
    };
}

macro_rules! over_wires {
    ($module:ident: $wire:ident, $($test:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    outspan_testkit::run_test(super::$test($crate::support::Wire::$wire));
                }
            )*
        }
    };
}

pub(crate) use over_wires;

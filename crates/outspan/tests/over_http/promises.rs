//! The promises that every exporter keeps, over each format.

use outspan_testkit::Collector;
use outspan_testkit::promises::CollectorRig;

use crate::support::Options;
use crate::support::Wire;

fn rig(wire: Wire) -> CollectorRig<impl Fn(&Collector) -> outspan::Exporter + Send + Sync> {
    let options = Options {
        basic_auth: Some(("shop", "hunter2")),
        ..Options::default()
    };
    CollectorRig::new(wire.collector(), move |collector: &Collector| {
        wire.exporter(collector, options.clone())
    })
    .secret("hunter2")
}

mod zipkin_json {
    outspan_testkit::promises!(super::rig(super::Wire::ZipkinJson));
}

mod zipkin_protobuf {
    outspan_testkit::promises!(super::rig(super::Wire::ZipkinProtobuf));
}

mod jaeger {
    outspan_testkit::promises!(super::rig(super::Wire::Jaeger));
}

mod http_json {
    outspan_testkit::promises!(super::rig(super::Wire::HttpJson));
}

//! In the steady state a span costs no allocation, and a batch one.

use outspan_wire::otlp::EncodeSpan;
use outspan_wire::otlp::EncodedResource;
use outspan_wire::otlp::Encoder;
use outspan_wire::otlp::ScopeWriter;
use outspan_wire::otlp::SpanKind;
use outspan_wire::otlp::SpanWriter;
use outspan_wire::otlp::StatusCode;

struct Visit {
    number: u64,
    scope: &'static str,
    padding: usize,
}

impl EncodeSpan for Visit {
    fn encode_scope(&self, scope: &mut ScopeWriter<'_>) {
        scope.name(self.scope);
        scope.version("1.4.2");
        scope.attribute("scope.kind", "test");
        scope.schema_url("https://opentelemetry.io/schemas/1.44.0");
    }

    fn encode(&self, span: &mut SpanWriter<'_>) {
        const PADDING: &str = "................................................................";
        span.trace_id([7; 16]);
        span.span_id(self.number.to_be_bytes());
        span.trace_state_members([("vendor", "value"), ("other", "value")]);
        span.name("GET /api/v1/users/{id}");
        span.kind(SpanKind::Server);
        span.start_time_unix_nano(1_700_000_000_000_000_000);
        span.end_time_unix_nano(1_700_000_000_001_000_000);
        for _ in 0..self.padding {
            span.attribute("padding", PADDING);
        }
        span.attribute("http.response.status_code", 200);
        span.attribute("sampling.ratio", 0.25);
        span.attribute("cache.hit", true);
        span.attribute("header", &["a", "b"][..]);
        span.attribute_with("map", |value| value.map(|map| map.entry("key", "value")));
        span.event(1_700_000_000_000_000_500, "cache.miss", |event| {
            event.attribute("cache.key", "user:1");
        });
        span.link([8; 16], [9; 8], |link| link.attribute("reason", "retry"));
        span.status(StatusCode::Error, "user not found");
        span.flags(0x101);
    }
}

fn push_many(encoder: &mut Encoder, resources: &[EncodedResource]) {
    for number in 1..=512 {
        let visit = Visit {
            number,
            // Runs of one scope, as programs make them, and changes between remembered ones.
            scope: if number % 64 < 48 {
                "frontend"
            } else {
                "backend"
            },
            padding: 3,
        };
        encoder.push(&resources[number as usize % resources.len()], &visit);
    }
}

fn resources() -> Vec<EncodedResource> {
    ["shop", "stock"]
        .iter()
        .map(|name| EncodedResource::new(|resource| resource.attribute("service.name", *name)))
        .collect()
}

#[test]
fn spans_allocate_nothing_and_a_batch_allocates_its_bytes() {
    let resources = resources();
    let mut encoder = Encoder::default();
    push_many(&mut encoder, &resources);
    let warm = encoder.finish().expect("spans were pushed");

    let pushing = allocation_counter::measure(|| push_many(&mut encoder, &resources));
    assert_eq!(pushing.count_total, 0, "while pushing: {pushing:?}");

    let mut request = None;
    let finishing = allocation_counter::measure(|| request = encoder.finish());
    let request = request.expect("spans were pushed");
    assert_eq!(finishing.count_total, 1, "while finishing: {finishing:?}");
    assert_eq!(finishing.bytes_total, request.bytes.len() as u64);
    assert_eq!(request, warm);
}

#[test]
fn a_giant_batch_does_not_stay_allocated() {
    let resources = resources();
    let mut encoder = Encoder::default();
    push_many(&mut encoder, &resources);
    encoder.finish();

    let around = allocation_counter::measure(|| {
        for number in 1..=64 {
            let visit = Visit {
                number,
                scope: "frontend",
                padding: 3000,
            };
            // 64 spans of about 220 kB: 14 MB.
            let mut limits = outspan_wire::otlp::SpanLimits::default();
            limits.attributes = usize::MAX;
            if number == 1 {
                encoder = Encoder::new(limits);
            }
            encoder.push(&resources[0], &visit);
        }
        let request = encoder.finish().expect("spans were pushed");
        assert!(request.bytes.len() > 10 << 20, "{}", request.bytes.len());
    });
    assert!(around.bytes_max > 20 << 20, "{around:?}");
    assert!(around.bytes_current < 4 << 20, "{around:?}");
}

#[test]
fn scopes_without_end_are_not_remembered_without_end() {
    let resource = EncodedResource::default();
    let names: Vec<&'static str> = (0..20_000)
        .map(|number| &*Box::leak(format!("scope number {number}").into_boxed_str()))
        .collect();
    let mut encoder = Encoder::default();
    let around = allocation_counter::measure(|| {
        for chunk in names.chunks(100) {
            for &scope in chunk {
                let visit = Visit {
                    number: 1,
                    scope,
                    padding: 0,
                };
                encoder.push(&resource, &visit);
            }
            encoder.finish();
        }
    });
    assert!(around.bytes_current < 1 << 20, "{around:?}");
}

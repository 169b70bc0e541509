//! Requests whose floating-point values JSON, or a peer's JSON, can carry.

// Each test program uses its own part of this module.
#![allow(dead_code)]

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;

/// Replaces NaN and the infinities by an ordinary number.
pub(crate) fn plain(mut request: ExportTraceServiceRequest) -> ExportTraceServiceRequest {
    in_request(&mut request, &|double| {
        if !double.is_finite() {
            *double = 0.5;
        }
    });
    request
}

/// Makes all NaN the same one: JSON has a single word for them.
pub(crate) fn with_one_nan(mut request: ExportTraceServiceRequest) -> ExportTraceServiceRequest {
    in_request(&mut request, &|double| {
        if double.is_nan() {
            *double = f64::NAN;
        }
    });
    request
}

fn in_request(request: &mut ExportTraceServiceRequest, edit: &impl Fn(&mut f64)) {
    for resource_spans in &mut request.resource_spans {
        if let Some(resource) = &mut resource_spans.resource {
            in_attributes(&mut resource.attributes, edit);
        }
        for scope_spans in &mut resource_spans.scope_spans {
            if let Some(scope) = &mut scope_spans.scope {
                in_attributes(&mut scope.attributes, edit);
            }
            for span in &mut scope_spans.spans {
                in_attributes(&mut span.attributes, edit);
                for event in &mut span.events {
                    in_attributes(&mut event.attributes, edit);
                }
                for link in &mut span.links {
                    in_attributes(&mut link.attributes, edit);
                }
            }
        }
    }
}

fn in_attributes(attributes: &mut [KeyValue], edit: &impl Fn(&mut f64)) {
    for attribute in attributes {
        if let Some(value) = &mut attribute.value {
            in_value(value, edit);
        }
    }
}

fn in_value(value: &mut AnyValue, edit: &impl Fn(&mut f64)) {
    match &mut value.value {
        Some(Value::DoubleValue(double)) => edit(double),
        Some(Value::ArrayValue(array)) => {
            for item in &mut array.values {
                in_value(item, edit);
            }
        }
        Some(Value::KvlistValue(map)) => in_attributes(&mut map.values, edit),
        _ => {}
    }
}

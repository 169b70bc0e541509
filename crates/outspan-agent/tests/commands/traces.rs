//! What holds for every span that a sound program sends.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use outspan_testkit::CollectedSpan;

/// Panics unless ids are valid and different, parents and links exist, and times make sense.
#[track_caller]
pub(crate) fn check(spans: &[CollectedSpan]) {
    let nanos = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let latest = nanos(SystemTime::now() + Duration::from_secs(5));
    let earliest = nanos(SystemTime::now() - Duration::from_secs(3600));
    let mut ids = HashMap::new();
    for collected in spans {
        let span = &collected.span;
        assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
        assert!(span.trace_id.iter().any(|byte| *byte != 0), "{span:?}");
        assert!(span.span_id.iter().any(|byte| *byte != 0), "{span:?}");
        let id = (span.trace_id.clone(), span.span_id.clone());
        assert!(ids.insert(id, collected).is_none(), "twice: {span:?}");
    }
    for collected in spans {
        let span = &collected.span;
        assert!(!span.name.is_empty() && span.kind > 0, "{span:?}");
        assert!(earliest < span.start_time_unix_nano, "{span:?}");
        assert!(
            span.start_time_unix_nano < span.end_time_unix_nano,
            "{span:?}"
        );
        assert!(span.end_time_unix_nano < latest, "{span:?}");
        let keys: BTreeSet<_> = span.attributes.iter().map(|pair| &pair.key).collect();
        assert_eq!(keys.len(), span.attributes.len(), "{span:?}");
        for event in &span.events {
            let times = span.start_time_unix_nano..=span.end_time_unix_nano;
            assert!(times.contains(&event.time_unix_nano), "{span:?}");
        }
        for link in &span.links {
            assert_ne!(link.trace_id, span.trace_id);
            let linked = ids.get(&(link.trace_id.clone(), link.span_id.clone()));
            assert!(linked.is_some(), "nobody has the linked span: {span:?}");
        }
        if span.parent_span_id.is_empty() {
            continue;
        }
        let parent = ids.get(&(span.trace_id.clone(), span.parent_span_id.clone()));
        let parent = parent.unwrap_or_else(|| panic!("no parent: {span:?}"));
        assert!(parent.span.start_time_unix_nano <= span.start_time_unix_nano);
        assert!(parent.span.end_time_unix_nano >= span.end_time_unix_nano);
        // OTLP's `Span.flags`: bit 8 says that bit 9 is meant, and bit 9 that the parent is remote.
        let is_remote = resource(parent, "service.name") != resource(collected, "service.name");
        assert_eq!(span.flags & 0x300, if is_remote { 0x300 } else { 0x100 });
    }
}

/// The text of a resource's attribute; empty if there is none.
pub(crate) fn resource(span: &CollectedSpan, key: &str) -> String {
    let resource = span.resource.as_ref().unwrap();
    let pair = resource.attributes.iter().find(|pair| pair.key == key);
    let value = pair.and_then(|pair| pair.value.clone()?.value);
    match value {
        Some(Value::StringValue(text)) => text,
        _ => String::new(),
    }
}

//! What readers take in memory besides their input, whatever stands in it.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use outspan_wire::jaeger;
use outspan_wire::jaeger::Protocol;
use outspan_wire::otlp;
use outspan_wire::zipkin;

/// Bytes that a reader takes at most for each byte of its input, and besides, of an input that is not short.
const ZIPKIN: (usize, usize) = (5, 256 << 10);
const THRIFT: (usize, usize) = (4, 256 << 10);
const JSON: (usize, usize) = (1, 64 << 10);

const BYTES: usize = 4 << 20;

/// Repeats what `piece` writes until there are enough bytes.
fn repeated(mut piece: impl FnMut(&mut String, usize)) -> String {
    let mut text = String::new();
    let mut number = 0;
    while text.len() < BYTES {
        number += 1;
        piece(&mut text, number);
    }
    text
}

/// Panics if `read` holds more at once than it may.
#[track_caller]
fn check(what: &str, input: &[u8], (factor, fixed): (usize, usize), read: impl FnOnce()) {
    let used = allocation_counter::measure(read).bytes_max as usize;
    let allowed = input.len() * factor + fixed;
    let ratio = used as f64 / input.len() as f64;
    assert!(
        used <= allowed,
        "{what}: {} bytes took {used}, {ratio:.2} times as many",
        input.len()
    );
}

/// What the agent allows for so many bytes.
fn zipkin_limits(len: usize) -> zipkin::ReadLimits {
    zipkin::ReadLimits::default().memory_max(len * ZIPKIN.0 + ZIPKIN.1)
}

fn in_list(items: &str) -> String {
    format!("[{}]", items.trim_end_matches(','))
}

fn tagged(tag: &str) -> String {
    // The tag's text stands in JSON.
    let tag = tag.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        r#"[{{"traceId":"1","id":"1","tags":{{"a":"{tag}","otel.types":"{{\"a\":\"json\"}}"}},"annotations":[{{"timestamp":1,"value":"{tag}"}}]}}]"#
    )
}

fn zipkin_inputs() -> Vec<(&'static str, String)> {
    let spans = |piece: fn(&mut String, usize)| in_list(&repeated(piece));
    let list = |item: &str| {
        format!(
            "[{}]",
            repeated(|text, _| text.push_str(item)).trim_end_matches(',')
        )
    };
    vec![
        (
            "tiny spans",
            spans(|text, n| {
                write!(text, r#"{{"traceId":"1","id":"{:x}"}},"#, n & 0xF | 1).unwrap();
            }),
        ),
        (
            "resources of their own",
            spans(|text, n| {
                write!(
                    text,
                    r#"{{"traceId":"1","id":"1","localEndpoint":{{"serviceName":"{n:x}"}}}},"#
                )
                .unwrap();
            }),
        ),
        (
            "two resources in turn",
            spans(|text, n| {
                write!(
                    text,
                    r#"{{"traceId":"1","id":"1","localEndpoint":{{"serviceName":"{}"}}}},"#,
                    n & 1
                )
                .unwrap();
            }),
        ),
        (
            "scopes of their own",
            spans(|text, n| {
                write!(
                    text,
                    r#"{{"traceId":"1","id":"1","tags":{{"otel.scope.name":"{n:x}"}}}},"#
                )
                .unwrap();
            }),
        ),
        (
            "tags",
            spans(|text, n| {
                write!(
                    text,
                    r#"{{"traceId":"1","id":"1","tags":{{"":"","a":"","b":"{n}","c":1}}}},"#
                )
                .unwrap();
            }),
        ),
        ("a span of many tags", {
            let tags = repeated(|text, n| {
                write!(text, r#""{n:x}":"","#).unwrap();
            });
            let tags: String = tags.split_inclusive(',').take(65_000).collect();
            format!(
                r#"[{{"traceId":"1","id":"1","tags":{{{}}}}}]"#,
                tags.trim_end_matches(',')
            )
        }),
        ("a span of many annotations", {
            let one = r#"{"timestamp":1,"value":""},"#;
            format!(
                r#"[{{"traceId":"1","id":"1","annotations":[{}]}}]"#,
                one.repeat(65_000).trim_end_matches(',')
            )
        }),
        ("lists in tags", {
            let numbers = "1,".repeat(30);
            let numbers = numbers.trim_end_matches(',');
            in_list(&repeated(|text, _| {
                write!(
                    text,
                    r#"{{"traceId":"1","id":"1","tags":{{"a":[{numbers}],"b":[[],[],[],[],[],[]]}}}},"#
                ).unwrap();
            }))
        }),
        (
            "a list of numbers",
            format!(
                r#"[{{"traceId":"1","id":"1","tags":{{"a":{}}}}}]"#,
                list("1,")
            ),
        ),
        (
            "a list of lists",
            format!(
                r#"[{{"traceId":"1","id":"1","tags":{{"a":{}}}}}]"#,
                list("[],")
            ),
        ),
        (
            "a list of maps",
            format!(
                r#"[{{"traceId":"1","id":"1","tags":{{"a":{}}}}}]"#,
                list(r#"{"":0},"#)
            ),
        ),
        ("an event's attributes", {
            let members = repeated(|text, _| text.push_str(r#"\"\":0,"#));
            format!(
                r#"[{{"traceId":"1","id":"1","annotations":[{{"timestamp":1,"value":"\"e\": {{{}}}"}}]}}]"#,
                members.trim_end_matches(',')
            )
        }),
        ("a large value", tagged(&"x".repeat(BYTES))),
        (
            "control characters",
            format!(
                r#"[{{"traceId":"1","id":"1","name":"{}"}}]"#,
                r"\u0001".repeat(BYTES / 6)
            ),
        ),
    ]
}

#[test]
fn zipkin_json_takes_a_small_multiple_of_its_size() {
    for (what, input) in zipkin_inputs() {
        check(what, input.as_bytes(), ZIPKIN, || {
            drop(zipkin::read_json(
                input.as_bytes(),
                &zipkin_limits(input.len()),
            ));
        });
    }
}

/// A field of protobuf that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

#[test]
fn zipkin_protobuf_takes_a_small_multiple_of_its_size() {
    let ids = [field(1, &[1; 8]), field(3, &[1; 8])].concat();
    let spans = |piece: &dyn Fn(usize) -> Vec<u8>| {
        let mut out = Vec::new();
        let mut number = 0;
        while out.len() < BYTES {
            number += 1;
            out.extend(field(1, &[ids.clone(), piece(number)].concat()));
        }
        out
    };
    let name = |number: usize| field(1, format!("{number:x}").as_bytes());
    for (what, input) in [
        ("tiny spans", spans(&|_| Vec::new())),
        ("resources of their own", spans(&|n| field(8, &name(n)))),
        ("empty annotations", spans(&|_| [0x52, 0].repeat(100))),
        ("empty tags", spans(&|_| [0x5a, 0].repeat(100))),
        (
            "a span of empty annotations",
            field(1, &[ids.clone(), [0x52, 0].repeat(65_000)].concat()),
        ),
    ] {
        check(what, &input, ZIPKIN, || {
            drop(zipkin::read_protobuf(&input, &zipkin_limits(input.len())));
        });
    }
}

/// A batch in compact Thrift: a process without tags, and spans.
fn compact_batch(process_tags: usize, spans: usize, span: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1c, 0x18, 0];
    if process_tags > 0 {
        out.push(0x19);
        list_of_structs(&mut out, process_tags);
        out.extend(COMPACT_TAG.repeat(process_tags));
    }
    out.extend([0, 0x19]);
    list_of_structs(&mut out, spans);
    out.extend(span.repeat(spans));
    out.push(0);
    out
}

/// An empty key, of the type of text, with no text.
const COMPACT_TAG: &[u8] = &[0x18, 0, 0x15, 0, 0];

fn list_of_structs(out: &mut Vec<u8>, count: usize) {
    out.push(0xfc);
    push_varint(out, count);
}

fn push_varint(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A span with ids of 1 and these lists.
fn compact_span(lists: &[u8]) -> Vec<u8> {
    // traceIdLow, traceIdHigh, spanId, parentSpanId, operationName.
    let mut out = vec![0x16, 2, 0x16, 0, 0x16, 2, 0x16, 0, 0x18, 0];
    // flags, startTime, duration, behind the lists' numbers: 6 is references, 10 tags, 11 logs.
    out.extend([0x25, 0, 0x16, 0, 0x16, 0]);
    out.extend_from_slice(lists);
    out.push(0);
    out
}

fn compact_tags(count: usize) -> Vec<u8> {
    let mut out = vec![0x19];
    list_of_structs(&mut out, count);
    out.extend(COMPACT_TAG.repeat(count));
    out
}

#[test]
fn thrift_takes_a_small_multiple_of_its_size() {
    let tiny = compact_span(&[]);
    let read = |input: &[u8]| {
        let mut limits = jaeger::ReadLimits::default();
        limits.memory_max = input.len() * THRIFT.0 + THRIFT.1;
        jaeger::read_batch(input, Protocol::Compact, &limits)
    };
    let sample = compact_batch(0, 2, &tiny);
    assert_eq!(read(&sample).unwrap().spans, 2);
    for (what, input) in [
        ("tiny spans", compact_batch(0, BYTES / tiny.len(), &tiny)),
        ("a process of many tags", compact_batch(90_000, 1, &tiny)),
        (
            "a span of many tags",
            compact_batch(0, 1, &compact_span(&compact_tags(90_000))),
        ),
        ("spans of some tags", {
            let span = compact_span(&compact_tags(20));
            compact_batch(0, BYTES / span.len(), &span)
        }),
        (
            "a process before many spans",
            compact_batch(1000, BYTES / tiny.len(), &tiny),
        ),
        ("a list that claims too much", {
            let mut input = vec![0x1c, 0x18, 0, 0, 0x19];
            list_of_structs(&mut input, 900_000);
            input.extend(&tiny);
            input
        }),
    ] {
        check(what, &input, THRIFT, || drop(read(&input)));
    }
}

#[test]
fn otlp_json_takes_no_more_than_its_size() {
    let head = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"01010101010101010101010101010101","spanId":"0101010101010101","#;
    let end = "}]}]}]}";
    let attribute =
        |value: &str| format!(r#"{head}"attributes":[{{"key":"a","value":{value}}}]{end}"#);
    let list = |item: &str| {
        repeated(|text, _| text.push_str(item))
            .trim_end_matches(',')
            .to_owned()
    };
    for (what, input) in [
        (
            "empty attributes",
            format!(r#"{head}"attributes":[{}]{end}"#, list("{},")),
        ),
        (
            "empty events",
            format!(r#"{head}"events":[{}]{end}"#, list("{},")),
        ),
        (
            "empty links",
            format!(r#"{head}"links":[{}]{end}"#, list("{},")),
        ),
        (
            "empty values",
            attribute(&format!(
                r#"{{"arrayValue":{{"values":[{}]}}}}"#,
                list("{},")
            )),
        ),
        (
            "doubles",
            attribute(&format!(
                r#"{{"arrayValue":{{"values":[{}]}}}}"#,
                list(r#"{"doubleValue":1},"#)
            )),
        ),
        (
            "control characters",
            attribute(&format!(
                r#"{{"stringValue":"{}"}}"#,
                r"\u0001".repeat(BYTES / 6)
            )),
        ),
        (
            "escapes",
            attribute(&format!(
                r#"{{"stringValue":"{}"}}"#,
                r"\n".repeat(BYTES / 2)
            )),
        ),
        (
            "resources",
            format!(r#"{{"resourceSpans":[{}]}}"#, list("{},")),
        ),
    ] {
        check(what, input.as_bytes(), JSON, || {
            let mut out = Vec::with_capacity(input.len());
            drop(otlp::read_json(input.as_bytes(), &mut out));
        });
    }
}

#[test]
fn spans_that_take_more_than_allowed_are_an_error() {
    let spans = repeated(|text, _| text.push_str(r#"{"traceId":"1","id":"1"},"#));
    let spans = in_list(&spans);
    let limits = zipkin::ReadLimits::default();
    let read = zipkin::read_json(spans.as_bytes(), &limits).unwrap();
    let enough = limits.memory_max(2 * read.bytes.len());
    assert_eq!(zipkin::read_json(spans.as_bytes(), &enough), Ok(read));
    let little = limits.memory_max(spans.len());
    let error = zipkin::read_json(spans.as_bytes(), &little).unwrap_err();
    assert_eq!(error.kind(), otlp::WireErrorKind::Limit);
    let used = allocation_counter::measure(|| {
        drop(zipkin::read_json(spans.as_bytes(), &little));
    });
    assert!(used.bytes_max as usize <= spans.len() + (256 << 10));
}

//! Events in annotations, links in tags.
//!
//! ```text
//! "name": {attributes}            the specification         name: {attributes}      Go
//! name|{attributes}|dropped       the Collector             {"name": {attributes}}  Python
//! name                            all of them
//!
//! traceid|spanid|tracestate|{attributes}|dropped            a link, as the Collector has it
//! ```
//!
//! What is none of these is the name of an event, and an attribute.

use std::borrow::Cow;

use super::value::Members;
use super::value::read_members;
use super::value::split_json_string;
use crate::json::Kind;
use crate::json::Text;

/// In how many places of a text the attributes may be looked for: looking takes time in proportion to what follows.
const PLACES_MAX: usize = 8;

/// An event.
#[derive(Debug)]
pub(super) struct Event<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) attributes: Members<'a>,
    pub(super) dropped: u32,
}

/// A link.
#[derive(Debug)]
pub(super) struct Link<'a> {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) trace_state: &'a str,
    pub(super) attributes: Members<'a>,
    pub(super) dropped: u32,
}

/// Reads an annotation as an event.
pub(super) fn read_event(text: &str) -> Event<'_> {
    let read = match text.as_bytes() {
        [b'"', .., b'}'] => read_specified(text),
        [b'{', .., b'}'] => read_object(text),
        [.., b'}'] => split_attributes(text, ": {").map(|(name, attributes)| Event {
            name: Cow::Borrowed(name),
            attributes,
            dropped: 0,
        }),
        [.., b'0'..=b'9'] => read_counted(text),
        _ => None,
    };
    read.unwrap_or(Event {
        name: Cow::Borrowed(text),
        attributes: Members::default(),
        dropped: 0,
    })
}

/// Reads a tag as a link.
pub(super) fn read_link(text: &str) -> Option<Link<'_>> {
    let (trace_id, rest) = text.split_once('|')?;
    let (span_id, rest) = rest.split_once('|')?;
    let (rest, dropped) = split_count(rest)?;
    let (trace_state, attributes) = split_attributes(rest, "|{")?;
    Some(Link {
        trace_id: read_hex(trace_id)?,
        span_id: read_hex(span_id)?,
        trace_state,
        attributes,
        dropped,
    })
}

/// `"name": {attributes}`
fn read_specified(text: &str) -> Option<Event<'_>> {
    let (name, rest) = split_json_string(text)?;
    let attributes = rest.trim_start().strip_prefix(':')?.trim_start();
    let attributes = read_members(attributes)?;
    Some(Event {
        name,
        attributes,
        dropped: 0,
    })
}

/// `{"name": {attributes}}`
fn read_object(text: &str) -> Option<Event<'_>> {
    let mut reader = Text::of(text);
    reader.begin_object().ok()?;
    let name = reader.next_name().ok()??;
    if reader.kind().ok()? != Kind::Object {
        return None;
    }
    let attributes = read_members(reader.raw_value().ok()?)?;
    let is_last = reader.next_name().ok()?.is_none();
    let is_end = reader.finish().is_ok();
    (is_last && is_end).then_some(Event {
        name,
        attributes,
        dropped: 0,
    })
}

/// `name|{attributes}|dropped`
fn read_counted(text: &str) -> Option<Event<'_>> {
    let (rest, dropped) = split_count(text)?;
    let (name, attributes) = split_attributes(rest, "|{")?;
    Some(Event {
        name: Cow::Borrowed(name),
        attributes,
        dropped,
    })
}

fn split_count(text: &str) -> Option<(&str, u32)> {
    let (rest, count) = text.rsplit_once('|')?;
    Some((rest, count.parse().ok()?))
}

/// Splits where `separator`, of two or three bytes with a brace at its end, begins an object that ends with the text.
fn split_attributes<'a>(text: &'a str, separator: &str) -> Option<(&'a str, Members<'a>)> {
    let mut places = text.match_indices(separator).take(PLACES_MAX);
    places.find_map(|(at, _)| {
        let before = text.get(..at)?;
        let object = text.get(at + separator.len() - 1..)?;
        Some((before, read_members(object)?))
    })
}

fn read_hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    if pairs.len() != BYTES {
        return None;
    }
    let mut id = [0; BYTES];
    for (byte, &[high, low]) in id.iter_mut().zip(pairs) {
        let high = char::from(high).to_digit(16)?;
        let low = char::from(low).to_digit(16)?;
        *byte = (high << 4 | low) as u8;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> (String, String, u32) {
        let event = read_event(text);
        (
            event.name.into_owned(),
            written(&event.attributes),
            event.dropped,
        )
    }

    fn written(members: &Members<'_>) -> String {
        let members = members.iter().map(|member| member.text());
        members.collect::<Vec<_>>().join(",")
    }

    #[test]
    fn reads_events_in_every_form() {
        let read = |name: &str, attributes: &str, dropped| {
            (name.to_owned(), attributes.to_owned(), dropped)
        };
        for (text, expected) in [
            ("retry", read("retry", "", 0)),
            ("", read("", "", 0)),
            (r#""a \"b\"": {"x":1}"#, read(r#"a "b""#, r#""x":1"#, 0)),
            (r#""": {}"#, read("", "", 0)),
            (r#"a|{"x":"|"}|3"#, read("a", r#""x":"|""#, 3)),
            (
                r#"a|{"y":1}|{"x":1}|0"#,
                read(r#"a|{"y":1}"#, r#""x":1"#, 0),
            ),
            (r#"GET: {"x":1}"#, read("GET", r#""x":1"#, 0)),
            (r#"{"a": {"x":1}}"#, read("a", r#""x":1"#, 0)),
        ] {
            assert_eq!(event(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_form_of_an_event_is_its_name() {
        for text in [
            "a|b|3",
            "a|{|3",
            "a|{}|x",
            "a|{}|99999999999",
            r#""a": {"#,
            r#""a": {]}"#,
            r#"{"a": 1}"#,
            r#"{"a": {}, "b": {}}"#,
            r#"{"a": {}} }"#,
            "a: {x}",
            "}",
            "7",
        ] {
            assert_eq!(event(text), (text.to_owned(), String::new(), 0));
        }
    }

    #[test]
    fn reads_links_whose_trace_state_has_bars() {
        let ids = format!("{}|{}", "ab".repeat(16), "cd".repeat(8));
        let text = format!(r#"{ids}|a=|{{b,c=|d|{{"e":"|"}}|5"#);
        let link = read_link(&text).expect("a link");
        assert_eq!(link.trace_id, [0xAB; 16]);
        assert_eq!(link.span_id, [0xCD; 8]);
        assert_eq!(link.trace_state, "a=|{b,c=|d");
        assert_eq!(written(&link.attributes), r#""e":"|""#);
        assert_eq!(link.dropped, 5);
    }

    #[test]
    fn what_is_no_link_is_none() {
        for text in ["", "||||", "ab|cd||{}|0", "x|y|z|{}|0"] {
            assert!(read_link(text).is_none(), "{text}");
        }
    }
}

//! Tells what a file is by its first bytes.
//!
//! ```text
//! '{' '['       JSON: the first key of the first object that only one format has
//! 0A            protobuf: an OTLP request, or spans of Zipkin where an id of 8 or 16 bytes comes first
//! 0C 0 1, 0F 0 2  Thrift: the first or the second field of a batch of Jaeger's
//! 00-03 ..      a length of four bytes, and a plausible message behind it
//! ```

use super::Format;

/// How far to look for something that is known.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Field 1, length-delimited: what a request begins with, and a list of Zipkin's spans.
const REQUEST_TAG: u8 = 0x0a;

/// The UTF-8 form of U+FEFF, which some editors put in front.
pub(super) const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Known(Format),
    Utf16,
    Unknown([u8; 4]),
}

/// Tells the format, or `None` when more bytes are needed.
pub(super) fn look_at(head: &[u8], ended: bool, record_bytes_max: usize) -> Option<Look> {
    let complete = ended || head.len() >= HEAD_BYTES_MAX;
    if head.is_empty() && ended {
        return Some(Look::Known(Format::Json));
    }
    if !complete && head.len() < 5 {
        return None;
    }
    if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
        return Some(Look::Utf16);
    }
    if let Some(json) = look_at_json(head, complete)? {
        return Some(json);
    }
    if head.first() == Some(&REQUEST_TAG) {
        return is_zipkin(head, complete).map(|is_zipkin| match is_zipkin {
            true => Look::Known(Format::ZipkinProtobuf),
            false => Look::Known(Format::Protobuf),
        });
    }
    if head.starts_with(&[0x0c, 0, 1]) || head.starts_with(&[0x0f, 0, 2, 0x0c]) {
        return Some(Look::Known(Format::JaegerThrift));
    }
    if looks_like_records(head, record_bytes_max) {
        return Some(Look::Known(Format::ProtobufRecords));
    }
    if has_json_record_line(head) {
        return Some(Look::Known(Format::Json));
    }
    complete.then(|| unknown(head))
}

fn unknown(head: &[u8]) -> Look {
    let mut first = [0; 4];
    for (to, from) in first.iter_mut().zip(head) {
        *to = *from;
    }
    Look::Unknown(first)
}

/// Tells which format of JSON it is, or that it is none; nothing when that shows only later.
fn look_at_json(head: &[u8], complete: bool) -> Option<Option<Look>> {
    let text = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head);
    match text.trim_ascii_start().first() {
        // A line of a log may begin like an array or an object of others, and records follow it.
        Some(b'[' | b'{') if has_json_record_line(text) => Some(Some(Look::Known(Format::Json))),
        Some(b'[') => look_at_array(head, text, complete).map(Some),
        _ if !looks_like_object(head, text, complete)? => Some(None),
        _ => {
            let format = match keys(text, complete)? {
                Keys::Jaeger => Format::JaegerJson,
                Keys::Zipkin => Format::ZipkinJson,
                Keys::Otlp | Keys::Others | Keys::None => Format::Json,
            };
            Some(Some(Look::Known(format)))
        }
    }
}

/// An array holds spans of Zipkin or traces of Jaeger; whoever writes OTLP in one hears so.
fn look_at_array(head: &[u8], text: &[u8], complete: bool) -> Option<Look> {
    let unknown = || complete.then(|| unknown(head));
    match after_brackets(text).first() {
        None if !complete => return None,
        None | Some(b'{' | b']') => {}
        // A record may begin further on.
        Some(_) => return unknown(),
    }
    Some(match keys(text, complete)? {
        Keys::Jaeger => Look::Known(Format::JaegerJson),
        Keys::Otlp => return unknown(),
        Keys::Zipkin | Keys::Others | Keys::None => Look::Known(Format::ZipkinJson),
    })
}

/// What follows opening brackets and the space between them.
fn after_brackets(text: &[u8]) -> &[u8] {
    let end = text
        .iter()
        .position(|byte| *byte != b'[' && !byte.is_ascii_whitespace());
    end.and_then(|end| text.get(end..)).unwrap_or_default()
}

/// Whether the bytes begin like a JSON object. `None` when that shows only later.
///
/// A protobuf request begins with a line feed, and its second byte can be `{`; so the test goes on to the first key,
/// where a request has a tag, which is a control character.
fn looks_like_object(head: &[u8], text: &[u8], complete: bool) -> Option<bool> {
    let mut rest = text.trim_ascii_start().iter();
    match rest.next() {
        None if complete => return Some(text.len() < head.len() || has_only_json_space(text)),
        None => return None,
        Some(b'{') => {}
        Some(_) => return Some(false),
    }
    match rest.as_slice().trim_ascii_start() {
        [] if complete => Some(true),
        [] | [b'"'] if !complete => None,
        [b'"', first, ..] => Some(*first >= b' '),
        [b'"'] | [b'}', ..] => Some(true),
        // Broken JSON, which its own reader explains best, unless a request can begin like this.
        _ => Some(head.first() != Some(&REQUEST_TAG)),
    }
}

fn has_only_json_space(text: &[u8]) -> bool {
    text.iter()
        .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// Whose keys the first object has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    Otlp,
    Jaeger,
    Zipkin,
    /// There is one that belongs to nobody.
    Others,
    /// There is no object, or no key in it.
    None,
}

/// Reads the keys of the first object up to one that tells whose it is; nothing when there may be one further on.
fn keys(text: &[u8], complete: bool) -> Option<Keys> {
    let mut rest = text.iter().copied().enumerate();
    let mut depth = 0_usize;
    let mut found = Keys::None;
    while let Some((_, byte)) = rest.next() {
        match byte {
            b'{' => depth += 1,
            // Arrays around the first object do not count.
            b'[' if depth > 0 => depth += 1,
            b'}' | b']' if depth > 1 => depth -= 1,
            b'}' => return Some(found),
            b'"' => {
                let Some(string) = string_in(&mut rest, text) else {
                    break;
                };
                let after = rest.clone().find(|(_, byte)| !byte.is_ascii_whitespace());
                match after {
                    None => break,
                    Some((_, b':')) if depth == 1 => found = owner(string).unwrap_or(Keys::Others),
                    Some(_) => {}
                }
                if !matches!(found, Keys::None | Keys::Others) {
                    return Some(found);
                }
            }
            _ => {}
        }
    }
    complete.then_some(found)
}

/// A string whose first quote was read, without its quotes; nothing if it does not end.
fn string_in<'a>(rest: &mut impl Iterator<Item = (usize, u8)>, text: &'a [u8]) -> Option<&'a [u8]> {
    let mut start = None;
    let mut is_escaped = false;
    for (at, byte) in rest {
        let start = *start.get_or_insert(at);
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return text.get(start..at),
            _ => {}
        }
    }
    None
}

fn owner(key: &[u8]) -> Option<Keys> {
    match key {
        b"resourceSpans" | b"resourceMetrics" | b"resourceLogs" => Some(Keys::Otlp),
        b"data" | b"traceID" | b"processes" => Some(Keys::Jaeger),
        b"traceId" | b"localEndpoint" | b"binaryAnnotations" => Some(Keys::Zipkin),
        _ => None,
    }
}

/// Whether a line can only be the beginning of a request.
pub(super) fn begins_record(line: &[u8]) -> bool {
    line.trim_ascii_start()
        .strip_prefix(b"{")
        .is_some_and(|inside| inside.trim_ascii_start().starts_with(b"\"resourceSpans\""))
}

/// Whether some later line begins like a record: a file that was cut at its front.
fn has_json_record_line(head: &[u8]) -> bool {
    head.split(|&byte| byte == b'\n').any(begins_record)
}

/// Whether protobuf that begins with field 1 is a list of Zipkin's spans rather than a request of OTLP; nothing when that
/// shows only later.
///
/// Both begin with field 1 in field 1: a resource there, an id of 8 or 16 bytes here. Behind its trace id a span has the ids
/// of 8 bytes, its parent's and its own, and a request that has the same bytes there holds no span before them, because a
/// scope's spans of 8 bytes are none. An id that could be a resource is taken for one.
fn is_zipkin(head: &[u8], complete: bool) -> Option<bool> {
    let is_zipkin = || {
        let span = after_length(head.get(1..)?)?;
        let (trace_id, rest) = field_of_bytes(span, 1)?;
        let rest = match field_of_bytes(rest, 2) {
            Some((parent_id, rest)) if parent_id.len() == 8 => rest,
            _ => rest,
        };
        let (id, _) = field_of_bytes(rest, 3)?;
        let has_ids = matches!(trace_id.len(), 8 | 16) && id.len() == 8;
        Some(has_ids && !could_be_resource(trace_id))
    };
    // Two tags with lengths, and three ids with theirs.
    let is_enough = complete || head.len() >= 64;
    is_enough.then(|| is_zipkin().unwrap_or(false))
}

/// What follows a length; it has at most five bytes.
fn after_length(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().take(5).position(|byte| byte & 0x80 == 0)?;
    bytes.get(end + 1..)
}

/// A short field of bytes with this number, and what follows it.
fn field_of_bytes(bytes: &[u8], number: u8) -> Option<(&[u8], &[u8])> {
    let (&[tag, length], rest) = bytes.split_first_chunk::<2>()?;
    if tag != number << 3 | 2 || length > 0x7f {
        return None;
    }
    rest.split_at_checked(usize::from(length))
}

/// Whether the bytes are a resource: attributes, perhaps with a count of dropped ones behind them.
fn could_be_resource(mut bytes: &[u8]) -> bool {
    while let Some((attribute, rest)) = field_of_bytes(bytes, 1) {
        if !matches!(attribute.first(), None | Some(0x0a | 0x12)) {
            return false;
        }
        bytes = rest;
    }
    match bytes.split_first() {
        None => true,
        Some((0x10, count)) => {
            let end = count.iter().position(|byte| byte & 0x80 == 0);
            end.is_some_and(|end| end + 1 == count.len() && end < 10)
        }
        Some(_) => false,
    }
}

/// Whether the bytes begin with a plausible length of four bytes and a plausible message.
fn looks_like_records(head: &[u8], record_bytes_max: usize) -> bool {
    let Some((length, message)) = head.split_first_chunk::<4>() else {
        // A file cut within its first length.
        return head.first() == Some(&0);
    };
    let length = u32::from_be_bytes(*length);
    let fits = usize::try_from(length).is_ok_and(|length| length <= record_bytes_max);
    let begins_well = match message.first() {
        None => true,
        Some(&first) => {
            length == 0 || first == REQUEST_TAG || matches!(first, b'{' | 0x28 | 0x50..=0x5f)
        }
    };
    fits && begins_well
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(head: &[u8]) -> Look {
        look_at(head, true, 1 << 20).unwrap()
    }

    #[test]
    fn every_format_is_known_by_its_first_bytes() {
        assert_eq!(look(b""), Look::Known(Format::Json));
        assert_eq!(look(b" \r\n"), Look::Known(Format::Json));
        assert_eq!(look(b"{}"), Look::Known(Format::Json));
        assert_eq!(
            look(b"\n\n{\n  \"resourceSpans\""),
            Look::Known(Format::Json)
        );
        assert_eq!(look(b"\xef\xbb\xbf{\"a\":1}"), Look::Known(Format::Json));
        assert_eq!(look(b"{resourceSpans:"), Look::Known(Format::Json));
        assert_eq!(
            look(b"99\"}]}\n{\"resourceSpans\":[]}\n"),
            Look::Known(Format::Json)
        );
        assert_eq!(look(b"\x0a\x00"), Look::Known(Format::Protobuf));
        assert_eq!(
            look(b"\x00\x00\x00\x02\x0a\x00"),
            Look::Known(Format::ProtobufRecords)
        );
        assert_eq!(look(b"\x00\x00"), Look::Known(Format::ProtobufRecords));
        assert_eq!(look(b"\xff\xfe{\x00"), Look::Utf16);
        assert_eq!(look(b"%PDF-1.7"), Look::Unknown(*b"%PDF"));
        assert_eq!(look(b"[1]"), Look::Unknown(*b"[1]\0"));
    }

    #[test]
    fn json_is_known_by_the_keys_of_its_first_object() {
        let of = |text: &str| match look(text.as_bytes()) {
            Look::Known(format) => format,
            other => panic!("{text}: {other:?}"),
        };
        for text in [
            "{}",
            "{\"a\":{\"traceId\":1}}",
            "{\"a\":\"traceID\"}",
            "{\"a\":[{\"data\":[]}],\"resourceSpans\":[]}",
            "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":\"",
        ] {
            assert_eq!(of(text), Format::Json, "{text}");
        }
        for text in [
            "[]",
            "[[]]",
            " [\n{}]",
            "[{\"traceId\":\"1\"",
            "[[{\"duration\":1,\"tags\":{\"data\":\"\"},\"traceId\":\"1\"}]]",
            "{\"id\":\"1\",\"traceId\":\"1\"}\n",
            "[{\"annotations\":[],\"binaryAnnotations\":[]}]",
        ] {
            assert_eq!(of(text), Format::ZipkinJson, "{text}");
        }
        for text in [
            "{\"data\":[]}",
            "{\"total\":0,\"data\":null}",
            "{\"traceID\":\"1\",\"spans\":[]}",
            "[{\"spans\":[{\"traceId\":1}],\"traceID\":\"1\"}]",
        ] {
            assert_eq!(of(text), Format::JaegerJson, "{text}");
        }
        assert_eq!(look(b"[{\"resourceSpans\":[]}]"), Look::Unknown(*b"[{\"r"));
        for open in [
            "[",
            "[ ",
            "[{",
            "[{\"a\"",
            "[{\"a\":1,",
            "{\"a\":\"b\\\"",
            "{\"a\":{\"traceId\":1",
        ] {
            assert_eq!(
                look_at(format!("{open}     ").as_bytes(), false, 1 << 20),
                None,
                "{open}"
            );
        }
    }

    #[test]
    fn ids_in_front_are_those_of_zipkin_and_attributes_those_of_a_resource() {
        let id = [0xd1, 2, 3, 4, 5, 6, 7, 8];
        let field = |tag: u8, bytes: &[u8]| [&[tag, bytes.len() as u8], bytes].concat();
        let message = |fields: &[Vec<u8>]| field(0x0a, &fields.concat());
        let (long, short, own) = (
            field(0x0a, &[id, id].concat()),
            field(0x0a, &id),
            field(0x1a, &id),
        );
        let parent = field(0x12, &id);
        for fields in [
            &[long.clone(), own.clone()][..],
            &[short.clone(), own.clone()],
            &[long.clone(), parent.clone(), own.clone()],
        ] {
            assert_eq!(
                look(&message(fields)),
                Look::Known(Format::ZipkinProtobuf),
                "{fields:?}"
            );
        }
        let attribute = field(0x0a, &field(0x0a, b"host.name0"));
        assert_eq!(attribute.len(), 14);
        let resource = field(0x0a, &[&attribute[..], &[0x10, 1]].concat());
        let short_resource = field(0x0a, &field(0x0a, &field(0x0a, b"k123")));
        for fields in [
            &[resource.clone(), own.clone()][..],
            &[resource, parent.clone(), own.clone()],
            &[short_resource, own.clone()],
            &[long.clone(), field(0x1a, b"https://x")],
            &[field(0x0a, &id[..7]), own.clone()],
            &[long, parent],
            &[own],
        ] {
            assert_eq!(
                look(&message(fields)),
                Look::Known(Format::Protobuf),
                "{fields:?}"
            );
        }
        assert_eq!(look_at(&message(&[short]), false, 1 << 20), None);
    }

    #[test]
    fn batches_of_thrift_are_known_by_their_first_field() {
        assert_eq!(
            look(b"\x0c\x00\x01\x0b\x00\x01"),
            Look::Known(Format::JaegerThrift)
        );
        assert_eq!(
            look(b"\x0f\x00\x02\x0c\x00\x00"),
            Look::Known(Format::JaegerThrift)
        );
        assert_eq!(
            look(b"\x0c\x00\x02\x0b\x00\x01"),
            Look::Unknown(*b"\x0c\x00\x02\x0b")
        );
    }

    #[test]
    fn a_request_whose_length_is_a_brace_is_no_json() {
        // ResourceSpans of 123 bytes, its Resource of 34 or 32, whose attribute begins.
        assert_eq!(
            look(b"\n{\n\"\n\x20\n\x0cservice.name"),
            Look::Known(Format::Protobuf)
        );
        assert_eq!(
            look(b"\n{\n \n\x1e\n\x0cservice.name"),
            Look::Known(Format::Protobuf)
        );
        assert_eq!(look(b"\n{\x12y\n\x00"), Look::Known(Format::Protobuf));
    }

    #[test]
    fn undecided_bytes_ask_for_more() {
        assert_eq!(look_at(b"", false, 1 << 20), None);
        assert_eq!(look_at(b"\n\n\n\n\n\n{", false, 1 << 20), None);
        assert_eq!(look_at(b"\n\n\n\n\n\n{ \"", false, 1 << 20), None);
        assert_eq!(look_at(b"hello there", false, 1 << 20), None);
    }
}

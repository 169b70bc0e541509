//! The text of a tag, and JSON in it, as an OTLP value.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::parts::ValueType;
use crate::json::Kind;
use crate::json::Text;
use crate::otlp::ArrayWriter;
use crate::otlp::MapWriter;
use crate::otlp::ValueWriter;
use crate::otlp::Written;

/// Writes the text as a value of this type, or, where it is none, as text.
pub(super) fn write(value: ValueWriter<'_>, text: &str, value_type: ValueType) -> Written {
    match value_type {
        ValueType::Text => value.string(text),
        ValueType::Bool => match text {
            "true" => value.bool(true),
            "false" => value.bool(false),
            _ => value.string(text),
        },
        ValueType::Int => write_number(value, text),
        ValueType::Double => match text.parse() {
            Ok(number) => value.double(number),
            Err(_) => value.string(text),
        },
        ValueType::Bytes => match STANDARD.decode(text) {
            Ok(bytes) => value.bytes(&bytes),
            Err(_) => value.string(text),
        },
        ValueType::Json if is_json_list(text) => write_json(value, &mut Text::of(text)),
        ValueType::Json => value.string(text),
        ValueType::Empty => value.empty(),
    }
}

fn is_json_list(text: &str) -> bool {
    text.starts_with(['{', '[']) && is_json(text)
}

fn is_json(text: &str) -> bool {
    let mut text = Text::of(text);
    text.skip_value().and_then(|()| text.finish()).is_ok()
}

/// A member of a JSON object.
#[derive(Debug)]
pub(super) struct Member<'a> {
    pub(super) key: Cow<'a, str>,
    /// As it stands in the text, which is good JSON.
    value: &'a str,
}

impl Member<'_> {
    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        format!("\"{}\":{}", self.key, self.value)
    }

    /// Writes the value.
    pub(super) fn write(&self, value: ValueWriter<'_>) -> Written {
        write_json(value, &mut Text::of(self.value))
    }
}

/// The members of a JSON object that was found good. They are read again where they are needed, because a list of them
/// would take many times as much as the text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Members<'a> {
    /// Empty for no members.
    text: &'a str,
}

impl<'a> Members<'a> {
    pub(super) fn iter(&self) -> impl Iterator<Item = Member<'a>> + use<'a> {
        let mut text = Text::of(self.text);
        let mut has_begun = !self.text.is_empty() && text.begin_object().is_ok();
        std::iter::from_fn(move || {
            let member = has_begun.then(|| next_member(&mut text)).flatten();
            has_begun = member.is_some();
            member
        })
    }
}

fn next_member<'a>(text: &mut Text<'a>) -> Option<Member<'a>> {
    let key = text.next_name().ok()??;
    let value = text.raw_value().ok()?;
    Some(Member { key, value })
}

/// Reads the members if the text is a JSON object and nothing else.
pub(super) fn read_members(text: &str) -> Option<Members<'_>> {
    if !text.starts_with('{') {
        return None;
    }
    let mut reader = Text::of(text);
    reader.begin_object().ok()?;
    while reader.next_name().ok()?.is_some() {
        reader.raw_value().ok()?;
    }
    reader.finish().ok()?;
    Some(Members { text })
}

/// Writes the JSON value at hand, which was found good before, and goes over it.
fn write_json(value: ValueWriter<'_>, text: &mut Text<'_>) -> Written {
    match text.kind() {
        Ok(Kind::Object) => {
            let mut is_read = false;
            let written = value.map(|map| {
                is_read = true;
                write_members(map, text);
            });
            skip_unless(is_read, text);
            written
        }
        Ok(Kind::Array) => {
            let mut is_read = false;
            let written = value.array(|array| {
                is_read = true;
                write_items(array, text);
            });
            skip_unless(is_read, text);
            written
        }
        Ok(Kind::String) => match text.string() {
            Ok(string) => value.string(&string.to_text()),
            Err(_) => value.empty(),
        },
        Ok(Kind::Number) => {
            let number = text.number().unwrap_or_default();
            write_number(value, std::str::from_utf8(number).unwrap_or_default())
        }
        Ok(Kind::Bool) => value.bool(text.bool().unwrap_or_default()),
        Ok(Kind::Null) | Err(_) => {
            skip_unless(false, text);
            value.empty()
        }
    }
}

fn write_members(map: &mut MapWriter<'_>, text: &mut Text<'_>) {
    if text.begin_object().is_err() {
        return;
    }
    while let Ok(Some(key)) = text.next_name() {
        map.entry_with(&key, |value| write_json(value, text));
    }
}

fn write_items(array: &mut ArrayWriter<'_>, text: &mut Text<'_>) {
    if text.begin_array().is_err() {
        return;
    }
    while let Ok(true) = text.next_item() {
        array.push_with(|value| write_json(value, text));
    }
}

/// Goes over a value that nobody read: OTLP allows only so many levels.
fn skip_unless(is_read: bool, text: &mut Text<'_>) {
    if !is_read {
        let skipped = text.skip_value();
        debug_assert!(skipped.is_ok(), "it was found good before");
    }
}

/// Writes a number: a whole one without fraction and exponent is an integer, as long as it fits.
fn write_number(value: ValueWriter<'_>, text: &str) -> Written {
    if let Ok(number) = text.parse::<i64>() {
        return value.int(number);
    }
    match text.parse::<f64>() {
        Ok(number) => value.double(number),
        Err(_) => value.string(text),
    }
}

/// Decodes a JSON string and what follows it.
pub(super) fn split_json_string(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut reader = Text::of(text);
    let string = reader.string().ok()?;
    // Both quotes stand around the string.
    let rest = text.get(string.raw_len() + 2..)?;
    Some((string.to_text(), rest))
}

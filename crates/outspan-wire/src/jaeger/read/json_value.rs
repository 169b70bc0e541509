//! Lists and maps that other formats hold as JSON text, as OTLP values.

use crate::json::Kind;
use crate::json::Text;
use crate::otlp::ArrayWriter;
use crate::otlp::MapWriter;
use crate::otlp::ValueWriter;
use crate::otlp::Written;

/// Writes the text as a list or map if it is a JSON array or object and nothing else, or otherwise as text.
pub(crate) fn write_json_text(value: ValueWriter<'_>, text: &str) -> Written {
    if text.starts_with(['{', '[']) && is_json(text) {
        return write_value(value, &mut Text::of(text));
    }
    value.string(text)
}

fn is_json(text: &str) -> bool {
    let mut text = Text::of(text);
    text.skip_value().and_then(|()| text.finish()).is_ok()
}

/// Writes the value at hand, which was found good before, and goes over it.
fn write_value(value: ValueWriter<'_>, text: &mut Text<'_>) -> Written {
    let mut is_read = false;
    let written = match text.kind() {
        Ok(Kind::Object) => value.map(|map| {
            is_read = true;
            write_members(map, text);
        }),
        Ok(Kind::Array) => value.array(|array| {
            is_read = true;
            write_items(array, text);
        }),
        Ok(Kind::String) => {
            is_read = true;
            match text.string() {
                Ok(string) => value.string(&string.to_text()),
                Err(_) => value.empty(),
            }
        }
        Ok(Kind::Number) => {
            is_read = true;
            write_number(value, text)
        }
        Ok(Kind::Bool) => {
            is_read = true;
            value.bool(text.bool().unwrap_or_default())
        }
        Ok(Kind::Null) | Err(_) => value.empty(),
    };
    if !is_read {
        // A null, or a level too deep for OTLP, which is empty then.
        let skipped = text.skip_value();
        debug_assert!(skipped.is_ok(), "the text was found good before");
    }
    written
}

fn write_members(map: &mut MapWriter<'_>, text: &mut Text<'_>) {
    if text.begin_object().is_err() {
        return;
    }
    while let Ok(Some(key)) = text.next_name() {
        map.entry_with(&key, |value| write_value(value, text));
    }
}

fn write_items(array: &mut ArrayWriter<'_>, text: &mut Text<'_>) {
    if text.begin_array().is_err() {
        return;
    }
    while let Ok(true) = text.next_item() {
        array.push_with(|value| write_value(value, text));
    }
}

/// Writes a number: a whole one without fraction and exponent is an integer, as long as it fits.
fn write_number(value: ValueWriter<'_>, text: &mut Text<'_>) -> Written {
    let number = text.number().unwrap_or_default();
    let number = std::str::from_utf8(number).unwrap_or_default();
    if let Ok(number) = number.parse::<i64>() {
        return value.int(number);
    }
    match number.parse::<f64>() {
        Ok(number) => value.double(number),
        Err(_) => value.string(number),
    }
}

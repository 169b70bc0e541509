//! Bounds on what one span may hold.

use super::reader::NESTING_MAX;

/// How many attributes, events and links a span may hold, and how large attribute values may be.
///
/// The encoder applies them while it writes: what exceeds a count is left out and added to the span's
/// dropped counts, longer values are cut, deeper ones are emptied. The first ones stay, because they came
/// first. The defaults are those of the OpenTelemetry specification ("Attribute Limits", "Span Limits").
/// Resource and scope attributes are exempt: they name where all spans come from.
///
/// A producer that applied the same limits already pays one comparison for each value.
///
/// # Examples
///
/// ```
/// use outspan_wire::otlp::SpanLimits;
///
/// let mut limits = SpanLimits::default();
/// limits.attribute_value_length = Some(4096);
/// limits.events = 1000;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpanLimits {
    /// The longest string value in characters (Unicode scalar values) and the longest byte value in bytes,
    /// also inside arrays and maps. `None`, the default, leaves values as they are.
    ///
    /// Keys, names and numbers are never cut.
    pub attribute_value_length: Option<usize>,
    /// How many levels arrays and maps may nest: the attribute's own value is level 1. A deeper array or
    /// map becomes an empty value. The default is 64.
    ///
    /// OTLP itself ends earlier: protobuf decoders refuse a whole request that nests more than 100
    /// messages, so an array or map that would pass that depth becomes an empty value whatever this limit
    /// says (after 47 nested arrays, or 31 nested maps, in a span's attribute).
    pub attribute_value_depth: usize,
    /// Attributes of a span; the default is 128.
    pub attributes: usize,
    /// Events of a span; the default is 128.
    pub events: usize,
    /// Links of a span; the default is 128.
    pub links: usize,
    /// Attributes of each event; the default is 128.
    pub attributes_per_event: usize,
    /// Attributes of each link; the default is 128.
    pub attributes_per_link: usize,
}

impl SpanLimits {
    /// The specification's default for every count.
    pub const DEFAULT_COUNT: usize = 128;

    /// The specification's default for the nesting of arrays and maps.
    pub const DEFAULT_DEPTH: usize = 64;

    /// Creates limits that nothing exceeds, for sources that are trusted to bound themselves.
    pub const fn unlimited() -> Self {
        Self {
            attribute_value_length: None,
            attribute_value_depth: usize::MAX,
            attributes: usize::MAX,
            events: usize::MAX,
            links: usize::MAX,
            attributes_per_event: usize::MAX,
            attributes_per_link: usize::MAX,
        }
    }
}

impl Default for SpanLimits {
    fn default() -> Self {
        Self {
            attribute_value_length: None,
            attribute_value_depth: Self::DEFAULT_DEPTH,
            attributes: Self::DEFAULT_COUNT,
            events: Self::DEFAULT_COUNT,
            links: Self::DEFAULT_COUNT,
            attributes_per_event: Self::DEFAULT_COUNT,
            attributes_per_link: Self::DEFAULT_COUNT,
        }
    }
}

/// What a value writer still may do on its level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ValueLimits {
    /// Characters of a string, bytes of a byte array.
    length: usize,
    /// Levels of arrays and maps that may still open.
    depth: usize,
    /// Messages that may still nest inside the `AnyValue` at hand.
    messages: usize,
}

impl ValueLimits {
    /// Creates the limits for an `AnyValue` that is itself the `message_depth`th nested message.
    pub(crate) const fn of_span(limits: &SpanLimits, message_depth: usize) -> Self {
        Self {
            length: match limits.attribute_value_length {
                Some(length) => length,
                None => usize::MAX,
            },
            depth: limits.attribute_value_depth,
            messages: NESTING_MAX as usize - message_depth,
        }
    }

    /// Creates the limits for an exempt `AnyValue`, bounded by protobuf alone.
    pub(crate) const fn exempt(message_depth: usize) -> Self {
        Self::of_span(&SpanLimits::unlimited(), message_depth)
    }

    /// Gives the limits inside an array, unless it must not open.
    pub(crate) fn inside_array(self) -> Option<Self> {
        // An ArrayValue and, in it, an AnyValue.
        self.inside(2)
    }

    /// Gives the limits inside a map, unless it must not open.
    pub(crate) fn inside_map(self) -> Option<Self> {
        // A KeyValueList, in it a KeyValue, in it an AnyValue.
        self.inside(3)
    }

    fn inside(self, messages: usize) -> Option<Self> {
        Some(Self {
            length: self.length,
            depth: self.depth.checked_sub(1)?,
            messages: self.messages.checked_sub(messages)?,
        })
    }

    /// Cuts a string to the allowed number of characters.
    #[inline]
    pub(crate) fn cut_str(self, text: &str) -> &str {
        // Characters take a byte at least, so a text of few bytes has few characters.
        if text.len() <= self.length {
            return text;
        }
        cut_to_characters(text, self.length)
    }

    /// Cuts a byte array to the allowed number of bytes.
    #[inline]
    pub(crate) fn cut_bytes(self, bytes: &[u8]) -> &[u8] {
        bytes.get(..self.length).unwrap_or(bytes)
    }
}

#[cold]
fn cut_to_characters(text: &str, limit: usize) -> &str {
    let end = text.char_indices().nth(limit);
    match end.and_then(|(end, _)| text.get(..end)) {
        Some(cut) => cut,
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_length(length: usize) -> ValueLimits {
        let limits = SpanLimits {
            attribute_value_length: Some(length),
            ..SpanLimits::default()
        };
        ValueLimits::of_span(&limits, 5)
    }

    #[test]
    fn strings_are_cut_between_characters_and_counted_in_characters() {
        assert_eq!(with_length(3).cut_str("abc"), "abc");
        assert_eq!(with_length(3).cut_str("abcd"), "abc");
        assert_eq!(with_length(3).cut_str("žluť"), "žlu");
        assert_eq!(with_length(4).cut_str("žluť"), "žluť");
        assert_eq!(with_length(1).cut_str("😀😀"), "😀");
        assert_eq!(with_length(0).cut_str("a"), "");
        assert_eq!(with_length(0).cut_str(""), "");
    }

    #[test]
    fn byte_arrays_are_cut_in_bytes() {
        assert_eq!(with_length(2).cut_bytes(&[1, 2, 3]), [1, 2]);
        assert_eq!(with_length(3).cut_bytes(&[1, 2, 3]), [1, 2, 3]);
    }

    #[test]
    fn the_value_of_an_attribute_is_level_one() {
        let mut limits = SpanLimits {
            attribute_value_depth: 1,
            ..SpanLimits::default()
        };
        let array = ValueLimits::of_span(&limits, 5).inside_array();
        assert!(array.expect("level 1 may open").inside_map().is_none());

        limits.attribute_value_depth = 0;
        assert!(ValueLimits::of_span(&limits, 5).inside_array().is_none());
    }

    #[test]
    fn arrays_stop_where_decoders_would_refuse_the_request() {
        let mut level = Some(ValueLimits::exempt(5));
        let mut arrays = 0;
        while let Some(inside) = level.and_then(ValueLimits::inside_array) {
            level = Some(inside);
            arrays += 1;
        }
        assert_eq!(arrays, 47);
    }
}

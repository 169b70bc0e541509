//! What is wrong with bytes that are no span data, and where.

use std::error::Error;
use std::fmt;
use std::fmt::Display;
use std::fmt::Formatter;

/// Says why bytes are not a valid request, and at which byte.
///
/// The same type serves protobuf and JSON; JSON errors also know [`line`](Self::line) and [`column`](Self::column).
/// A broken request can be refused, never repaired: the sender should not try it again
/// (OTLP: `INVALID_ARGUMENT`, HTTP 400).
#[derive(Clone, PartialEq, Eq)]
pub struct WireError {
    // Boxed, so that a `Result` on the hot path stays small.
    inner: Box<Inner>,
}

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    kind: WireErrorKind,
    offset: usize,
    line_and_column: Option<(usize, usize)>,
    field: String,
    path: String,
    detail: String,
}

impl WireError {
    /// Makes an error at a byte of the input.
    ///
    /// `field` is the innermost message and field, such as `Span.name`, or empty when unknown;
    /// `path` is the way to it from the request, or empty.
    pub(crate) fn new(kind: WireErrorKind, offset: usize, field: String, path: String) -> Self {
        let inner = Inner {
            kind,
            offset,
            line_and_column: None,
            field,
            path,
            detail: String::new(),
        };
        Self {
            inner: Box::new(inner),
        }
    }

    /// Adds the line and the column, both counted from 1.
    #[must_use]
    pub(crate) fn at_line(mut self, line: usize, column: usize) -> Self {
        self.inner.line_and_column = Some((line, column));
        self
    }

    /// Replaces the kind's own words by more exact ones, such as `expected a string but found a number`.
    #[must_use]
    pub(crate) fn saying(mut self, detail: String) -> Self {
        self.inner.detail = detail;
        self
    }

    /// Names the innermost message and field, unless that is known already.
    #[must_use]
    pub(crate) fn in_field(mut self, field: &str) -> Self {
        if self.inner.field.is_empty() {
            field.clone_into(&mut self.inner.field);
        }
        self
    }

    /// Puts a step before the way to the place.
    #[must_use]
    pub(crate) fn below(mut self, step: &str) -> Self {
        let rest = std::mem::take(&mut self.inner.path);
        self.inner.path = match rest.is_empty() {
            true => step.to_owned(),
            false => format!("{step}.{rest}"),
        };
        self
    }

    /// Returns what is wrong, in one word.
    pub fn kind(&self) -> WireErrorKind {
        self.inner.kind
    }

    /// Returns where it is wrong, in bytes from the start of the request.
    ///
    /// For text it is the first byte that is not UTF-8; otherwise the first byte of the field or value that cannot be read.
    pub fn offset(&self) -> usize {
        self.inner.offset
    }

    /// Returns the line, counted from 1, if the input was JSON.
    pub fn line(&self) -> Option<usize> {
        self.inner.line_and_column.map(|(line, _)| line)
    }

    /// Returns the column in bytes, counted from 1, if the input was JSON.
    pub fn column(&self) -> Option<usize> {
        self.inner.line_and_column.map(|(_, column)| column)
    }

    /// Returns the innermost message and field, such as `Span.name`; empty if the place has no name.
    pub fn field(&self) -> &str {
        &self.inner.field
    }

    /// Returns the way to the place, such as `resource_spans[0].scope_spans[2].spans[7].name`; empty at the top.
    pub fn path(&self) -> &str {
        &self.inner.path
    }
}

impl Display for WireError {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        if self.inner.detail.is_empty() {
            formatter.write_str(self.inner.kind.words())?;
        } else {
            formatter.write_str(&self.inner.detail)?;
        }
        if !self.inner.field.is_empty() {
            write!(formatter, " in {}", self.inner.field)?;
        }
        match self.inner.line_and_column {
            Some((line, column)) => write!(formatter, " at line {line}, column {column}"),
            None => write!(formatter, " at byte {}", self.inner.offset),
        }
    }
}

impl fmt::Debug for WireError {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let mut fields = formatter.debug_struct("WireError");
        fields.field("kind", &self.inner.kind);
        fields.field("offset", &self.inner.offset);
        if let Some((line, column)) = self.inner.line_and_column {
            fields.field("line", &line).field("column", &column);
        }
        if !self.inner.detail.is_empty() {
            fields.field("detail", &self.inner.detail);
        }
        fields
            .field("field", &self.inner.field)
            .field("path", &self.inner.path)
            .finish()
    }
}

impl Error for WireError {}

/// Names what can be wrong with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WireErrorKind {
    /// The input ends, or the enclosing message ends, before the value does.
    Truncated,
    /// A variable-length integer has more than ten bytes or more than 64 bits.
    Varint,
    /// A field number is zero or above 536870911.
    FieldNumber,
    /// A field has another wire type than the schema says, or one that does not exist.
    WireType,
    /// A group ends that did not begin, or with another number than it began.
    Group,
    /// Messages are nested deeper than 100, the bound that protobuf decoders share.
    Nesting,
    /// Text is not UTF-8.
    Utf8,
    /// The input is not JSON.
    JsonSyntax,
    /// A JSON value has another type than the schema says.
    JsonType,
    /// A number does not fit into its field.
    Number,
    /// An identifier is not hexadecimal, or a byte value is not base64.
    Encoding,
    /// An identifier is zero, absent or of a wrong length, in a format that allows no such thing.
    Id,
    /// The data is of another version of the format, or of another format, that is not read here.
    Version,
    /// The data holds more than the reader was told to accept.
    Limit,
    /// A field that the format requires is absent.
    Missing,
    /// The data goes on behind what should be its end.
    Trailing,
}

impl WireErrorKind {
    fn words(self) -> &'static str {
        match self {
            Self::Truncated => "value goes beyond the end of the data",
            Self::Varint => "integer of more than 64 bits",
            Self::FieldNumber => "invalid field number",
            Self::WireType => "unexpected wire type",
            Self::Group => "unmatched end of group",
            Self::Nesting => "messages nested deeper than 100",
            Self::Utf8 => "invalid UTF-8",
            Self::JsonSyntax => "invalid JSON",
            Self::JsonType => "unexpected JSON type",
            Self::Number => "number out of range",
            Self::Encoding => "invalid hexadecimal or base64 text",
            Self::Id => "invalid id",
            Self::Version => "unsupported version of the format",
            Self::Limit => "more data than allowed",
            Self::Missing => "required field is absent",
            Self::Trailing => "data goes on behind its end",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong_where() {
        let error = WireError::new(
            WireErrorKind::Utf8,
            1234,
            "Span.name".to_owned(),
            "resource_spans[0].scope_spans[0].spans[7].name".to_owned(),
        );
        assert_eq!(error.to_string(), "invalid UTF-8 in Span.name at byte 1234");
        assert_eq!(error.offset(), 1234);
        assert!(format!("{error:?}").contains("spans[7].name"));
    }

    #[test]
    fn gives_line_and_column_for_text() {
        let error = WireError::new(
            WireErrorKind::JsonType,
            40,
            "Span.kind".to_owned(),
            String::new(),
        )
        .at_line(3, 17)
        .saying("expected a number but found an array".to_owned());
        assert_eq!(
            error.to_string(),
            "expected a number but found an array in Span.kind at line 3, column 17"
        );
        assert_eq!((error.line(), error.column()), (Some(3), Some(17)));
    }
}

//! JSON text, read and written without a tree in between; what every JSON format of this crate shares.

mod escape;
mod number;
mod scalar;
mod text;

pub(crate) use escape::push_digits;
pub(crate) use escape::push_escaped;
pub(crate) use escape::push_escaped_utf8;
pub(crate) use text::Kind;
pub(crate) use text::RawString;
pub(crate) use text::Text;

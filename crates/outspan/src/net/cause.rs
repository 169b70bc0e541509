//! What is behind the errors of libraries.

use std::error::Error;

/// The innermost cause, which says what happened; the ones around it say where in the library.
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

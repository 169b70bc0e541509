//! What the rules find.

use std::fmt;

/// A place where a rule is broken.
#[derive(Debug, PartialEq)]
pub(crate) struct Finding {
    /// The name of the rule, as `xtask/exceptions.txt` writes it.
    pub(crate) rule: &'static str,
    /// Path of a file, or name of a crate.
    pub(crate) place: String,
    /// Line in the file, from 1; 0 when there is none.
    pub(crate) line: usize,
    /// What is wrong and what to do.
    pub(crate) text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.place)?;
        if self.line > 0 {
            write!(formatter, ":{}", self.line)?;
        }
        write!(formatter, ": {}: {}", self.rule, self.text)
    }
}

//! What is wrong with a variable.

use std::fmt;

/// Says what is wrong with an environment variable, and what happens instead.
///
/// It shows the value as it was set, except where that may hold secrets (headers).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    variable: String,
    value: Option<String>,
    problem: String,
}

impl Warning {
    pub(super) fn new(variable: &str, value: &str, problem: impl Into<String>) -> Self {
        Self {
            variable: variable.to_owned(),
            value: Some(value.to_owned()),
            problem: problem.into(),
        }
    }

    /// A warning about a value that must not be shown.
    #[cfg(any(feature = "_otlp", feature = "jaeger"))]
    pub(super) fn secret(variable: &str, problem: impl Into<String>) -> Self {
        Self {
            variable: variable.to_owned(),
            value: None,
            problem: problem.into(),
        }
    }

    /// The name of the variable.
    pub fn variable(&self) -> &str {
        &self.variable
    }

    /// The value as it was set; `None` where it may hold secrets.
    pub fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// What is wrong, and what happens instead.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.variable)?;
        if let Some(value) = &self.value {
            // As a literal, so that no control character in the value acts on a terminal.
            write!(f, "={value:?}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

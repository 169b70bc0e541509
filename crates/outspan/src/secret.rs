//! Values that nobody but the destination may see.

use std::fmt;
use std::sync::Arc;

use crate::Error;
use crate::Result;

/// Holds a value such as a token, and never shows it: not in `Debug`, `Display`, errors, logs or metrics.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes a value.
    pub fn new(value: impl AsRef<str>) -> Self {
        Self(Arc::from(value.as_ref()))
    }

    /// Reads a value from an environment variable.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) if the variable is not set, empty or not UTF-8; it names the variable.
    pub fn env(name: &str) -> Result<Self> {
        match std::env::var(name) {
            Ok(value) if !value.is_empty() => Ok(Self::new(value)),
            Ok(_) => Err(Error::config(format!(
                "environment variable {name} is empty"
            ))),
            Err(std::env::VarError::NotPresent) => Err(Error::config(format!(
                "environment variable {name} is not set"
            ))),
            Err(std::env::VarError::NotUnicode(_)) => Err(Error::config(format!(
                "environment variable {name} is not valid UTF-8"
            ))),
        }
    }

    /// Reads a value from a file, without the white space at its end.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) if the file cannot be read as UTF-8 text; it names the file.
    pub fn file(path: impl AsRef<std::path::Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::config(format!("cannot read the secret file {}", path.display())).with_source(e)
        })?;
        Ok(Self::new(text.trim_end()))
    }

    /// Shows the value, to whoever sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self::new(value)
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self::new(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("hunter2");
        assert!(!format!("{secret:?} {secret} {secret:#?}").contains("hunter2"));
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_missing_variable_is_named() {
        let error = Secret::env("OUTSPAN_TEST_NO_SUCH_VARIABLE").unwrap_err();
        assert!(error.to_string().contains("OUTSPAN_TEST_NO_SUCH_VARIABLE"));
    }
}

//! Reads one variable after another, by the rules that hold for all of them.

use std::cell::RefCell;
use std::ffi::OsString;
#[cfg(feature = "_otlp")]
use std::path::PathBuf;
use std::time::Duration;

use super::Warning;

/// Looks variables up and collects what is wrong with them.
///
/// Every getter takes names in order of precedence: the first that is set and makes sense wins. A value that makes none
/// is told and counts as unset (sdk-environment-variables.md, "Parsing empty value", "Numeric", "Enum"; common.md).
pub(super) struct Reader<L> {
    lookup: L,
    warnings: RefCell<Vec<Warning>>,
}

impl<L: Fn(&str) -> Option<OsString>> Reader<L> {
    pub(super) fn new(lookup: L) -> Self {
        Self {
            lookup,
            warnings: RefCell::new(Vec::new()),
        }
    }

    pub(super) fn into_warnings(self) -> Vec<Warning> {
        self.warnings.into_inner()
    }

    pub(super) fn warn(&self, warning: Warning) {
        self.warnings.borrow_mut().push(warning);
    }

    /// The trimmed text of the first variable that is set and not blank, with its name.
    pub(super) fn text<'n>(&self, names: &[&'n str]) -> Option<(&'n str, String)> {
        names
            .iter()
            .find_map(|name| Some((*name, self.text_of(name)?)))
    }

    /// Like [`text`](Self::text), for values that no message may show.
    #[cfg(any(feature = "_otlp", feature = "jaeger"))]
    pub(super) fn secret_text<'n>(&self, names: &[&'n str]) -> Option<(&'n str, String)> {
        names.iter().find_map(|name| {
            let Ok(text) = (self.lookup)(name)?.into_string() else {
                self.warn(Warning::secret(
                    name,
                    "it is not valid UTF-8; it is ignored",
                ));
                return None;
            };
            let text = text.trim();
            (!text.is_empty()).then(|| (*name, text.to_owned()))
        })
    }

    /// The first value that `parse` understands; `expected` says what others should have been.
    pub(super) fn parsed<T>(
        &self,
        names: &[&str],
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        names.iter().find_map(|name| {
            let text = self.text_of(name)?;
            let value = parse(&text);
            if value.is_none() {
                let problem = format!("expected {expected}; it is ignored");
                self.warn(Warning::new(name, &text, problem));
            }
            value
        })
    }

    /// True only for `true`, in any case. Other words than `false` are told and count as `false`.
    pub(super) fn boolean(&self, names: &[&str]) -> Option<bool> {
        let (name, text) = self.text(names)?;
        let value = text.eq_ignore_ascii_case("true");
        if !value && !text.eq_ignore_ascii_case("false") {
            let problem = "expected true or false; it counts as false".to_owned();
            self.warn(Warning::new(name, &text, problem));
        }
        Some(value)
    }

    pub(super) fn integer(&self, names: &[&str], least: usize) -> Option<usize> {
        let expected = format!("a whole number of at least {least}");
        self.parsed(names, &expected, |text| {
            text.parse().ok().filter(|number| *number >= least)
        })
    }

    /// A time in whole milliseconds; zero is one.
    pub(super) fn milliseconds(&self, names: &[&str]) -> Option<Duration> {
        let expected = "milliseconds, a whole number of at least 0";
        self.parsed(names, expected, |text| {
            text.parse().ok().map(Duration::from_millis)
        })
    }

    /// A path, which need not be UTF-8.
    #[cfg(feature = "_otlp")]
    pub(super) fn path(&self, names: &[&'static str]) -> Option<(&'static str, PathBuf)> {
        names.iter().find_map(|name| {
            let raw = (self.lookup)(name)?;
            let path = match raw.to_str() {
                Some(text) => PathBuf::from(text.trim()),
                None => PathBuf::from(raw),
            };
            (!path.as_os_str().is_empty()).then_some((*name, path))
        })
    }

    fn text_of(&self, name: &str) -> Option<String> {
        let raw = (self.lookup)(name)?;
        let Some(text) = raw.to_str() else {
            let problem = "it is not valid UTF-8; it is ignored".to_owned();
            self.warn(Warning::new(name, &raw.to_string_lossy(), problem));
            return None;
        };
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

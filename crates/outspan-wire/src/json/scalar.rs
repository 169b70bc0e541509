//! Numbers as senders write them: in JSON's own form, or as strings.

use super::number;
use super::number::NumberFault;
use super::text::Kind;
use super::text::Text;
use crate::error::WireError;
use crate::error::WireErrorKind;

impl Text<'_> {
    /// Reads an integer, if `T` can hold it.
    pub(crate) fn integer<T: TryFrom<i128>>(&mut self) -> Result<T, WireError> {
        let start = self.value_start();
        if self.kind()? == Kind::String {
            let text = self.string()?.decoded();
            return self.fit(start, &text);
        }
        let text = self.number()?;
        self.fit(start, text)
    }

    /// Makes an integer of text that began at `start`.
    pub(crate) fn fit<T: TryFrom<i128>>(&self, start: usize, text: &[u8]) -> Result<T, WireError> {
        number::integer(text)
            .and_then(|value| T::try_from(value).map_err(|_| NumberFault::OutOfRange))
            .map_err(|fault| self.number_fault(start, fault, "a whole number"))
    }

    /// Reads a floating-point number.
    pub(crate) fn double(&mut self) -> Result<f64, WireError> {
        let start = self.value_start();
        if self.kind()? == Kind::String {
            let text = self.string()?.decoded();
            return match &*text {
                b"NaN" => Ok(f64::NAN),
                b"Infinity" => Ok(f64::INFINITY),
                b"-Infinity" => Ok(f64::NEG_INFINITY),
                text => self.fit_double(start, text),
            };
        }
        let text = self.number()?;
        self.fit_double(start, text)
    }

    fn fit_double(&self, start: usize, text: &[u8]) -> Result<f64, WireError> {
        number::double(text).map_err(|fault| self.number_fault(start, fault, "a number"))
    }

    #[cold]
    fn number_fault(&self, start: usize, fault: NumberFault, expected: &str) -> WireError {
        match fault {
            NumberFault::OutOfRange => self.fault(WireErrorKind::Number, start, String::new()),
            NumberFault::NotDecimal => {
                let detail = format!("expected {expected} but found other text");
                self.fault(WireErrorKind::JsonType, start, detail)
            }
            NumberFault::NotWhole => {
                let detail = format!("expected {expected} but found a fraction");
                self.fault(WireErrorKind::Number, start, detail)
            }
        }
    }
}

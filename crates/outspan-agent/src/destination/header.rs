//! Headers from the command line.

use std::str::FromStr;

use outspan::Secret;

/// Holds a header as `--header` gives it: `NAME=VALUE` or `NAME: VALUE`.
///
/// A value `@FILE` is read from the file, `env:NAME` from the environment variable, so that secrets need not stand on
/// the command line, where other users see them. The value is never shown.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    /// The header's name.
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: Secret,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text may hold a secret, so no error repeats more of it than the name.
        let (name, value) = text
            .split_once(['=', ':'])
            .ok_or("a header needs a name and a value: NAME=VALUE")?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() {
            return Err("the header's name is missing: NAME=VALUE".into());
        }
        Ok(Self {
            name: name.to_owned(),
            value: read_value(value).map_err(|e| format!("header {name}: {e}"))?,
        })
    }
}

fn read_value(text: &str) -> outspan::Result<Secret> {
    if let Some(file) = text.strip_prefix('@') {
        return Secret::file(file);
    }
    if let Some(variable) = text.strip_prefix("env:") {
        return Secret::env(variable);
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (String, String) {
        let header: Header = text.parse().unwrap();
        (header.name, header.value.expose().to_owned())
    }

    #[test]
    fn both_ways_to_write_a_header_are_read() {
        let expected = ("authorization".to_owned(), "Bearer a=b:c".to_owned());
        assert_eq!(parse("authorization=Bearer a=b:c"), expected);
        assert_eq!(parse("authorization: Bearer a=b:c"), expected);
        assert_eq!(parse("x-empty="), ("x-empty".to_owned(), String::new()));
    }

    #[test]
    fn a_value_is_read_from_a_file_without_its_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "Bearer t0ken\n").unwrap();
        let header = parse(&format!("authorization=@{}", file.path().display()));
        assert_eq!(header.1, "Bearer t0ken");
    }

    #[test]
    fn errors_name_the_header_and_never_show_a_value() {
        let error = Header::from_str("t0ken").unwrap_err();
        assert!(!error.contains("t0ken"), "{error}");
        assert!(Header::from_str("=t0ken").is_err());
        let error = Header::from_str("x=env:OUTSPAN_TEST_NO_SUCH_VARIABLE").unwrap_err();
        assert_eq!(
            error,
            "header x: environment variable OUTSPAN_TEST_NO_SUCH_VARIABLE is not set"
        );
        let error = Header::from_str("x=@/no/such/file").unwrap_err();
        assert!(error.contains("/no/such/file"), "{error}");
        assert!(!format!("{:?}", Header::from_str("x=t0ken")).contains("t0ken"));
    }
}

//! SPDX licence expressions, as far as judging them takes.

/// Licences that may be part of what we ship: all of them allow it under our own terms.
const ALLOWED: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Additions that only permit more.
const ALLOWED_EXCEPTIONS: [&str; 1] = ["LLVM-exception"];

/// Tells whether a package under this expression may be used.
///
/// Reads `OR`, `AND`, `WITH` and parentheses, and the `/` of old manifests, which means `OR`.
///
/// # Errors
///
/// When the expression cannot be read.
pub(super) fn is_allowed(expression: &str) -> Result<bool, String> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (allowed, rest) = either(&words)?;
    match rest {
        [] => Ok(allowed),
        [word, ..] => Err(format!("`{word}` is not expected")),
    }
}

/// Terms with `OR` between them, which binds least.
fn either<'a>(words: &'a [&'a str]) -> Result<(bool, &'a [&'a str]), String> {
    let (mut allowed, mut rest) = all(words)?;
    while let ["OR", after @ ..] = rest {
        let (other, after) = all(after)?;
        allowed |= other;
        rest = after;
    }
    Ok((allowed, rest))
}

/// Terms with `AND` between them.
fn all<'a>(words: &'a [&'a str]) -> Result<(bool, &'a [&'a str]), String> {
    let (mut allowed, mut rest) = one(words)?;
    while let ["AND", after @ ..] = rest {
        let (other, after) = one(after)?;
        allowed &= other;
        rest = after;
    }
    Ok((allowed, rest))
}

/// One licence, or an expression in parentheses.
fn one<'a>(words: &'a [&'a str]) -> Result<(bool, &'a [&'a str]), String> {
    match words {
        ["(", inside @ ..] => match either(inside)? {
            (allowed, [")", rest @ ..]) => Ok((allowed, rest)),
            _ => Err("a parenthesis is not closed".to_owned()),
        },
        [licence, "WITH", addition, rest @ ..] => {
            let allowed = ALLOWED.contains(licence) && ALLOWED_EXCEPTIONS.contains(addition);
            Ok((allowed, rest))
        }
        ["OR" | "AND" | "WITH" | ")", ..] | [] => Err("a licence is missing".to_owned()),
        [licence, rest @ ..] => Ok((ALLOWED.contains(licence), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_allowed_choice_is_enough() {
        for expression in [
            "MIT",
            "MIT OR GPL-3.0-only",
            "GPL-3.0-only OR (Apache-2.0 AND ISC)",
            "MIT/Apache-2.0",
            "Unlicense/MIT",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
        ] {
            assert_eq!(is_allowed(expression), Ok(true), "{expression}");
        }
    }

    #[test]
    fn one_licence_that_must_be_taken_and_is_not_allowed_is_too_many() {
        for expression in [
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "AGPL-3.0-only OR (MIT AND GPL-3.0-only)",
            "Apache-2.0 WITH Classpath-exception-2.0",
            "MIT AND ISC AND SSPL-1.0 OR BUSL-1.1",
        ] {
            assert_eq!(is_allowed(expression), Ok(false), "{expression}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for expression in ["", "MIT OR", "(MIT", "MIT)", "AND MIT", "MIT ISC", "()"] {
            assert!(is_allowed(expression).is_err(), "{expression}");
        }
    }
}

//! What ran, read from the output of `cargo test` and of `interop/run`.

use std::collections::BTreeSet;

/// The tests that passed, each as the name of its binary and its path in there; cases as if `interop` were a binary.
pub(super) fn passed(output: &str) -> BTreeSet<String> {
    let mut passed = BTreeSet::new();
    let mut binary = None;
    for line in output.lines().map(str::trim) {
        if line.starts_with("Doc-tests ") {
            binary = None;
        }
        if line.starts_with("Running ") {
            binary = binary_of(line);
        }
        passed.extend(case_of(line));
        let test = line
            .strip_prefix("test ")
            .and_then(|line| line.strip_suffix(" ... ok"));
        let (Some(binary), Some(test)) = (binary, test) else {
            continue;
        };
        let test = test.trim_end_matches(" - should panic");
        passed.insert(format!("{binary}::{test}"));
    }
    passed
}

/// `interop::zipkin-json` of `ok     zipkin-json 0.2 s what it shows`.
fn case_of(line: &str) -> Option<String> {
    let mut words = line.strip_prefix("ok ")?.split_whitespace();
    let name = words.next()?;
    let _seconds: f64 = words.next()?.parse().ok()?;
    (words.next()? == "s").then(|| format!("interop::{name}"))
}

/// `retry` of `Running tests/retry.rs (target/debug/deps/retry-0123456789abcdef)`.
fn binary_of(heading: &str) -> Option<&str> {
    let (_, path) = heading.strip_suffix(')')?.rsplit_once('(')?;
    let file = path.rsplit('/').next()?;
    let (name, _hash) = file.rsplit_once('-')?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_of_interop_are_read_by_their_lines() {
        let output = "
ok     zipkin-json 6.0 s outspan send to a Zipkin server
FAILED zipkin-protobuf 0.1 s Different: a field
| zipkin-table | ok | 0.1 | a row of the table |
ok is what this says
";
        assert_eq!(passed(output), ["interop::zipkin-json".to_owned()].into());
    }

    #[test]
    fn tests_belong_to_the_binary_above_them() {
        let output = "
     Running unittests src/lib.rs (target/debug/deps/a_b-0123456789abcdef)

running 3 tests
test queue::tests::waits ... ok
test queue::tests::fails ... FAILED
test queue::tests::later ... ignored
     Running tests/over-all.rs (target/debug/deps/over-all-0123456789abcdef)
test waits ... ok
test panics - should panic ... ok
   Doc-tests a_b
test crates/a/src/lib.rs - (line 3) ... ok
";
        let expected = [
            "a_b::queue::tests::waits",
            "over-all::panics",
            "over-all::waits",
        ];
        assert_eq!(passed(output), expected.map(str::to_owned).into());
    }
}

//! Runs a test in a process of its own.

use std::any;
use std::process;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Names the test that a process was started for.
const VARIABLE: &str = "OUTSPAN_TEST_ALONE";

/// How long such a process may run: far longer than any needs, so that a hang is an error and no wait.
const TIME_MAX: Duration = Duration::from_secs(120);

/// Runs the rest of the test in a process of its own.
///
/// For tests that change what belongs to the process: the global subscriber of `tracing`, the global tracer provider. The
/// test's binary is started once more with this test as its only one; there the test goes on behind this line. The
/// test that started it returns when it has passed.
///
/// # Panics
///
/// If the test fails in its process, with what it printed.
#[macro_export]
macro_rules! alone {
    () => {
        fn here() {}
        if !$crate::is_alone(here) {
            return;
        }
    };
}

/// Whether this process was started for the test that `here` is a function in. If not, starts one and waits for it.
///
/// [`alone!`](crate::alone!) calls it.
///
/// # Panics
///
/// If the test fails in the process that was started.
pub fn is_alone<F: FnOnce()>(_here: F) -> bool {
    let test = test_of(any::type_name::<F>());
    if std::env::var_os(VARIABLE).is_some_and(|started| started == *test) {
        limit_time();
        return true;
    }
    let binary = std::env::current_exe().expect("a test knows its own file");
    let output = Command::new(binary)
        .args(["--exact", "--nocapture", &test])
        .env(VARIABLE, &test)
        .output()
        .expect("a test's file can be started again");
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && printed.contains("1 passed"),
        "{test} failed in a process of its own: {}\n{printed}{errors}",
        output.status
    );
    false
}

/// Turns `binary::module::test::{{closure}}::here` into `module::test`, as the binary's test runner names it.
fn test_of(here: &str) -> String {
    let modules = here.split("::").skip(1);
    let modules: Vec<&str> = modules.filter(|part| *part != "{{closure}}").collect();
    match modules.as_slice() {
        [test @ .., _here] => test.join("::"),
        [] => String::new(),
    }
}

/// Ends this process when the test takes far too long.
fn limit_time() {
    let (keep, kept) = mpsc::channel::<()>();
    let wait = move || {
        // Nobody sends: the test's process ends first, as a rule.
        if kept.recv_timeout(TIME_MAX).is_err() {
            eprintln!("the test did not end within {TIME_MAX:?}");
            process::exit(101);
        }
    };
    thread::spawn(wait);
    std::mem::forget(keep);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_a_test_as_its_runner_does() {
        for (here, test) in [
            ("binary::test::here", "test"),
            ("binary::module::test::here", "module::test"),
            (
                "binary::a::b::test::{{closure}}::{{closure}}::here",
                "a::b::test",
            ),
        ] {
            assert_eq!(test_of(here), test);
        }
    }

    #[test]
    fn goes_on_in_another_process() {
        let before = process::id();
        crate::alone!();
        assert_ne!(before, 0);
        assert_eq!(
            std::env::var(VARIABLE).expect("it is set in the other process"),
            "alone::tests::goes_on_in_another_process"
        );
    }

    #[test]
    fn a_failure_there_is_a_failure_here() {
        fn here() {}
        let outcome = std::panic::catch_unwind(|| is_alone(here));
        // Only in the other process.
        if let Ok(true) = outcome {
            panic!("a failure in the other process");
        }
        let message = outcome.expect_err("it failed there");
        let message = message.downcast_ref::<String>().expect("a message");
        assert!(
            message.contains("a failure in the other process"),
            "{message}"
        );
    }
}

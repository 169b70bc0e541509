//! The program tells shells and manuals about its command line.

use crate::running::outspan;

#[test]
fn every_shell_gets_completions_that_know_the_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = outspan(&["completions", shell]).expect_status(0);
        for word in ["agent", "convert", "listen-client-ca", "overwrite"] {
            assert!(ran.stdout.contains(word), "{shell} misses {word}");
        }
        assert_eq!(ran.stderr, "");
    }
}

#[test]
fn a_shell_nobody_knows_is_wrong_usage() {
    outspan(&["completions", "tcl"])
        .expect_status(2)
        .expect_said(&["'tcl'", "bash, elvish, fish, powershell, zsh"]);
}

#[test]
fn the_manual_has_a_page_for_the_program_and_one_for_each_command() {
    let ran = outspan(&["man"]).expect_status(0);
    assert!(ran.stdout.contains("outspan\\-agent(1)"), "{}", ran.stdout);
    let ran = outspan(&["man", "agent"]).expect_status(0);
    assert!(ran.stdout.contains(".SH \"EXIT STATUS\""), "{}", ran.stdout);
    outspan(&["man", "agnet"])
        .expect_status(2)
        .expect_said(&["no command \"agnet\""]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    crate::running::Running::start_with_output(&["man"], &[], full.into())
        .finish()
        .expect_status(1)
        .expect_said(&["cannot write to standard output"]);
}

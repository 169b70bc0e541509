//! Runs `outspan send`.

use std::io::Write;
use std::thread;

pub(crate) use crate::running::LIMIT;
pub(crate) use crate::running::Ran;
pub(crate) use crate::running::Running;
pub(crate) use crate::running::outspan;

/// Runs `outspan send` to its end, with nothing on standard input.
pub(crate) fn send(arguments: &[&str]) -> Ran {
    start(arguments, &[]).finish()
}

/// Runs `outspan send` to its end, with `input` on standard input.
pub(crate) fn send_stdin(arguments: &[&str], input: &[u8]) -> Ran {
    let mut running = start(arguments, &[]);
    let mut stdin = running.stdin();
    let input = input.to_vec();
    // On a thread, because nobody may read before the program has written.
    let writer = thread::spawn(move || stdin.write_all(&input));
    let ran = running.finish();
    // The program may have ended before it read everything.
    drop(writer.join().unwrap());
    ran
}

/// Starts `outspan send` with variables for its environment.
pub(crate) fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Running {
    Running::start(&[&["send"], arguments].concat(), environment)
}

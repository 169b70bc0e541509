//! Leaves a limited address space to what is allocated in it.
//!
//! The GNU C library gives each of the first threads (eight per core) an arena of its own, and reserves 64 MiB of address space
//! for each. That costs no memory, but where the address space is limited (`ulimit -v`) a dozen threads reserve most
//! of it, and an allocation that would have fitted ends the process. The number of arenas can be set by a variable that the
//! library reads before `main`, so the program starts itself once more with it, in the same process.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::Resource;
use rustix::process::getrlimit;

/// The variable, see `mallopt(3)`.
const VARIABLE: &str = "MALLOC_ARENA_MAX";

/// How many arenas there are then: two keep threads from waiting for one another as a rule.
const ARENAS: &str = "2";

/// Starts the program anew with few arenas if its address space is limited and nobody has set their number.
///
/// Returns if that is not needed, or not possible: then all works as before.
pub(crate) fn spare() {
    let is_limited = getrlimit(Resource::As).current.is_some();
    if !is_limited || env::var_os(VARIABLE).is_some() {
        return;
    }
    let Ok(program) = env::current_exe() else {
        return;
    };
    let mut arguments = env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // It only returns if it failed.
    drop(command.args(arguments).env(VARIABLE, ARENAS).exec());
}

//! What the system says about this process.

use std::time::Duration;

/// Says what the process uses, as far as the system tells.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProcessStatus {
    /// Memory that is in use, in bytes (resident set size).
    pub(super) resident_bytes: Option<u64>,
    /// Time on processors since the start, user and system, all threads.
    pub(super) cpu: Option<Duration>,
}

impl ProcessStatus {
    /// Reads it; on systems other than Linux there is nothing to read.
    pub(super) fn read() -> Self {
        Self {
            resident_bytes: resident_bytes(),
            cpu: cpu(),
        }
    }
}

/// `proc_pid_statm(5)`: sizes in pages, the second is what is resident.
#[cfg(target_os = "linux")]
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

#[cfg(target_os = "linux")]
fn cpu() -> Option<Duration> {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.try_into().ok()
}

#[cfg(not(target_os = "linux"))]
fn resident_bytes() -> Option<u64> {
    None
}

#[cfg(not(target_os = "linux"))]
fn cpu() -> Option<Duration> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn reads_what_this_process_uses() {
        let before = ProcessStatus::read();
        let work = vec![1u8; 32 << 20];
        let sum: u64 = work.iter().map(|byte| u64::from(*byte)).sum();
        let after = ProcessStatus::read();
        assert_eq!(sum, 32 << 20);
        assert!(after.cpu > before.cpu, "{before:?} {after:?}");
        // Other tests of this process allocate and free at the same time, so only the order of magnitude is sure.
        let resident = after.resident_bytes.unwrap();
        assert!((1 << 20..64 << 30).contains(&resident), "{resident}");
        drop(work);
    }
}

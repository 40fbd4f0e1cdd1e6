//! What the process needs from libc and the standard library does not offer.
//! The only unsafe code of Walport.
#![allow(unsafe_code)]

use std::sync::OnceLock;

/// The signals that stop a command.
const STOPPING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

static IGNORED_AT_START: OnceLock<Vec<i32>> = OnceLock::new();

/// Prepares the process. Must run before there is a second thread.
pub fn start() {
    tune_allocator();
    IGNORED_AT_START
        .get_or_init(|| STOPPING.into_iter().filter(|signal| is_ignored(*signal)).collect());
}

/// Tells glibc's allocator to use one arena and to give memory back early.
///
/// Each further arena reserves 64 MiB of address space, and freed buffers stay
/// resident without a threshold. Measured: 15 MiB of virtual memory instead of
/// 211 MiB for the same program.
fn tune_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` changes parameters of the allocator and takes no
    // pointers; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 10);
    }
}

/// Whether whoever started the process asked for this signal to be ignored, as
/// `nohup` does with SIGHUP.
pub fn is_ignored_at_start(signal: i32) -> bool {
    IGNORED_AT_START.get().is_some_and(|ignored| ignored.contains(&signal))
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: with a null pointer for the new action, `sigaction` only fills in
    // the present one; all zero bytes are a valid `sigaction`.
    unsafe {
        let mut present: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut present) == 0
            && present.sa_sigaction == libc::SIG_IGN
    }
}

/// The user who runs the program.
pub fn user() -> u32 {
    // SAFETY: `getuid` takes nothing and cannot fail.
    unsafe { libc::getuid() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_library_ignores_a_broken_pipe() {
        assert!(is_ignored(libc::SIGPIPE));
        assert!(!is_ignored(libc::SIGSEGV));
    }
}

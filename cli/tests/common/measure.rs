//! The memory of a process, as the kernel counts it.

use std::process::Child;
use std::thread;
use std::time::Duration;

/// The peaks of a process, in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub struct Peaks {
    /// The most memory that was resident.
    pub resident: u64,
    /// The most address space.
    pub address_space: u64,
}

/// Waits for the end of a process and returns its peaks. The kernel keeps them
/// until the process ends, so what can be missed is what grew in the last
/// millisecond.
pub fn peaks(child: &mut Child) -> Peaks {
    let path = format!("/proc/{}/status", child.id());
    let mut peaks = Peaks::default();
    while child.try_wait().expect("wait").is_none() {
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        peaks.resident = field("VmHWM:").unwrap_or(peaks.resident).max(peaks.resident);
        peaks.address_space =
            field("VmPeak:").unwrap_or(peaks.address_space).max(peaks.address_space);
        thread::sleep(Duration::from_millis(1));
    }
    peaks
}

//! What the operating system says of this process.

/// Memory that the process holds, in bytes; `None` where the system does not tell.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    resident_bytes_in(&status)
}

fn resident_bytes_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_size_is_read() {
        for (status, bytes) in [
            ("Name:\ttidewatch\nVmRSS:\t    2048 kB\nThreads:\t3\n", Some(2_097_152)),
            ("Name:\ttidewatch\n", None),
            ("VmRSS:\tmuch kB\n", None),
            ("VmRSS:\t18446744073709551615 kB\n", None),
        ] {
            assert_eq!(resident_bytes_in(status), bytes, "{status}");
        }
    }
}

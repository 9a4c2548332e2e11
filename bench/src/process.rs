//! What the system says about the broker's process and the disks: CPU time, memory, writes, flushes.

use std::fs;
use std::io;
use std::time::Duration;

use crate::error::Error;

/// Clock ticks a second in `/proc/<pid>/stat`: `USER_HZ`, 100 on every Linux this runs on.
const TICKS_PER_SECOND: u64 = 100;

/// One look at a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProcessReading {
    pub(crate) cpu: Duration,
    pub(crate) rss_bytes: u64,
    pub(crate) rss_bytes_max: u64,
    /// Bytes it caused to be written to a disk.
    pub(crate) written_bytes: u64,
}

impl ProcessReading {
    /// Looks at process `pid`.
    ///
    /// # Errors
    /// [`Error::Process`] if there is none, or it is another user's.
    pub(crate) fn take(pid: u32) -> Result<Self, Error> {
        let read = |file: &str| {
            fs::read_to_string(format!("/proc/{pid}/{file}")).map_err(|source| Error::Process { pid, source })
        };
        let (stat, status, io) = (read("stat")?, read("status")?, read("io")?);
        let cpu = cpu_time(&stat)
            .ok_or_else(|| Error::Process { pid, source: io::ErrorKind::InvalidData.into() })?;
        Ok(Self {
            cpu,
            rss_bytes: field(&status, "VmRSS:").unwrap_or(0) * 1024,
            rss_bytes_max: field(&status, "VmHWM:").unwrap_or(0) * 1024,
            written_bytes: field(&io, "write_bytes:").unwrap_or(0),
        })
    }
}

/// Flushes that all disks of this machine were asked for since it started; 0 where the system does not count them.
pub fn device_flushes() -> u64 {
    let stats = fs::read_to_string("/proc/diskstats").unwrap_or_default();
    stats.lines().filter_map(flushes_of).sum()
}

/// CPU time of all processes of a process group, and of what they started and waited for.
pub fn process_group_cpu(group: u32) -> Duration {
    let Ok(processes) = fs::read_dir("/proc") else { return Duration::ZERO };
    let stats =
        processes.flatten().filter_map(|process| fs::read_to_string(process.path().join("stat")).ok());
    stats.filter(|stat| group_of(stat) == Some(group)).filter_map(|stat| cpu_time(&stat)).sum()
}

/// The third field behind the name.
fn group_of(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// The 16th value behind the device's name.
fn flushes_of(line: &str) -> Option<u64> {
    line.split_ascii_whitespace().nth(18)?.parse().ok()
}

/// User and system time. The process name is in parentheses and may hold anything, blanks too.
fn cpu_time(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_a_name_with_blanks_and_parentheses() {
        let stat = "42 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20";
        assert_eq!((cpu_time(stat), group_of(stat)), (Some(Duration::from_secs(2)), Some(2)));
    }

    #[test]
    fn flushes_are_read_from_a_line_of_diskstats() {
        let line = " 259 0 nvme0n1 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 777 17";
        assert_eq!(flushes_of(line), Some(777));
        assert_eq!(flushes_of(" 7 0 loop0 1 2 3 4 5 6 7 8 9 10 11"), None);
    }

    #[test]
    fn this_process_can_be_read_and_a_missing_one_is_named() {
        let reading = ProcessReading::take(std::process::id()).expect("this process");
        assert!(reading.rss_bytes > 0);
        let error = ProcessReading::take(u32::MAX).expect_err("no such process").to_string();
        assert!(error.contains(&u32::MAX.to_string()), "{error}");
    }
}

//! A bound on the memory of a process, by a control group: version 2 where it has the memory controller, else version 1.
//! Needs root, and a system that lets root have them.

use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups are.
const ROOT: &str = "/sys/fs/cgroup";

/// A control group of its own. Removed when dropped: its processes must have ended.
#[derive(Debug)]
pub struct MemoryBound {
    dir: PathBuf,
    is_v2: bool,
}

impl MemoryBound {
    /// A group whose processes may have `bytes` together, page cache included.
    ///
    /// # Errors
    /// Why there is none on this machine.
    pub fn new(name: &str, bytes: u64) -> Result<Self, String> {
        let has_v2 = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"))
            .is_ok_and(|controllers| controllers.split_whitespace().any(|it| it == "memory"));
        let parent = if has_v2 { ROOT.into() } else { Path::new(ROOT).join("memory") };
        let dir = parent.join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let bound = Self { dir, is_v2: has_v2 };
        let limit = if has_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        bound.write(limit, &bytes.to_string())?;
        // Without this the rest would be swapped out: but not every system has swap to account for.
        let _ =
            if has_v2 { bound.write("memory.swap.max", "0") } else { bound.write("memory.swappiness", "0") };
        Ok(bound)
    }

    fn write(&self, file: &str, text: &str) -> Result<(), String> {
        let path = self.dir.join(file);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The file to which a process writes its number to be in the group.
    pub fn entrance(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    /// Processes that the system killed because the group had no more memory.
    pub fn kills(&self) -> u64 {
        let file = if self.is_v2 { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for MemoryBound {
    fn drop(&mut self) {
        // One that is still in use stays: the next run makes another.
        let _ = fs::remove_dir(&self.dir);
    }
}

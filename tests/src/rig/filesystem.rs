//! File systems of a rig's own: an image in a file, mounted through a loop device, and copies of it as it is at one moment.
//!
//! Needs root, loop devices and `mkfs`; where they are missing it says what is, and the rig does not run. Everything is
//! unmounted and removed when it is dropped; what a run left behind that was killed is removed by the next.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where memory is a file system: images there cost no disk, and a sync of them no time.
const MEMORY: &str = "/dev/shm";
/// How directories of rigs are called; the number of the process follows.
const PREFIX: &str = "escrow-rig-";
/// Where distributions keep `mkfs` and `mount`, if not on the path of the user.
const SYSTEM_PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// A kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// ext4 with its defaults: ordered data, a journal for names and sizes.
    Ext4,
    /// XFS with its defaults.
    Xfs,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ext4, Self::Xfs];
    /// The smallest image that either can be made on.
    pub const IMAGE_BYTES_MIN: u64 = 320 << 20;

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    fn make(self, image: &Path) -> Result<(), String> {
        let image = image.display().to_string();
        match self {
            Self::Ext4 => run("mkfs.ext4", &["-q", "-F", &image]),
            Self::Xfs => run("mkfs.xfs", &["-q", "-f", &image]),
        }
    }

    /// A copy carries the same number as the original, which XFS does not mount twice unless told to.
    fn mount_options(self) -> &'static str {
        match self {
            Self::Ext4 => "loop",
            Self::Xfs => "loop,nouuid",
        }
    }
}

/// A directory for the images of one run, in memory if there is room.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    /// Makes it, with room for `bytes`. Removes what earlier runs of any rig left behind.
    ///
    /// # Errors
    /// What is missing on this machine.
    pub fn make(bytes: u64) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mounting needs root".into());
        }
        let parents = [PathBuf::from(MEMORY), std::env::temp_dir()];
        parents.iter().for_each(|parent| clean(parent));
        let roomy = parents.into_iter().find(|parent| free_bytes(parent) > bytes);
        let parent = roomy.ok_or_else(|| format!("no directory has {} MiB free", bytes >> 20))?;
        let dir = parent.join(format!("{PREFIX}{}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(Self { dir })
    }

    /// Something in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

/// An image, mounted. Unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    image: PathBuf,
    dir: PathBuf,
}

impl Mounted {
    /// Makes a file system of `bytes` in a new image and mounts it at `dir`.
    ///
    /// # Errors
    /// What the system said.
    pub fn make(kind: Kind, image: &Path, bytes: u64, dir: &Path) -> Result<Self, String> {
        let sized = File::create(image).and_then(|file| file.set_len(bytes));
        sized.map_err(|error| format!("{}: {error}", image.display()))?;
        kind.make(image)?;
        Self::mount(kind, image, dir)
    }

    /// Mounts an image at `dir`; the file system reads its own journal then.
    ///
    /// # Errors
    /// What the system said.
    pub fn mount(kind: Kind, image: &Path, dir: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let (image_text, dir_text) = (image.display().to_string(), dir.display().to_string());
        run("mount", &["-o", kind.mount_options(), &image_text, &dir_text])?;
        Ok(Self { image: image.into(), dir: dir.into() })
    }

    /// Where it is mounted.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Copies the image as it is at one moment: what the file system has handed to its device by then, and nothing of
    /// what it still keeps in memory. Writes wait meanwhile.
    ///
    /// # Errors
    /// What the system said.
    pub fn cut(&self, copy: &Path) -> Result<(), String> {
        let source = File::open(&self.image).map_err(|error| error.to_string())?;
        let target = File::create(copy).map_err(|error| error.to_string())?;
        rustix::fs::ioctl_ficlone(&target, &source)
            .map_err(|error| format!("{} cannot be copied by reflink: {error}", self.image.display()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.dir);
    }
}

/// A file system whose files can be copied in no time: images lie on it.
#[derive(Debug)]
pub struct Shelf {
    // Dropped in this order: what lies on it is unmounted by then.
    mounted: Mounted,
    scratch: Scratch,
}

impl Shelf {
    /// Makes it, with room for `bytes`.
    ///
    /// # Errors
    /// What is missing on this machine.
    pub fn make(bytes: u64) -> Result<Self, String> {
        let scratch = Scratch::make(bytes)?;
        let mounted = Mounted::make(Kind::Xfs, &scratch.path("shelf.image"), bytes, &scratch.path("shelf"))?;
        let shelf = Self { mounted, scratch };
        let (probe, copy) = (shelf.image("probe"), shelf.image("probe.copy"));
        let tried = Mounted::make(Kind::Ext4, &probe, 8 << 20, &shelf.mount_point("probe"))
            .and_then(|mounted| mounted.cut(&copy));
        let _ = (std::fs::remove_file(probe), std::fs::remove_file(copy));
        tried.map(|()| shelf)
    }

    /// Where an image of this name lies.
    pub fn image(&self, name: &str) -> PathBuf {
        self.mounted.dir().join(name)
    }

    /// Where an image of this name is mounted.
    pub fn mount_point(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }
}

/// Removes the directories of rigs whose process is gone.
fn clean(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(PREFIX) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            remove(&entry.path());
        }
    }
}

/// Unmounts all that is mounted below `dir`, the last first, and removes it.
fn remove(dir: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below =
        mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|at| Path::new(at).starts_with(dir));
    for mounted in below.collect::<Vec<_>>().into_iter().rev() {
        unmount(Path::new(mounted));
    }
    if let Err(error) = std::fs::remove_dir_all(dir) {
        println!("{} is left behind: {error}", dir.display());
    }
}

/// The loop device goes with the mount. If something still uses it, the system unmounts it when that ends.
fn unmount(dir: &Path) {
    let dir = dir.display().to_string();
    if run("umount", &[&dir]).is_err()
        && let Err(error) = run("umount", &["-l", &dir])
    {
        println!("{error}");
    }
}

fn free_bytes(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(0, |answer| answer.f_bavail.saturating_mul(answer.f_frsize))
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let path = format!("{}:{SYSTEM_PATH}", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

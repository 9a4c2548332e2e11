//! Whether there is room: a floor of free space below which new messages are refused, and a ballast file that is given up
//! when the disk is full nevertheless.
//!
//! Owns `<data>/BALLAST`. Asks the system at most every [`LOOK_EVERY`] or after a good piece of the floor was written.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock;
use crate::directory::Layout;
use crate::faults::Faults;
use crate::lock::lock;
use crate::{Options, Room};

/// How old the answer of the system may be.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The share of the floor that may be written before the system is asked again.
const LOOK_AFTER_SHARE: u64 = 16;

/// Spare files are kept only while this many times the floor is free beyond what other such work keeps free: by default 1.25 GiB, far
/// above where people are alarmed.
const SPARES_FLOORS: u64 = 8;

/// With less free space than this the ballast is given up before a store is opened.
const ROOM_TO_OPEN_BYTES: u64 = 1 << 20;

/// Watches the file system and the memory of the live overlay.
#[derive(Debug)]
pub(crate) struct RoomWatch {
    root: PathBuf,
    ballast: PathBuf,
    floor: u64,
    ballast_bytes: u64,
    hard_limit: u64,
    live_limit: u64,
    faults: Faults,
    written_since: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    looked: Option<Instant>,
    free: u64,
    disk_is_low: bool,
    memory_is_low: bool,
}

impl RoomWatch {
    pub(crate) fn new(layout: &Layout, options: &Options) -> Self {
        Self {
            root: layout.root.clone(),
            ballast: layout.ballast(),
            floor: options.free_floor_bytes,
            ballast_bytes: options.ballast_bytes,
            hard_limit: options.hard_limit(),
            live_limit: options.live_limit(),
            faults: options.faults.clone(),
            written_since: AtomicU64::new(0),
            state: Mutex::new(State {
                looked: None,
                free: u64::MAX,
                disk_is_low: false,
                memory_is_low: false,
            }),
        }
    }

    /// A directory on a full disk cannot be opened: that needs a journal file, and sled needs a little too.
    pub(crate) fn make_room_to_open(&self) {
        if self.ask_free() < ROOM_TO_OPEN_BYTES {
            self.give_up_ballast();
        }
    }

    /// Whether new messages may be accepted, with a live overlay that is so full. Low begins at the floor (or where
    /// what the live overlay may hold ends) and ends well above (or below) it, so that it does not flicker.
    pub(crate) fn room(&self, load: u64) -> Room {
        let mut state = lock(&self.state);
        self.look_if_due(&mut state);
        let memory_mark = if state.memory_is_low { self.live_limit / 4 * 3 } else { self.live_limit };
        state.memory_is_low = load >= memory_mark;
        if state.disk_is_low || state.memory_is_low { Room::Low } else { Room::Enough }
    }

    /// Whether the table may be written to. sled takes a full disk badly, so it stops while there is still some room.
    pub(crate) fn has_room_for_spill(&self) -> bool {
        let mut state = lock(&self.state);
        self.look_if_due(&mut state);
        state.free >= self.floor / 4
    }

    /// Whether files that nobody needs may be kept, and another of so many bytes: not where somebody could miss what they take.
    pub(crate) fn has_room_for_spare(&self, bytes: u64) -> bool {
        self.has_room_for(self.floor.saturating_mul(SPARES_FLOORS).saturating_add(bytes))
    }

    /// Whether the disk is so full that nothing new is accepted.
    pub(crate) fn is_disk_low(&self) -> bool {
        lock(&self.state).disk_is_low
    }

    /// Whether so many bytes may be written that nobody waits for.
    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        let mut state = lock(&self.state);
        self.look_if_due(&mut state);
        !state.disk_is_low && state.free >= self.floor.saturating_mul(2).saturating_add(bytes)
    }

    /// Where the memory of both overlays ends, bytes.
    pub(crate) fn hard_limit(&self) -> u64 {
        self.hard_limit
    }

    /// Free space when last looked at.
    pub(crate) fn free(&self) -> u64 {
        lock(&self.state).free
    }

    pub(crate) fn note_written(&self, bytes: u64) {
        self.written_since.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The disk is full: gives the ballast up. Whether that made room.
    pub(crate) fn give_up_ballast(&self) -> bool {
        let mut state = lock(&self.state);
        state.disk_is_low = self.floor > 0;
        state.looked = None;
        let is_gone = std::fs::remove_file(&self.ballast).is_ok();
        if is_gone {
            tracing::warn!(bytes = self.ballast_bytes, "the disk is full: the ballast was given up");
        }
        is_gone
    }

    fn look_if_due(&self, state: &mut State) {
        let is_old = state.looked.is_none_or(|looked| clock::now() - looked >= LOOK_EVERY);
        let wrote = self.written_since.load(Ordering::Relaxed);
        if is_old || wrote > self.floor / LOOK_AFTER_SHARE {
            self.look(state);
        }
    }

    fn look(&self, state: &mut State) {
        state.looked = Some(clock::now());
        self.written_since.store(0, Ordering::Relaxed);
        state.free = self.ask_free();
        let resume = self.floor.saturating_add(self.floor / 4);
        let mark = if state.disk_is_low { resume } else { self.floor };
        let is_low = state.free < mark;
        if is_low != state.disk_is_low {
            tracing::warn!(free_bytes = state.free, floor_bytes = self.floor, is_low, "room on disk changed");
        }
        state.disk_is_low = is_low;
        if state.free >= resume.saturating_add(self.ballast_bytes) {
            self.take_ballast();
        }
    }

    /// What the system says; no answer counts as enough, for then a write will tell.
    fn ask_free(&self) -> u64 {
        self.faults.free_bytes().unwrap_or_else(|| {
            rustix::fs::statvfs(&self.root)
                .map_or(u64::MAX, |answer| answer.f_bavail.saturating_mul(answer.f_frsize))
        })
    }

    /// Sets the ballast aside if it is not there. Without it the store works, with less of a reserve.
    fn take_ballast(&self) {
        if self.ballast_bytes == 0 || self.ballast.exists() {
            return;
        }
        let created = OpenOptions::new().create(true).truncate(true).write(true).open(&self.ballast);
        let flags = rustix::fs::FallocateFlags::empty();
        let reserved =
            created.and_then(|file| Ok(rustix::fs::fallocate(&file, flags, 0, self.ballast_bytes)?));
        if let Err(error) = reserved {
            tracing::warn!(%error, "no ballast could be set aside");
            let _ = std::fs::remove_file(&self.ballast);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(dir: &std::path::Path, faults: &Faults) -> RoomWatch {
        let options = Options {
            free_floor_bytes: 1000,
            ballast_bytes: 4096,
            faults: faults.clone(),
            overlay_bytes_max: 1024,
            ..Options::default()
        };
        let watch = RoomWatch::new(&Layout::new(dir), &options.checked());
        assert_eq!(watch.room(0), Room::Enough);
        watch
    }

    fn look(watch: &RoomWatch) -> Room {
        watch.note_written(1000);
        watch.room(0)
    }

    #[test]
    fn low_begins_at_the_floor_and_ends_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::planned();
        let watch = watch(dir.path(), &faults);
        for (free, room) in [
            (1001, Room::Enough),
            (999, Room::Low),
            (1100, Room::Low),
            (1250, Room::Enough),
            (1100, Room::Enough),
        ] {
            faults.set_free_bytes(Some(free));
            assert_eq!(look(&watch), room, "{free} bytes free");
        }
        assert!(watch.has_room_for_spill());
        faults.set_free_bytes(Some(249));
        look(&watch);
        assert!(!watch.has_room_for_spill());
    }

    #[test]
    fn low_memory_ends_well_below_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let watch = watch(dir.path(), &Faults::default());
        let rooms = [2047, 2048, 1700, 1535, 1700].map(|live| watch.room(live));
        assert_eq!(rooms, [Room::Enough, Room::Low, Room::Low, Room::Enough, Room::Enough]);
    }

    #[test]
    fn the_ballast_is_given_up_and_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::planned();
        let watch = watch(dir.path(), &faults);
        assert_eq!(std::fs::metadata(dir.path().join("BALLAST")).unwrap().len(), 4096);
        assert!(watch.give_up_ballast());
        assert!(!watch.give_up_ballast(), "it is gone");
        faults.set_free_bytes(Some(1300));
        assert_eq!(watch.room(0), Room::Enough);
        assert!(!dir.path().join("BALLAST").exists(), "there is not room for it yet");
        faults.set_free_bytes(Some(9000));
        look(&watch);
        assert!(dir.path().join("BALLAST").exists());
    }
}

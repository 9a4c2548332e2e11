//! A data directory to be damaged, with the truth about it, and the judge of what then happens.

mod judge;
mod salvaged;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use escrow_broker::records::keys::space;
use escrow_storage::{DiskStore, Key, KeyRange, Options, Read as _, Store as _};
use escrow_tests::rig::{BrokerProcess, Exhibit, Ports, Readout, Sent, escrow, exhibit_settings};

pub(crate) use judge::{Judge, Kind};

/// Records below `space` whose loss hides no message: they tell what happened to those.
const TELLING_SPACES: [u8; 2] = [space::STORY, space::CHAPTER];
/// A value that is shorter never lies in a file of values, where it could stand by chance.
const VALUE_BYTES_MIN: usize = 512;
/// How many sendings make an exhibit.
const ROUNDS: u32 = 160;

/// A directory and what is true of it.
pub(crate) struct Case {
    /// How its broker ended.
    pub(crate) name: &'static str,
    pub(crate) dir: PathBuf,
    /// Of the same contents.
    pub(crate) backup: PathBuf,
    /// What a broker on it shows.
    pub(crate) truth: Readout,
    /// Everything that was answered.
    pub(crate) sent: Vec<Sent>,
    /// Every record.
    pub(crate) records: BTreeMap<Key, Bytes>,
}

impl Case {
    /// The same exhibit, once killed and once stopped.
    pub(crate) async fn make(scratch: &Path, rng: fastrand::Rng) -> [Self; 2] {
        let (dir, backup) = (scratch.join("killed"), scratch.join("backup"));
        let ports = Ports::free();
        let mut broker = start(&dir, ports);
        let exhibit = Exhibit::make(&ports.url(), ROUNDS, rng).await;
        let words = ["store", "backup", "--to", text(&backup), "--url", &ports.url()];
        let taken = escrow(&words, judge::LIMIT).expect("the backup ends");
        assert!(taken.is_ok(), "{}", taken.words());
        broker.kill();

        let stopped = scratch.join("stopped");
        copy(&dir, &stopped);
        let mut broker = start(&stopped, ports);
        let truth = Readout::take(&ports.url()).await.expect("an undamaged broker answers");
        broker.stop().expect("it stops as it should");
        assert_eq!(truth.reports, Vec::<String>::new());
        // The truth itself is what was sent: else everything below would compare errors with errors.
        assert_eq!(judge::wrong_messages(&truth, &exhibit.sent, None), Vec::<String>::new());
        assert_eq!(judge::missing_messages(&truth, &exhibit.sent, u64::MAX), Vec::<String>::new());

        let probe = scratch.join("probe");
        copy(&dir, &probe);
        let records = records_of(&probe).expect("an undamaged store opens");
        let case = |name, dir| Self {
            name,
            dir,
            backup: backup.clone(),
            truth: truth.clone(),
            sent: exhibit.sent.clone(),
            records: records.clone(),
        };
        [case("killed", dir), case("stopped", stopped)]
    }
}

fn start(dir: &Path, ports: Ports) -> BrokerProcess {
    BrokerProcess::start(dir, ports, &exhibit_settings(), None).unwrap_or_else(|log| panic!("{log}"))
}

/// Paths of the rig are text.
fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary directory has a plain name")
}

/// Every record of a store, read in this process.
fn records_of(dir: &Path) -> Result<BTreeMap<Key, Bytes>, String> {
    let options = Options { ballast_bytes: 0, ..Options::default() };
    let (store, _) = DiskStore::open(dir, options).map_err(|error| error.to_string())?;
    let everything = KeyRange::new(Bytes::new(), Bytes::from(vec![0xff; 400]));
    let records = store.reader().scan(&everything, usize::MAX).map_err(|error| error.to_string())?;
    store.close().map_err(|error| error.to_string())?;
    Ok(records.into_iter().collect())
}

/// Copies a directory; `to` is emptied first.
fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).expect("a directory can be made");
    for entry in std::fs::read_dir(from).expect("it can be listed") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("a file can be copied");
        }
    }
}

/// The files below a directory, in order.
fn files_in(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("it can be listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_in(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// What is done to one file.
#[derive(Debug, Clone)]
struct Damage {
    /// Below the directory.
    file: PathBuf,
    offset: u64,
    /// Of the byte at `offset`; none: the file ends there.
    bit: Option<u8>,
}

impl Damage {
    /// Whether a message says where it is: the file; of the table, whose files are its library's business, the table; of a
    /// journal file of which so little is left that it is none, the journal.
    fn is_named_in(&self, message: &str) -> bool {
        let is_of_table = self.file.starts_with("table");
        let is_cut_journal = self.file.starts_with("journal") && self.bit.is_none();
        let part = match (is_of_table, is_cut_journal) {
            (true, _) => Path::new("table"),
            (_, true) => Path::new("journal"),
            _ => &self.file,
        };
        message.contains(text(part))
    }

    /// Any file, any place; bytes that are not zero are hit more often, for much of a file is slack.
    fn choose(dir: &Path, rng: &mut fastrand::Rng) -> Self {
        let files: Vec<_> = files_in(dir)
            .into_iter()
            .filter_map(|path| Some((std::fs::read(&path).ok().filter(|bytes| !bytes.is_empty())?, path)))
            .collect();
        // Half of the time by size, as accidents do, half of the time by file, so that small ones are hit too.
        let total: usize = files.iter().map(|(bytes, _)| bytes.len()).sum();
        let (bytes, path) = if rng.bool() {
            &files[rng.usize(0..files.len())]
        } else {
            let mut at = rng.usize(0..total);
            files
                .iter()
                .find(|(bytes, _)| {
                    let is_here = at < bytes.len();
                    at = at.wrapping_sub(bytes.len());
                    is_here
                })
                .expect("the place lies in one of them")
        };
        let used: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let offset = match used.is_empty() || rng.u8(0..4) == 0 {
            true => rng.usize(0..bytes.len()),
            false => used[rng.usize(0..used.len())],
        };
        let file = path.strip_prefix(dir).expect("it lies there").to_owned();
        let bit = (rng.u8(0..4) > 0).then(|| rng.u8(0..8));
        Self { file, offset: offset as u64, bit }
    }

    fn apply(&self, dir: &Path) {
        let path = dir.join(&self.file);
        match self.bit {
            Some(bit) => {
                let mut bytes = std::fs::read(&path).expect("it can be read");
                bytes[self.offset as usize] ^= 1 << bit;
                std::fs::write(&path, bytes).expect("it can be written");
            }
            None => {
                let file = File::options().write(true).open(&path).expect("it can be opened");
                file.set_len(self.offset).expect("it can be cut");
            }
        }
    }

    /// The messages that it hit, by the keys of their records, where it lies in a file of values: each value stands there as
    /// it was written. `None`: nobody can say, for it is elsewhere, where other records lead to messages; or it hit one
    /// that does.
    fn messages_hit(&self, case: &Case) -> Option<BTreeSet<Key>> {
        if !self.file.starts_with("values") {
            return None;
        }
        let file = std::fs::read(case.dir.join(&self.file)).expect("it can be read");
        let mut hit = BTreeSet::new();
        for (key, value) in case.records.iter().filter(|(_, value)| value.len() >= VALUE_BYTES_MIN) {
            let places = (0..file.len()).filter(|at| file[*at..].starts_with(value));
            if !places.into_iter().any(|at| self.is_in(at as u64, value.len() as u64)) {
                continue;
            }
            match key[0] {
                space::MESSAGE => drop(hit.insert(key.clone())),
                other if TELLING_SPACES.contains(&other) => {}
                _ => return None,
            }
        }
        Some(hit)
    }

    /// Whether it hit what lies at `at`, so many bytes long.
    fn is_in(&self, at: u64, length: u64) -> bool {
        let is_behind = self.offset < at + length;
        is_behind && (self.bit.is_none() || at <= self.offset)
    }

    /// A cut of the newest journal file of a broker that was killed looks like a last write that was torn there: what
    /// lay behind it is gone, and only what was torn can be named. No file system does that to synced bytes.
    fn passes_for_a_torn_write(&self, case: &Case) -> bool {
        let is_of_the_journal = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "log");
        let newest = files_in(&case.dir.join("journal")).into_iter().rfind(is_of_the_journal);
        let is_newest = newest.is_some_and(|newest| newest == case.dir.join(&self.file));
        case.name == "killed" && is_newest && self.bit.is_none()
    }
}

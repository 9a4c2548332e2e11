//! Reading the journal at a start: every frame of every file, and whether what is wrong is a torn last write or damage.
//!
//! Changes nothing. Must never call something a torn write that a torn write cannot explain.

use std::io;
use std::path::{Path, PathBuf};

use super::frame::{FRAME_HEADER_BYTES, Frame, HEADER_BYTES, Header, HeaderFault};
use super::{SUFFIX, is_leftover};
use crate::values::{FileId, Location};
use crate::{Batch, Epoch, OpenError, remedy};

/// One journal file as far as it is whole.
#[derive(Debug)]
pub(crate) struct FileScan {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    /// The sequence of the last whole batch; `first - 1` if there is none.
    pub(crate) last: u64,
    /// Where the last whole frame begins; the end of the header if there is none.
    pub(crate) last_frame_at: u64,
    /// Where the last whole frame ends.
    pub(crate) end: u64,
    /// The size of the file.
    pub(crate) size: u64,
    pub(crate) frames: u64,
    /// What follows the last whole frame.
    pub(crate) tail: Tail,
    /// How much of that is a torn last write, as far as can be told.
    pub(crate) torn_bytes: u64,
}

/// What follows the last whole frame of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing, or zeros written ahead.
    Clean,
    /// Bytes that are no frame and after which no frame follows.
    Torn,
    /// In a file that was written over an older one: what that one held there. Perhaps with parts of a last write of
    /// which the beginning never arrived.
    Old,
    /// Bytes that are no frame, and then the whole frame of this sequence: no single write can leave that.
    FrameAfter(u64),
}

/// Where the journal is damaged.
#[derive(Debug, Clone)]
pub(crate) struct Damage {
    pub(crate) path: PathBuf,
    /// Where in the file.
    pub(crate) offset: u64,
    pub(crate) fault: String,
    /// The sequence up to which everything is whole.
    pub(crate) good: u64,
}

impl Damage {
    pub(crate) fn into_error(self) -> OpenError {
        let repair = remedy::repair(remedy::root_above(&self.path, 2), "give up what follows the damage");
        OpenError::Damaged {
            fault: format!("at offset {}: {}; whole up to sequence {}", self.offset, self.fault, self.good),
            remedy: format!("{}, or {repair}", remedy::RESTORE),
            file: self.path,
        }
    }
}

/// A batch of the journal.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) sequence: u64,
    pub(crate) batch: Batch,
    /// Where its frame lies.
    pub(crate) at: Location,
}

/// The whole journal.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// In ascending order. The last one is the newest.
    pub(crate) files: Vec<FileScan>,
    /// The first damage; what lies behind it was not read.
    pub(crate) damage: Option<Damage>,
}

impl Scan {
    /// The highest epoch under which a file was begun.
    pub(crate) fn epoch(&self) -> Epoch {
        self.files.iter().map(|file| file.header.epoch).max().unwrap_or_default()
    }

    /// The last sequence of the journal.
    pub(crate) fn last(&self) -> u64 {
        self.files.last().map_or(0, |file| file.last)
    }

    /// How many bytes of a torn last write there are.
    pub(crate) fn torn_bytes(&self) -> u64 {
        self.files.last().filter(|file| file.tail == Tail::Torn).map_or(0, |file| file.torn_bytes)
    }
}

/// Reads all journal files of `dir`, and makes of each batch with a sequence above `after` what the caller needs of it, for
/// there may be more of them than fit the memory: ascending and without a gap. Damage is part of the answer.
///
/// # Errors
/// [`OpenError::Newer`], [`OpenError::NotOurs`] and [`OpenError::Io`].
pub(crate) fn scan<T>(dir: &Path, after: u64, keep: impl Fn(Kept) -> T) -> Result<(Scan, Vec<T>), OpenError> {
    let mut batches = Vec::new();
    let scan = scan_files(dir, &mut |kept| {
        if kept.sequence > after {
            batches.push((kept.sequence, keep(kept)));
        }
    })?;
    // Of a file that does not follow the one before it.
    batches.retain(|(sequence, _)| *sequence <= scan.last());
    Ok((scan, batches.into_iter().map(|(_, kept)| kept).collect()))
}

fn scan_files(dir: &Path, keep: &mut impl FnMut(Kept)) -> Result<Scan, OpenError> {
    let mut scan = Scan::default();
    let paths = file_paths(dir)?;
    let newest = paths.last().cloned();
    for path in paths {
        let is_newest = Some(&path) == newest.as_ref();
        let read = scan_file(&path, keep)?;
        let good = scan.last();
        let file = match read {
            Ok(file) => file,
            Err(fault) => {
                scan.damage = Some(Damage { path, offset: 0, fault, good });
                return Ok(scan);
            }
        };
        let damage = gap_before(&file, scan.files.last()).or_else(|| damage_in(&file, is_newest));
        let follows = gap_before(&file, scan.files.last()).is_none();
        if follows {
            scan.files.push(file);
        }
        if damage.is_some() {
            scan.damage = damage;
            return Ok(scan);
        }
    }
    Ok(scan)
}

/// Checks a file that takes no more frames and ended with sequence `last` (`None`: not known); the number of its frames.
pub(crate) fn check_closed(path: &Path, last: Option<u64>) -> Result<u64, OpenError> {
    let damage = match scan_file(path, &mut |_| {})? {
        Ok(file) => match damage_in(&file, false).or_else(|| short_of(&file, last)) {
            None => return Ok(file.frames),
            Some(damage) => damage,
        },
        Err(fault) => Damage { path: path.into(), offset: 0, fault, good: 0 },
    };
    Err(damage.into_error())
}

/// The journal files behind `path`.
pub(crate) fn paths_behind(dir: &Path, path: &Path) -> Result<Vec<PathBuf>, OpenError> {
    Ok(file_paths(dir)?.into_iter().filter(|other| other.as_path() > path).collect())
}

/// What can be told of all journal files, damaged or not.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    pub(crate) paths: Vec<PathBuf>,
    /// The highest epoch and the highest sequence that can be read anywhere.
    pub(crate) epoch: Epoch,
    pub(crate) last: u64,
    /// Whether a header, and with it an epoch, cannot be read.
    pub(crate) has_unreadable: bool,
}

impl Remains {
    /// Reads every file of `dir` as far as it goes.
    pub(crate) fn of(dir: &Path) -> Result<Self, OpenError> {
        let mut remains = Self { paths: file_paths(dir)?, ..Self::default() };
        for path in remains.paths.clone() {
            match scan_file(&path, &mut |_| {})? {
                Ok(file) => {
                    remains.epoch = remains.epoch.max(file.header.epoch);
                    let behind =
                        if let Tail::FrameAfter(_) = file.tail { highest_in(&path, &file)? } else { 0 };
                    remains.last = remains.last.max(file.last).max(behind);
                }
                Err(_) => remains.has_unreadable = true,
            }
        }
        Ok(remains)
    }
}

/// The highest sequence of any whole frame behind the damage in `file`.
fn highest_in(path: &Path, file: &FileScan) -> Result<u64, OpenError> {
    let bytes = std::fs::read(path).map_err(|source| io_error(path, source))?;
    let salt = file.header.salt();
    let mut highest = 0;
    let mut offset = file.end as usize;
    while let Some(rest) = bytes.get(offset..).filter(|rest| rest.len() > FRAME_HEADER_BYTES) {
        let found = could_be_later(rest, file.last).then(|| Frame::read(rest, salt)).flatten();
        highest = highest.max(found.map_or(0, |frame| frame.sequence));
        offset += found.map_or(1, |frame| frame.size());
    }
    Ok(highest)
}

/// Sequences are contiguous over files.
fn gap_before(file: &FileScan, previous: Option<&FileScan>) -> Option<Damage> {
    let previous = previous?;
    let fault = if file.header.first != previous.last + 1 {
        format!("begins with sequence {} after sequence {}", file.header.first, previous.last)
    } else if file.header.epoch < previous.header.epoch {
        format!("has epoch {} after epoch {}", file.header.epoch.0, previous.header.epoch.0)
    } else {
        return None;
    };
    Some(Damage { path: file.path.clone(), offset: 0, fault, good: previous.last })
}

/// A closed file that has lost its end.
fn short_of(file: &FileScan, last: Option<u64>) -> Option<Damage> {
    let last = last.filter(|last| *last != file.last)?;
    let fault = format!("ends with sequence {} instead of {last}", file.last);
    Some(Damage { path: file.path.clone(), offset: file.end, fault, good: file.last })
}

/// Only the end of the newest file may be torn. Old bytes behind the last frame are none of the journal's; were they in
/// place of a frame, then a file that follows begins too late, and the newest ends before `committed`.
fn damage_in(file: &FileScan, is_newest: bool) -> Option<Damage> {
    let fault = match file.tail {
        Tail::Clean | Tail::Old => return None,
        Tail::Torn if is_newest => return None,
        Tail::Torn => "a frame is damaged, and a later journal file exists".into(),
        Tail::FrameAfter(sequence) => {
            format!("a frame is damaged, and the whole frame of sequence {sequence} follows")
        }
    };
    Some(Damage { path: file.path.clone(), offset: file.end, fault, good: file.last })
}

/// Reads one file and hands each of its whole batches to `keep`. The inner error says why it is no journal file.
pub(crate) fn scan_file(
    path: &Path,
    keep: &mut impl FnMut(Kept),
) -> Result<Result<FileScan, String>, OpenError> {
    let bytes = std::fs::read(path).map_err(|source| io_error(path, source))?;
    scan_bytes(path, &bytes, keep)
}

/// [`scan_file`] on what the file holds.
pub(crate) fn scan_bytes(
    path: &Path,
    bytes: &[u8],
    keep: &mut impl FnMut(Kept),
) -> Result<Result<FileScan, String>, OpenError> {
    let header = match Header::decode(bytes) {
        Ok(header) => header,
        Err(HeaderFault::Damaged(fault)) => return Ok(Err(fault.to_owned())),
        Err(HeaderFault::Newer(found)) => {
            return Err(OpenError::Newer { path: path.into(), found, supported: super::frame::FORMAT });
        }
    };
    if super::file_path(path.parent().unwrap_or(Path::new("")), header.first) != path {
        return Ok(Err(format!("its name does not fit its first sequence {}", header.first)));
    }
    let salt = header.salt();
    let mut file = FileScan {
        path: path.into(),
        header,
        last: header.first.saturating_sub(1),
        last_frame_at: HEADER_BYTES as u64,
        end: HEADER_BYTES as u64,
        size: bytes.len() as u64,
        frames: 0,
        tail: Tail::Clean,
        torn_bytes: 0,
    };
    let mut rest = &bytes[HEADER_BYTES..];
    while let Some(frame) = Frame::read(rest, salt) {
        if header.is_reused && frame.sequence < header.first {
            // A frame of the older file whose checksum fits this one by chance.
            break;
        }
        if let (Some(batch), true) = (frame.batch(), frame.sequence == file.last + 1) {
            let at = Location { file: FileId::journal(header.first), offset: file.end };
            keep(Kept { sequence: frame.sequence, batch, at });
            file.last = frame.sequence;
            file.frames += 1;
        } else {
            // A fitting checksum over nonsense or out of order: our own fault or a forgery, in any case no torn write.
            file.tail = Tail::FrameAfter(frame.sequence);
            return Ok(Ok(file));
        }
        rest = &rest[frame.size()..];
        file.last_frame_at = file.end;
        file.end += frame.size() as u64;
    }
    file.tail = tail_of(rest, salt, file.last);
    if file.tail == Tail::Torn {
        file.torn_bytes = rest.len() as u64;
        if header.is_reused {
            match begun_frame(rest, file.last) {
                Some(bytes) => file.torn_bytes = bytes.min(file.torn_bytes),
                None => (file.tail, file.torn_bytes) = (Tail::Old, 0),
            }
        }
    }
    Ok(Ok(file))
}

/// How long the frame behind sequence `last` was to be, if `rest` begins with its head.
fn begun_frame(rest: &[u8], last: u64) -> Option<u64> {
    let head = rest.get(..FRAME_HEADER_BYTES)?;
    let length = u32::from_be_bytes(head[..4].try_into().expect("four bytes were taken"));
    let sequence = u64::from_be_bytes(head[8..].try_into().expect("eight bytes were taken"));
    (sequence == last + 1).then_some(FRAME_HEADER_BYTES as u64 + u64::from(length))
}

/// What `rest`, which does not begin with a whole frame, is. A write that was under way can leave any bytes, but only
/// those of one frame: if a whole later frame is found behind them, an acknowledged frame was damaged.
fn tail_of(rest: &[u8], salt: u32, last: u64) -> Tail {
    // Zeros at the very end are what was written ahead; no frame reaches into them unseen.
    let used = rest.len() - rest.iter().rev().take_while(|byte| **byte == 0).count();
    if used == 0 {
        return Tail::Clean;
    }
    for offset in 1..used.max(1) {
        let Some(candidate) = rest.get(offset..) else { break };
        if !could_be_later(candidate, last) {
            continue;
        }
        if let Some(frame) = Frame::read(candidate, salt) {
            return Tail::FrameAfter(frame.sequence);
        }
    }
    Tail::Torn
}

/// Whether the sequence field makes a checksum worth the time: later than `last`, by less than a file can hold.
fn could_be_later(candidate: &[u8], last: u64) -> bool {
    let Some(field) = candidate.get(8..FRAME_HEADER_BYTES) else { return false };
    let sequence = u64::from_be_bytes(field.try_into().expect("eight bytes were taken"));
    sequence > last && sequence - last <= candidate.len() as u64
}

/// The journal files of `dir` in ascending order; a foreign name is refused.
fn file_paths(dir: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|source| io_error(dir, source))? {
        let path = entry.map_err(|source| io_error(dir, source))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = name.strip_suffix(SUFFIX).unwrap_or_default();
        if stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit()) {
            paths.push(path);
        } else if !is_leftover(&name) {
            return Err(OpenError::NotOurs { path: dir.into(), fault: format!("it holds {name}") });
        }
    }
    paths.sort();
    Ok(paths)
}

fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.into(), source }
}

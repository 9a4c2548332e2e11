//! Making durable at a start what an earlier process may have left in the system's memory only.
//!
//! A scan reads what the system shows, which is not what the disk holds. Nothing may rely on a scan (begin the next file,
//! raise the watermark, show a batch) before this is done.

use std::io;

use super::file::JournalFile;
use super::frame::Frame;
use super::{FileScan, Scan};
use crate::directory::io_error;
use crate::{Faults, OpenError};

/// Makes every whole frame of `scan` durable. Up to `committed` they are known to be.
///
/// # Errors
/// [`OpenError::Io`]: what is on disk is not known. Nothing was changed; the next start tries it again.
pub(crate) fn make_durable(scan: &Scan, committed: u64, faults: &Faults) -> Result<(), OpenError> {
    // The files before were synced before the next one was begun: by the writer, or by the start that began it.
    let Some(newest) = scan.files.iter().rev().find(|file| file.frames > 0) else { return Ok(()) };
    let synced = JournalFile::open(&newest.path, faults).and_then(|file| {
        if newest.last > committed {
            write_last_frame_again(&file, newest)?;
        }
        file.sync_all()
    });
    synced.map_err(|source| io_error(&newest.path, source))
}

/// Writes the last frame over itself, so that the sync that follows has something to write.
///
/// After a kill between a write and its sync, a sync alone would do. After a sync that failed it would not: Linux marks
/// the pages clean although they were not written, goes on to show their bytes, and lets the next sync succeed
/// ("fsyncgate": Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020). One frame is enough,
/// for the writer never writes behind one that it has not synced.
fn write_last_frame_again(file: &JournalFile, scanned: &FileScan) -> io::Result<()> {
    let mut bytes = vec![0; (scanned.end - scanned.last_frame_at) as usize];
    file.read(&mut bytes, scanned.last_frame_at)?;
    // The system may have dropped such a page since the scan and read the disk again: never write what is not the frame.
    let frame = Frame::read(&bytes, scanned.header.salt());
    if frame.is_none_or(|frame| frame.sequence != scanned.last || frame.size() != bytes.len()) {
        let fault = format!("the frame at offset {} changed while it was read", scanned.last_frame_at);
        return Err(io::Error::other(fault));
    }
    file.write(&bytes, scanned.last_frame_at)
}

//! Doors for fuzzers: what of this crate reads bytes that nobody has checked, without a disk around it.
//!
//! Each takes any bytes and asserts what must hold of them. Random bytes rarely have a fitting checksum, so each tries
//! them twice: as they are, and as the contents of something whose checksums fit. Not for any other use.

use std::path::Path;

use crate::backup::Writer;
use crate::codec::{self, Cursor};
use crate::journal::frame::{self, FRAME_HEADER_BYTES, HEADER_BYTES, Header};
use crate::journal::{Kept, Tail, file_path, scan_bytes};
use crate::restore::{Backup, record as backup_record};
use crate::table::block;
use crate::table::legacy::record;
use crate::{Epoch, Key, RestoreError, Sequence, watermark};

/// A journal file, up to every way in which it can end.
///
/// # Panics
/// If what was read is not what the bytes say.
pub fn journal(bytes: &[u8]) {
    journal_file(bytes);
    journal_file(&sealed_journal(bytes));
}

fn journal_file(bytes: &[u8]) {
    let first = Header::decode(bytes).map_or(1, |header| header.first);
    let path = file_path(Path::new("journal"), first);
    let mut batches = Vec::new();
    let Ok(Ok(scan)) = scan_bytes(&path, bytes, &mut |kept: Kept| batches.push((kept.sequence, kept.batch)))
    else {
        assert!(batches.is_empty(), "batches of what is no journal file");
        return;
    };
    assert_eq!(batches.len() as u64, scan.frames);
    assert!(scan.end <= scan.size && scan.last_frame_at <= scan.end && scan.end >= HEADER_BYTES as u64);
    for (before, after) in batches.iter().zip(batches.iter().skip(1)) {
        assert_eq!(before.0.checked_add(1), Some(after.0), "a gap between two batches");
    }
    let mut edits = Vec::new();
    for (sequence, batch) in &batches {
        assert!(*sequence <= scan.last && !batch.is_empty());
        edits.clear();
        codec::encode_edits(batch, &mut edits);
        assert_eq!(codec::decode_edits(&edits).as_ref(), Some(batch), "a batch does not survive writing");
    }
    match scan.tail {
        Tail::Clean => {
            let rest = &bytes[scan.end as usize..];
            assert!(rest.iter().all(|byte| *byte == 0), "a clean end hides bytes");
        }
        Tail::Old => assert!(scan.header.is_reused, "old bytes in a file that never had any"),
        Tail::Torn => assert!(scan.torn_bytes <= scan.size - scan.end),
        Tail::FrameAfter(_) => {}
    }
}

/// A journal file with fitting checksums. `bytes`: the first sequence u64, then pieces {length u8, edits}; what is left
/// over in the end follows as it is.
fn sealed_journal(bytes: &[u8]) -> Vec<u8> {
    let mut cursor = Cursor::new(bytes);
    let header = Header { epoch: Epoch(1), first: cursor.u64().unwrap_or(1).max(1), is_reused: false };
    let mut out = header.encode().to_vec();
    let mut sequence = header.first;
    while let Some(length) = cursor.u8().map(usize::from) {
        let Some(edits) = cursor.take(length) else { break };
        let mut framed = vec![0; FRAME_HEADER_BYTES];
        framed.extend_from_slice(edits);
        frame::finish(sequence, header.salt(), &mut framed);
        out.extend_from_slice(&framed);
        sequence = sequence.wrapping_add(1);
    }
    out
}

/// A backup.
///
/// # Panics
/// If a whole one is refused, or one that is not whole is taken.
pub fn backup(bytes: &[u8]) {
    // What came of it: at random, nothing whole.
    let _ = read_backup(bytes);
    let mut block = Cursor::new(bytes);
    let mut keys: Vec<Key> = Vec::new();
    let mut sealed = Vec::new();
    let mut writer =
        Writer::begin(&mut sealed, Epoch(1), Sequence(1)).expect("memory takes all that is written");
    let mut in_order = true;
    while let Some((key, value)) = backup_record(&mut block) {
        in_order &= keys.last().is_none_or(|last| *last < key);
        writer.add(&key, &value).expect("memory takes all that is written");
        keys.push(key);
    }
    let (records, _, _) = writer.finish().expect("memory takes all that is written");
    match read_backup(&sealed) {
        Ok(read) => assert!(in_order && read == records && records == keys.len() as u64),
        Err(_) => assert!(!in_order, "a whole backup was refused"),
    }
    assert!(read_backup(&sealed[..sealed.len() - 1]).is_err(), "a backup without its end was taken");
    let bit = bytes.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let at = (bit / 8) % sealed.len();
    sealed[at] ^= 1 << (bit % 8);
    assert!(read_backup(&sealed).is_err(), "a backup with a flipped bit was taken");
    sealed_block(bytes);
}

/// Bytes that are no records, in a block whose checksum fits: refused, never taken for something else.
fn sealed_block(bytes: &[u8]) {
    let mut sealed = Vec::new();
    let mut writer =
        Writer::begin(&mut sealed, Epoch(1), Sequence(1)).expect("memory takes all that is written");
    writer.block.extend_from_slice(bytes);
    writer.finish().expect("memory takes all that is written");
    // Its count says none: with a record in it, it is not whole.
    assert_eq!(read_backup(&sealed).is_ok(), bytes.is_empty());
}

fn read_backup(mut bytes: &[u8]) -> Result<u64, RestoreError> {
    let mut backup = Backup::open(&mut bytes)?;
    backup.each_record(|_, _| Ok(()))?;
    Ok(backup.records)
}

/// A block of the table, a record of format 1, and the store's own: `bytes` are {key length u8, key, block or head}.
///
/// # Panics
/// If a value is served that was not stored under its key.
pub fn stored(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let (key, rest) = match cursor.u8().and_then(|length| cursor.take(usize::from(length))) {
        Some(key) => (key, &bytes[1 + key.len()..]),
        None => (&[][..], bytes),
    };
    block::fuzz(key, rest);
    // Nothing is known of these but that they must not bring the reader down.
    let _ = record::key_of_part(bytes);
    if let Ok(head) = record::Head::decode(rest)
        && let Ok(value) = head.value(key, &[] as &[&[u8]])
    {
        assert_eq!(record::encode(key, &value).head, rest, "a value has two written forms");
    }
    let stored = record::encode(key, rest);
    let whole = record::Head::decode(&stored.head).and_then(|head| head.value(key, &stored.parts));
    assert_eq!(whole.as_deref(), Ok(rest), "a value does not survive writing");
    let elsewhere = [key, b"x"].concat();
    let moved = record::Head::decode(&stored.head).and_then(|head| head.value(&elsewhere, &stored.parts));
    assert!(moved.is_err(), "a value was served under another key");
    if let Ok(slot) = <&[u8; watermark::SLOT_BYTES]>::try_from(bytes)
        && let Some((generation, mark)) = watermark::decode(slot)
    {
        assert_eq!(&watermark::encode(generation, mark), slot, "a mark has two written forms");
    }
}

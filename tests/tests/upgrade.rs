//! A data directory of each released format opens, with everything in it; a newer one is refused and says so; and no
//! record, file or table changes its bytes without a new format number.
//!
//! The directories lie in `tests/fixtures/formats/<number>/`, with `records.txt`, the written list of what is in them, and
//! `messages.txt`, what a group gets. They are made once, when a format is released, and never changed:
//! `ESCROW_WRITE_FIXTURE=1 cargo test -p escrow-tests --test upgrade`.

mod upgrade_case;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use escrow_broker::records::keys::space;
use escrow_storage::{FORMAT, OpenError, Options, verify};
use escrow_tests::rig::{BrokerProcess, Exhibit, Ports, Readout, Trials, escrow, exhibit_settings};
use upgrade_case::{copy, described, records_of};

/// How many sendings make a fixture.
const ROUNDS: u32 = 60;
const LIMIT: Duration = Duration::from_secs(30);

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/formats")
}

/// The formats that are kept, and their directories.
fn formats() -> BTreeMap<u32, PathBuf> {
    let entries = std::fs::read_dir(fixtures()).expect("fixtures are kept");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let number = |path: &Path| path.file_name()?.to_str()?.parse().ok();
    paths.map(|path| (number(&path).expect("a format's number"), path)).collect()
}

/// A copy that a test may open.
fn opened_copy(kept: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    copy(&kept.join("data"), &dir.path().join("data"));
    dir
}

fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn words(path: &Path) -> &str {
    path.to_str().expect("a plain name")
}

/// What the group that finishes nothing gets: the same for ever.
fn messages_in(readout: &Readout) -> BTreeSet<String> {
    let lines = readout.lines.iter().filter(|(place, _)| place.starts_with("delivered to slow"));
    lines.map(|(place, line)| format!("{place}: {line}")).collect()
}

fn start(dir: &Path, ports: Ports) -> BrokerProcess {
    BrokerProcess::start(dir, ports, &exhibit_settings(), None).unwrap_or_else(|log| panic!("{log}"))
}

/// Makes the fixture of the present format, unless there is one.
async fn write_fixture() {
    let target = fixtures().join(FORMAT.to_string());
    assert!(!target.exists(), "{} is kept for ever; a new format has a new number", target.display());
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let (dir, ports) = (scratch.path().join("data"), Ports::free());
    let mut broker = start(&dir, ports);
    Exhibit::make(&ports.url(), ROUNDS, fastrand::Rng::with_seed(1)).await;
    let readout = Readout::take(&ports.url()).await.expect("the broker answers");
    broker.stop().expect("it stops");
    // What a process holds, or makes again, is not kept.
    for name in ["LOCK", "BALLAST"] {
        std::fs::remove_file(dir.join(name)).expect("it is there");
    }
    copy(&dir, &target.join("data"));
    let messages: Vec<_> = messages_in(&readout).into_iter().collect();
    std::fs::write(target.join("messages.txt"), messages.join("\n") + "\n").expect("written");
    std::fs::write(target.join("records.txt"), described(&records_of(&dir))).expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_each_released_format_opens_with_everything_in_it() {
    if std::env::var_os("ESCROW_WRITE_FIXTURE").is_some() {
        write_fixture().await;
    }
    let formats = formats();
    assert!(formats.contains_key(&FORMAT), "the present format has no fixture; see the top of this file");
    let trials = Trials::of("upgrade", "formats", formats.len() as u64);
    let (mut failures, mut records) = (Vec::new(), 0);
    for (number, kept) in &formats {
        let scratch = opened_copy(kept);
        let dir = scratch.path().join("data");
        let report = verify(&dir, &Options::default()).expect("it can be looked at");
        if !report.is_whole() {
            failures.push(format!("format {number}: {:?}", report.findings));
            continue;
        }
        // A migration may write other bytes: what they say stays. Of the present format not a byte differs.
        let found = records_of(&dir);
        records += found.len();
        if described(&found) != text_of(&kept.join("records.txt")) {
            failures.push(format!("format {number}: its records do not say what they said"));
        }
        let missing: Vec<_> = (space::COUNTERS..=space::JOB_PROGRESS)
            .filter(|space| !found.keys().any(|key| key[0] == *space))
            .collect();
        assert_eq!(missing, Vec::<u8>::new(), "format {number} is kept without these kinds of records");

        let ports = Ports::free();
        let mut broker = start(&dir, ports);
        let readout = Readout::take(&ports.url()).await.expect("the broker answers");
        broker.stop().expect("it stops");
        let got = messages_in(&readout);
        let promised = text_of(&kept.join("messages.txt"));
        failures.extend(
            promised
                .lines()
                .filter(|line| !got.contains(*line))
                .map(|line| format!("format {number}: {line}")),
        );
        failures.extend(readout.reports);
    }
    trials.finish(formats.len() as u64, &format!("{records} records"), &failures);
}

#[test]
fn no_record_changes_its_bytes_within_a_format() {
    let kept = formats().remove(&FORMAT).expect("the present format is kept");
    let scratch = opened_copy(&kept);
    let records = records_of(&scratch.path().join("data"));
    for (key, value) in &records {
        let again = upgrade_case::written_again(key, value);
        assert_eq!(
            again,
            *value,
            "record {} is written in other bytes: that is a new format",
            upgrade_case::hex(key)
        );
    }
    assert!(records.len() > 300, "{}", records.len());
}

/// A directory whose format is one higher.
fn newer(scratch: &Path) -> PathBuf {
    let dir = scratch.join("data");
    let text = format!("escrow store\nformat {}\n", FORMAT + 1);
    let crc = crc32(text.as_bytes());
    std::fs::write(dir.join("FORMAT"), format!("{text}crc32 {crc:08x}\n")).expect("written");
    dir
}

/// CRC-32 (IEEE), bit by bit: docs/format.md is enough to write a file.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

#[test]
fn a_newer_directory_is_refused_and_says_what_to_do() {
    let kept = formats().remove(&FORMAT).expect("the present format is kept");
    let scratch = opened_copy(&kept);
    let dir = newer(scratch.path());
    let before = records_text(&dir);
    let url = Ports::free();
    let refused =
        BrokerProcess::start(&dir, url, &exhibit_settings(), None).err().expect("it does not start");
    let saved = scratch.path().join("saved");
    let mut said = vec![refused];
    for command in [
        vec!["store", "verify", "--data-dir", words(&dir)],
        vec!["store", "backup", "--to", words(&saved), "--data-dir", words(&dir)],
        vec!["store", "repair", "--yes", "--data-dir", words(&dir)],
        vec!["store", "repair", "--data-dir", words(&dir), "--salvage-into", words(&saved)],
    ] {
        let ran = escrow(&command, LIMIT).expect("it ends");
        assert!(!ran.is_ok(), "{command:?}");
        said.push(ran.words());
    }
    for text in said {
        for word in [format!("format {}", FORMAT + 1), format!("up to {FORMAT}"), "newer release".to_owned()]
        {
            assert!(text.contains(&word), "{word:?} is not in {text}");
        }
    }
    assert_eq!(records_text(&dir), before, "a directory that is refused is not touched");
}

/// Every file of a directory but its lock, for comparing.
fn records_text(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = upgrade_case::files_in(dir);
    files.retain(|path| !path.ends_with("LOCK"));
    files.into_iter().map(|path| (path.clone(), std::fs::read(&path).expect("it can be read"))).collect()
}

#[test]
fn a_newer_journal_file_is_refused_too() {
    let kept = formats().remove(&FORMAT).expect("the present format is kept");
    let scratch = opened_copy(&kept);
    let dir = scratch.path().join("data");
    let newest = upgrade_case::files_in(&dir.join("journal")).pop().expect("there is one");
    let mut bytes = std::fs::read(&newest).expect("it can be read");
    // magic, format, epoch, first sequence, zeros, crc: as docs/format.md draws it.
    bytes[8..12].copy_from_slice(&(FORMAT + 1).to_be_bytes());
    let crc = crc32(&bytes[..36]);
    bytes[36..40].copy_from_slice(&crc.to_be_bytes());
    std::fs::write(&newest, bytes).expect("it can be written");
    let error = verify(&dir, &Options::default()).expect_err("it is newer");
    assert!(matches!(error, OpenError::Newer { found, .. } if found == FORMAT + 1), "{error}");
}

//! One trial: damage a copy, look at it as a person would, and follow what the messages say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use escrow_broker::records::keys;
use escrow_tests::rig::{
    BrokerProcess, EXHIBIT_GROUPS, Fate, Ports, Readout, Sent, commands_in, escrow, exhibit_settings, fresh,
};

use super::{Case, Damage, copy, salvaged, text};

/// Whatever takes longer hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// Restoring is the same whatever was damaged: it is followed this often.
const RESTORE_EVERY: u64 = 8;
/// So many differences are shown.
const SHOWN_MAX: usize = 4;

/// What came of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Everything is there: it hit slack, or what is written again.
    Harmless,
    /// It was detected and named.
    Named,
    /// A cut of the newest journal file that a torn write explains.
    Torn,
    /// It failed.
    Failed,
}

/// Tries and judges.
pub(crate) struct Judge {
    scratch: PathBuf,
    ports: Ports,
    pub(crate) counts: BTreeMap<Kind, u64>,
    /// Commands that were followed, by their verb.
    followed: BTreeMap<&'static str, u64>,
    pub(crate) failures: Vec<String>,
}

impl Judge {
    pub(crate) fn new(scratch: &Path) -> Self {
        Self {
            scratch: scratch.to_owned(),
            ports: Ports::free(),
            counts: BTreeMap::new(),
            followed: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    /// What was come across, in words.
    pub(crate) fn seen(&self) -> String {
        format!("{:?}, remedies followed: {:?}", self.counts, self.followed)
    }

    pub(crate) async fn try_one(&mut self, trial: u64, case: &Case, rng: &mut fastrand::Rng) {
        let damage = Damage::choose(&case.dir, rng);
        let kind = match self.examine(trial, case, &damage).await {
            Ok(kind) => kind,
            Err(fault) => {
                self.failures.push(format!("trial {trial}: {} {damage:?}: {fault}", case.name));
                println!("{}", self.failures.last().expect("just pushed"));
                Kind::Failed
            }
        };
        *self.counts.entry(kind).or_default() += 1;
    }

    async fn examine(&mut self, trial: u64, case: &Case, damage: &Damage) -> Result<Kind, String> {
        let damaged = self.scratch.join("damaged");
        copy(&case.dir, &damaged);
        damage.apply(&damaged);
        let work = self.scratch.join("work");
        copy(&damaged, &work);

        let verified = escrow(&["store", "verify", "--data-dir", text(&work)], LIMIT)?;
        let is_sound = verified.is_ok();
        let mut message = if is_sound { String::new() } else { verified.words() };
        let mut reports = Vec::new();
        if !is_sound {
            reports.push(format!("verify: {message}"));
        }
        let mut differences = Vec::new();
        match self.look(&work).await? {
            Seen::Refused(words) => {
                if is_sound {
                    return Err(format!("verify finds nothing, and the broker does not start: {words}"));
                }
                message.push_str(&words);
            }
            Seen::Read(readout, log) => {
                let wrong = wrong_messages(&readout, &case.sent, Some(&case.truth));
                if !wrong.is_empty() {
                    return Err(shown("wrong", &wrong));
                }
                let unexplained = unexplained(&readout, case, damage);
                if !unexplained.is_empty() {
                    return Err(shown("missing, and not among what was hit", &unexplained));
                }
                differences = differences_of(&readout, &case.truth);
                reports.extend(readout.reports);
                reports.extend(log);
            }
        }
        if !differences.is_empty() && reports.is_empty() {
            return match damage.passes_for_a_torn_write(case) {
                true => Ok(Kind::Torn),
                false => Err(shown("silently", &differences)),
            };
        }
        if is_sound {
            let kind = if reports.is_empty() { Kind::Harmless } else { Kind::Named };
            return Ok(kind);
        }
        if !damage.is_named_in(&message) {
            return Err(format!("the file is not named: {message}"));
        }
        self.follow(trial, case, &damaged, &message).await?;
        Ok(Kind::Named)
    }

    /// Types every command that the message names, each on the directory as it was damaged.
    async fn follow(&mut self, trial: u64, case: &Case, damaged: &Path, message: &str) -> Result<(), String> {
        let empty = self.scratch.join("empty");
        let commands = commands_in(message, text(&case.backup), text(&empty));
        if !commands
            .iter()
            .any(|words| words[..2] == ["store", "restore"] || words[..2] == ["store", "repair"])
        {
            return Err(format!("no remedy is named: {message}"));
        }
        for command in commands {
            let work = self.scratch.join("work");
            copy(damaged, &work);
            fresh(&self.scratch, "empty");
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            let context = |fault: String| format!("{message}\n  following {words:?}: {fault}");
            match words[1] {
                "restore" if trial.is_multiple_of(RESTORE_EVERY) => {
                    *self.followed.entry("restore").or_default() += 1;
                    self.restored(case, &words, &empty).await.map_err(context)?;
                }
                "repair" if words.contains(&"--salvage-into") => {
                    *self.followed.entry("salvage").or_default() += 1;
                    self.saved(case, &words, &empty).await.map_err(context)?;
                }
                "repair" => {
                    *self.followed.entry("repair").or_default() += 1;
                    self.repaired(case, &words, &work).await.map_err(context)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn restored(&self, case: &Case, words: &[&str], empty: &Path) -> Result<(), String> {
        succeed(words)?;
        let Seen::Read(readout, _) = self.look(empty).await? else { return Err("it does not start".into()) };
        let differences = differences_of(&readout, &case.truth);
        if differences.is_empty() { Ok(()) } else { Err(shown("restored, but", &differences)) }
    }

    async fn repaired(&self, case: &Case, words: &[&str], work: &Path) -> Result<(), String> {
        let said = succeed(&[words, &["--yes"]].concat())?;
        let (readout, reports) = match self.look(work).await? {
            Seen::Read(readout, log) => {
                let reports: Vec<_> = log.into_iter().chain(readout.reports.clone()).collect();
                (readout, reports)
            }
            // What the engine rests on was among the commits given up: only a backup has it.
            Seen::Refused(words) if words.contains("escrow store restore") => return Ok(()),
            Seen::Refused(words) => return Err(format!("{said}\n  the broker does not start: {words}")),
        };
        let wrong = wrong_messages(&readout, &case.sent, Some(&case.truth));
        if !wrong.is_empty() {
            return Err(shown("wrong after the repair", &wrong));
        }
        let lost = match salvaged::first_number_after(&said, "commits ") {
            Some(first) => missing_messages(&readout, &case.sent, first),
            None => differences_of(&readout, &case.truth),
        };
        if lost.is_empty() || !reports.is_empty() {
            return Ok(());
        }
        Err(shown(&format!("{said}: but"), &lost))
    }

    async fn saved(&self, case: &Case, words: &[&str], empty: &Path) -> Result<(), String> {
        let said = succeed(words)?;
        let gaps = salvaged::Gaps::parse(&said);
        let probe = self.scratch.join("probe");
        copy(empty, &probe);
        salvaged::judge(&super::records_of(&probe)?, &case.records, &gaps)?;
        let seen = match self.look(empty).await {
            // Its group was among what is named as lost: there is nobody to read as. The records were judged above.
            Err(fault) if gaps.is_lossy() && fault.contains("does not exist yet") => return Ok(()),
            seen => seen?,
        };
        match seen {
            Seen::Read(readout, _) => {
                let wrong = wrong_messages(&readout, &case.sent, Some(&case.truth));
                if wrong.is_empty() { Ok(()) } else { Err(shown("wrong after the salvage", &wrong)) }
            }
            Seen::Refused(words) if words.contains("escrow store restore") && gaps.is_lossy() => Ok(()),
            Seen::Refused(words) => Err(format!("{said}\n  the broker does not start: {words}")),
        }
    }

    /// Starts a broker, reads everything, and kills it.
    async fn look(&self, dir: &Path) -> Result<Seen, String> {
        let log = dir.with_extension("log");
        let _ = std::fs::remove_file(&log);
        let (path, ports) = (dir.to_owned(), self.ports);
        let starting = tokio::task::spawn_blocking(move || {
            BrokerProcess::start(&path, ports, &exhibit_settings(), None)
        });
        let started = tokio::time::timeout(LIMIT, starting).await;
        let Ok(started) = started else { return Err(format!("no start within {} s", LIMIT.as_secs())) };
        let mut broker = match started.expect("starting does not panic") {
            Ok(broker) => broker,
            Err(words) => {
                let panicked = panics_in(&words);
                return if panicked.is_empty() { Ok(Seen::Refused(words)) } else { Err(panicked) };
            }
        };
        let read = Readout::take(&self.ports.url()).await;
        broker.kill();
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        let panicked = panics_in(&log);
        if !panicked.is_empty() {
            return Err(panicked);
        }
        let readout = read.map_err(|fault| format!("{fault}; the log: {log}"))?;
        let told = log.lines().filter(|line| line.contains("ERROR") || line.contains("torn last write"));
        Ok(Seen::Read(readout, told.map(str::to_owned).collect()))
    }
}

/// How a broker on a directory looks.
enum Seen {
    Refused(String),
    /// What it shows, and what its log says of damage.
    Read(Readout, Vec<String>),
}

fn succeed(words: &[&str]) -> Result<String, String> {
    let ran = escrow(words, LIMIT)?;
    if ran.is_ok() { Ok(ran.words()) } else { Err(ran.words()) }
}

/// Panics that are not sled's, which are caught: each is a fault of ours.
fn panics_in(log: &str) -> String {
    let ours = log.lines().filter(|line| line.contains("panicked at") && !line.contains("sled-"));
    ours.collect::<Vec<_>>().join("\n")
}

fn shown(what: &str, list: &[String]) -> String {
    format!("{what} ({}): {}", list.len(), list[..list.len().min(SHOWN_MAX)].join("\n    "))
}

/// Messages that nobody sent so, or that nobody may see, or at a place that is another's.
pub(crate) fn wrong_messages(readout: &Readout, sent: &[Sent], truth: Option<&Readout>) -> Vec<String> {
    let sent: BTreeMap<_, _> = sent.iter().map(|sent| (sent.content.key.as_str(), sent)).collect();
    let places = truth.map(|truth| {
        let places = truth.messages.iter().map(|(place, content)| (place.as_str(), &content.key));
        places.collect::<BTreeMap<_, _>>()
    });
    let mut wrong = Vec::new();
    for (place, content) in &readout.messages {
        let Some(original) = sent.get(content.key.as_str()) else {
            wrong.push(format!("{place}: {} was never sent", content.key));
            continue;
        };
        let is_shown = place.starts_with("delivered") || place.starts_with("dead");
        if original.content != *content {
            wrong.push(format!("{place}: {} instead of {}", content.text, original.content.text));
        } else if is_shown && original.fate != Fate::Visible {
            wrong.push(format!("{place}: {} is {:?}", content.key, original.fate));
        } else if let Some(other) = places.as_ref().and_then(|places| places.get(place.as_str()))
            && **other != content.key
        {
            wrong.push(format!("{place}: {} instead of {other}", content.key));
        }
    }
    wrong
}

/// What is missing although the damage did not hit it, as far as that can be said: no report of something else excuses it.
fn unexplained(readout: &Readout, case: &Case, damage: &Damage) -> Vec<String> {
    let Some(hit) = damage.messages_hit(case) else { return Vec::new() };
    let missing = missing(readout, &case.sent, u64::MAX);
    missing.filter(|sent| !hit.contains(&keys::message(sent.id))).map(in_words).collect()
}

/// What was answered before commit `first`, and is not there.
pub(crate) fn missing_messages(readout: &Readout, sent: &[Sent], first: u64) -> Vec<String> {
    missing(readout, sent, first).map(in_words).collect()
}

fn missing<'s>(readout: &Readout, sent: &'s [Sent], first: u64) -> impl Iterator<Item = &'s Sent> {
    let slow = format!("delivered to {}:", EXHIBIT_GROUPS[0]);
    let mut seen = BTreeSet::new();
    for (place, content) in &readout.messages {
        let is_counted = place.starts_with(&slow) || !place.starts_with("delivered");
        if is_counted {
            seen.insert(content.key.clone());
        }
    }
    let expected = sent.iter().filter(move |sent| sent.fate != Fate::RolledBack && sent.sequence < first);
    expected.filter(move |sent| !seen.contains(&sent.content.key))
}

fn in_words(sent: &Sent) -> String {
    format!("{} ({:?}, commit {}) is missing", sent.content.key, sent.fate, sent.sequence)
}

/// Where two readouts differ.
fn differences_of(readout: &Readout, truth: &Readout) -> Vec<String> {
    let places: BTreeSet<_> = readout.lines.keys().chain(truth.lines.keys()).collect();
    let differing = places.into_iter().filter(|place| readout.lines.get(*place) != truth.lines.get(*place));
    let is =
        |lines: Option<&String>| lines.map_or("nothing".to_owned(), |line| line.chars().take(300).collect());
    differing
        .map(|place| {
            format!("{place}: {} instead of {}", is(readout.lines.get(place)), is(truth.lines.get(place)))
        })
        .collect()
}

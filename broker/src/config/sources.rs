//! Where values come from: a file, the environment, flags. Each source gives assignments; all of them are read before
//! anything is said, so that all faults come at once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::alarms::{SinkFault, name_and_field, sink};
use super::fault::{Fault, Faults, Source};
use super::keys::{KEYS, SECTIONS, find};
use super::nearest::nearest;
use super::rules;
use super::section::{Choice, Config};
use super::shape::{Raw, Shape};
use crate::records::InDoubt;
use escrow_protocol::Kind;

/// The prefix of every variable.
const PREFIX: &str = "ESCROW_";
/// Between section and key, for one underscore is part of many keys.
const SEPARATOR: &str = "__";
/// The keys under this one are kinds, and no keys of ours.
const KINDS: &str = "transactions.kinds";
/// The key whose entries are fields of sinks, and may come from several sources.
const SINKS: &str = "alarms.sinks";

/// What a configuration is read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `-c FILE`.
    pub file: Option<PathBuf>,
    /// The environment: all of it, what does not concern us is passed over.
    pub environment: Vec<(String, String)>,
    /// `--set section.key=value`.
    pub flags: Vec<String>,
    /// `--insecure`.
    pub insecure: bool,
}

struct Assignment {
    source: Source,
    key: String,
    raw: Raw,
}

impl Sources {
    /// Reads the file, and the sources in order of precedence.
    ///
    /// # Errors
    /// [`Faults`]: all that is wrong, wherever it came from.
    pub fn load(&self) -> Result<Config, Faults> {
        self.load_with(|path| std::fs::read_to_string(path))
    }

    /// [`Sources::load`], where `read` gives the text of the file.
    ///
    /// # Errors
    /// As there.
    pub fn load_with(&self, read: impl FnOnce(&Path) -> io::Result<String>) -> Result<Config, Faults> {
        let mut reading = Reading {
            config: Config::default(),
            origins: BTreeMap::new(),
            faults: Vec::new(),
            sinks: BTreeMap::new(),
        };
        reading.config.insecure = self.insecure;
        if let Some(path) = &self.file {
            match read(path) {
                Ok(text) => reading.take_all(assignments_of_file(path, &text)),
                Err(error) => reading.faults.push(Fault {
                    source: Source::WholeFile(path.clone()),
                    key: String::new(),
                    fault: format!("the file cannot be read: {error}"),
                    remedy: "check the path given with -c or ESCROW_CONFIG".to_owned(),
                }),
            }
        }
        reading.take_all(self.environment.iter().filter_map(assignment_of_variable).collect());
        reading.take_all(self.flags.iter().map(|flag| assignment_of_flag(flag)).collect());
        reading.finish()
    }
}

/// A configuration that is being put together.
struct Reading {
    config: Config,
    origins: BTreeMap<String, Source>,
    faults: Vec<Fault>,
    /// Fields of sinks, by sink and field: judged when all sources are read.
    sinks: BTreeMap<String, BTreeMap<String, (Source, String)>>,
}

impl Reading {
    fn take_all(&mut self, assignments: Vec<Result<Assignment, Fault>>) {
        for assignment in assignments {
            if let Err(fault) = assignment.and_then(|assignment| self.take(assignment)) {
                self.faults.push(fault);
            }
        }
    }

    fn take(&mut self, assignment: Assignment) -> Result<(), Fault> {
        let Assignment { source, key, raw } = assignment;
        if let Some(kind) = key.strip_prefix(KINDS).and_then(|rest| rest.strip_prefix('.')) {
            return self.take_kind(source, kind, &raw);
        }
        if let Some(rest) = key.strip_prefix(SINKS).filter(|rest| rest.is_empty() || rest.starts_with('.')) {
            return self.take_sinks(&source, rest.strip_prefix('.'), &raw);
        }
        let Some(known) = find(&key) else { return Err(unknown(source, key)) };
        match known.shape.read(&raw) {
            Ok(value) => {
                (known.set)(&mut self.config, value);
                self.origins.insert(key, source);
                Ok(())
            }
            Err(error) => Err(Fault { source, key, fault: error.fault, remedy: error.remedy }),
        }
    }

    /// One kind is added to those that were configured before.
    fn take_kind(&mut self, source: Source, kind: &str, raw: &Raw) -> Result<(), Fault> {
        let fault = |fault: String, remedy: String| Fault {
            source: source.clone(),
            key: format!("{KINDS}.{kind}"),
            fault,
            remedy,
        };
        let name = Kind::new(kind).map_err(|error| fault(error.to_string(), "rename the kind".to_owned()))?;
        let policy = match Shape::Choice(super::shape::words::<InDoubt>).read(raw) {
            Ok(super::shape::Value::Text(word)) => InDoubt::from_word(&word),
            Ok(_) => None,
            Err(error) => return Err(fault(error.fault, error.remedy)),
        };
        self.config.transactions.kinds.insert(name, policy.expect("a choice reads one of its words"));
        Ok(())
    }

    /// Fields of sinks are added to those that were configured before: `field` alone, or all that `raw` names.
    fn take_sinks(&mut self, source: &Source, field: Option<&str>, raw: &Raw) -> Result<(), Fault> {
        let fault = |key: &str, error: super::units::UnitError| {
            let key = if key.is_empty() { SINKS.to_owned() } else { format!("{SINKS}.{key}") };
            Fault { source: source.clone(), key, fault: error.fault, remedy: error.remedy }
        };
        let entries = match (field, raw) {
            (Some(key), Raw::Text(text) | Raw::Bare(text)) => vec![(key.to_owned(), text.clone())],
            (Some(key), Raw::List(all)) => vec![(key.to_owned(), all.join(","))],
            (Some(name), Raw::Entries(fields)) => {
                fields.iter().map(|(field, value)| (format!("{name}.{field}"), value.clone())).collect()
            }
            (None, raw) => super::shape::entries(raw).map_err(|error| fault("", error))?,
        };
        for (key, value) in entries {
            let (name, field) = name_and_field(&key).map_err(|error| fault(&key, error))?;
            self.sinks.entry(name).or_default().insert(field, (source.clone(), value));
        }
        Ok(())
    }

    fn judge_sinks(&mut self) {
        for (name, given) in &self.sinks {
            let fields = given.iter().map(|(field, (_, value))| (field.clone(), value.clone())).collect();
            match sink(&fields) {
                Ok(sink) => {
                    self.config.alarms.sinks.insert(name.clone(), sink);
                }
                Err(SinkFault { field, error }) => {
                    let field = field.unwrap_or_default();
                    let source = given.get(&field).or_else(|| given.values().next());
                    let source = source.map_or(Source::Default, |(source, _)| source.clone());
                    let key = format!("{SINKS}.{name}.{field}");
                    self.faults.push(Fault { source, key, fault: error.fault, remedy: error.remedy });
                }
            }
        }
    }

    fn finish(mut self) -> Result<Config, Faults> {
        self.judge_sinks();
        let origins = self.origins;
        let source_of = |key: &str| origins.get(key).cloned().unwrap_or(Source::Default);
        self.faults.extend(rules::check(&self.config, &source_of));
        if self.faults.is_empty() { Ok(self.config) } else { Err(Faults(self.faults)) }
    }
}

fn unknown(source: Source, key: String) -> Fault {
    let names = KEYS.iter().map(|key| key.name);
    let remedy = match nearest(&key, names) {
        Some(known) => format!("did you mean {known}?"),
        None => match same_name_elsewhere(&key) {
            Some(known) => format!("did you mean {known}?"),
            None => "`escrow server print-defaults` lists all keys".to_owned(),
        },
    };
    Fault { source, key, fault: "there is no such key".to_owned(), remedy }
}

/// The right name in the wrong section is the other common slip.
fn same_name_elsewhere(key: &str) -> Option<&'static str> {
    let last = key.rsplit('.').next().unwrap_or(key);
    KEYS.iter().find(|known| known.short_name() == last).map(|known| known.name)
}

fn assignment_of_flag(flag: &str) -> Result<Assignment, Fault> {
    let source = Source::Flag(flag.to_owned());
    match flag.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok(Assignment { source, key: key.trim().to_owned(), raw: Raw::Text(value.trim().to_owned()) })
        }
        _ => Err(Fault {
            source,
            key: String::new(),
            fault: "it has no value".to_owned(),
            remedy: "write --set section.key=value, e.g. --set delivery.lease=1m".to_owned(),
        }),
    }
}

/// A variable of ours has two underscores in a row, or names a key that stands above the sections. Others that begin the
/// same (ESCROW_URL) belong to the command line.
fn assignment_of_variable(variable: &(String, String)) -> Option<Result<Assignment, Fault>> {
    let (name, value) = variable;
    let key = name.strip_prefix(PREFIX)?.to_ascii_lowercase().replace(SEPARATOR, ".");
    if !key.contains('.') && find(&key).is_none() {
        return None;
    }
    let raw = Raw::Text(value.trim().to_owned());
    Some(Ok(Assignment { source: Source::Environment(name.clone()), key, raw }))
}

fn assignments_of_file(path: &Path, text: &str) -> Vec<Result<Assignment, Fault>> {
    let line_of = |span: Option<std::ops::Range<usize>>| span.map_or(1, |span| line_at(text, span.start));
    let document = match toml_edit::Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            return vec![Err(Fault {
                source: Source::File(path.to_owned(), line_of(error.span())),
                key: String::new(),
                fault: format!("the file is not TOML: {}", error.message().replace('\n', ", ")),
                remedy: "`escrow server print-defaults` prints a file to start from".to_owned(),
            })];
        }
    };
    let mut assignments = Vec::new();
    walk(document.as_table(), "", &mut |key, name_span, raw| {
        let source = Source::File(path.to_owned(), line_of(name_span));
        assignments.push(Ok(Assignment { source, key, raw }));
    });
    assignments
}

type Visit<'a> = &'a mut dyn FnMut(String, Option<std::ops::Range<usize>>, Raw);

/// Visits every value with its dotted name. A table under a key that takes one is a value.
fn walk(table: &dyn toml_edit::TableLike, prefix: &str, visit: Visit<'_>) {
    for (name, item) in table.iter() {
        let key = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        let span = table.key(name).and_then(toml_edit::Key::span);
        match item.as_table_like() {
            Some(inner) if is_section(&key) => walk(inner, &key, visit),
            Some(inner) => visit(key, span, Raw::Entries(entries(inner, ""))),
            None => visit(key, span, raw_of(item)),
        }
    }
}

fn is_section(key: &str) -> bool {
    // An unknown section is walked too, so that each of its keys is named.
    SECTIONS.iter().any(|(section, _)| *section == key) || find(key).is_none()
}

fn entries(table: &dyn toml_edit::TableLike, prefix: &str) -> Vec<(String, String)> {
    table
        .iter()
        .flat_map(|(name, item)| {
            let name = format!("{prefix}{name}");
            match item.as_table_like() {
                Some(inner) => entries(inner, &format!("{name}.")),
                None => vec![(name, scalar_text(item.as_value()))],
            }
        })
        .collect()
}

fn raw_of(item: &toml_edit::Item) -> Raw {
    match item.as_value() {
        Some(toml_edit::Value::Array(array)) => {
            Raw::List(array.iter().map(|value| scalar_text(Some(value))).collect())
        }
        Some(toml_edit::Value::String(text)) => Raw::Text(text.value().clone()),
        other => Raw::Bare(scalar_text(other)),
    }
}

fn scalar_text(value: Option<&toml_edit::Value>) -> String {
    match value {
        Some(toml_edit::Value::String(text)) => text.value().clone(),
        Some(other) => other.clone().decorated("", "").to_string(),
        None => String::new(),
    }
}

fn line_at(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

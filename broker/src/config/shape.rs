//! What values a key takes: how they are read, bounded and written.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use escrow_protocol::Kind;

use super::alarms::sinks;
use super::section::Choice;
use super::units::{
    DurationText, PermilleText, SizeText, UnitError, parse_duration_ms, parse_permille, parse_size,
};
use crate::alarms::{Limit, Sink};
use crate::records::{AlarmRule, InDoubt};

/// A value as a source gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Raw {
    /// A text, or a scalar of the environment or a flag, where everything is text.
    Text(String),
    /// A TOML scalar that is no string.
    Bare(String),
    /// A TOML array.
    List(Vec<String>),
    /// A TOML table, nested names joined by dots.
    Entries(Vec<(String, String)>),
}

/// A value that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Milliseconds, bytes, thousandths or things.
    Number(u64),
    /// Milliseconds.
    Numbers(Vec<u64>),
    /// Yes or no.
    Flag(bool),
    /// A text, a path, a word of a choice.
    Text(String),
    /// Where to listen.
    Address(SocketAddr),
    /// In-doubt policies of single kinds.
    Kinds(BTreeMap<Kind, InDoubt>),
    /// When a rule raises an alarm; `None`: never.
    Limit(Option<Limit>),
    /// Who is told of alarms.
    Sinks(BTreeMap<String, Sink>),
}

/// What values a key takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// A duration, bounds in milliseconds.
    Duration(u64, u64),
    /// 1 to so many durations, bounds in milliseconds.
    Durations(u64, u64, usize),
    /// A size, bounds in bytes.
    Size(u64, u64),
    /// A whole number.
    Count(u64, u64),
    /// A factor, bounds times 1000.
    Factor(u64, u64),
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Choice(fn() -> Vec<&'static str>),
    /// A file or directory.
    Path,
    /// Any text, or none.
    Text,
    /// A filter of `tracing`.
    LogFilter,
    /// `address:port`.
    Address,
    /// Kind to in-doubt policy.
    Kinds,
    /// When this rule raises an alarm.
    Limit(AlarmRule),
    /// Name to sink of alarms.
    Sinks,
}

/// The words of a choice, for [`Shape::Choice`].
pub(super) fn words<T: Choice>() -> Vec<&'static str> {
    T::ALL.iter().map(|(word, _)| *word).collect()
}

pub(super) fn wrong(fault: impl Into<String>, remedy: impl Into<String>) -> UnitError {
    UnitError { fault: fault.into(), remedy: remedy.into() }
}

impl Shape {
    /// Reads a value.
    pub(super) fn read(self, raw: &Raw) -> Result<Value, UnitError> {
        match self {
            Self::Durations(min, max, count_max) => {
                durations(&list(raw)?, min, max, count_max).map(Value::Numbers)
            }
            Self::Kinds => kinds(&entries(raw)?).map(Value::Kinds),
            Self::Sinks => sinks(&entries(raw)?).map(Value::Sinks),
            _ => self.read_scalar(scalar(raw, self)?),
        }
    }

    fn read_scalar(self, text: &str) -> Result<Value, UnitError> {
        match self {
            Self::Duration(min, max) => bounded_duration(text, min, max).map(Value::Number),
            Self::Size(min, max) => bounded(parse_size(text)?, min, max, SizeText).map(Value::Number),
            Self::Factor(min, max) => {
                bounded(parse_permille(text)?, min, max, PermilleText).map(Value::Number)
            }
            Self::Count(min, max) => count(text, min, max).map(Value::Number),
            Self::Flag => flag(text).map(Value::Flag),
            Self::Choice(words) => choice(text, &words()).map(Value::Text),
            Self::Path if text.is_empty() => Err(wrong("it is empty", "name a directory")),
            Self::Path | Self::Text => Ok(Value::Text(text.to_owned())),
            Self::LogFilter => log_filter(text).map(Value::Text),
            Self::Address => address(text).map(Value::Address),
            Self::Limit(rule) => Limit::read(rule, text).map(Value::Limit),
            Self::Durations(..) | Self::Kinds | Self::Sinks => unreachable!("read by `read`"),
        }
    }

    /// Whether only a text will do: any other scalar is a slip.
    fn is_text(self) -> bool {
        matches!(self, Self::Path | Self::Text | Self::LogFilter | Self::Address | Self::Choice(_))
    }

    /// Writes a value as TOML.
    pub(super) fn write(self, value: &Value) -> String {
        match (self, value) {
            (Self::Duration(..), Value::Number(ms)) => quoted(&DurationText(*ms).to_string()),
            (Self::Size(..), Value::Number(bytes)) => quoted(&SizeText(*bytes).to_string()),
            (Self::Factor(..), Value::Number(permille)) => PermilleText(*permille).to_string(),
            (_, Value::Number(number)) => number.to_string(),
            (_, Value::Numbers(all)) => {
                let texts: Vec<_> = all.iter().map(|ms| quoted(&DurationText(*ms).to_string())).collect();
                format!("[{}]", texts.join(", "))
            }
            (_, Value::Flag(flag)) => flag.to_string(),
            (_, Value::Text(text)) => quoted(text),
            (_, Value::Address(address)) => quoted(&address.to_string()),
            (Self::Limit(rule), Value::Limit(limit)) => {
                quoted(&limit.map_or("off".to_owned(), |limit| limit.text(rule)))
            }
            (_, Value::Limit(_)) => quoted("off"),
            // Only the default, none at all, is ever written: secrets are not.
            (_, Value::Sinks(_)) => "{}".to_owned(),
            (_, Value::Kinds(kinds)) => {
                let entries: Vec<_> = kinds
                    .iter()
                    .map(|(kind, policy)| format!("{} = {}", quoted(kind.as_str()), quoted(policy.word())))
                    .collect();
                if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(", ")) }
            }
        }
    }

    /// What it takes, for people.
    pub(super) fn bounds(self) -> String {
        match self {
            Self::Duration(min, max) => format!("{} to {}", DurationText(min), DurationText(max)),
            Self::Durations(min, max, count) => {
                format!("1 to {count} of them, each {} to {}", DurationText(min), DurationText(max))
            }
            Self::Size(min, u64::MAX) => format!("at least {}", SizeText(min)),
            Self::Size(min, max) => format!("{} to {}", SizeText(min), SizeText(max)),
            Self::Count(min, max) => format!("{min} to {max}"),
            Self::Factor(min, max) => format!("{} to {}", PermilleText(min), PermilleText(max)),
            Self::Flag => "true or false".to_owned(),
            Self::Choice(words) => words().join(", "),
            Self::Path => "a directory".to_owned(),
            Self::Text => "a text".to_owned(),
            Self::LogFilter => "error, warn, info, debug, trace, or a filter by module".to_owned(),
            Self::Address => "address:port".to_owned(),
            Self::Kinds => "kind = park, rollback or commit".to_owned(),
            Self::Limit(rule) => format!("{} or off", rule.unit()),
            Self::Sinks => "name = a table".to_owned(),
        }
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

fn scalar(raw: &Raw, shape: Shape) -> Result<&str, UnitError> {
    match raw {
        Raw::Bare(text) if shape.is_text() => {
            Err(wrong(format!("{text} is not a text"), format!("write {}, in quotes", shape.bounds())))
        }
        Raw::Text(text) | Raw::Bare(text) => Ok(text),
        Raw::List(_) => Err(wrong("a list is not expected here", format!("write {}", shape.bounds()))),
        Raw::Entries(_) => Err(wrong("a table is not expected here", format!("write {}", shape.bounds()))),
    }
}

/// A list; from the environment or a flag: separated by commas, brackets allowed.
fn list(raw: &Raw) -> Result<Vec<String>, UnitError> {
    match raw {
        Raw::List(all) => Ok(all.clone()),
        Raw::Text(text) | Raw::Bare(text) => {
            let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
            let parts = inner.split(',').map(|part| part.trim().trim_matches('"').to_owned());
            Ok(parts.filter(|part| !part.is_empty()).collect())
        }
        Raw::Entries(_) => Err(wrong("a table is not expected here", "write a list")),
    }
}

/// A table; from the environment or a flag: `name=value`, separated by commas.
pub(super) fn entries(raw: &Raw) -> Result<Vec<(String, String)>, UnitError> {
    match raw {
        Raw::Entries(all) => Ok(all.clone()),
        Raw::Text(_) | Raw::Bare(_) | Raw::List(_) => list(raw)?
            .iter()
            .map(|part| {
                let pair = part.split_once('=').ok_or_else(|| {
                    wrong(
                        format!("{part:?} is not a name with its value"),
                        "write name=value, e.g. order.create=rollback",
                    )
                })?;
                Ok((pair.0.trim().to_owned(), pair.1.trim().to_owned()))
            })
            .collect(),
    }
}

fn bounded<T: std::fmt::Display>(
    number: u64,
    min: u64,
    max: u64,
    text: fn(u64) -> T,
) -> Result<u64, UnitError> {
    if number < min {
        return Err(wrong(
            format!("{} is below the minimum of {}", text(number), text(min)),
            "write a larger value",
        ));
    }
    if number > max {
        return Err(wrong(
            format!("{} is above the maximum of {}", text(number), text(max)),
            "write a smaller value",
        ));
    }
    Ok(number)
}

fn bounded_duration(text: &str, min: u64, max: u64) -> Result<u64, UnitError> {
    bounded(parse_duration_ms(text)?, min, max, DurationText)
}

fn durations(texts: &[String], min: u64, max: u64, count_max: usize) -> Result<Vec<u64>, UnitError> {
    if texts.is_empty() {
        return Err(wrong("the list is empty", "give at least one duration; the last one repeats"));
    }
    if texts.len() > count_max {
        return Err(wrong(
            format!("the list has {} durations, more than {count_max}", texts.len()),
            "shorten it; the last one repeats",
        ));
    }
    texts.iter().map(|text| bounded_duration(text, min, max)).collect()
}

fn count(text: &str, min: u64, max: u64) -> Result<u64, UnitError> {
    let digits = text.trim().replace('_', "");
    let number = digits.parse().map_err(|_| {
        wrong(
            format!("{text:?} is not a whole number"),
            format!("write a number, {}", Shape::Count(min, max).bounds()),
        )
    })?;
    bounded(number, min, max, std::convert::identity)
}

fn flag(text: &str) -> Result<bool, UnitError> {
    match text.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong(format!("{text:?} is neither true nor false"), "write true or false")),
    }
}

fn choice(text: &str, words: &[&str]) -> Result<String, UnitError> {
    if words.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(wrong(format!("{text:?} is not a choice here"), format!("write one of: {}", words.join(", "))))
}

fn log_filter(text: &str) -> Result<String, UnitError> {
    let known = tracing_subscriber::EnvFilter::builder().parse(text);
    match known {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        _ => Err(wrong(
            format!("{text:?} is not a level or a filter"),
            "write error, warn, info, debug or trace, or a filter such as \"info,escrow_storage=debug\"",
        )),
    }
}

fn address(text: &str) -> Result<SocketAddr, UnitError> {
    let numeric = text.replacen("localhost:", "127.0.0.1:", 1);
    numeric.parse().map_err(|_| {
        wrong(
            format!("{text:?} is not an address with a port"),
            "write an IP address and a port, e.g. \"127.0.0.1:7800\", \"0.0.0.0:7800\" or \"[::1]:7800\"",
        )
    })
}

fn kinds(entries: &[(String, String)]) -> Result<BTreeMap<Kind, InDoubt>, UnitError> {
    entries
        .iter()
        .map(|(kind, policy)| {
            let kind = Kind::new(kind).map_err(|error| wrong(error.to_string(), "rename the kind"))?;
            let policy = choice(policy, &words::<InDoubt>())?;
            Ok((kind, InDoubt::from_word(&policy).expect("`choice` lets only its words pass")))
        })
        .collect()
}

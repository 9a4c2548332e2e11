//! How single values look: in a table for people, and in JSON for programs.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::config::DurationText;

/// What stands where there is no value.
const NOTHING: &str = "-";

/// A value as it is shown to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    /// On one line.
    Text(String),
    /// As a table of its own: headings, rows.
    Table(Vec<String>, Vec<Vec<String>>),
}

impl Shown {
    /// On one line, for a cell.
    pub(crate) fn into_line(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Table(_, rows) => rows.len().to_string(),
        }
    }
}

/// A value that can be shown.
pub(crate) trait Cell {
    /// As people read it.
    fn shown(&self) -> Shown;
}

macro_rules! displayed {
    ($($type:ty),*) => { $(
        impl Cell for $type {
            fn shown(&self) -> Shown {
                Shown::Text(self.to_string())
            }
        }
    )* };
}

displayed!(u64, u32, i64);

impl Cell for String {
    fn shown(&self) -> Shown {
        // A control character would break the line, or the terminal.
        let clean: String = self.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Shown::Text(if clean.is_empty() { NOTHING.to_owned() } else { clean })
    }
}

impl Cell for &'static str {
    fn shown(&self) -> Shown {
        Shown::Text((*self).to_owned())
    }
}

impl Cell for bool {
    fn shown(&self) -> Shown {
        Shown::Text(if *self { "yes" } else { "no" }.to_owned())
    }
}

impl<T: Cell> Cell for Option<T> {
    fn shown(&self) -> Shown {
        self.as_ref().map_or_else(|| Shown::Text(NOTHING.to_owned()), Cell::shown)
    }
}

impl Cell for Vec<String> {
    fn shown(&self) -> Shown {
        self.join(", ").shown()
    }
}

impl Cell for BTreeMap<String, String> {
    fn shown(&self) -> Shown {
        self.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().shown()
    }
}

/// A count that is 0 for "none to speak of": shown with separators so that millions can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Count(pub u64);

impl Cell for Count {
    fn shown(&self) -> Shown {
        let digits = self.0.to_string();
        let mut text = String::with_capacity(digits.len() + digits.len() / 3);
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        Shown::Text(text)
    }
}

/// So many things, in words: `1 message`, `3 messages`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", Count(number).shown().into_line())
}

/// A time, Unix milliseconds; 0 or less: none. In JSON and in tables RFC 3339, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub i64);

impl Time {
    /// RFC 3339, if there is a time.
    pub(crate) fn text(self) -> Option<String> {
        let time = jiff::Timestamp::from_millisecond(self.0).ok().filter(|_| self.0 > 0)?;
        Some(format!("{time:.3}"))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text().serialize(serializer)
    }
}

impl Cell for Time {
    fn shown(&self) -> Shown {
        self.text().shown()
    }
}

/// A duration, milliseconds. A number in JSON, `1h30m` in tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Ms(pub u64);

impl Ms {
    /// From the wire, where durations are signed.
    pub(crate) fn from_wire(ms: i64) -> Self {
        Self(u64::try_from(ms).unwrap_or(0))
    }
}

impl Cell for Ms {
    fn shown(&self) -> Shown {
        Shown::Text(DurationText(self.0).to_string())
    }
}

/// A size, bytes. A number in JSON, about `1.5 MiB` in tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Bytes(pub u64);

impl Cell for Bytes {
    fn shown(&self) -> Shown {
        const UNITS: [(&str, u64); 4] =
            [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        Shown::Text(match UNITS.iter().find(|(_, factor)| self.0 >= *factor) {
            Some((unit, factor)) => {
                let tenths = self.0 / (factor / 10).max(1);
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            }
            None => format!("{} B", self.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(cell: &impl Cell) -> String {
        cell.shown().into_line()
    }

    #[test]
    fn values_are_shown_for_people() {
        assert_eq!(line(&Time(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
        assert_eq!(line(&Time(0)), "-");
        assert_eq!(line(&Ms(90_000)), "1m30s");
        assert_eq!(line(&Bytes(0)), "0 B");
        assert_eq!(line(&Bytes(1_572_864)), "1.5 MiB");
        assert_eq!(line(&Count(0)), "0");
        assert_eq!(line(&Count(999)), "999");
        assert_eq!(line(&Count(1_234_567)), "1,234,567");
        assert_eq!(line(&String::new()), "-");
        assert_eq!(line(&"a\tb\n\u{1b}[31mc".to_owned()), "a b  [31mc");
        assert_eq!(line(&vec!["a".to_owned(), "b".to_owned()]), "a, b");
        assert_eq!(line(&Option::<u64>::None), "-");
        assert_eq!(line(&true), "yes");
    }

    #[test]
    fn things_are_counted_in_words() {
        assert_eq!(counted(0, "message"), "0 messages");
        assert_eq!(counted(1, "message"), "1 message");
        assert_eq!(counted(1_200, "dead letter"), "1,200 dead letters");
    }

    #[test]
    fn values_are_written_for_programs() {
        let json = |value: &dyn erased::Json| value.json();
        assert_eq!(json(&Time(1_700_000_000_000)), "\"2023-11-14T22:13:20.000Z\"");
        assert_eq!(json(&Time(0)), "null");
        assert_eq!(json(&Ms(90_000)), "90000");
        assert_eq!(json(&Bytes(1024)), "1024");
        assert_eq!(json(&Count(1_234_567)), "1234567");
    }

    mod erased {
        /// So that values of different types fit one list of expectations.
        pub(super) trait Json {
            fn json(&self) -> String;
        }

        impl<T: serde::Serialize> Json for T {
            fn json(&self) -> String {
                serde_json::to_string(self).expect("a cell is JSON")
            }
        }
    }
}

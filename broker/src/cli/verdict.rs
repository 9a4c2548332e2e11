//! What a check of a monitoring system says: one line with its numbers behind a bar, and an exit status, as the Nagios
//! plugin guidelines have it.

use std::fmt::{self, Write as _};

/// How it stands. The numbers are the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// All is well.
    Ok = 0,
    /// Somebody should look.
    Warning = 1,
    /// Somebody should be woken.
    Critical = 2,
    /// It could not be seen.
    Unknown = 3,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// How bad it is: what could not be seen is worse than a warning, and less than what is known to be bad.
    fn weight(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Unknown => 2,
            Self::Critical => 3,
        }
    }
}

/// From which value on it is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Thresholds {
    /// From this on, a warning; `None`: never.
    pub(crate) warning: Option<u64>,
    /// From this on, critical; `None`: never.
    pub(crate) critical: Option<u64>,
}

impl Thresholds {
    /// What a value that should stay low means.
    pub(crate) fn above(self, value: u64) -> State {
        let reached = |threshold: Option<u64>| threshold.is_some_and(|threshold| value >= threshold);
        match (reached(self.critical), reached(self.warning)) {
            (true, _) => State::Critical,
            (false, true) => State::Warning,
            (false, false) => State::Ok,
        }
    }

    /// What a value that should stay high means.
    pub(crate) fn below(self, value: u64) -> State {
        let reached = |threshold: Option<u64>| threshold.is_some_and(|threshold| value < threshold);
        match (reached(self.critical), reached(self.warning)) {
            (true, _) => State::Critical,
            (false, true) => State::Warning,
            (false, false) => State::Ok,
        }
    }
}

/// The unit of a number, as the guidelines write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A number of things.
    Count,
    /// Milliseconds, written as seconds.
    Milliseconds,
    /// Bytes.
    Bytes,
}

/// What one check found.
#[derive(Debug)]
pub(crate) struct Verdict {
    name: &'static str,
    state: State,
    bad: Vec<String>,
    good: Vec<String>,
    numbers: String,
}

impl Verdict {
    /// Nothing found yet; `name` is the check.
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, state: State::Ok, bad: Vec::new(), good: Vec::new(), numbers: String::new() }
    }

    /// It could not be seen, or what was seen is bad beyond numbers.
    pub(crate) fn only(name: &'static str, state: State, words: impl Into<String>) -> Self {
        let mut verdict = Self::new(name);
        verdict.add(state, words);
        verdict
    }

    /// How it stands.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Something was found; the line begins with what is bad.
    pub(crate) fn add(&mut self, state: State, words: impl Into<String>) {
        let heap = if state == State::Ok { &mut self.good } else { &mut self.bad };
        heap.push(words.into());
        if state.weight() > self.state.weight() {
            self.state = state;
        }
    }

    /// A number for graphs. Labels with quotes or equal signs are not ours: names of groups have neither.
    pub(crate) fn number(&mut self, label: &str, value: u64, unit: Unit, thresholds: Thresholds) {
        let text = |value: u64| match unit {
            Unit::Count => value.to_string(),
            Unit::Milliseconds => format!("{}.{:03}", value / 1000, value % 1000),
            Unit::Bytes => value.to_string(),
        };
        let suffix = match unit {
            Unit::Count => "",
            Unit::Milliseconds => "s",
            Unit::Bytes => "B",
        };
        let bound = |bound: Option<u64>| bound.map(text).unwrap_or_default();
        let (warning, critical) = (bound(thresholds.warning), bound(thresholds.critical));
        // Writing to a text does not fail.
        let _ = write!(self.numbers, " '{label}'={}{suffix};{warning};{critical};0", text(value));
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.bad.iter().chain(&self.good).map(|words| one_line(words)).collect();
        write!(f, "ESCROW {} {} - {}", self.name, self.state.word(), words.join("; "))?;
        if !self.numbers.is_empty() {
            write!(f, " |{}", self.numbers)?;
        }
        Ok(())
    }
}

/// The bar ends the words, and a line is all there is.
fn one_line(words: &str) -> String {
    words.chars().map(|letter| if letter == '|' || letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_that_of_the_guidelines_and_begins_with_what_is_bad() {
        let thresholds = Thresholds { warning: Some(60_000), critical: Some(90_500) };
        let mut verdict = Verdict::new("TX");
        verdict.add(State::Ok, "3 undecided");
        verdict.add(thresholds.above(61_000), "the oldest is 1m1s\nold | yes");
        verdict.number("oldest", 61_000, Unit::Milliseconds, thresholds);
        verdict.number("undecided", 3, Unit::Count, Thresholds::default());
        verdict.number("free", 5, Unit::Bytes, Thresholds { warning: None, critical: Some(1) });
        assert_eq!(
            verdict.to_string(),
            "ESCROW TX WARNING - the oldest is 1m1s old   yes; 3 undecided | 'oldest'=61.000s;60.000;90.500;0 \
             'undecided'=3;;;0 'free'=5B;;1;0"
        );
        assert_eq!(verdict.state() as u8, 1);
    }

    #[test]
    fn a_threshold_counts_from_its_own_value_on() {
        let thresholds = Thresholds { warning: Some(5), critical: Some(10) };
        let states = [4, 5, 9, 10].map(|value| thresholds.above(value));
        assert_eq!(states, [State::Ok, State::Warning, State::Warning, State::Critical]);
        let thresholds = Thresholds { warning: Some(10), critical: Some(5) };
        let states = [10, 9, 5, 4].map(|value| thresholds.below(value));
        assert_eq!(states, [State::Ok, State::Warning, State::Warning, State::Critical]);
        assert_eq!(Thresholds::default().above(u64::MAX), State::Ok);
    }

    #[test]
    fn the_worst_counts() {
        let mut verdict = Verdict::new("DLQ");
        for (state, expected) in [
            (State::Warning, State::Warning),
            (State::Unknown, State::Unknown),
            (State::Critical, State::Critical),
            (State::Unknown, State::Critical),
            (State::Ok, State::Critical),
        ] {
            verdict.add(state, "x");
            assert_eq!(verdict.state(), expected);
        }
    }
}

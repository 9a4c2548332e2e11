//! The rules: what each measures, from which value on it raises an alarm, for how long, and when that is over again.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::{DurationText, SizeText, UnitError, nearest, parse_duration_ms, parse_size};
use crate::records::AlarmRule;

/// Longest that a value must stay beyond its limit, milliseconds: a day.
const FOR_MS_MAX: u64 = 24 * 3600 * 1000;

/// What the value of a rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A duration, milliseconds.
    Duration,
    /// So many of them.
    Count,
    /// So many of them in a minute.
    PerMinute,
    /// Bytes.
    Size,
    /// Hundredths.
    Percent,
}

impl Unit {
    fn read(self, text: &str) -> Result<u64, UnitError> {
        match self {
            Self::Duration => parse_duration_ms(text),
            Self::Size => parse_size(text),
            Self::Count | Self::PerMinute => whole(text, "100"),
            Self::Percent => match text.strip_suffix('%') {
                Some(digits) => whole(digits, "75%"),
                None => Err(wrong(format!("{text:?} is no percentage"), "write one such as 75%")),
            },
        }
    }

    /// A value as it is written in rules.
    pub fn text(self, value: u64) -> String {
        match self {
            Self::Duration => DurationText(value).to_string(),
            Self::Size => SizeText(value).to_string(),
            Self::Count | Self::PerMinute => value.to_string(),
            Self::Percent => format!("{value}%"),
        }
    }
}

fn wrong(fault: String, remedy: impl Into<String>) -> UnitError {
    UnitError { fault, remedy: remedy.into() }
}

fn whole(text: &str, example: &str) -> Result<u64, UnitError> {
    text.replace('_', "")
        .parse()
        .map_err(|_| wrong(format!("{text:?} is not a whole number"), format!("write one such as {example}")))
}

impl AlarmRule {
    /// What its value is.
    pub fn unit(self) -> Unit {
        match self {
            Self::UndecidedAge | Self::LagAge => Unit::Duration,
            Self::DeadLetterRate => Unit::PerMinute,
            Self::DiskFree => Unit::Size,
            Self::SpillBehind => Unit::Percent,
            _ => Unit::Count,
        }
    }

    /// Whether less is worse.
    pub fn is_floor(self) -> bool {
        self == Self::DiskFree
    }

    /// Whether each group is looked at by itself.
    pub fn is_of_groups(self) -> bool {
        matches!(
            self,
            Self::DeadLetters | Self::DeadLetterRate | Self::RetryAttempt | Self::Lag | Self::LagAge
        )
    }

    /// What holds unless something else is configured, as it is written.
    pub fn default_text(self) -> &'static str {
        match self {
            Self::UndecidedAge => "10m",
            Self::UndecidedCount => "10000 for 1m clear 8000",
            Self::NoChecker => "1 for 1m",
            Self::Parked | Self::DeadLetters | Self::FailedSync | Self::Damaged => "1",
            Self::DeadLetterRate => "60 for 10s clear 30",
            Self::RetryAttempt => "10",
            Self::Lag => "100000 for 1m clear 80000",
            Self::LagAge => "15m for 1m clear 10m",
            Self::DiskFree => "512MiB for 10s clear 768MiB",
            Self::SpillBehind => "75% for 30s clear 50%",
        }
    }
}

/// When a rule raises an alarm, and when that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// From this value on (for a floor: down from it).
    pub at: u64,
    /// For this long without a break, milliseconds: an alarm is raised; as long on the other side of `clear`: it is over.
    pub for_ms: u64,
    /// It is over on the other side of this value; `None`: of `at`.
    pub clear: Option<u64>,
}

impl Limit {
    /// Whether `value` is one to raise an alarm for.
    pub fn is_reached(&self, rule: AlarmRule, value: u64) -> bool {
        if rule.is_floor() { value <= self.at } else { value >= self.at }
    }

    /// Whether `value` ends one.
    pub fn is_cleared(&self, rule: AlarmRule, value: u64) -> bool {
        match (self.clear, rule.is_floor()) {
            (None, _) => !self.is_reached(rule, value),
            (Some(clear), true) => value >= clear,
            (Some(clear), false) => value <= clear,
        }
    }

    /// As it is written.
    pub fn text(&self, rule: AlarmRule) -> String {
        let unit = rule.unit();
        let mut text = unit.text(self.at);
        if self.for_ms > 0 {
            text.push_str(&format!(" for {}", DurationText(self.for_ms)));
        }
        if let Some(clear) = self.clear {
            text.push_str(&format!(" clear {}", unit.text(clear)));
        }
        text
    }

    /// Reads what a person wrote: `10m for 30s clear 8m`, or `off`.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn read(rule: AlarmRule, text: &str) -> Result<Option<Self>, UnitError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let Some((at, rest)) = words.split_first() else {
            return Err(wrong("it is empty".to_owned(), remedy(rule)));
        };
        if *at == "off" {
            return match rest {
                [] => Ok(None),
                _ => Err(wrong(format!("{text:?} says more than off"), "write off alone")),
            };
        }
        let mut limit = Self { at: rule.unit().read(at)?, for_ms: 0, clear: None };
        for pair in rest.chunks(2) {
            match pair {
                ["for", duration] => limit.for_ms = parse_duration_ms(duration)?,
                ["clear", value] => limit.clear = Some(rule.unit().read(value)?),
                [word] => {
                    return Err(wrong(format!("nothing stands behind {word:?}"), remedy(rule)));
                }
                [word, ..] => {
                    let known = nearest(word, ["for", "clear"]);
                    let hint = known.map_or(remedy(rule), |known| format!("did you mean {known}?"));
                    return Err(wrong(format!("{word:?} does not belong here"), hint));
                }
                [] => {}
            }
        }
        limit.check(rule)?;
        Ok(Some(limit))
    }

    fn check(&self, rule: AlarmRule) -> Result<(), UnitError> {
        if self.at == 0 {
            return Err(wrong(
                "a limit of 0 is always reached".to_owned(),
                "write off to have no such alarm",
            ));
        }
        if self.for_ms > FOR_MS_MAX {
            let fault = format!("for {} is longer than a day", DurationText(self.for_ms));
            return Err(wrong(fault, "shorten it"));
        }
        let Some(clear) = self.clear else { return Ok(()) };
        if self.is_reached(rule, clear) {
            let (clear, at) = (rule.unit().text(clear), rule.unit().text(self.at));
            let side = if rule.is_floor() { "above" } else { "below" };
            return Err(wrong(
                format!("clear {clear} is where the alarm is raised, {at}"),
                format!("write a value {side} {at}"),
            ));
        }
        Ok(())
    }
}

fn remedy(rule: AlarmRule) -> String {
    format!("write a limit such as {:?}, or off", rule.default_text())
}

/// The limits of all rules that are on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    limits: BTreeMap<AlarmRule, Limit>,
}

impl Default for Rules {
    /// All of them, each as it is by default.
    fn default() -> Self {
        let mut rules = Self::off();
        for rule in AlarmRule::ALL {
            rules.set(
                *rule,
                Limit::read(*rule, rule.default_text()).expect("the defaults are sound: a test reads them"),
            );
        }
        rules
    }
}

impl Rules {
    /// None of them.
    pub fn off() -> Self {
        Self { limits: BTreeMap::new() }
    }

    /// The limit of a rule; `None`: it is off.
    pub fn get(&self, rule: AlarmRule) -> Option<Limit> {
        self.limits.get(&rule).copied()
    }

    /// Sets it.
    pub fn set(&mut self, rule: AlarmRule, limit: Option<Limit>) {
        match limit {
            Some(limit) => self.limits.insert(rule, limit),
            None => self.limits.remove(&rule),
        };
    }

    /// Whether any is on.
    pub fn any(&self) -> bool {
        !self.limits.is_empty()
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Duration => "a duration",
            Self::Count => "a number",
            Self::PerMinute => "a number in a minute",
            Self::Size => "a size",
            Self::Percent => "a percentage",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_read_and_are_written_as_they_are_read() {
        for rule in AlarmRule::ALL {
            let limit = Rules::default().get(*rule).expect("every rule is on by default");
            assert_eq!(limit.text(*rule), rule.default_text());
        }
    }

    #[test]
    fn limits_are_read() {
        let limit = |at, for_ms, clear| Some(Limit { at, for_ms, clear });
        for (rule, text, expected) in [
            (AlarmRule::UndecidedAge, "10m for 30s clear 8m", limit(600_000, 30_000, Some(480_000))),
            (AlarmRule::Lag, " 1_000  clear 5 for 1s ", limit(1_000, 1_000, Some(5))),
            (AlarmRule::DiskFree, "1GiB clear 2GiB", limit(1 << 30, 0, Some(2 << 30))),
            (AlarmRule::SpillBehind, "80%", limit(80, 0, None)),
            (AlarmRule::Parked, "off", None),
        ] {
            assert_eq!(Limit::read(rule, text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_limit_is_refused_with_fault_and_remedy() {
        for (rule, text, fault, remedy) in [
            (AlarmRule::Parked, "", "it is empty", "\"1\", or off"),
            (AlarmRule::Parked, "many", "is not a whole number", "100"),
            (AlarmRule::Parked, "0", "always reached", "write off"),
            (AlarmRule::Parked, "off now", "more than off", "off alone"),
            (AlarmRule::UndecidedAge, "10", "has no unit", "30s"),
            (AlarmRule::UndecidedAge, "10m fro 3s", "\"fro\" does not belong here", "or off"),
            (AlarmRule::UndecidedAge, "10m for", "nothing stands behind \"for\"", "or off"),
            (AlarmRule::Lag, "10 for 3d", "longer than a day", "shorten"),
            (AlarmRule::Lag, "10 clear 10", "clear 10 is where the alarm is raised", "a value below 10"),
            (AlarmRule::DiskFree, "2GiB clear 1GiB", "where the alarm is raised", "a value above 2GiB"),
            (AlarmRule::SpillBehind, "80", "is no percentage", "75%"),
        ] {
            let error = Limit::read(rule, text).expect_err(text);
            assert!(error.fault.contains(fault) && error.remedy.contains(remedy), "{text}: {error}");
        }
    }

    #[test]
    fn between_limit_and_clear_nothing_changes() {
        let (lag, disk) = (AlarmRule::Lag, AlarmRule::DiskFree);
        let limit = Limit { at: 10, for_ms: 0, clear: Some(5) };
        for (value, reached, cleared) in
            [(4, false, true), (5, false, true), (6, false, false), (10, true, false)]
        {
            assert_eq!(
                (limit.is_reached(lag, value), limit.is_cleared(lag, value)),
                (reached, cleared),
                "{value}"
            );
        }
        let floor = Limit { at: 10, for_ms: 0, clear: Some(20) };
        for (value, reached, cleared) in
            [(9, true, false), (10, true, false), (15, false, false), (20, false, true)]
        {
            assert_eq!(
                (floor.is_reached(disk, value), floor.is_cleared(disk, value)),
                (reached, cleared),
                "{value}"
            );
        }
    }
}

//! Durations and sizes as people write them: `30s`, `1h30m`, `250ms`; `64MiB`, `4096`. Whole numbers only, so that what
//! is printed reads back to the same value.

use std::fmt;

/// A text that is no duration, size or factor, and how to write one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}; {remedy}")]
pub struct UnitError {
    /// What is wrong with the text.
    pub fault: String,
    /// How to write it.
    pub remedy: String,
}

/// Longest first: what prints takes the first that divides, and `ms` must be tried before `m` and `s`.
const DURATIONS: [(&str, u64); 5] =
    [("d", 24 * 3600 * 1000), ("h", 3600 * 1000), ("m", 60 * 1000), ("s", 1000), ("ms", 1)];

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// How many of [`SIZES`] are used to print.
const SIZES_PRINTED: usize = 4;

/// Reads a duration, milliseconds: one or more whole numbers with their units, as in `1h30m`. `0` needs no unit.
///
/// # Errors
/// [`UnitError`] if it is none, or longer than fits.
pub fn parse_duration_ms(text: &str) -> Result<u64, UnitError> {
    let remedy = || "write a duration such as \"250ms\", \"30s\", \"5m\", \"24h\" or \"1h30m\"".to_owned();
    let wrong = |fault: &str| UnitError { fault: format!("{text:?} {fault}"), remedy: remedy() };
    if text.trim() == "0" {
        return Ok(0);
    }
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong("is not a duration"));
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, behind) = leading_number(rest).ok_or_else(|| wrong("is not a duration"))?;
        let unit_end = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        if unit.is_empty() {
            return Err(wrong("has no unit"));
        }
        let factor = factor_of(&DURATIONS, unit).ok_or_else(|| wrong("has a unit that is not known"))?;
        let part = number.checked_mul(factor).ok_or_else(|| wrong("is too long"))?;
        total = total.checked_add(part).ok_or_else(|| wrong("is too long"))?;
        rest = behind;
    }
    Ok(total)
}

/// Reads a size, bytes: a whole number with a unit, or without one for bytes.
///
/// # Errors
/// [`UnitError`] if it is none, or larger than fits.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let wrong = |fault: &str| UnitError {
        fault: format!("{text:?} {fault}"),
        remedy: "write a size such as \"4096\", \"64KiB\", \"64MiB\" or \"1GiB\"".to_owned(),
    };
    let (number, unit) = leading_number(text.trim()).ok_or_else(|| wrong("is not a size"))?;
    let factor = match unit.trim() {
        "" => 1,
        unit => factor_of(&SIZES, unit).ok_or_else(|| wrong("has a unit that is not known"))?,
    };
    number.checked_mul(factor).ok_or_else(|| wrong("is too large"))
}

/// Reads a factor, times 1000: `2`, `1.5`, `2.125`.
///
/// # Errors
/// [`UnitError`] if it is none, or has more than three decimals.
pub fn parse_permille(text: &str) -> Result<u64, UnitError> {
    let wrong = || UnitError {
        fault: format!("{text:?} is not a factor"),
        remedy: "write a number with at most three decimals, such as 2 or 1.5".to_owned(),
    };
    let (whole, decimals) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    if decimals.is_empty() || decimals.len() > 3 || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let (whole, behind) = leading_number(whole).ok_or_else(wrong)?;
    let thousandths: u64 = format!("{decimals:0<3}").parse().map_err(|_| wrong())?;
    let total = whole.checked_mul(1000).and_then(|whole| whole.checked_add(thousandths));
    total.filter(|_| behind.is_empty()).ok_or_else(wrong)
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

fn factor_of(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, factor)| *factor)
}

/// Milliseconds as [`parse_duration_ms`] reads them: `1h30m`, `250ms`, `0s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationText(pub u64);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.pad("0s");
        }
        let mut text = String::new();
        let mut rest = self.0;
        // Days are read but not written: "24h" is how the documents say it. They help beyond two of them.
        let units = if rest > 2 * DURATIONS[0].1 { &DURATIONS[..] } else { &DURATIONS[1..] };
        for (unit, factor) in units {
            if rest >= *factor {
                text.push_str(&format!("{}{unit}", rest / factor));
                rest %= factor;
            }
        }
        f.pad(&text)
    }
}

/// Bytes as [`parse_size`] reads them: in the largest binary unit that leaves no rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeText(pub u64);

impl fmt::Display for SizeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |unit: &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(unit.1);
        match SIZES[..SIZES_PRINTED].iter().find(fits) {
            Some((unit, factor)) => f.pad(&format!("{}{unit}", self.0 / factor)),
            None => f.pad(&self.0.to_string()),
        }
    }
}

/// A factor times 1000 as [`parse_permille`] reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PermilleText(pub u64);

impl fmt::Display for PermilleText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, thousandths) = (self.0 / 1000, self.0 % 1000);
        if thousandths == 0 {
            return f.pad(&whole.to_string());
        }
        f.pad(format!("{whole}.{thousandths:03}").trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, ms) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("1m", 60_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
            ("1h30m", 5_400_000),
            ("1m500ms", 60_500),
            ("0", 0),
            ("0s", 0),
            (" 5s ", 5000),
        ] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_fault() {
        for (text, fault) in [
            ("", "is not a duration"),
            ("soon", "is not a duration"),
            ("30", "has no unit"),
            ("1h30", "has no unit"),
            ("3 s", "has no unit"),
            ("5w", "unit that is not known"),
            ("-5s", "is not a duration"),
            ("1.5s", "has no unit"),
            ("99999999999999999d", "is too long"),
        ] {
            let error = parse_duration_ms(text).expect_err(text);
            assert!(error.fault.contains(fault), "{text}: {error}");
            assert!(error.remedy.contains("30s"), "{error}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("64MiB", 64 << 20), ("1 GiB", 1 << 30), ("1kb", 1000), ("7B", 7)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "64 potatoes", "-1", "1.5GiB", "99999999999TiB"] {
            assert!(parse_size(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn factors_are_read() {
        for (text, permille) in [("2", 2000), ("1.5", 1500), ("2.125", 2125), ("0.001", 1)] {
            assert_eq!(parse_permille(text), Ok(permille), "{text}");
            assert_eq!(PermilleText(permille).to_string(), text);
        }
        for text in ["", "x", "1.", ".5", "1.2345", "-2", "1.5x", "2x"] {
            assert!(parse_permille(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        for ms in [0, 1, 250, 1000, 6000, 61_001, 5_400_000, 86_400_000, 259_200_000, 300_000_001] {
            assert_eq!(parse_duration_ms(&DurationText(ms).to_string()), Ok(ms));
        }
        for bytes in [0, 1, 1023, 1024, 64 << 20, (64 << 20) + 1, 3 << 40] {
            assert_eq!(parse_size(&SizeText(bytes).to_string()), Ok(bytes));
        }
        assert_eq!(DurationText(86_400_000).to_string(), "24h");
        assert_eq!(DurationText(259_200_000).to_string(), "3d");
        assert_eq!(SizeText(64 << 20).to_string(), "64MiB");
    }
}

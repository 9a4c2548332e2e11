//! Single fields: each check says which field, what is wrong with it, and what would be right.

use escrow_protocol::limits::{KEY_BYTES_MAX, REASON_BYTES_MAX};

use crate::engine::Refusal;

/// What a check gives.
pub(crate) type Checked<T> = Result<T, Refusal>;

/// A name.
pub(crate) fn name<T: std::str::FromStr<Err: std::fmt::Display>>(
    field: &'static str,
    text: &str,
) -> Checked<T> {
    text.parse().map_err(|error: T::Err| Refusal::invalid(field, error.to_string()))
}

/// A name that may be missing.
pub(crate) fn name_option<T: std::str::FromStr<Err: std::fmt::Display>>(
    field: &'static str,
    text: &str,
) -> Checked<Option<T>> {
    (!text.is_empty()).then(|| name(field, text)).transpose()
}

/// A business, ordering or transaction key; empty: none.
pub(crate) fn key(field: &'static str, text: String) -> Checked<Option<String>> {
    if text.len() > KEY_BYTES_MAX {
        let fault = format!("it has {} bytes, at most {KEY_BYTES_MAX} are allowed", text.len());
        return Err(Refusal::invalid(field, fault).with("limit", KEY_BYTES_MAX));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// A number within bounds.
pub(crate) fn within(field: &'static str, value: i64, min: u64, max: u64) -> Checked<u64> {
    match u64::try_from(value) {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => {
            Err(Refusal::invalid(field, format!("it is {value}, allowed is {min} to {max}"))
                .with("limit", max))
        }
    }
}

/// A number within bounds, or zero for the default.
pub(crate) fn within_or(field: &'static str, value: i64, min: u64, max: u64, default: u64) -> Checked<u64> {
    if value == 0 { Ok(default) } else { within(field, value, min, max) }
}

/// A Unix time in milliseconds; 0 has the meaning the field gives it.
pub(crate) fn time(field: &'static str, value: i64) -> Checked<u64> {
    u64::try_from(value).map_err(|_| {
        Refusal::invalid(field, format!("it is {value}, a time is not negative (Unix milliseconds)"))
    })
}

/// The value of an enumeration that this release knows.
pub(crate) fn known<T: TryFrom<i32>>(field: &'static str, value: i32) -> Checked<T> {
    T::try_from(value).map_err(|_| {
        Refusal::invalid(
            field,
            format!("{value} is not a value this broker knows; use one of its protocol's"),
        )
    })
}

/// A reason as it is kept: longer ones are cut between characters.
pub(crate) fn reason(mut text: String) -> String {
    if text.len() > REASON_BYTES_MAX {
        let mut end = REASON_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

/// Milliseconds as the wire has them.
pub(crate) fn ms(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let cut = reason("ä".repeat(REASON_BYTES_MAX));
        assert_eq!(cut.len(), REASON_BYTES_MAX);
        let cut = reason(format!("x{}", "ä".repeat(REASON_BYTES_MAX)));
        assert_eq!(cut.len(), REASON_BYTES_MAX - 1);
    }

    #[test]
    fn a_fault_names_the_field_and_the_bounds() {
        let refusal = within("lease_ms", -1, 1, 5).unwrap_err();
        assert!(refusal.message.contains("lease_ms") && refusal.message.contains("1 to 5"), "{refusal}");
        assert_eq!(refusal.details[0], ("field", "lease_ms".to_owned()));
    }
}

//! Keys as people read them: lower-case hexadecimal.

use std::fmt::Write;

/// `bytes` in hexadecimal, two digits each.
pub(crate) fn of(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

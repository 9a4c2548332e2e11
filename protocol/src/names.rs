//! Names that validate themselves: whoever holds one holds the proof.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::limits::NAME_BYTES_MAX;

/// A text that is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a legal {what}: {fault}; use 1 to {NAME_BYTES_MAX} letters, digits, '_', '.' or '-', the first a letter or digit"
)]
pub struct NameError {
    what: &'static str,
    text: String,
    fault: &'static str,
}

/// `^[A-Za-z0-9][A-Za-z0-9_.-]{0,126}$`
fn fault_of(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    match bytes.first() {
        None => Some("it is empty"),
        Some(first) if !first.is_ascii_alphanumeric() => Some("it does not begin with a letter or digit"),
        _ if bytes.len() > NAME_BYTES_MAX => Some("it is too long"),
        _ if !bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b)) => {
            Some("it has a character that is not allowed")
        }
        _ => None,
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name, if `text` is one.
            ///
            /// # Errors
            /// [`NameError`] says what is wrong with it.
            pub fn new(text: &str) -> Result<Self, NameError> {
                match fault_of(text) {
                    None => Ok(Self(text.into())),
                    Some(fault) => Err(NameError { what: $what, text: text.chars().take(160).collect(), fault }),
                }
            }

            /// Its text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name!(
    /// The name of a topic.
    TopicName,
    "topic name"
);
name!(
    /// The name of a group: of consumers, or of producers.
    GroupName,
    "group name"
);
name!(
    /// The kind of a transaction: who can answer for it, e.g. `order.create`.
    Kind,
    "transaction kind"
);
name!(
    /// The name of one client instance.
    ClientId,
    "client id"
);
name!(
    /// What subscriptions filter by.
    Tag,
    "tag"
);

/// The suffix of a group's dead-letter topic.
const DEAD_LETTER_SUFFIX: &str = ".dlq";

impl GroupName {
    /// The name of its dead-letter topic, `<group>.dlq`.
    ///
    /// # Errors
    /// If that name would be too long: a group's name has room for the suffix.
    pub fn dead_letter_topic(&self) -> Result<TopicName, NameError> {
        TopicName::new(&format!("{self}{DEAD_LETTER_SUFFIX}"))
    }
}

impl TopicName {
    /// Whether it is reserved for dead letters (ends in `.dlq`).
    pub fn is_dead_letter_topic(&self) -> bool {
        self.0.ends_with(DEAD_LETTER_SUFFIX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_names_are_accepted() {
        for text in ["a", "order-paid", "Order_2.created", "9lives", &"x".repeat(127)] {
            assert!(TopicName::new(text).is_ok(), "{text:?} was refused");
        }
    }

    #[test]
    fn illegal_names_are_refused_with_the_fault() {
        for (text, fault) in [
            ("", "empty"),
            (".hidden", "begin"),
            ("-a", "begin"),
            ("a b", "character"),
            ("ä", "begin"),
            ("aä", "character"),
            (&"x".repeat(128), "too long"),
        ] {
            let error = GroupName::new(text).expect_err(text).to_string();
            assert!(error.contains(fault), "{error}");
        }
    }
}

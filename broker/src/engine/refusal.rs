//! A refusal: why an input changed nothing. It is an answer, not an accident.

use escrow_protocol::Reason;

/// Why, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refusal {
    /// For programs.
    pub reason: Reason,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// Machine-readable details.
    pub details: Vec<(&'static str, String)>,
    /// When waiting helps: how long, milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    /// A refusal without details.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), details: Vec::new(), retry_after_ms: None }
    }

    /// With one more detail.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.details.push((name, value.to_string()));
        self
    }

    /// Says that waiting helps.
    #[must_use]
    pub fn retry_after(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// An illegal value: names the field, the fault and the remedy.
    pub fn invalid(field: &'static str, fault_and_remedy: impl Into<String>) -> Self {
        Self::new(Reason::InvalidField, format!("{field}: {}", fault_and_remedy.into())).with("field", field)
    }
}

//! What happened in a run: a number that stands for all of it, and, when a person wants to read, the last lines.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Lines kept for reading.
const LINES_KEPT: usize = 120;

/// The record of a run.
pub(super) struct Trace {
    digest: DefaultHasher,
    readable: bool,
    lines: VecDeque<String>,
}

impl Trace {
    /// `readable` keeps lines too; without it they are never even formatted.
    pub(super) fn new(readable: bool) -> Self {
        // `DefaultHasher::new` has fixed keys: the same events, the same number.
        Self { digest: DefaultHasher::new(), readable, lines: VecDeque::new() }
    }

    pub(super) fn mix(&mut self, what: &impl Hash) {
        what.hash(&mut self.digest);
    }

    pub(super) fn line(&mut self, text: impl FnOnce() -> String) {
        if !self.readable {
            return;
        }
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(text());
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest.finish()
    }

    pub(super) fn text(&self) -> String {
        self.lines.iter().map(|line| format!("  {line}\n")).collect()
    }
}

/// An input in one line: a body says nothing.
pub(super) fn brief(input: &escrow_broker::engine::Input) -> String {
    use escrow_broker::engine::Input;
    let message = |it: &escrow_broker::engine::NewMessage| {
        format!(
            "{} to {} key {:?} tag {:?} at {} for {}",
            it.id, it.topic, it.ordering_key, it.tag, it.deliver_at_ms, it.time_to_live_ms
        )
    };
    match input {
        Input::Publish(it) => format!("publish {}", message(it)),
        Input::SendHalf(it) => {
            let messages: Vec<String> = it.messages.iter().map(message).collect();
            format!("half {:?} of {} ({}): {}", it.key, it.group, it.kind, messages.join("; "))
        }
        other => format!("{other:?}"),
    }
}

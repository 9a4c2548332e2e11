//! Progress, on stderr: only on a terminal.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

/// How far something is that takes a while. Draws nothing where nobody looks.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Of so many things whose results are printed as they come: it would be drawn between them on a terminal.
    pub(crate) fn beside_lines(total: u64, what: &'static str) -> Self {
        if io::stdout().is_terminal() { Self(ProgressBar::hidden()) } else { Self::towards(total, what) }
    }

    /// Of so many things.
    pub(crate) fn towards(total: u64, what: &'static str) -> Self {
        Self::new(ProgressBar::new(total), &format!("{{bar:30}} {{pos}}/{{len}} {what} ({{per_sec}})"))
    }

    /// Of so many bytes, or of an unknown number of them.
    pub(crate) fn of_bytes() -> Self {
        Self::new(ProgressBar::new_spinner(), "{spinner} {bytes} ({bytes_per_sec})")
    }

    /// Of a whole that is told in percent.
    pub(crate) fn percent() -> Self {
        Self::new(ProgressBar::new(100), "{bar:30} {pos}% {msg}")
    }

    fn new(bar: ProgressBar, template: &str) -> Self {
        if !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template(template).expect("the templates are written in this file");
        Self(bar.with_style(style))
    }

    /// So many more.
    pub(crate) fn advance(&self, by: u64) {
        self.0.inc(by);
    }

    /// As far as this, and what is done now.
    pub(crate) fn at(&self, position: u64, doing: String) {
        self.0.set_position(position);
        self.0.set_message(doing);
    }

    /// A line above the bar, where somebody looks.
    pub(crate) fn say(&self, words: &str) {
        self.0.println(words);
    }

    /// The end: the bar goes.
    pub(crate) fn finish(self) {
        self.0.finish_and_clear();
    }
}

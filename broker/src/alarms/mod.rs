//! Alarms: rules over the broker's own counters, and who is told when one is reached. [`rules`], [`book`], [`sample`], [`outbox`]
//! and [`letter`] are pure; [`desk`] holds them together and has what they decide written down by the engine; [`watch`] looks
//! once a second, [`courier`] sends. Nothing here changes what happens to a message.

mod book;
mod courier;
mod desk;
mod http;
mod letter;
mod outbox;
mod rate;
mod recover;
mod rules;
mod sample;
mod settings;
mod sign;
mod smtp;
mod tls;
mod watch;
mod words;

pub(crate) use desk::Found;
pub use desk::{Alarms, AlarmsParts, Standing};
pub use rules::{Limit, Rules, Unit};
pub(crate) use sample::{Clue, Sample};
pub use settings::{AlarmSettings, Secret, Sink, SinkKind, Url};
pub use words::{amount, event_word, page, rule_title, sentence};

#[cfg(test)]
mod tests;

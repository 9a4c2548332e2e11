//! Tells all stories at once and says, line by line, what was expected and what was seen.

use std::io::{self, Write};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::timeout;

use super::process::BrokerProcess;
use super::site::{Site, StoryError};
use super::stories::{RESTART, STORIES, restart};
use crate::cli::CliError;

/// All stories together are over within this time.
const OVER_WITHIN: Duration = Duration::from_secs(30);

/// How a story went.
struct Outcome {
    title: &'static str,
    expected: &'static str,
    seen: Result<String, StoryError>,
}

impl Outcome {
    fn holds(&self) -> bool {
        self.seen.as_ref().is_ok_and(|seen| seen == self.expected)
    }

    fn line(&self) -> String {
        let verdict = if self.holds() { "ok    " } else { "FAILED" };
        let seen = match &self.seen {
            Ok(seen) => format!("\"{seen}\""),
            Err(error) => format!("an error: {error}"),
        };
        format!("{verdict}  {}: expected \"{}\", saw {seen}", self.title, self.expected)
    }
}

/// Does it.
pub(super) async fn run() -> Result<(), CliError> {
    let mut failed = 0;
    let mut told = 0;
    let tell_all = async {
        let broker = BrokerProcess::start().await.map_err(|error| CliError::failed(error.to_string()))?;
        let site = Site::connect(&broker.url()).await.map_err(|error| CliError::failed(error.to_string()))?;
        let mut outcomes = all(&site);
        while let Some(outcome) = outcomes.next().await {
            told += 1;
            failed += usize::from(!outcome.holds());
            writeln!(io::stdout(), "{}", outcome.line())?;
        }
        Ok::<_, CliError>(())
    };
    let in_time = timeout(OVER_WITHIN, tell_all).await;
    let all = STORIES.len() + 1;
    match in_time {
        Err(_elapsed) => Err(CliError::failed(format!(
            "only {told} of {all} stories were over after {OVER_WITHIN:?}; the machine is too slow, or the broker hangs"
        ))),
        Ok(Err(error)) => Err(error),
        Ok(Ok(())) if failed > 0 => Err(CliError::failed(format!("{failed} of {all} stories do not hold"))),
        Ok(Ok(())) => Ok(writeln!(io::stdout(), "all {all} stories hold")?),
    }
}

type Telling = std::pin::Pin<Box<dyn Future<Output = Outcome>>>;

/// All stories, under way at once.
fn all(site: &Site) -> FuturesUnordered<Telling> {
    let outcomes: FuturesUnordered<Telling> = FuturesUnordered::new();
    for story in STORIES {
        let seen = (story.tell)(site.clone());
        outcomes.push(Box::pin(async move {
            Outcome { title: story.title, expected: story.expected, seen: seen.await }
        }));
    }
    let (title, expected) = RESTART;
    outcomes.push(Box::pin(async move { Outcome { title, expected, seen: restart().await } }));
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(seen: Result<String, StoryError>) -> Outcome {
        Outcome { title: "committed", expected: "order", seen }
    }

    #[test]
    fn a_story_holds_only_if_what_was_seen_is_what_was_expected() {
        let held = outcome(Ok("order".to_owned()));
        assert!(held.holds());
        assert_eq!(held.line(), "ok      committed: expected \"order\", saw \"order\"");
        let other = outcome(Ok("nothing".to_owned()));
        assert!(!other.holds());
        assert_eq!(other.line(), "FAILED  committed: expected \"order\", saw \"nothing\"");
        let failed = outcome(Err(StoryError::new("order")));
        assert!(!failed.holds(), "an error that reads like success is no success");
        assert_eq!(failed.line(), "FAILED  committed: expected \"order\", saw an error: order");
    }
}

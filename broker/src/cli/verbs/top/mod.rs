//! `escrow top`: the broker, live. On a terminal it stays until it is told to go; elsewhere, or with --once, it prints one
//! frame. It asks for counters and one page of groups, never for messages.

mod frame;
mod reading;
mod screen;

use std::io::{self, IsTerminal, Write as _};
use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use escrow::Admin;
use escrow_protocol::{limits, v1};
use futures::StreamExt as _;
use serde::Serialize;
use tokio::time::MissedTickBehavior;

use crate::cli::clock::duration;
use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::Format;
use crate::cli::signals::interrupted;
use crate::cli::view::{GroupView, StatusView};
use crate::config::DurationText;

pub(crate) use frame::SortBy;
use frame::{Outlook, frame, group_count};
use reading::{History, Latencies, Look, Rates};
use screen::Screen;

/// More often than this it would be a load of its own.
const INTERVAL_MIN: Duration = Duration::from_millis(200);
/// Less often than this it is not live.
const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// What `escrow top` takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TopArgs {
    /// How often it looks, 200ms to 1m.
    #[arg(long, short, default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// What the groups are sorted by.
    #[arg(long, value_enum, default_value_t = SortBy::Lag)]
    sort: SortBy,
    /// Print one frame and end: rates of one interval, latencies since the broker was started.
    #[arg(long)]
    once: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    match (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
        true => Ok(interval),
        false => Err("it is not within 200ms and 1m".to_owned()),
    }
}

/// Does it.
pub(crate) async fn run(args: TopArgs, global: &Global) -> Result<(), CliError> {
    let url = global.target()?.url;
    let admin = global.admin().await?;
    let outlook = Outlook { url, sort: args.sort, ..Outlook::default() };
    let is_watched = io::stdout().is_terminal() && io::stdin().is_terminal();
    if args.once || !is_watched || global.output != Format::Table {
        return once(admin, &args, outlook, global).await;
    }
    watch(admin, args.interval, outlook).await
}

/// One frame, for programs and for pipes.
async fn once(mut admin: Admin, args: &TopArgs, outlook: Outlook, global: &Global) -> Result<(), CliError> {
    let mut history = History::since_start();
    history.add(look(&mut admin).await?);
    tokio::time::sleep(args.interval).await;
    history.add(look(&mut admin).await?);
    if global.output != Format::Table {
        return Ok(global.printer().document(&Reading::of(&history))?);
    }
    let mut stdout = io::stdout().lock();
    for line in frame(&history, &outlook, None) {
        writeln!(stdout, "{}", line.text())?;
    }
    Ok(())
}

/// A frame for programs.
#[derive(Debug, Serialize)]
struct Reading {
    status: StatusView,
    rates: Rates,
    latencies: Latencies,
    groups: Vec<GroupView>,
}

impl Reading {
    fn of(history: &History) -> Self {
        let look = history.last().cloned().unwrap_or_default();
        Self {
            status: StatusView::from(look.status),
            rates: history.rates().last().copied().unwrap_or_default(),
            latencies: history.latencies(),
            groups: look.groups.into_iter().map(GroupView::from).collect(),
        }
    }
}

async fn look(admin: &mut Admin) -> Result<Look, CliError> {
    let status = admin.get_status(v1::GetStatusRequest {}).await?.into_inner();
    let page = v1::Page { limit: limits::PAGE_MAX as u32, cursor: String::new() };
    let request = v1::ListGroupsRequest { page: Some(page), prefix: String::new() };
    let answer = admin.list_groups(request).await?.into_inner();
    Ok(Look { status, groups: answer.groups, more_groups: !answer.next_cursor.is_empty() })
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Quit,
    Look,
    Sort(SortBy),
    /// Groups further down, or up.
    Scroll(isize),
    Faster,
    Slower,
}

/// A page of the table, lines.
const PAGE: isize = 10;

fn wish_of(key: KeyEvent) -> Option<Wish> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c') if control => Wish::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Wish::Quit,
        KeyCode::Char(' ') => Wish::Look,
        KeyCode::Char('l') => Wish::Sort(SortBy::Lag),
        KeyCode::Char('a') => Wish::Sort(SortBy::Age),
        KeyCode::Char('r') => Wish::Sort(SortBy::Retrying),
        KeyCode::Char('d') => Wish::Sort(SortBy::Dead),
        KeyCode::Char('k') => Wish::Sort(SortBy::Acks),
        KeyCode::Char('n') => Wish::Sort(SortBy::Name),
        KeyCode::Char('+') => Wish::Faster,
        KeyCode::Char('-') => Wish::Slower,
        KeyCode::Down => Wish::Scroll(1),
        KeyCode::Up => Wish::Scroll(-1),
        KeyCode::PageDown => Wish::Scroll(PAGE),
        KeyCode::PageUp => Wish::Scroll(-PAGE),
        KeyCode::Home => Wish::Scroll(isize::MIN),
        KeyCode::End => Wish::Scroll(isize::MAX),
        _ => return None,
    })
}

fn keys(interval: Duration) -> String {
    let every = DurationText(interval.as_millis() as u64);
    format!(
        "q quit  sort: l lag  a age  r retrying  d dead  k acks  n name  ↑↓ scroll  +- every {every}  space now"
    )
}

async fn watch(admin: Admin, mut interval: Duration, mut outlook: Outlook) -> Result<(), CliError> {
    let mut screen = Screen::open()?;
    let mut history = History::default();
    let mut events = EventStream::new();
    let mut stop = std::pin::pin!(interrupted());
    let mut ticks = ticks(interval);
    // A look that takes long must not hold up the keys: it runs beside them, one at a time.
    let mut looking: Option<tokio::task::JoinHandle<Result<Look, CliError>>> = None;
    let start = |admin: &Admin| {
        let mut admin = admin.clone();
        tokio::spawn(async move { look(&mut admin).await })
    };
    loop {
        outlook.keys = keys(interval);
        let (_, height) = screen.size();
        screen.draw(frame(&history, &outlook, Some(height)))?;
        // Cancel-safe: events, ticks and the signal stay where they are, and a look goes on in its own task.
        tokio::select! {
            () = &mut stop => return Ok(()),
            event = events.next() => match event {
                Some(Ok(Event::Key(key))) => match wish_of(key) {
                    Some(Wish::Quit) => return Ok(()),
                    Some(Wish::Look) if looking.is_none() => looking = Some(start(&admin)),
                    Some(Wish::Sort(sort)) => outlook.sort = sort,
                    Some(Wish::Scroll(by)) => {
                        let last = group_count(&history).saturating_sub(1);
                        outlook.skipped = outlook.skipped.saturating_add_signed(by).min(last);
                    }
                    Some(Wish::Faster) => interval = (interval / 2).max(INTERVAL_MIN),
                    Some(Wish::Slower) => interval = (interval * 2).min(INTERVAL_MAX),
                    Some(Wish::Look) | None => {}
                },
                Some(Ok(_resized_or_focused)) => {}
                Some(Err(error)) => return Err(error.into()),
                // Nobody is there any more.
                None => return Ok(()),
            },
            _ = ticks.tick(), if looking.is_none() => looking = Some(start(&admin)),
            looked = ended(&mut looking) => {
                looking = None;
                match looked {
                    Ok(look) => {
                        outlook.fault = None;
                        history.add(look);
                    }
                    Err(error) if error.status() == 3 => {
                        outlook.fault = Some(format!("no broker answers at {}; trying again", outlook.url));
                    }
                    Err(error) => outlook.fault = Some(error.to_string()),
                }
            }
        }
        if ticks.period() != interval {
            ticks = self::ticks(interval);
        }
    }
}

fn ticks(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// What a look saw, once it is over. Cancel-safe.
async fn ended(
    looking: &mut Option<tokio::task::JoinHandle<Result<Look, CliError>>>,
) -> Result<Look, CliError> {
    match looking {
        Some(task) => match task.await {
            Ok(looked) => looked,
            Err(error) => Err(CliError::failed(format!("a look ended early: {error}"))),
        },
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_wishes() {
        let key = |code, modifiers| wish_of(KeyEvent::new(code, modifiers));
        assert_eq!(key(KeyCode::Char('q'), KeyModifiers::NONE), Some(Wish::Quit));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Wish::Quit));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(key(KeyCode::Char('d'), KeyModifiers::NONE), Some(Wish::Sort(SortBy::Dead)));
        assert_eq!(key(KeyCode::Home, KeyModifiers::NONE), Some(Wish::Scroll(isize::MIN)));
    }

    #[test]
    fn an_interval_is_live_and_no_load() {
        assert!(interval("1s").is_ok() && interval("200ms").is_ok() && interval("1m").is_ok());
        assert!(interval("100ms").is_err() && interval("2m").is_err());
    }
}

//! Lists that come in pages.

use std::io;

use escrow_protocol::limits;
use escrow_protocol::v1::Page;

use super::error::CliError;
use super::output::{Format, Printer, View};

/// How much of a list is asked for.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Paging {
    /// At most this many.
    #[arg(long, default_value_t = limits::PAGE_DEFAULT as u32, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Go on where the list before ended.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) cursor: String,
    /// All of it, page by page.
    #[arg(long, conflicts_with_all = ["limit", "cursor"])]
    pub(crate) all: bool,
}

impl Paging {
    /// Fetches what is asked for and prints it. With `-o jsonl` each page is printed as it comes.
    pub(crate) async fn print<T: View>(
        &self,
        printer: &mut Printer,
        empty: &str,
        mut fetch: impl AsyncFnMut(Page) -> Result<(Vec<T>, String), CliError>,
    ) -> Result<(), CliError> {
        let mut cursor = self.cursor.clone();
        let mut views = Vec::new();
        loop {
            let wanted = if self.all { limits::PAGE_MAX } else { self.limit as usize - views.len() };
            let page = Page { limit: wanted.min(limits::PAGE_MAX) as u32, cursor };
            let (more, next) = fetch(page).await?;
            let is_stuck = more.is_empty();
            views.extend(more);
            if self.all && printer.format() == Format::Jsonl {
                printer.list(&std::mem::take(&mut views), empty)?;
            }
            cursor = next;
            let is_enough = !self.all && views.len() >= self.limit as usize;
            if cursor.is_empty() || is_enough || is_stuck {
                break;
            }
        }
        if !(self.all && printer.format() == Format::Jsonl) {
            printer.list(&views, empty)?;
        }
        say_there_is_more(&cursor, &mut io::stderr())
    }
}

/// On stderr, so that what reads the list is not disturbed.
fn say_there_is_more(cursor: &str, to: &mut dyn io::Write) -> Result<(), CliError> {
    if !cursor.is_empty() {
        writeln!(to, "there is more: --all, or --cursor {cursor}")?;
    }
    Ok(())
}

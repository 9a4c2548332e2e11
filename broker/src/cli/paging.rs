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
    /// Fetches what is asked for and prints it. With `-o jsonl` each page is printed as it comes. A page may be short, or
    /// empty, and not be the last: the broker looks at so many and no more for one.
    pub(crate) async fn print<T: View>(
        &self,
        printer: &mut Printer<impl io::Write>,
        empty: &str,
        mut fetch: impl AsyncFnMut(Page) -> Result<(Vec<T>, String), CliError>,
    ) -> Result<(), CliError> {
        let mut cursor = self.cursor.clone();
        let mut views = Vec::new();
        loop {
            let wanted = if self.all { limits::PAGE_MAX } else { self.limit as usize - views.len() };
            let page = Page { limit: wanted.min(limits::PAGE_MAX) as u32, cursor: cursor.clone() };
            let (more, next) = fetch(page).await?;
            let is_stuck = more.is_empty() && next == cursor;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::view;

    view! {
        /// A number.
        NumberView {
            /// It.
            number: u64 = "NUMBER",
        }
    }

    const EMPTY: &str = "there are none";

    /// What is printed of a list whose pages are these; the cursor of each is its place.
    async fn printed(paging: Paging, pages: &[&[u64]]) -> String {
        let mut said = Vec::new();
        let mut printer = Printer::new(&mut said, Format::Table, true);
        let fetch = async |page: Page| {
            let at = page.cursor.parse().unwrap_or(0);
            let views = pages[at].iter().map(|number| NumberView { number: *number }).collect();
            let next = if at + 1 < pages.len() { (at + 1).to_string() } else { String::new() };
            Ok((views, next))
        };
        paging.print(&mut printer, EMPTY, fetch).await.expect("it prints");
        String::from_utf8(said).expect("text")
    }

    #[tokio::test]
    async fn an_empty_page_is_not_the_end() {
        let paging = |all| Paging { limit: 2, cursor: String::new(), all };
        for all in [false, true] {
            let said = printed(paging(all), &[&[], &[], &[17]]).await;
            assert!(said.contains("17") && !said.contains(EMPTY), "{said}");
            assert!(printed(paging(all), &[&[], &[]]).await.contains(EMPTY));
        }
        let said = printed(paging(false), &[&[1], &[], &[2], &[3]]).await;
        assert!(said.contains('2') && !said.contains('3'), "{said}");
    }

    #[tokio::test]
    async fn a_list_that_goes_nowhere_ends() {
        let paging = Paging { limit: 2, cursor: "here".to_owned(), all: false };
        let mut said = Vec::new();
        let mut printer = Printer::new(&mut said, Format::Table, true);
        let nowhere = async |page: Page| Ok((Vec::<NumberView>::new(), page.cursor));
        paging.print(&mut printer, EMPTY, nowhere).await.expect("it ends");
    }
}

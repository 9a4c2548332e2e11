//! Pages: how many, from where, and where the next one starts.

use escrow_protocol::limits;

/// Which page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// At most this many, 1 to `limits::PAGE_MAX`.
    pub limit: usize,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: limits::PAGE_DEFAULT, cursor: None }
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Paged<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one starts; `None` behind the last.
    pub next: Option<String>,
}

/// Turns of the engine that one filtered page may take: it may be short and still have a next.
pub(super) const TURNS_MAX: usize = 5;

impl<T> Paged<T> {
    /// A page of what a source gave that was asked for `limit` items: a full page may be followed by another.
    pub(super) fn of(items: Vec<T>, limit: usize, cursor_of: impl FnOnce(&T) -> String) -> Self {
        let next = (items.len() >= limit).then(|| items.last().map(cursor_of)).flatten();
        Self { items, next }
    }

    /// A page of all that there is, found in any order: behind `after`, by the place of each.
    pub(super) fn of_all<P: Ord>(
        mut all: Vec<T>,
        place_of: impl Fn(&T) -> P,
        after: Option<P>,
        limit: usize,
        cursor_of: impl FnOnce(P) -> String,
    ) -> Self {
        all.sort_by_key(&place_of);
        let is_behind = |item: &T| after.as_ref().is_none_or(|after| place_of(item) > *after);
        let mut rest = all.into_iter().filter(is_behind).peekable();
        let items: Vec<T> = rest.by_ref().take(limit).collect();
        let is_last = rest.peek().is_none();
        let next = items.last().filter(|_| !is_last).map(|last| cursor_of(place_of(last)));
        Self { items, next }
    }

    /// The same page with each item turned into something else.
    pub fn map<U>(self, each: impl FnMut(T) -> U) -> Paged<U> {
        Paged { items: self.items.into_iter().map(each).collect(), next: self.next }
    }
}

impl Page {
    /// What the cursor says, by `parse`.
    pub(super) fn after<T>(
        &self,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, crate::engine::Refusal> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        parse(cursor).map(Some).ok_or_else(|| {
            let remedy =
                "it is not a cursor of this list; pass the next_cursor of the answer before, or none";
            crate::engine::Refusal::invalid("page.cursor", remedy)
        })
    }
}

/// Two numbers as a cursor.
pub(super) fn pair_cursor(one: u64, two: u64) -> String {
    format!("{one}.{two}")
}

/// What [`pair_cursor`] wrote.
pub(super) fn parse_pair(cursor: &str) -> Option<(u64, u64)> {
    let (one, two) = cursor.split_once('.')?;
    Some((one.parse().ok()?, two.parse().ok()?))
}

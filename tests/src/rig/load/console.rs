//! A person who goes through the pages of the console while a load runs: searches by key and by id, the page of a message,
//! dead letters, retries, schedules, topics, groups, the audit. Notes what they show as a message of a topic; an undecided
//! or a rolled-back one may only be shown as that, on its own page and where it is searched for. Judges nothing, and
//! changes nothing.

use std::collections::BTreeMap;

use super::super::history::{Event, History, Reader};
use super::super::http;
use super::{GROUPS, TOPIC, body};

/// A body that is shorter may stand on a page by chance.
const TELLING_BYTES: usize = 32;
/// The most rows of a list that are asked for at once.
const LIMIT: usize = 1_000;
/// Of so many messages one is searched for by its id, too.
const BY_ID_EVERY: u64 = 3;

/// Why the console could not be read.
type Unread = Box<dyn std::error::Error>;

/// How a page says that a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// It is in no queue.
    Undecided,
    /// Nobody ever saw it, and nobody will.
    Ended,
    /// It is gone because every group has finished it.
    Finished,
    /// It waits for its time.
    Scheduled,
    /// It has this place in its topic.
    At(u64),
}

impl Stand {
    fn of(words: &str) -> Result<Self, String> {
        if let Some(offset) = words.strip_prefix("in its topic at offset ") {
            return Ok(Self::At(leading_number(offset)?));
        }
        let known = [
            ("undecided", Self::Undecided),
            ("scheduled", Self::Scheduled),
            ("gone: every group has finished it", Self::Finished),
            ("gone: ", Self::Ended),
        ];
        let found = known.into_iter().find(|(beginning, _)| words.starts_with(beginning));
        found.map(|(_, stand)| stand).ok_or_else(|| format!("nobody knows what {words:?} means"))
    }

    /// Whether it says that groups see it, or saw it, or will.
    fn shows(self) -> bool {
        !matches!(self, Self::Undecided | Self::Ended)
    }
}

/// A person before the console of one broker.
pub(super) struct Onlooker<'a> {
    port: u16,
    history: &'a History,
    /// What is shown is of this time. `None`: of the moment in which it is looked at.
    of_backup: Option<usize>,
    /// The ids of messages that were not shown as such.
    hidden: BTreeMap<String, u64>,
}

impl<'a> Onlooker<'a> {
    /// Looks at the console at this port.
    pub(super) fn new(port: u16, history: &'a History, of_backup: Option<usize>) -> Self {
        Self { port, history, of_backup, hidden: BTreeMap::new() }
    }

    /// Looks for each of `messages`, then goes through all lists.
    ///
    /// # Errors
    /// If the console is not there, or says something that nobody understands.
    pub(super) async fn look(mut self, messages: impl Iterator<Item = u64>) -> Result<(), Unread> {
        for message in messages {
            self.look_for(message).await?;
        }
        for group in GROUPS {
            self.dead_letters(group).await?;
            self.list(&format!("/retries?group={group}")).await?;
            let page = self.list(&format!("/groups/{group}")).await?;
            self.count(places_of_group(&page)?);
        }
        let page = self.list(&format!("/topics/{TOPIC}")).await?;
        self.count(leading_number(fact(&page, "Next offset")?)?);
        for address in ["/scheduled", "/topics?dead=1", "/groups", "/", "/audit", "/alarms", "/clients"] {
            self.list(address).await?;
        }
        self.decided().await
    }

    /// What is shown is no younger than this.
    fn as_of(&self) -> usize {
        self.of_backup.unwrap_or_else(|| self.history.len())
    }

    fn saw(&self, message: u64) {
        self.history.note(Event::Read { reader: Reader::Console, message, as_of: self.as_of() });
    }

    fn count(&self, places: u64) {
        self.history.note(Event::Counted { reader: Reader::Console, places, as_of: self.as_of() });
    }

    async fn page(&self, address: &str) -> Result<String, Unread> {
        let page = http::get(self.port, address).await?;
        match page.status {
            200 => Ok(page.text),
            status => Err(format!("{address}: {status} {}", page.text).into()),
        }
    }

    /// By its business key; each message that this finds is looked at.
    async fn look_for(&mut self, message: u64) -> Result<(), Unread> {
        let found = self.page(&format!("/messages?q={message}")).await?;
        for row in rows(&found) {
            let id = between(row, "href=\"/messages/", "\"").ok_or("a message without its page")?.to_owned();
            let stand = Stand::of(cells(row).nth(1).ok_or("a message without its place")?)?;
            if stand.shows() {
                self.saw(message);
            }
            if message.is_multiple_of(BY_ID_EVERY) {
                self.look_by_id(message, &id).await?;
            }
            self.look_at(message, &id).await?;
        }
        Ok(())
    }

    /// A search for an id leads to the page of that message, unless it is forgotten meanwhile.
    async fn look_by_id(&self, message: u64, id: &str) -> Result<(), Unread> {
        let found = http::get(self.port, &format!("/messages?q={id}")).await?;
        let meant = format!("/messages/{id}");
        match (found.status, found.location) {
            (303, Some(to)) if to == meant => Ok(()),
            (200, _) if rows(&found.text).next().is_none() => Ok(()),
            (status, to) => {
                Err(format!("message {message}: a search for {id} answers {status} {to:?}").into())
            }
        }
    }

    /// The page of a message, and its body as a file.
    async fn look_at(&mut self, message: u64, id: &str) -> Result<(), Unread> {
        let page = http::get(self.port, &format!("/messages/{id}")).await?;
        // Its story was forgotten meanwhile.
        if page.status == 404 {
            return Ok(());
        }
        let page = page.text;
        let stand = Stand::of(fact(&page, "Where it is")?)?;
        let file = http::get(self.port, &format!("/messages/{id}/body")).await?;
        let body = text_of(message);
        let is_open = stand != Stand::Undecided
            && (body.len() >= TELLING_BYTES && page.contains(&body) || file.status == 200);
        // A story of groups is one of a message that they were handed.
        let has_met_groups = GROUPS.iter().any(|group| page.contains(&format!("href=\"/groups/{group}\"")));
        let has_place = fact(&page, "Offset").is_ok();
        if stand.shows() || is_open || has_met_groups || has_place {
            self.saw(message);
        } else {
            self.hidden.insert(id.to_owned(), message);
        }
        let is_stored = !matches!(stand, Stand::Ended | Stand::Finished);
        if is_stored && !page.contains(&body) || file.status == 200 && file.text != body {
            self.history.note(Event::Altered { message });
        }
        if let (Stand::At(offset), None) = (stand, self.of_backup) {
            self.history.note(Event::Found { message, offset });
        }
        Ok(())
    }

    /// A page that lists messages of topics, or none: every one that it names, by its key or by its id.
    async fn list(&self, address: &str) -> Result<String, Unread> {
        let page = self.page(address).await?;
        keys(&page)?.into_iter().for_each(|message| self.saw(message));
        for (_, message) in self.hidden.iter().filter(|(id, _)| page.contains(id.as_str())) {
            self.saw(*message);
        }
        Ok(page)
    }

    /// The dead letters of a group, and the page of the last of them.
    async fn dead_letters(&self, group: &str) -> Result<(), Unread> {
        let page = self.list(&format!("/dead-letters?group={group}&limit={LIMIT}")).await?;
        let Some(last) = rows(&page).last() else { return Ok(()) };
        let of = format!("/dead-letters/of/{group}/");
        let offset = between(last, &format!("href=\"{of}"), "\"").ok_or("a dead letter without its page")?;
        let letter = http::get(self.port, &format!("{of}{offset}")).await?;
        // It was sent again meanwhile.
        if letter.status == 404 {
            return Ok(());
        }
        for message in keys(&letter.text)? {
            self.saw(message);
            if !letter.text.contains(&text_of(message)) {
                self.history.note(Event::Altered { message });
            }
        }
        Ok(())
    }

    /// The transactions that were decided: those that are said to be committed.
    async fn decided(&self) -> Result<(), Unread> {
        let page = self.page(&format!("/transactions?show=decided&limit={LIMIT}")).await?;
        for row in rows(&page).filter(|row| row.contains(">committed<")) {
            keys(row)?.into_iter().for_each(|message| self.saw(message));
        }
        Ok(())
    }
}

/// The places of the topic that a group is done with, or has before it.
fn places_of_group(page: &str) -> Result<u64, String> {
    let positions = page.split_once("<h2>Positions</h2>").map_or("", |(_, behind)| behind);
    let row = rows(positions).next().ok_or("a group without a position")?;
    // Topic, tags, floor, finished above, lag.
    cells(row).skip(2).take(3).map(leading_number).sum()
}

fn text_of(message: u64) -> String {
    String::from_utf8(body::of(message)).expect("bodies of the load are letters")
}

/// The rows of the tables on a page, without their heads.
fn rows(page: &str) -> impl Iterator<Item = &str> {
    page.split("<tr>").skip(1).filter(|row| row.contains("<td"))
}

/// What stands in each cell of a row.
fn cells(row: &str) -> impl Iterator<Item = &str> {
    row.split("<td").skip(1).filter_map(|cell| between(cell, ">", "</td>"))
}

/// The value of a fact.
fn fact<'p>(page: &'p str, name: &str) -> Result<&'p str, String> {
    let found = between(page, &format!("<dt>{name}</dt><dd>"), "</dd>");
    found.ok_or_else(|| format!("the page does not say {name:?}: {page}"))
}

/// The business keys on a page.
fn keys(page: &str) -> Result<Vec<u64>, String> {
    let links = page.split("href=\"/messages?q=").skip(1);
    links.map(|link| leading_number(link.split('"').next().unwrap_or_default())).collect()
}

fn between<'p>(text: &'p str, before: &str, behind: &str) -> Option<&'p str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(behind)?.0)
}

/// The number at the beginning, with or without groups of three.
fn leading_number(text: &str) -> Result<u64, String> {
    let digits = text.chars().take_while(|letter| letter.is_ascii_digit() || *letter == ',');
    let digits: String = digits.filter(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| format!("{text:?} does not begin with a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_console_are_understood() {
        for (words, stand, shows) in [
            ("undecided: in no queue", Stand::Undecided, false),
            ("gone: rolled back, nobody has seen it <span>", Stand::Ended, false),
            ("gone: every group has finished it", Stand::Finished, true),
            ("scheduled", Stand::Scheduled, true),
            ("in its topic at offset 1204", Stand::At(1204), true),
        ] {
            assert_eq!((Stand::of(words).unwrap(), stand.shows()), (stand, shows), "{words}");
        }
        assert!(Stand::of("lost").is_err());
    }

    #[test]
    fn pages_are_taken_apart() {
        let page = "<h2>Positions</h2><table><tr><th>T</th></tr><tr><td><a href=\"/messages?q=17\">17</a></td>\
                    <td>any</td><td class=\"number\">1,200</td><td class=\"number\">3</td><td>40</td></tr></table>\
                    <dl><div><dt>Next offset</dt><dd>1,243</dd></div></dl>";
        assert_eq!((places_of_group(page), keys(page)), (Ok(1_243), Ok(vec![17])));
        assert_eq!(fact(page, "Next offset").and_then(leading_number), Ok(1_243));
        assert!(keys("href=\"/messages?q=later\"").is_err() && fact(page, "Lag").is_err());
    }
}

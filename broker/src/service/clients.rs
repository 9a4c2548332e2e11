//! Who is connected.

use super::pages::TURNS_MAX;
use super::{Page, Paged, Service, mismatch};
use crate::engine::{ClientFilter, ClientView, Inspect, Refusal, Seen, SessionId};

impl Service {
    /// Producers and consumers, in the order they connected. A filtered page looks at some thousands and may be short.
    ///
    /// # Errors
    /// `InvalidField` for a cursor of another list.
    pub async fn clients(&self, filter: ClientFilter, page: Page) -> Result<Paged<ClientView>, Refusal> {
        let mut after = page.after(|cursor| cursor.parse().ok().map(SessionId))?;
        let mut items = Vec::new();
        for _ in 0..TURNS_MAX {
            let limit = page.limit - items.len();
            let question = Inspect::Clients { after, filter: filter.clone(), limit };
            let Seen::Clients(found, next) = self.see(question).await? else { return Err(mismatch()) };
            items.extend(found);
            after = next;
            if next.is_none() || items.len() >= page.limit {
                break;
            }
        }
        Ok(Paged { items, next: after.map(|session| session.0.to_string()) })
    }
}

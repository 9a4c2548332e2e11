//! Who is connected.

use super::{Page, Paged, Service, mismatch};
use crate::engine::{ClientView, Inspect, Refusal, Seen, SessionId};

impl Service {
    /// Producers and consumers, in the order they connected.
    ///
    /// # Errors
    /// `InvalidField` for a cursor of another list.
    pub async fn clients(&self, page: Page) -> Result<Paged<ClientView>, Refusal> {
        let after = page.after(|cursor| cursor.parse().ok().map(SessionId))?;
        match self.see(Inspect::Clients { after, limit: page.limit }).await? {
            Seen::Clients(clients) => {
                Ok(Paged::of(clients, page.limit, |client| client.session.0.to_string()))
            }
            _ => Err(mismatch()),
        }
    }
}

//! Who is connected: producers with the kinds they answer for, consumers with their credit and leases. Memory only:
//! after a restart clients connect again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use escrow_protocol::{ClientId, GroupName, Kind, Reason};

use super::checks::KindNumber;
use super::inspect::EXAMINED_MAX;
use super::sabotage::{Fault, planted};
use super::{ClientFilter, ClientView, Refusal, SessionId};
use crate::records::GroupNumber;

/// A connected producer.
#[derive(Debug)]
pub(super) struct ProducerSession {
    pub(super) client: ClientId,
    pub(super) group: GroupName,
    pub(super) kinds: Vec<(Kind, KindNumber)>,
    /// Questions under way.
    pub(super) questions: BTreeSet<u64>,
    pub(super) connected_at_ms: u64,
    pub(super) address: String,
}

/// A connected consumer.
#[derive(Debug)]
pub(super) struct ConsumerSession {
    pub(super) client: ClientId,
    pub(super) group: GroupNumber,
    pub(super) group_name: GroupName,
    pub(super) credit_messages: u32,
    /// Below zero after a message that was larger than what was left.
    pub(super) credit_bytes: i64,
    pub(super) leases: BTreeSet<u64>,
    /// Its leases outlive it.
    pub(super) detached: bool,
    pub(super) connected_at_ms: u64,
    pub(super) address: String,
}

impl ConsumerSession {
    /// Whether it may be sent a message of this size. One larger than what is left goes out when nothing else is out.
    pub(super) fn has_credit_for(&self, body_bytes: u32) -> bool {
        self.credit_messages > 0
            && (planted(Fault::CreditIgnored)
                || self.credit_bytes >= i64::from(body_bytes)
                || (self.credit_bytes > 0 && self.leases.is_empty()))
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) producers: BTreeMap<SessionId, ProducerSession>,
    pub(super) consumers: BTreeMap<SessionId, ConsumerSession>,
}

impl Sessions {
    /// Refuses one more than `max`, and a number that is in use.
    pub(super) fn admit(&self, session: SessionId, max: usize) -> Result<(), Refusal> {
        if self.producers.contains_key(&session) || self.consumers.contains_key(&session) {
            return Err(Refusal::new(Reason::HelloExpected, "this stream has said hello already"));
        }
        if self.producers.len() + self.consumers.len() >= max {
            return Err(Refusal::new(
                Reason::LimitReached,
                format!("{max} clients are connected, as many as `limits.sessions_max` allows; close some or raise it"),
            )
            .with("limit", "limits.sessions_max")
            .retry_after(5_000));
        }
        Ok(())
    }

    /// A page of clients behind `after`, and behind which to go on. A bounded number of them is looked at.
    pub(super) fn list(
        &self,
        after: Option<SessionId>,
        filter: &ClientFilter,
        limit: usize,
    ) -> (Vec<ClientView>, Option<SessionId>) {
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let producers = self.producers.range(behind).take(EXAMINED_MAX + 1).map(|(session, _)| *session);
        let consumers = self.consumers.range(behind).take(EXAMINED_MAX + 1).map(|(session, _)| *session);
        let mut sessions: Vec<_> = producers.chain(consumers).collect();
        sessions.sort_unstable();
        let (mut found, mut last) = (Vec::new(), after);
        for (examined, session) in sessions.into_iter().enumerate() {
            if found.len() == limit || examined == EXAMINED_MAX {
                return (found, last);
            }
            last = Some(session);
            found.extend(self.view_of(session, filter));
        }
        (found, None)
    }

    fn view_of(&self, session: SessionId, filter: &ClientFilter) -> Option<ClientView> {
        let admits = |consumer: bool, group: &GroupName, client: &ClientId| {
            filter.consumer.is_none_or(|wanted| wanted == consumer)
                && filter.group.as_ref().is_none_or(|wanted| wanted == group)
                && filter.name.as_deref().is_none_or(|name| client.as_str().contains(name))
        };
        if let Some(producer) = self.producers.get(&session) {
            return admits(false, &producer.group, &producer.client).then(|| producer.view(session));
        }
        let consumer = self.consumers.get(&session)?;
        admits(true, &consumer.group_name, &consumer.client).then(|| consumer.view(session))
    }
}

impl ProducerSession {
    fn view(&self, session: SessionId) -> ClientView {
        ClientView {
            session,
            client: self.client.clone(),
            consumer: false,
            group: self.group.clone(),
            kinds: self.kinds.iter().map(|(kind, _)| kind.clone()).collect(),
            connected_at_ms: self.connected_at_ms,
            address: self.address.clone(),
            leased: 0,
            credit_messages: 0,
        }
    }
}

impl ConsumerSession {
    fn view(&self, session: SessionId) -> ClientView {
        ClientView {
            session,
            client: self.client.clone(),
            consumer: true,
            group: self.group_name.clone(),
            kinds: Vec::new(),
            connected_at_ms: self.connected_at_ms,
            address: self.address.clone(),
            leased: self.leases.len() as u64,
            credit_messages: u64::from(self.credit_messages),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filtered_page_looks_at_so_many_and_says_where_to_go_on() {
        let mut sessions = Sessions::default();
        let count = EXAMINED_MAX as u64 + 10;
        for nth in 0..count {
            let group = GroupName::new(if nth + 1 == count { "last" } else { "other" }).expect("a name");
            let producer = ProducerSession {
                client: ClientId::new(&format!("client-{nth}")).expect("an id"),
                group,
                kinds: Vec::new(),
                questions: BTreeSet::new(),
                connected_at_ms: 0,
                address: String::new(),
            };
            sessions.producers.insert(SessionId(nth), producer);
        }
        let filter = ClientFilter { group: GroupName::new("last").ok(), ..ClientFilter::default() };
        let (found, next) = sessions.list(None, &filter, 10);
        assert_eq!((found.len(), next), (0, Some(SessionId(EXAMINED_MAX as u64 - 1))));
        let (found, next) = sessions.list(next, &filter, 10);
        assert_eq!((found.len(), next), (1, None));
        let (found, next) = sessions.list(None, &ClientFilter::default(), 3);
        assert_eq!((found.len(), next), (3, Some(SessionId(2))));
    }
}

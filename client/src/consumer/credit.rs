//! What the broker may still send: credit in messages and bytes. No I/O.

use escrow_protocol::v1;

/// A grant that is this fraction of the whole is worth a frame of its own; a smaller one waits for company.
const WORTH_A_FRAME: u64 = 4;

/// The credit of one consumer.
///
/// Invariant: granted and unused credit, plus what is held, never exceeds the prefetch.
#[derive(Debug)]
pub(crate) struct Credit {
    messages_max: u32,
    bytes_max: u64,
    granted_messages: u32,
    granted_bytes: u64,
}

impl Credit {
    pub(crate) fn new(messages_max: u32, bytes_max: u64) -> Self {
        Self { messages_max, bytes_max, granted_messages: 0, granted_bytes: 0 }
    }

    /// A new stream begins without credit.
    pub(crate) fn reset(&mut self) {
        self.granted_messages = 0;
        self.granted_bytes = 0;
    }

    /// A delivery came with a body of `bytes`. False if the broker had no credit for it. A body larger than what was
    /// left uses all of it.
    #[must_use]
    pub(crate) fn used(&mut self, bytes: u64) -> bool {
        let allowed = self.granted_messages > 0;
        self.granted_messages = self.granted_messages.saturating_sub(1);
        self.granted_bytes = self.granted_bytes.saturating_sub(bytes);
        allowed
    }

    /// What may be granted while `held` deliveries with `held_bytes` are here, if it is worth a frame.
    pub(crate) fn is_worth_a_frame(&self, held: u32, held_bytes: u64) -> bool {
        let (messages, bytes) = self.grantable(held, held_bytes);
        let much = u64::from(messages) * WORTH_A_FRAME >= u64::from(self.messages_max)
            || bytes * WORTH_A_FRAME >= self.bytes_max;
        much || (held == 0 && (messages > 0 || bytes > 0))
    }

    /// Grants all that may be granted; `None` if that is nothing.
    pub(crate) fn grant(&mut self, held: u32, held_bytes: u64) -> Option<v1::Credit> {
        let (messages, bytes) = self.grantable(held, held_bytes);
        self.granted_messages += messages;
        self.granted_bytes += bytes;
        // Invariant: credit and what is held together stay within the prefetch.
        assert!(messages == 0 || self.granted_messages + held <= self.messages_max);
        (messages > 0 || bytes > 0).then_some(v1::Credit { messages, bytes })
    }

    fn grantable(&self, held: u32, held_bytes: u64) -> (u32, u64) {
        let messages = self.messages_max.saturating_sub(held).saturating_sub(self.granted_messages);
        let bytes = self.bytes_max.saturating_sub(held_bytes).saturating_sub(self.granted_bytes);
        (messages, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_and_held_deliveries_never_exceed_the_prefetch() {
        let mut chance = fastrand::Rng::with_seed(3);
        let mut credit = Credit::new(10, 1000);
        let mut held: Vec<u64> = Vec::new();
        let mut broker = (0_u32, 0_u64);
        for _ in 0..10_000 {
            match chance.u8(0..3) {
                0 if broker.0 > 0 => {
                    let bytes = chance.u64(0..300);
                    broker = (broker.0 - 1, broker.1.saturating_sub(bytes));
                    assert!(credit.used(bytes));
                    held.push(bytes);
                }
                1 if !held.is_empty() => {
                    held.swap_remove(chance.usize(0..held.len()));
                }
                _ => {
                    if let Some(grant) = credit.grant(held.len() as u32, held.iter().sum()) {
                        broker = (broker.0 + grant.messages, broker.1 + grant.bytes);
                    }
                }
            }
            assert!(broker.0 as usize + held.len() <= 10);
            assert!(broker.1 <= 1000);
            assert_eq!(broker, (credit.granted_messages, credit.granted_bytes));
        }
    }

    #[test]
    fn a_delivery_without_credit_is_noticed() {
        let mut credit = Credit::new(1, 10);
        credit.grant(0, 0);
        assert!(credit.used(1));
        assert!(!credit.used(1));
    }

    #[test]
    fn an_idle_consumer_grants_however_little() {
        let mut credit = Credit::new(100, 1000);
        credit.grant(0, 0);
        assert!(credit.used(1));
        assert!(!credit.is_worth_a_frame(1, 1), "one of a hundred waits for company");
        assert!(credit.is_worth_a_frame(0, 0), "nothing else will come to keep it company");
    }

    #[test]
    fn a_body_larger_than_the_credit_gives_it_back_once() {
        let mut credit = Credit::new(10, 100);
        credit.grant(0, 0);
        assert!(credit.used(400));
        assert_eq!(credit.grant(1, 400), None);
        assert_eq!(credit.grant(0, 0), Some(v1::Credit { messages: 1, bytes: 100 }));
    }
}

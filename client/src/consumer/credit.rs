//! What the broker may still send: credit in messages and bytes. No I/O.

use escrow_protocol::v1;

/// A grant that is this fraction of the whole is worth a frame of its own; a smaller one waits for company.
const WORTH_A_FRAME: u64 = 4;

/// The credit of one consumer.
///
/// A body larger than the credit left is sent when nothing else is out, and leaves less than none; so bytes are signed.
///
/// Invariant: granted and unused credit, plus what is held, never exceeds the prefetch.
#[derive(Debug)]
pub(crate) struct Credit {
    messages_max: u32,
    bytes_max: i64,
    granted_messages: u32,
    granted_bytes: i64,
}

impl Credit {
    /// At most this much at once; both are bounded by the protocol's limits, so sums of them fit.
    pub(crate) fn new(messages_max: u32, bytes_max: u64) -> Self {
        Self { messages_max, bytes_max: signed(bytes_max), granted_messages: 0, granted_bytes: 0 }
    }

    /// A new stream begins without credit.
    pub(crate) fn reset(&mut self) {
        self.granted_messages = 0;
        self.granted_bytes = 0;
    }

    /// A delivery came with a body of `bytes`. False if the broker had no credit for it.
    #[must_use]
    pub(crate) fn used(&mut self, bytes: u64) -> bool {
        let allowed = self.granted_messages > 0;
        self.granted_messages = self.granted_messages.saturating_sub(1);
        self.granted_bytes = self.granted_bytes.saturating_sub(signed(bytes));
        allowed
    }

    /// What may be granted while `held` deliveries with `held_bytes` are here, if it is worth a frame.
    pub(crate) fn is_worth_a_frame(&self, held: u32, held_bytes: u64) -> bool {
        let (messages, bytes) = self.grantable(held, held_bytes);
        let much = u64::from(messages) * WORTH_A_FRAME >= u64::from(self.messages_max)
            || bytes.saturating_mul(WORTH_A_FRAME) >= self.bytes_max.unsigned_abs();
        much || (held == 0 && (messages > 0 || bytes > 0))
    }

    /// Grants all that may be granted; `None` if that is nothing.
    pub(crate) fn grant(&mut self, held: u32, held_bytes: u64) -> Option<v1::Credit> {
        let (messages, bytes) = self.grantable(held, held_bytes);
        self.granted_messages += messages;
        self.granted_bytes = self.granted_bytes.saturating_add_unsigned(bytes);
        // Invariant: credit and what is held together stay within the prefetch.
        assert!(messages == 0 || self.granted_messages + held <= self.messages_max);
        assert!(bytes == 0 || self.granted_bytes.saturating_add_unsigned(held_bytes) <= self.bytes_max);
        (messages > 0 || bytes > 0).then_some(v1::Credit { messages, bytes })
    }

    fn grantable(&self, held: u32, held_bytes: u64) -> (u32, u64) {
        let messages = self.messages_max.saturating_sub(held).saturating_sub(self.granted_messages);
        let bytes = self.bytes_max.saturating_sub(self.granted_bytes).saturating_sub(signed(held_bytes));
        (messages, bytes.max(0).unsigned_abs())
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_and_held_deliveries_never_exceed_the_prefetch_and_never_run_dry() {
        let mut chance = fastrand::Rng::with_seed(3);
        let mut credit = Credit::new(10, 1000);
        let mut held: Vec<u64> = Vec::new();
        let mut broker = (0_u32, 0_i64);
        for _ in 0..10_000 {
            match chance.u8(0..3) {
                // The broker's rule: what fits, or whatever it is while nothing is out.
                0 if broker.0 > 0 && broker.1 > 0 => {
                    let most = if held.is_empty() { 5000 } else { broker.1.unsigned_abs() };
                    let bytes = chance.u64(0..=most);
                    broker = (broker.0 - 1, broker.1 - signed(bytes));
                    assert!(credit.used(bytes));
                    held.push(bytes);
                }
                1 if !held.is_empty() => {
                    held.swap_remove(chance.usize(0..held.len()));
                }
                _ => {
                    if let Some(grant) = credit.grant(held.len() as u32, held.iter().sum()) {
                        broker = (broker.0 + grant.messages, broker.1 + signed(grant.bytes));
                    }
                }
            }
            assert!(broker.0 as usize + held.len() <= 10);
            assert!(broker.1 + signed(held.iter().sum()) <= 1000);
            assert!(broker.1 > 0 || !held.is_empty() || credit.is_worth_a_frame(0, 0), "stuck");
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
    fn a_body_larger_than_the_credit_is_paid_for_when_it_is_settled() {
        let mut credit = Credit::new(10, 100);
        credit.grant(0, 0);
        assert!(credit.used(400));
        assert_eq!(
            credit.grant(1, 400),
            None,
            "the broker is 300 below none, and so it stays while 400 are held"
        );
        assert_eq!(credit.grant(0, 0), Some(v1::Credit { messages: 1, bytes: 400 }));
    }
}

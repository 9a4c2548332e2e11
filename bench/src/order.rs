//! The order of each ordering key in each topic, as it is received. A key belongs to one of the operations outstanding
//! of one producer, which sends one message after another: so the numbers of a key must rise.

use std::collections::HashMap;

use crate::stamp::Stamp;

/// What was received last of each key, and how often that was wrong.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// By topic and key. The key names the producer too.
    last: HashMap<String, HashMap<String, u64>>,
    pub(crate) checked: u64,
    pub(crate) violations: u64,
}

impl Order {
    /// A message was received for the first time. Without a key it has no order.
    pub(crate) fn received(&mut self, topic: &str, key: &str, stamp: Stamp) {
        if key.is_empty() {
            return;
        }
        self.checked += 1;
        let last = match self.last.get_mut(topic).and_then(|keys| keys.get_mut(key)) {
            Some(last) => last,
            None => {
                let keys = self.last.entry(topic.to_owned()).or_default();
                keys.insert(key.to_owned(), stamp.number);
                return;
            }
        };
        self.violations += u64::from(stamp.number <= *last);
        *last = stamp.number.max(*last);
    }
}

/// The ordering key of the operation in that place of the outstanding ones.
pub(crate) fn key_of(producer: u64, place: usize) -> String {
    format!("p{producer}-{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_key_must_rise_and_keys_have_nothing_to_do_with_each_other() {
        let mut order = Order::default();
        let mut receive = |topic, key, number| order.received(topic, key, Stamp { producer: 1, number });
        receive("t", "a", 1);
        receive("t", "b", 0);
        receive("t", "a", 5);
        receive("t", "", 0);
        receive("other", "a", 2);
        receive("t", "a", 4);
        assert_eq!((order.checked, order.violations), (5, 1));
    }
}

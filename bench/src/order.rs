//! The order of each ordering key, as it is received. A key belongs to one of the operations outstanding of one
//! producer, which sends one message after another: so the numbers of a key must rise.

use std::collections::HashMap;

use crate::stamp::Stamp;

/// What was received last of each key, and how often that was wrong.
#[derive(Debug, Default)]
pub(crate) struct Order {
    last: HashMap<u64, HashMap<String, u64>>,
    pub(crate) checked: u64,
    pub(crate) violations: u64,
}

impl Order {
    /// A message was received for the first time. Without a key it has no order.
    pub(crate) fn received(&mut self, key: &str, stamp: Stamp) {
        if key.is_empty() {
            return;
        }
        self.checked += 1;
        let keys = self.last.entry(stamp.producer).or_default();
        match keys.get_mut(key) {
            Some(last) => {
                self.violations += u64::from(stamp.number <= *last);
                *last = stamp.number.max(*last);
            }
            None => drop(keys.insert(key.to_owned(), stamp.number)),
        }
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
        let mut receive = |key: &str, number| order.received(key, Stamp { producer: 1, number });
        receive("a", 1);
        receive("b", 0);
        receive("a", 5);
        receive("", 0);
        receive("a", 4);
        assert_eq!((order.checked, order.violations), (4, 1));
    }
}

//! What a message of the load holds: it follows from the message's number, so that whoever is handed it knows whether it is
//! its own, and whole.

/// The largest: larger than a part of a stored value.
const BYTES_MAX: usize = 6_000;

/// The body of message `number`, of any length up to the largest.
pub(super) fn of(number: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(number);
    // Letters: a line of a table holds it as it is.
    (0..rng.usize(0..BYTES_MAX)).map(|_| rng.lowercase() as u8).collect()
}

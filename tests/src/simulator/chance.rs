//! Chance as a value: one seed, one stream of numbers, the same on every machine.

/// A seeded generator.
#[derive(Debug, Clone)]
pub(super) struct Chance(fastrand::Rng);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A stream of its own, so that drawing more here does not shift what is drawn there.
    pub(super) fn fork(&mut self) -> Self {
        Self(self.0.fork())
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// From `0` to `bound`, excluded. A bound of 0 counts as 1.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0.u64(..bound.max(1))
    }

    /// From `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.u64(low..=high.max(low))
    }

    /// Around `mean`: from nothing to twice as much, and now and then far more.
    pub(super) fn around(&mut self, mean: u64) -> u64 {
        if self.percent(5) { self.between(mean, mean * 6) } else { self.between(0, mean * 2) }
    }

    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn permille(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// One of them.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len() as u64) as usize]
    }

    /// One of them, if there is one.
    pub(super) fn try_pick<T: Clone>(&mut self, among: &[T]) -> Option<T> {
        if among.is_empty() { None } else { Some(self.pick(among).clone()) }
    }

    /// One of them, each as likely as its weight says.
    pub(super) fn weighted<T: Copy>(&mut self, among: &[(u64, T)]) -> T {
        let mut left = self.below(among.iter().map(|(weight, _)| weight).sum());
        for (weight, value) in among {
            if left < *weight {
                return *value;
            }
            left -= weight;
        }
        among[among.len() - 1].1
    }

    pub(super) fn bytes(&mut self) -> [u8; 10] {
        let mut bytes = [0; 10];
        self.0.fill(&mut bytes);
        bytes
    }
}

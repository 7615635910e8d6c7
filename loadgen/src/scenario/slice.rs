//! A part of a scenario, for one of several generators that run it together: each has a closed world of its own.

use super::Scenario;

impl Scenario {
    /// The part `at`, from 0, of `of` parts: so much fewer users, messages and connections per second; conversations stay within a
    /// part, whose seed is its own. The parts together are as much as the whole, but for users that cannot be divided.
    #[must_use]
    pub fn slice(&self, at: u32, of: u32) -> Self {
        let of = of.max(1);
        let part = |whole: u32| whole / of + u32::from(at < whole % of);
        let mut slice = self.clone();
        for (mine, whole) in slice.crowds.iter_mut().zip(&self.crowds) {
            mine.users = part(whole.users);
            mine.sends_per_second = whole.sends_per_second * f64::from(mine.users) / f64::from(whole.users.max(1));
        }
        slice.crowds.retain(|crowd| crowd.users > 0);
        slice.clients = slice.crowds.iter().map(super::Crowd::clients).sum();
        slice.connects_per_second = part(self.connects_per_second).max(1);
        slice.seed = crate::schedule::mixed(self.seed ^ u64::from(at) << 32);
        slice
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_parts_together_are_the_whole() {
        let whole = Scenario::quick(1003, 500.0, Duration::from_secs(1));
        let parts: Vec<_> = (0..3).map(|at| whole.slice(at, 3)).collect();
        assert_eq!(parts.iter().map(|part| part.clients).sum::<u32>(), 1003);
        let rate: f64 = parts.iter().map(Scenario::sends_per_second).sum();
        assert!((rate - 500.0).abs() < 1e-9, "{rate}");
        assert!(parts[0].seed != parts[1].seed && parts[0].seed != whole.seed);
    }
}

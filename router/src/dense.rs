//! A vector that grows by pieces: it never copies what it holds, and has no half-used doubling behind it.

/// Values of one piece.
const PIECE: usize = 16;

/// Values without gaps: taking one out moves the last into its place.
pub(crate) struct Dense<T> {
    /// All full but the last.
    pieces: Vec<Vec<T>>,
}

impl<T> Default for Dense<T> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

impl<T> Dense<T> {
    pub(crate) fn len(&self) -> usize {
        self.pieces.last().map_or(0, |last| (self.pieces.len() - 1) * PIECE + last.len())
    }

    pub(crate) fn push(&mut self, value: T) {
        if self.pieces.last().is_none_or(|last| last.len() == PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        if let Some(last) = self.pieces.last_mut() {
            last.push(value);
        }
    }

    /// The value at `at`.
    ///
    /// # Panics
    /// There is none: whoever counts the places counts wrong.
    pub(crate) fn get(&self, at: u32) -> &T {
        &self.pieces[at as usize / PIECE][at as usize % PIECE]
    }

    /// As [`Self::get`].
    pub(crate) fn get_mut(&mut self, at: u32) -> &mut T {
        &mut self.pieces[at as usize / PIECE][at as usize % PIECE]
    }

    /// Takes the value at `at` out; the last one is there from now on.
    ///
    /// # Panics
    /// There is none.
    pub(crate) fn swap_remove(&mut self, at: u32) -> T {
        let last = self.pieces.last_mut().and_then(Vec::pop).expect("there is one at this place");
        if self.pieces.last().is_some_and(Vec::is_empty) {
            self.pieces.pop();
        }
        if at as usize == self.len() { last } else { std::mem::replace(self.get_mut(at), last) }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_vector(steps in prop::collection::vec((any::<bool>(), any::<u16>()), 0..400)) {
            let (mut dense, mut model) = (Dense::default(), Vec::new());
            for (push, number) in steps {
                if push || model.is_empty() {
                    dense.push(number);
                    model.push(number);
                } else {
                    let at = usize::from(number) % model.len();
                    prop_assert_eq!(dense.swap_remove(at as u32), model.swap_remove(at));
                }
                prop_assert_eq!(dense.len(), model.len());
                prop_assert!(dense.pieces.len() <= model.len().div_ceil(PIECE), "empty pieces are kept");
            }
            prop_assert!(dense.iter().eq(&model));
            for (at, number) in model.iter().enumerate() {
                prop_assert_eq!(dense.get(at as u32), number);
            }
        }
    }
}

//! What a completion says of itself: 64 bits that were chosen when its operation began.

/// Who a completion is for.
pub trait Token: Copy {
    /// As the kernel keeps it. `u64::MAX` is the ring's own.
    fn pack(self) -> u64;

    /// What [`Token::pack`] made: the kernel gives back what it got.
    fn unpack(bits: u64) -> Self;

    /// Whether such a completion is to end the next sleep of [`Ring::wait`](crate::Ring::wait), even if it was taken
    /// out before that.
    fn wakes(self) -> bool {
        false
    }
}

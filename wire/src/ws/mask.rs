//! Masking: RFC 6455 §5.3.

/// XORs `data` with `key`, the first byte with `key[phase % 4]`. Returns the phase for the byte after `data`.
///
/// Calling it piece by piece with the returned phase gives the same as one call on the whole.
pub fn apply(data: &mut [u8], key: [u8; 4], phase: usize) -> usize {
    let mut turned = key;
    turned.rotate_left(phase % 4);
    let wide =
        u64::from_ne_bytes([turned[0], turned[1], turned[2], turned[3], turned[0], turned[1], turned[2], turned[3]]);
    // Whole words first: the compiler turns this loop into vector instructions.
    let (words, tail) = data.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(turned.into_iter().cycle()) {
        *byte ^= key;
    }
    (phase + data.len()) % 4
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn equals_the_definition_however_it_is_cut(
            data in prop::collection::vec(any::<u8>(), 0..200), key: [u8; 4], cut in 0usize..200, phase in 0usize..4,
        ) {
            let want: Vec<u8> = data.iter().enumerate().map(|(at, byte)| byte ^ key[(at + phase) % 4]).collect();
            let mut got = data.clone();
            let cut = cut.min(got.len());
            let (front, back) = got.split_at_mut(cut);
            let middle = apply(front, key, phase);
            let end = apply(back, key, middle);
            prop_assert_eq!(got, want);
            prop_assert_eq!(end, (data.len() + phase) % 4);
        }
    }
}

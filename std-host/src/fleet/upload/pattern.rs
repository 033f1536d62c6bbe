//! Contents of a file that need not be kept to be compared.

/// A file's bytes, each of them computable by its position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pattern {
    seed: u64,
}

impl Pattern {
    /// The contents of file `number` of uploader `index`.
    pub(super) fn new(seed: u64, index: usize, number: u64) -> Self {
        Self { seed: mix(mix(seed ^ index as u64) ^ number) }
    }

    /// The bytes from `offset` on.
    pub(super) fn fill(self, offset: u64, buffer: &mut [u8]) {
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let word = mix(self.seed ^ (at / 8)).to_le_bytes();
            let from = (at % 8) as usize;
            let len = rest.len().min(8 - from);
            let (now, later) = rest.split_at_mut(len);
            now.copy_from_slice(&word[from..from + len]);
            at += len as u64;
            rest = later;
        }
    }

    /// Where the bytes from `offset` on first differ from `data`.
    pub(super) fn differs(self, offset: u64, data: &[u8]) -> Option<u64> {
        let mut expected = vec![0; data.len()];
        self.fill(offset, &mut expected);
        let at = expected.iter().zip(data).position(|(expected, got)| expected != got)?;
        Some(offset + at as u64)
    }
}

/// Every bit of the outcome depends on every bit of `n` (the finalizer of SplitMix64).
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn any_part_is_the_same_as_in_the_whole() {
        let pattern = Pattern::new(7, 3, 1);
        let mut whole = [0; 100];
        pattern.fill(1_000_003, &mut whole);
        for from in 0..50 {
            let mut part = [0; 23];
            pattern.fill(1_000_003 + from as u64, &mut part);
            assert_eq!(part, whole[from..from + 23]);
        }
        assert_eq!(pattern.differs(1_000_003, &whole), None);
        whole[42] ^= 1;
        assert_eq!(pattern.differs(1_000_003, &whole), Some(1_000_045));
    }

    #[test]
    fn files_differ() {
        let first = |seed, index, number| {
            let mut bytes = [0; 8];
            Pattern::new(seed, index, number).fill(0, &mut bytes);
            bytes
        };
        let some = [first(1, 0, 0), first(2, 0, 0), first(1, 1, 0), first(1, 0, 1)];
        assert!((1..4).all(|n| !some[..n].contains(&some[n])));
    }
}

//! Every random decision of a run, as one sequence that can be kept, cut and played again.
//!
//! Zero is always the dullest choice: nothing fails, nothing waits, nothing more is done. So a run becomes simpler
//! whenever a part of its sequence is replaced by zeros or taken away, which is all that shrinking needs to know.

/// A source of decisions: from a seed, or from a sequence that an earlier run made.
#[derive(Debug)]
pub(crate) struct Choices {
    state: u64,
    /// What is played again; decisions past its end are zero.
    replayed: Option<Vec<u32>>,
    /// What was decided so far.
    made: Vec<u32>,
}

impl Choices {
    /// Decisions that the seed determines.
    pub(crate) fn of_seed(seed: u64) -> Self {
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x51_1b_0a_75,
            replayed: None,
            made: Vec::with_capacity(1024),
        }
    }

    /// The decisions of an earlier run.
    pub(crate) fn of_sequence(sequence: Vec<u32>) -> Self {
        Self {
            state: 0,
            made: Vec::with_capacity(sequence.len()),
            replayed: Some(sequence),
        }
    }

    /// A number below `end`, which is at least 1.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        let choice = match &self.replayed {
            Some(sequence) => sequence.get(self.made.len()).copied().unwrap_or(0).min(end - 1),
            None => self.draw(end),
        };
        self.made.push(choice);
        choice
    }

    /// True in `parts` of a thousand cases.
    pub(crate) fn once_in_a_while(&mut self, parts: u32) -> bool {
        parts > 0 && self.below(1000) >= 1000 - parts.min(1000)
    }

    /// One of them; the first is the dullest.
    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        let end = u32::try_from(all.len()).unwrap_or(u32::MAX);
        all[self.below(end) as usize]
    }

    /// What was decided so far.
    pub(crate) fn made(&self) -> &[u32] {
        &self.made
    }

    /// `SplitMix64`, which is as random as this needs to be.
    fn draw(&mut self, end: u32) -> u32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let wide = (z >> 32) * u64::from(end);
        u32::try_from(wide >> 32).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_plays_what_a_seed_decided() {
        let mut first = Choices::of_seed(7);
        let decided: Vec<u32> = (1..200).map(|end| first.below(end)).collect();
        assert!(decided.iter().zip(1..).all(|(choice, end)| *choice < end));
        assert!(decided.iter().any(|choice| *choice > 20));
        let mut again = Choices::of_sequence(first.made().to_vec());
        assert_eq!((1..200).map(|end| again.below(end)).collect::<Vec<_>>(), decided);
        assert_eq!(again.below(9), 0, "what is not decided is dull");
        let mut never = Choices::of_sequence(Vec::new());
        assert!(!never.once_in_a_while(999));
    }
}

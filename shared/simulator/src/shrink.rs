//! Making a failing run small.

use crate::{
    check::Invariant,
    run::{Options, play_choices},
};

/// Decisions that still break `invariant`, and as few and as dull as could be found in `tries` runs.
pub fn shrink(choices: &[u32], invariant: Invariant, options: &Options, tries: usize) -> Vec<u32> {
    let mut search = Search {
        best: trimmed(choices.to_vec()),
        invariant,
        options: Options {
            traced: false,
            ..options.clone()
        },
        tries,
    };
    loop {
        let before = search.best.clone();
        search.chunks(|_| None);
        search.chunks(|_| Some(0));
        search.values();
        if search.best == before || search.tries == 0 {
            return search.best;
        }
    }
}

/// Zeros at the end say nothing.
fn trimmed(mut choices: Vec<u32>) -> Vec<u32> {
    while choices.last() == Some(&0) {
        choices.pop();
    }
    choices
}

struct Search {
    best: Vec<u32>,
    invariant: Invariant,
    options: Options,
    tries: usize,
}

impl Search {
    /// Takes a candidate if the same invariant breaks.
    fn takes(&mut self, candidate: &[u32]) -> bool {
        if self.tries == 0 {
            return false;
        }
        self.tries -= 1;
        let outcome = play_choices(candidate, &self.options);
        let is_it = outcome
            .violation
            .is_some_and(|violation| violation.invariant == self.invariant);
        if is_it {
            // What the run did not get to is not needed.
            let used = outcome.choices.len().min(candidate.len());
            self.best = trimmed(candidate[..used].to_vec());
        }
        is_it
    }

    /// Replaces ever smaller parts, or takes them away.
    fn chunks(&mut self, replace: impl Fn(u32) -> Option<u32>) {
        let mut size = (self.best.len() / 2).max(1);
        loop {
            let mut start = 0;
            while start < self.best.len() && self.tries > 0 {
                let end = (start + size).min(self.best.len());
                let part = self.best[start..end].iter().filter_map(|choice| replace(*choice));
                let candidate: Vec<u32> = self.best[..start]
                    .iter()
                    .copied()
                    .chain(part)
                    .chain(self.best[end..].iter().copied())
                    .collect();
                if candidate == self.best || !self.takes(&candidate) {
                    start += size;
                }
            }
            if size == 1 || self.tries == 0 {
                return;
            }
            size /= 2;
        }
    }

    /// Halves single decisions.
    fn values(&mut self) {
        let mut at = 0;
        while at < self.best.len() && self.tries > 0 {
            let value = self.best[at];
            let mut candidate = self.best.clone();
            candidate[at] = value / 2;
            if value == 0 || !self.takes(&candidate) {
                at += 1;
            }
        }
    }
}

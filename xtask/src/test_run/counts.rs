//! How many tests ran, read from the lines with which each test program ends.

use std::ops::AddAssign;

/// Numbers of tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Those that passed.
    pub passed: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that are marked to be left out.
    pub ignored: u64,
}

impl Counts {
    pub(super) fn one_passed() -> Self {
        Self {
            passed: 1,
            ..Self::default()
        }
    }

    pub(super) fn one_failed() -> Self {
        Self {
            failed: 1,
            ..Self::default()
        }
    }

    /// The numbers in a line such as `test result: ok. 5 passed; 0 failed; 1 ignored; …`; nothing for other lines.
    pub(super) fn in_summary_line(line: &str) -> Option<Self> {
        let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut counts = Self::default();
        for part in numbers.split(';') {
            let mut words = part.split_whitespace();
            let (Some(number), Some(label)) = (words.next().and_then(|word| word.parse().ok()), words.next())
            else {
                continue;
            };
            match label {
                "passed" => counts.passed = number,
                "failed" => counts.failed = number,
                "ignored" => counts.ignored = number,
                _ => {}
            }
        }
        Some(counts)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_lines_are_read_and_added_up() {
        let mut sum = Counts::default();
        for line in [
            "running 7 tests",
            "test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.01s",
            "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.20s",
            "test a::b ... ok",
        ] {
            sum += Counts::in_summary_line(line).unwrap_or_default();
        }
        assert_eq!(
            sum,
            Counts {
                passed: 10,
                failed: 2,
                ignored: 1
            }
        );
    }
}

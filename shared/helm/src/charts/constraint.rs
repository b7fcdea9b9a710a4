//! Version constraints as Helm reads them: `1.2.3` is exactly that version, `1.2` and `1.x` any of that series.

use semver::Version;

/// Whether `version` meets `constraint`; the error says what would be right.
pub(super) fn meets(constraint: &str, version: &Version) -> Result<bool, String> {
    let refused = || {
        format!("'{constraint}' is not a version constraint: expected such as 1.2.3, ^1.2, ~1.4 or >=1.2 <2")
    };
    let mut met = false;
    for alternative in constraint.split("||") {
        let parts = comparators(alternative).ok_or_else(refused)?;
        // As with Helm, a pre-release is taken only by a constraint that names one.
        let names_pre_release = parts.iter().any(|part| !part.bound.pre.is_empty());
        let all = parts.iter().all(|part| part.meets(version));
        met |= all && (version.pre.is_empty() || names_pre_release);
    }
    Ok(met)
}

struct Comparator {
    operator: Operator,
    bound: Version,
    /// How many of major, minor and patch are given.
    given: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Tilde,
    Caret,
}

const OPERATORS: &[(&str, Operator)] = &[
    (">=", Operator::GreaterOrEqual),
    ("=>", Operator::GreaterOrEqual),
    ("<=", Operator::LessOrEqual),
    ("=<", Operator::LessOrEqual),
    ("!=", Operator::NotEqual),
    ("~>", Operator::Tilde),
    ("=", Operator::Equal),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
];

impl Comparator {
    fn read(operator: Operator, text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (numbers, rest) = match text.find(['-', '+']) {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let mut parts = [0; 3];
        let mut given = 0;
        for (index, part) in numbers.split('.').enumerate() {
            if matches!(part, "x" | "X" | "*") {
                break;
            }
            *parts.get_mut(index)? = part.parse().ok()?;
            given = index + 1;
        }
        let bound = format!("{}.{}.{}{rest}", parts[0], parts[1], parts[2])
            .parse()
            .ok()?;
        Some(Self {
            operator,
            bound,
            given,
        })
    }

    /// The first version after the series that the given numbers name.
    fn end_of_series(&self, given: usize) -> Option<Version> {
        match given {
            0 => None,
            1 => Some(Version::new(self.bound.major + 1, 0, 0)),
            2 => Some(Version::new(self.bound.major, self.bound.minor + 1, 0)),
            _ => Some(Version::new(
                self.bound.major,
                self.bound.minor,
                self.bound.patch + 1,
            )),
        }
    }

    fn meets(&self, version: &Version) -> bool {
        let below = |end: Option<Version>| end.is_none_or(|end| *version < end);
        let in_series = || match self.given {
            3 => version.cmp_precedence(&self.bound).is_eq(),
            given => *version >= self.bound && below(self.end_of_series(given)),
        };
        match self.operator {
            Operator::Equal => in_series(),
            Operator::NotEqual => !in_series(),
            Operator::Greater => *version > self.bound && !in_series(),
            Operator::GreaterOrEqual => *version >= self.bound,
            Operator::Less => *version < self.bound,
            Operator::LessOrEqual => *version < self.bound || in_series(),
            Operator::Tilde => *version >= self.bound && below(self.end_of_series(self.given.min(2))),
            Operator::Caret => {
                let first_fixed = match (self.bound.major, self.bound.minor) {
                    (0, 0) => self.given,
                    (0, _) => self.given.min(2),
                    _ => self.given.min(1),
                };
                *version >= self.bound && below(self.end_of_series(first_fixed))
            }
        }
    }
}

fn comparators(text: &str) -> Option<Vec<Comparator>> {
    let words: Vec<&str> = text
        .split([' ', ',', '\t'])
        .filter(|word| !word.is_empty())
        .collect();
    let mut words = words.as_slice();
    let mut parts = Vec::new();
    while let [first, rest @ ..] = words {
        if let ["-", last, rest @ ..] = rest {
            parts.push(Comparator::read(Operator::GreaterOrEqual, first)?);
            parts.push(Comparator::read(Operator::LessOrEqual, last)?);
            words = rest;
            continue;
        }
        let (operator, version) = OPERATORS
            .iter()
            .find_map(|(sign, operator)| first.strip_prefix(sign).map(|after| (*operator, after)))
            .unwrap_or((Operator::Equal, first));
        let (version, rest) = match (version, rest) {
            ("", [version, rest @ ..]) => (*version, rest),
            (version, rest) => (version, rest),
        };
        parts.push(Comparator::read(operator, version)?);
        words = rest;
    }
    (!parts.is_empty()).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_mean_what_helm_takes_them_for() {
        for (constraint, yes, no) in [
            ("1.2.3", "1.2.3", "1.2.4"),
            ("1.2", "1.2.9", "1.3.0"),
            ("1.x", "1.9.0", "2.0.0"),
            ("*", "7.0.0", "7.0.0-rc.1"),
            ("^1.2.3", "1.9.0", "2.0.0"),
            ("^0.2.3", "0.2.9", "0.3.0"),
            ("~1.2.3", "1.2.9", "1.3.0"),
            ("~1", "1.9.0", "2.0.0"),
            (">=1.2, <2", "1.9.9", "2.0.0"),
            (">= 1.2 < 2", "1.2.0", "1.1.9"),
            ("1.2 - 1.4", "1.4.7", "1.5.0"),
            ("1.2 - 1.4, !=1.3.0", "1.3.1", "1.3.0"),
            (">=1.2\t<2", "1.9.9", "2.0.0"),
            ("1.0.0 || 3.x", "3.1.0", "2.0.0"),
            (">1.2", "1.3.0", "1.2.5"),
            ("!=1.2.3", "1.2.4", "1.2.3"),
            ("v1.2.3", "1.2.3", "1.2.2"),
            (">=1.0.0-0", "1.0.0-rc.1", "0.9.0"),
        ] {
            assert!(
                meets(constraint, &yes.parse().unwrap()).unwrap(),
                "{constraint} {yes}"
            );
            assert!(
                !meets(constraint, &no.parse().unwrap()).unwrap(),
                "{constraint} {no}"
            );
        }
        for bad in ["", "latest", "1.2.3.4", ">=", "^a.b"] {
            assert!(meets(bad, &Version::new(1, 0, 0)).is_err(), "{bad}");
        }
    }
}

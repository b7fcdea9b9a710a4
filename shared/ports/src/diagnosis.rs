//! What a look says beside what is waited for, and how much of it is told. Secrets are taken out first and only then is
//! anything cut: of a secret that lies across a cut, the part before it would not be found any more.

use crate::Hidden;

/// Most bytes of a diagnosis that is told, and of one warning in it.
const LONGEST: usize = 4 << 10;
const LONGEST_WARNING: usize = 500;

/// Fewer bytes of a log say nothing.
const SHORTEST_LOG: usize = 80;

/// Warnings about what is not ready, and ends of its logs. As they were read, so they may hold secrets: [`told`] is the
/// only text of it.
///
/// [`told`]: Self::told
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnosis {
    /// One sentence each, whole; most important first.
    pub warnings: Vec<String>,
    /// Most important first.
    pub logs: Vec<LogEnd>,
}

/// The end of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEnd {
    /// Whose log it is.
    pub of: String,
    /// Its last lines, whole: the first is no part of one.
    pub text: String,
}

impl Diagnosis {
    /// A diagnosis of one sentence.
    pub fn of(warning: impl Into<String>) -> Self {
        Self {
            warnings: vec![warning.into()],
            logs: Vec::new(),
        }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.warnings.is_empty() && self.logs.is_empty()
    }

    /// What people are told, at most 4 KiB: a line for each warning, then of each log as much of the end as there is
    /// room for. Nothing of `hidden` is in it.
    pub fn told(&self, hidden: &Hidden) -> String {
        let mut text = String::new();
        for warning in &self.warnings {
            let line = shortened(hidden.hide(warning).trim_end(), LONGEST_WARNING);
            if text.len() + line.len() < LONGEST / 2 {
                text.push_str(&line);
                text.push('\n');
            }
        }
        for (index, log) in self.logs.iter().enumerate() {
            let said = hidden.hide(&log.text);
            let title = format!("log of {}:\n", log.of);
            let room = (LONGEST - text.len()) / (self.logs.len() - index);
            if room > title.len() + SHORTEST_LOG && !said.trim().is_empty() {
                text.push_str(&title);
                text.push_str(last_lines(said.trim_end(), room - title.len() - 1));
                text.push('\n');
            }
        }
        text
    }
}

/// The beginning of a text, at most so many bytes; `…` stands for the rest. Secrets must be out of it.
pub fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end])
}

/// The last lines of a text, at most so many bytes; of a last line that is longer, its end. Secrets must be out of it.
pub fn last_lines(text: &str, most: usize) -> &str {
    let start = text.ceil_char_boundary(text.len().saturating_sub(most));
    let end = &text[start..];
    if start == 0 || text[..start].ends_with('\n') {
        return end;
    }
    match end.split_once('\n') {
        Some((_, rest)) if !rest.trim().is_empty() => rest,
        _ => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "sk-0123456789abcdefghijklmnopqrstuvwxyzAB";

    /// Whether eight characters in a row of the token stand in a text.
    fn tells(text: &str) -> bool {
        TOKEN
            .as_bytes()
            .windows(8)
            .any(|part| text.as_bytes().windows(part.len()).any(|window| window == part))
    }

    #[test]
    fn no_part_of_a_secret_is_told_wherever_it_lies() {
        let hidden = Hidden::of([TOKEN]);
        for at in (400..540).step_by(7) {
            let before = "x".repeat(at);
            let warned = Diagnosis::of(format!("{before} {TOKEN} {before}")).told(&hidden);
            assert!(
                !tells(&warned) && warned.len() <= LONGEST_WARNING + 1,
                "{at}: {warned}"
            );
        }
        for after in (3900..4120).step_by(7) {
            let logs = vec![LogEnd {
                of: "web".to_owned(),
                text: format!("{} {TOKEN} {}\n", "x".repeat(5000), "y".repeat(after)),
            }];
            let told = Diagnosis {
                logs,
                ..Diagnosis::default()
            }
            .told(&hidden);
            assert!(!tells(&told) && told.len() <= LONGEST, "{after}: {told}");
            assert!(told.ends_with("yyy\n"));
        }
    }

    #[test]
    fn a_diagnosis_has_warnings_and_the_ends_of_logs_and_an_end() {
        let log = |of: &str, end: &str| LogEnd {
            of: of.to_owned(),
            text: format!("{}{end}\n", "é é\n".repeat(9000)),
        };
        let diagnosis = Diagnosis {
            warnings: std::iter::repeat_n("BackOff: ".to_owned() + &"w".repeat(900), 6).collect(),
            logs: vec![log("web", "fatal: one"), log("db", "fatal: two")],
        };
        let told = diagnosis.told(&Hidden::default());
        assert!(
            told.len() <= LONGEST && told.starts_with("BackOff: www"),
            "{told}"
        );
        assert!(
            told.contains("www…\n") && told.contains("log of web:\né é\n"),
            "{told}"
        );
        assert!(told.contains("\nfatal: one\nlog of db:\n") && told.ends_with("\nfatal: two\n"));
        assert_eq!(Diagnosis::of("it is so").told(&Hidden::default()), "it is so\n");
        assert!(Diagnosis::default().is_empty() && !diagnosis.is_empty());
    }

    #[test]
    fn texts_are_cut_between_lines_and_characters() {
        assert_eq!(shortened("short", 5), "short");
        assert_eq!(shortened("ééééé", 8), "éé…");
        assert_eq!(last_lines("one\ntwo\nthree", 9), "two\nthree");
        assert_eq!(last_lines("one\ntwo\nthree", 8), "three");
        assert_eq!(last_lines("one\ntwo\nthree", 3), "ree");
        assert_eq!(last_lines("one", 3), "one");
    }
}

//! Why a command ends early, and what to do next.

use std::fmt;

use slipway_model::{FieldError, Problem};

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what was asked, and what was asked for runs.
    Done,
    /// What was asked for failed.
    Failed,
    /// What was asked cannot be done: wrong arguments, no such thing, not valid.
    Misuse,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Misuse => 2,
        })
    }
}

/// An error for people: what is wrong, every place, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// Whether it may be over soon, without anybody's doing: nobody answers, or has no room or time at the moment.
    pub(crate) may_pass: bool,
    /// Whether a change that was asked for may have been made, in whole or in part.
    pub(crate) may_be_done: bool,
    /// Whether the control plane says that what was asked for is not there.
    pub(crate) is_absent: bool,
    message: String,
    places: Vec<FieldError>,
    next: Option<String>,
}

impl Failure {
    /// Something that was asked for wrongly.
    pub(crate) fn misuse(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Misuse,
            may_pass: false,
            may_be_done: false,
            is_absent: false,
            message: message.into(),
            places: Vec::new(),
            next: None,
        }
    }

    /// Something that went wrong.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            ..Self::misuse(message)
        }
    }

    /// What an API answered.
    pub(crate) fn of_problem(problem: Problem) -> Self {
        // 408 and 499 are a proxy's.
        let may_pass = matches!(problem.status, 408 | 429 | 499 | 500..);
        let exit = if may_pass || problem.status == 409 {
            Exit::Failed
        } else {
            Exit::Misuse
        };
        let message = match problem.detail.as_str() {
            "" => problem.title,
            detail => match places_begin(detail, &problem.errors) {
                Some(at) => detail[..at].trim_end_matches([':', ' ']).to_owned(),
                None => detail.to_owned(),
            },
        };
        let next = match problem.status {
            401 => Some(
                "pass the token with --token or SLIPWAY_TOKEN; `slipway serve` prints it, and one of an identity provider \
                 expires: get a new one there"
                    .to_owned(),
            ),
            429 | 503 => Some("try again in a moment".to_owned()),
            _ => None,
        };
        Self {
            exit,
            may_pass,
            may_be_done: false,
            is_absent: problem.status == 404,
            message,
            places: problem.errors,
            next,
        }
    }

    /// As one that may be over soon.
    #[must_use]
    pub(crate) fn passing(mut self) -> Self {
        self.may_pass = true;
        self
    }

    /// As one of a change that may have been made.
    #[must_use]
    pub(crate) fn undecided(mut self) -> Self {
        self.may_be_done = true;
        self
    }

    /// What is wrong, without what to do next.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// With what it means before what is wrong.
    #[must_use]
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// With every place that is wrong.
    #[must_use]
    pub(crate) fn at(mut self, places: Vec<FieldError>) -> Self {
        self.places = places;
        self
    }

    /// With what to do next.
    #[must_use]
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// Where a problem's detail begins to repeat its list of places, which is shown below it instead.
fn places_begin(detail: &str, errors: &[FieldError]) -> Option<usize> {
    let first = errors.first()?;
    detail.find(&first.to_string())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for place in &self.places {
            write!(f, "\n  {place}")?;
        }
        if let Some(next) = &self.next {
            write!(f, "\nnext: {next}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_each_place_once() {
        let errors = vec![
            FieldError::new("name", "must not be empty"),
            FieldError::new("components", "needs one"),
        ];
        let failure = Failure::of_problem(Problem::invalid("the template is invalid", errors));
        assert_eq!(failure.exit, Exit::Misuse);
        assert_eq!(
            failure.to_string(),
            "error: the template is invalid\n  name: must not be empty\n  components: needs one"
        );
    }

    #[test]
    fn a_conflict_is_a_failure_and_an_unknown_caller_hears_where_the_token_is() {
        use slipway_model::ProblemType;
        let conflict = Failure::of_problem(Problem::new(ProblemType::Conflict, "it is RUNNING"));
        assert_eq!(conflict.exit, Exit::Failed);
        let unknown = Failure::of_problem(Problem::new(ProblemType::Unauthenticated, "no token"));
        assert!(unknown.to_string().contains("SLIPWAY_TOKEN"));
    }

    /// Some proxies write problem documents, too.
    #[test]
    fn a_proxy_that_lost_patience_is_no_misuse() {
        use slipway_model::ProblemType;
        for status in [408, 499, 524] {
            let mut problem = Problem::new(ProblemType::Unavailable, "a timeout occurred");
            problem.status = status;
            let lost = Failure::of_problem(problem);
            assert!(lost.may_pass && lost.exit == Exit::Failed, "{status}");
        }
    }
}

//! Waiting for a control plane that is away for a while: it restarts, has no room on its disk, or too many callers.

use std::time::Duration;

use serde_json::Value;

use super::PACE;
use crate::{commands::Session, failure::Failure, output};

/// How long a control plane may leave unanswered, since its last answer, whoever asks it how something goes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Most doublings of the pause while it does not answer: 2.4 s.
const DOUBLINGS: u32 = 3;

/// What stands at `path`, as soon as the control plane answers. When it does not for long, the error says what can be
/// done to `go_on`.
pub(crate) fn get(session: &Session, path: &str, go_on: &str) -> Result<Value, Failure> {
    ask(session, go_on, output::remark, || session.client.get(path))
}

/// As [`get`], with another question; `tell` is told once that the control plane does not answer.
pub(crate) fn ask<T>(
    session: &Session,
    go_on: &str,
    tell: impl FnOnce(&str),
    mut question: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut tell = Some(tell);
    let mut misses = 0;
    loop {
        let failure = match question() {
            Err(failure) if failure.may_pass => failure,
            answer => return answer,
        };
        // Nobody waits for one that never answered: its address may be wrong.
        let Some(silent_for) = session.client.silent_for() else {
            return Err(failure);
        };
        if silent_for >= PATIENCE {
            return Err(failure.next(go_on));
        }
        if let Some(tell) = tell.take() {
            tell(&format!(
                "{}; asking again for up to {} minutes",
                failure.message(),
                PATIENCE.as_secs() / 60
            ));
        }
        std::thread::park_timeout(PACE * 2_u32.pow(misses));
        misses = DOUBLINGS.min(misses + 1);
    }
}

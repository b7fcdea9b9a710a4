//! The schedule's look at the dead letters.

use slipway_model::Message;
use slipway_ports::{DeadLetter, chain};

use super::{consumed, give_up::Verdict};
use crate::{App, AppError};

/// Dead letters of one queue that one look goes through: all of them, because those of earlier looks stay, and come first
/// in their queue.
const MOST: usize = u32::MAX as usize;

impl App {
    /// Goes through the dead letters of every queue and [gives up](Self::give_up) what they were about, because a
    /// process that died in the middle of its work could not. The letters stay where they are, for operators.
    ///
    /// # Errors
    /// The first of the parts that did not answer, after everything else was gone through; the next look goes on.
    pub async fn look_at_dead_letters(&self) -> Result<(), AppError> {
        let mut first = None;
        for queue in consumed() {
            let letters = match self.receiver.dead_letters(&queue, MOST).await {
                Ok(letters) => letters,
                Err(error) => {
                    tracing::error!(
                        queue = queue.name(),
                        error = chain(&error),
                        "dead letters cannot be looked at"
                    );
                    first.get_or_insert(AppError::from(error));
                    continue;
                }
            };
            // The newest first: a look that is cut short leaves what earlier ones have seen.
            for DeadLetter { id, body, reason, at } in letters.into_iter().rev() {
                // Whoever buried what cannot be read has said so in the log.
                let Ok(message) = Message::from_body(&queue, &body) else {
                    continue;
                };
                let verdict = Verdict::new(&reason, at);
                if let Err(error) = self.give_up_as(&queue, &message, &verdict).await {
                    tracing::error!(
                        queue = queue.name(),
                        id,
                        error = chain(&error),
                        "what a dead letter is about could not be ended; it is tried again"
                    );
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(()), Err)
    }
}

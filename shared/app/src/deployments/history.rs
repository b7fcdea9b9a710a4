//! What happened to a deployment, line by line.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use slipway_model::{Deployment, ExecutionId, HistoryEntry, Problem, ProblemType, Timestamp};
use slipway_ports::{Guard, Item, Put, Session};

use crate::{App, AppError, Caller, keys};

/// Most lines of one call.
const MOST_LINES: usize = 1000;

/// A line to write.
pub(crate) struct Line<'a> {
    /// An event type, or what a caller did.
    pub(crate) entry_type: &'a str,
    /// What makes it this one: a repeat of the same writes nothing new.
    pub(crate) identity: &'a str,
    /// When it happened, if that is known.
    pub(crate) at: Option<Timestamp>,
    pub(crate) execution_id: Option<ExecutionId>,
    pub(crate) step_id: Option<String>,
    pub(crate) message: String,
}

/// Where a line stands in the history.
#[derive(Serialize, Deserialize)]
struct Place {
    id: String,
}

impl App {
    /// What happened, oldest first, after the entry `after`; at most `limit` lines (1 to 1,000).
    ///
    /// # Errors
    /// 404, 400 for an `after` that is not an entry's id.
    pub async fn deployment_events(
        &self,
        caller: &Caller,
        id_or_name: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, AppError> {
        let deployment = self.find_deployment(&caller.tenant, id_or_name).await?;
        let is_id = |text: &str| text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic());
        if after.is_some_and(|after| !is_id(after)) {
            let detail = "the place to go on after must be the id of an entry of this history";
            return Err(Problem::new(ProblemType::Malformed, detail).into());
        }
        let key = keys::history(&caller.tenant, deployment.id, after.unwrap_or_default());
        let after = after.map(|_| key.sort.as_str());
        let limit = limit.clamp(1, MOST_LINES);
        let page = self
            .store
            .query(&key.partition, keys::HISTORY, after, limit)
            .await?;
        Ok(page
            .items
            .iter()
            .map(slipway_ports::Stored::read)
            .collect::<Result<_, _>>()?)
    }

    /// Writes a line. Its place is when it was first seen, so that a reader who goes on after the last line that it
    /// saw misses nothing that arrives late.
    pub(crate) async fn write_history(
        &self,
        session: &mut dyn Session,
        deployment: &Deployment,
        line: Line<'_>,
    ) -> Result<(), AppError> {
        let now = self.clock.now();
        let hash = digest(&[line.entry_type, line.identity]);
        let seen = keys::seen(&deployment.tenant, deployment.id, &hash);
        let mut place = Place {
            id: format!(
                "{:014}-{}{}",
                now.as_millis().max(0),
                rank(line.entry_type),
                &hash[..12]
            ),
        };
        let expires_at = self.kept_until(Some(now));
        let item = Item {
            expires_at,
            ..Item::of(&place)
        };
        if let Put::Lost(Some(first)) = session.put(&seen, item, Guard::Absent).await? {
            place = first.read()?;
        }
        let key = keys::history(&deployment.tenant, deployment.id, &place.id);
        let entry = HistoryEntry {
            id: place.id,
            at: line.at.unwrap_or(now),
            entry_type: line.entry_type.to_owned(),
            execution_id: line.execution_id,
            step_id: line.step_id,
            message: line.message,
        };
        // Absent, because a repeat without a time of its own would carry another one.
        let item = Item {
            expires_at,
            ..Item::of(&entry)
        };
        session.put(&key, item, Guard::Absent).await?;
        Ok(())
    }

    /// Writes what a caller did to the present generation.
    pub(crate) async fn note(
        &self,
        session: &mut dyn Session,
        deployment: &Deployment,
        entry_type: &str,
        message: impl Into<String>,
    ) -> Result<(), AppError> {
        let identity = deployment.generation.to_string();
        let line = Line {
            entry_type,
            identity: &identity,
            at: None,
            execution_id: deployment.pipeline_execution_id,
            step_id: None,
            message: message.into(),
        };
        self.write_history(session, deployment, line).await
    }
}

/// Order within a millisecond: what ended comes before what that began, and the end of all last.
fn rank(entry_type: &str) -> u8 {
    match entry_type {
        "step_started" => 2,
        "workflow_completed" | "workflow_failed" | "execution_cancelled" => 3,
        "step_completed" | "step_failed" => 1,
        _ => 0,
    }
}

fn digest(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

//! What operators see of dead letters, and putting them back.

use serde::{Deserialize, Serialize};
use slipway_model::{Problem, ProblemType, Queue, TenantId, Timestamp};
use slipway_ports::DeadLetter;
use utoipa::ToSchema;

use super::{About, consumed};
use crate::{App, AppError, Caller, ListQuery, Page, Role, shown};

/// Most dead letters of one queue that a call looks through: what is older counts first.
const MOST: usize = 1000;

/// A message that nobody will receive again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterSummary {
    /// Names it among the queue's dead letters.
    pub id: String,
    /// The queue that it was on, such as `execute-step`.
    pub queue: String,
    /// Since when it is a dead letter.
    pub at: Timestamp,
    /// Why it is one.
    pub reason: String,
    /// What it is about.
    pub about: About,
}

/// A dead letter with what stands in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterView {
    /// Which one.
    #[serde(flatten)]
    pub summary: DeadLetterSummary,
    /// The text as it stood on the queue.
    pub body: String,
}

impl App {
    /// Dead letters of one queue or of all, oldest first. A caller sees those of the own tenant. Letters that cannot
    /// be read are nobody's: the operator's tenant, [`TenantId::local`], sees them.
    ///
    /// # Errors
    /// 403 below `admin`; 404 for a queue that there is not; 400 and 422 for a wrong cursor or limit.
    pub async fn dead_letters(
        &self,
        caller: &Caller,
        queue: Option<&str>,
        query: &ListQuery,
    ) -> Result<Page<DeadLetterSummary>, AppError> {
        caller.require(Role::Admin)?;
        let size = query.page_size()?;
        let after = query.position()?;
        let queues = match queue {
            Some(name) => vec![find_queue(name)?],
            None => consumed().to_vec(),
        };
        let mut found = Vec::new();
        for queue in &queues {
            for letter in self.receiver.dead_letters(queue, MOST).await? {
                let summary = summary(queue, &letter);
                if may_see(caller, &summary.about) {
                    found.push((position(&summary), summary));
                }
            }
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut rest = found
            .into_iter()
            .skip_while(|(position, _)| after.as_ref().is_some_and(|after| position <= after));
        let page: Vec<(String, DeadLetterSummary)> = rest.by_ref().take(size).collect();
        let more = rest.next().is_some();
        let last = page.last().map(|(position, _)| position.clone());
        let items = page.into_iter().map(|(_, summary)| summary).collect();
        Ok(Page::of(items, last.filter(|_| more).as_deref()))
    }

    /// A dead letter with its text.
    ///
    /// # Errors
    /// 403 below `admin`; 404.
    pub async fn dead_letter(
        &self,
        caller: &Caller,
        queue: &str,
        id: &str,
    ) -> Result<DeadLetterView, AppError> {
        caller.require(Role::Admin)?;
        let (queue, letter) = self.find_dead_letter(caller, queue, id).await?;
        Ok(DeadLetterView {
            summary: summary(&queue, &letter),
            body: letter.body,
        })
    }

    /// Puts a dead letter back on its queue, as if it had never been received. What it is about may have ended when
    /// it was given up; that stays so.
    ///
    /// # Errors
    /// 403 below `admin`; 404, also when somebody else has just put it back.
    pub async fn redrive_dead_letter(
        &self,
        caller: &Caller,
        queue: &str,
        id: &str,
    ) -> Result<DeadLetterSummary, AppError> {
        caller.require(Role::Admin)?;
        let (queue, letter) = self.find_dead_letter(caller, queue, id).await?;
        if !self.receiver.redrive(&queue, &letter.id).await? {
            return Err(missing(queue.name(), id));
        }
        tracing::info!(
            queue = queue.name(),
            id,
            user = caller.user_id,
            "put a dead letter back"
        );
        Ok(summary(&queue, &letter))
    }

    async fn find_dead_letter(
        &self,
        caller: &Caller,
        queue: &str,
        id: &str,
    ) -> Result<(Queue, DeadLetter), AppError> {
        let queue = find_queue(queue)?;
        let letters = self.receiver.dead_letters(&queue, MOST).await?;
        letters
            .into_iter()
            .find(|letter| letter.id == id && may_see(caller, &About::body(&queue, &letter.body)))
            .map(|letter| (queue.clone(), letter))
            .ok_or_else(|| missing(queue.name(), id))
    }
}

fn missing(queue: &str, id: &str) -> AppError {
    AppError::not_found(format_args!("dead letter '{}' of queue '{queue}'", shown(id)))
}

fn find_queue(name: &str) -> Result<Queue, AppError> {
    let queues = consumed();
    let known: Vec<&str> = queues.iter().map(Queue::name).collect();
    let detail = format!(
        "queue '{}' does not exist; there are {}",
        shown(name),
        known.join(", ")
    );
    queues
        .into_iter()
        .find(|queue| queue.name() == name)
        .ok_or_else(|| Problem::new(ProblemType::NotFound, detail).into())
}

fn may_see(caller: &Caller, about: &About) -> bool {
    match about.tenant() {
        Some(tenant) => *tenant == caller.tenant,
        None => caller.tenant == TenantId::local(),
    }
}

fn summary(queue: &Queue, letter: &DeadLetter) -> DeadLetterSummary {
    DeadLetterSummary {
        id: letter.id.clone(),
        queue: queue.name().to_owned(),
        at: letter.at,
        reason: letter.reason.clone(),
        about: About::body(queue, &letter.body),
    }
}

/// Where it stands in a list.
fn position(summary: &DeadLetterSummary) -> String {
    crate::keys::position(summary.at, format_args!("{}/{}", summary.queue, summary.id))
}

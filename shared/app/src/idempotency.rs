//! Creations that a caller may repeat: the same key with the same request gives the first answer again.

use std::{future::Future, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};
use slipway_model::{Problem, ProblemType, TenantId, Timestamp};
use slipway_ports::{Guard, Item, Key, Put, Stored};
use uuid::Uuid;

use crate::{App, AppError, Caller, keys};

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest key that a caller may send.
const LONGEST_KEY: usize = 255;

/// Answers above this many bytes are kept as blobs, because a store's item has a limit.
const INLINE: usize = 256 * 1024;

/// What makes a repeated request the same one.
#[derive(Debug, Clone, Copy)]
pub struct IdempotentRequest<'a> {
    /// The caller's `Idempotency-Key`: 1 to 255 visible ASCII characters.
    pub key: &'a str,
    /// Which call it is, such as `POST /deployments`.
    pub operation: &'a str,
    /// The body as it was sent.
    pub body: &'a [u8],
}

#[derive(Clone, Serialize, Deserialize)]
struct Record {
    /// Digest of key, operation and body. The key salts it: it stands nowhere in the clear.
    request: String,
    /// The id of what is made.
    #[serde(default)]
    id: Uuid,
    /// While there is no answer: until when the first request may still be at work.
    claimed_until: Timestamp,
    /// The process that is at work; a restart voids its claim where the epoch changes.
    epoch: String,
    expires_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<Answer>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Inline(Value),
    Blob(String),
}

/// The right to do the work, with the version of the record that says so.
struct Claim {
    key: Key,
    version: u64,
    record: Record,
}

enum Begun<T> {
    Claimed(Claim),
    Answered(T),
}

impl App {
    /// Runs `create` unless the same request was answered within the last 24 hours; then its answer comes again.
    /// A creation that is refused leaves the key free. One of which nobody knows what became is made again with the id
    /// that it had, and so finds what it has made. Without a request (no key was sent) `create` simply runs.
    ///
    /// # Errors
    /// 400 for a bad key, 409 while the first request is still at work, 422 when the key was used for another
    /// request, and whatever `create` fails with.
    pub async fn create_once<T, F>(
        &self,
        caller: &Caller,
        request: Option<IdempotentRequest<'_>>,
        create: impl FnOnce(Uuid) -> F,
    ) -> Result<T, AppError>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, AppError>>,
    {
        let Some(request) = request else {
            return create(self.ids.uuid()).await;
        };
        let claim = match self.begin(caller, request).await? {
            Begun::Answered(answer) => return Ok(answer),
            Begun::Claimed(claim) => claim,
        };
        match create(claim.record.id).await {
            Ok(created) => {
                let kept = self.keep_answer(&caller.tenant, &claim, &created).await;
                if kept.is_err() {
                    self.free(claim, false).await;
                }
                kept.map(|()| created)
            }
            Err(error) => {
                self.free(claim, matches!(error, AppError::Problem(_))).await;
                Err(error)
            }
        }
    }

    async fn begin<T: DeserializeOwned>(
        &self,
        caller: &Caller,
        request: IdempotentRequest<'_>,
    ) -> Result<Begun<T>, AppError> {
        check_key(request.key)?;
        let key = keys::idempotency(&caller.tenant, &digest(&[request.key.as_bytes()]));
        let wanted = digest(&[request.key.as_bytes(), request.operation.as_bytes(), request.body]);
        loop {
            let now = self.clock.now();
            let stored = self.store.get(&key).await?;
            let mut id = self.ids.uuid();
            let guard = match &stored {
                None => Guard::Absent,
                Some(stored) => {
                    let record: Record = stored.read()?;
                    if record.expires_at > now {
                        if record.request != wanted {
                            return Err(Problem::new(
                                ProblemType::Invalid,
                                "this Idempotency-Key was used for another request within the last 24 hours; \
                                 send a new key with a new request",
                            )
                            .into());
                        }
                        if let Some(answer) = record.answer {
                            return Ok(Begun::Answered(self.read_answer(stored, answer).await?));
                        }
                        if record.epoch == self.settings.epoch && record.claimed_until > now {
                            return Err(AppError::conflict(
                                "the first request with this Idempotency-Key is still in progress; \
                                 repeat it in a moment",
                            ));
                        }
                        id = record.id;
                    }
                    Guard::Version(stored.version)
                }
            };
            let record = Record {
                request: wanted.clone(),
                id,
                claimed_until: now.plus(self.settings.invocation),
                epoch: self.settings.epoch.clone(),
                expires_at: now.plus(KEPT),
                answer: None,
            };
            let mut session = self.store.session();
            let put = session
                .put(&key, Item::of(&record).expiring_at(record.expires_at), guard)
                .await?;
            session.settle().await?;
            if let Put::Won(version) = put {
                return Ok(Begun::Claimed(Claim { key, version, record }));
            }
        }
    }

    async fn read_answer<T: DeserializeOwned>(&self, stored: &Stored, answer: Answer) -> Result<T, AppError> {
        let body = match answer {
            Answer::Inline(value) => value.to_string(),
            Answer::Blob(key) => {
                let data = self.blobs.get(&key).await?;
                String::from_utf8(data.unwrap_or_default()).unwrap_or_default()
            }
        };
        Ok(Stored {
            body,
            ..stored.clone()
        }
        .read()?)
    }

    async fn keep_answer<T: Serialize>(
        &self,
        tenant: &TenantId,
        claim: &Claim,
        created: &T,
    ) -> Result<(), AppError> {
        let mut record = claim.record.clone();
        let text = Item::of(created).body;
        record.answer = Some(if text.len() > INLINE {
            let blob = format!("{tenant}/idempotency/{}", record.request);
            self.blobs.put(&blob, text.into_bytes()).await?;
            Answer::Blob(blob)
        } else {
            Answer::Inline(serde_json::from_str(&text).expect("it was just written as JSON"))
        });
        let mut session = self.store.session();
        // Whoever took an expired claim over has the newer right; the answer of the first is not kept then.
        session
            .put(
                &claim.key,
                Item::of(&record).expiring_at(record.expires_at),
                Guard::Version(claim.version),
            )
            .await?;
        Ok(session.settle().await?)
    }

    /// Gives a claim back: altogether if nothing was made, else for a repeat of the same request only.
    async fn free(&self, claim: Claim, nothing_was_made: bool) {
        let Claim {
            key,
            version,
            mut record,
        } = claim;
        let guard = Guard::Version(version);
        let mut session = self.store.session();
        record.claimed_until = self.clock.now();
        let freed = match nothing_was_made {
            true => session.delete(&key, guard).await,
            false => {
                let item = Item::of(&record).expiring_at(record.expires_at);
                session.put(&key, item, guard).await
            }
        };
        let freed = match freed {
            Ok(_) => session.settle().await,
            Err(error) => Err(error),
        };
        if let Err(error) = freed {
            tracing::warn!(%error, "an idempotency key could not be freed; it is free again when its claim expires");
        }
    }
}

fn check_key(key: &str) -> Result<(), AppError> {
    let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    if !key.is_empty() && key.len() <= LONGEST_KEY && visible {
        return Ok(());
    }
    Err(Problem::new(
        ProblemType::Malformed,
        format!("the Idempotency-Key must be 1 to {LONGEST_KEY} visible ASCII characters, such as a UUID"),
    )
    .into())
}

fn digest(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        // The length before each part keeps ("ab", "c") apart from ("a", "bc").
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

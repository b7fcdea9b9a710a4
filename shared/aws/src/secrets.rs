//! Secrets in Secrets Manager.

use std::{error::Error, fmt, future::Future, time::Duration};

use async_trait::async_trait;
use aws_sdk_secretsmanager::{Client, primitives::Blob};
use slipway_model::TenantId;
use slipway_ports::{ExposeSecret, SecretError, SecretString, Secrets};

use crate::failure::Failure;

const LONGEST_NAME: usize = 200;

/// What Secrets Manager takes.
const LARGEST_VALUE: usize = 64 << 10;

/// The empty text cannot be stored as one: a single byte that no text of ours is stored as stands for it.
const EMPTY: &[u8] = &[0];

/// How often a write is begun again when somebody else creates or deletes the secret meanwhile. A deletion takes
/// effect over seconds.
const ATTEMPTS: u32 = 8;

/// The pause after the first attempt; each one after is twice as long.
const PAUSE: Duration = Duration::from_millis(100);

/// Secrets as `<prefix><tenant>/<name>`.
#[derive(Clone)]
pub struct SecretsManagerSecrets {
    client: Client,
    prefix: String,
    kms_key: Option<String>,
}

impl fmt::Debug for SecretsManagerSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretsManagerSecrets")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

type Cause = Box<dyn Error + Send + Sync>;

/// What one attempt at a write came to.
enum Attempt {
    Written,
    /// Somebody else was faster, or a deletion is not over: begin again.
    Again(Failure),
}

impl SecretsManagerSecrets {
    /// `prefix` is put before each name, such as `slipway/dev/`. Secrets are encrypted with `kms_key` (id, alias or
    /// ARN), or with the account's own key for Secrets Manager.
    pub fn new(client: Client, prefix: impl Into<String>, kms_key: Option<String>) -> Self {
        Self {
            client,
            prefix: prefix.into(),
            kms_key,
        }
    }

    fn id(&self, tenant: &TenantId, name: &str) -> Result<String, Cause> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/_.-".contains(&byte);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(allowed) {
            return Err(format!(
                "a name is 1 to {LONGEST_NAME} of the letters a to z and A to Z, digits and / _ . -"
            )
            .into());
        }
        Ok(format!("{}{tenant}/{name}", self.prefix))
    }

    async fn write(&self, id: &str, value: &SecretString) -> Result<(), Cause> {
        let length = value.expose_secret().len();
        if length > LARGEST_VALUE {
            return Err(format!(
                "the value has {length} bytes, and Secrets Manager takes at most {LARGEST_VALUE}: make it smaller (a \
                 kubeconfig needs only one context)"
            )
            .into());
        }
        let mut pause = PAUSE;
        let mut attempt = 1;
        loop {
            match self.replace(id, value).await? {
                Attempt::Written => return Ok(()),
                Attempt::Again(failure) if attempt == ATTEMPTS => return Err(failure.into()),
                Attempt::Again(_) => wait(pause).await,
            }
            attempt += 1;
            pause *= 2;
        }
    }

    /// Puts the value, creating or restoring the secret first where that is needed.
    async fn replace(&self, id: &str, value: &SecretString) -> Result<Attempt, Failure> {
        let failure = match self.create(id, value).await {
            Ok(()) => return Ok(Attempt::Written),
            Err(failure) => failure,
        };
        match failure.code() {
            "ResourceExistsException" => match self.put_value(id, value).await {
                Ok(()) => Ok(Attempt::Written),
                Err(failure) => match failure.code() {
                    "ResourceNotFoundException" => Ok(Attempt::Again(failure)),
                    // Deletion is the only state of a secret that forbids a new value.
                    "InvalidRequestException" => self.restore(id, failure).await,
                    _ => Err(failure),
                },
            },
            "InvalidRequestException" => self.restore(id, failure).await,
            _ => Err(failure),
        }
    }

    async fn create(&self, id: &str, value: &SecretString) -> Result<(), Failure> {
        let call = self
            .client
            .create_secret()
            .name(id)
            .set_kms_key_id(self.kms_key.clone());
        let (text, bytes) = stored(value);
        call.set_secret_string(text)
            .set_secret_binary(bytes)
            .send()
            .await
            .map(drop)
            .map_err(|error| Failure::of("secretsmanager:CreateSecret", &error).without_message())
    }

    async fn put_value(&self, id: &str, value: &SecretString) -> Result<(), Failure> {
        let (text, bytes) = stored(value);
        self.client
            .put_secret_value()
            .secret_id(id)
            .set_secret_string(text)
            .set_secret_binary(bytes)
            .send()
            .await
            .map(drop)
            .map_err(|error| Failure::of("secretsmanager:PutSecretValue", &error).without_message())
    }

    /// Calls off a deletion with a recovery window, which somebody else asked for; one of ours has none and only needs
    /// time.
    async fn restore(&self, id: &str, reason: Failure) -> Result<Attempt, Failure> {
        match self.client.restore_secret().secret_id(id).send().await {
            Ok(_) => Ok(Attempt::Again(reason)),
            Err(error) => {
                let failure = Failure::of("secretsmanager:RestoreSecret", &error);
                match failure.code() {
                    "ResourceNotFoundException" | "InvalidRequestException" => Ok(Attempt::Again(failure)),
                    _ => Err(failure),
                }
            }
        }
    }

    async fn read(&self, id: &str) -> Result<Option<SecretString>, Cause> {
        let answer = match self.client.get_secret_value().secret_id(id).send().await {
            Ok(answer) => answer,
            Err(error) => {
                let failure = Failure::of("secretsmanager:GetSecretValue", &error);
                // What is being deleted is gone.
                return match failure.code() {
                    "ResourceNotFoundException" | "InvalidRequestException" => Ok(None),
                    _ => Err(failure.into()),
                };
            }
        };
        match (answer.secret_string, answer.secret_binary) {
            (Some(text), _) => Ok(Some(text.into())),
            (None, Some(bytes)) if bytes.as_ref() == EMPTY => Ok(Some(String::new().into())),
            _ => Err("it is binary, expected text: was it written by somebody else?".into()),
        }
    }

    async fn remove(&self, id: &str) -> Result<(), Cause> {
        let deleted = self
            .client
            .delete_secret()
            .secret_id(id)
            .force_delete_without_recovery(true)
            .send()
            .await;
        match deleted {
            Ok(_) => Ok(()),
            Err(error) => {
                let failure = Failure::of("secretsmanager:DeleteSecret", &error);
                match failure.code() {
                    "ResourceNotFoundException" => Ok(()),
                    _ => Err(failure.into()),
                }
            }
        }
    }
}

/// A value as text, or the bytes that stand for the empty one.
fn stored(value: &SecretString) -> (Option<String>, Option<Blob>) {
    match value.expose_secret() {
        "" => (None, Some(Blob::new(EMPTY))),
        text => (Some(text.to_owned()), None),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "Secrets Manager tells nobody when a deletion is over, so there is no condition to wait for"
)]
async fn wait(pause: Duration) {
    tokio::time::sleep(pause).await;
}

async fn named<T>(
    operation: &'static str,
    name: &str,
    work: impl Future<Output = Result<T, Cause>>,
) -> Result<T, SecretError> {
    work.await.map_err(|source| SecretError {
        operation,
        name: name.to_owned(),
        source,
    })
}

#[async_trait]
impl Secrets for SecretsManagerSecrets {
    async fn put(&self, tenant: &TenantId, name: &str, value: SecretString) -> Result<(), SecretError> {
        named("write", name, async {
            self.write(&self.id(tenant, name)?, &value).await
        })
        .await
    }

    async fn get(&self, tenant: &TenantId, name: &str) -> Result<Option<SecretString>, SecretError> {
        named("read", name, async { self.read(&self.id(tenant, name)?).await }).await
    }

    async fn delete(&self, tenant: &TenantId, name: &str) -> Result<(), SecretError> {
        named("delete", name, async {
            self.remove(&self.id(tenant, name)?).await
        })
        .await
    }
}

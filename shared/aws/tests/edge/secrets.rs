//! Secrets Manager.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use slipway_aws::SecretsManagerSecrets;
use slipway_model::TenantId;
use slipway_ports::{ExposeSecret, Secrets};
use slipway_testkit::contract::SecretsSubject;
use tokio::task::JoinSet;

use crate::{canned, clients, moto, unique, whole};

async fn subject() -> SecretsSubject {
    SecretsSubject {
        secrets: Arc::new(secrets(&unique("slipway/contract"), None).await),
        keep: Box::new(()),
    }
}

slipway_testkit::secrets_contract!(subject);

async fn secrets(prefix: &str, kms_key: Option<&str>) -> SecretsManagerSecrets {
    let client = moto().await.secrets_manager().clone();
    SecretsManagerSecrets::new(client, format!("{prefix}/"), kms_key.map(str::to_owned))
}

fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

async fn text(secrets: &SecretsManagerSecrets, name: &str) -> Option<String> {
    let secret = secrets.get(&tenant(), name).await.unwrap();
    secret.map(|secret| secret.expose_secret().to_owned())
}

#[tokio::test]
async fn the_empty_text_is_a_secret_too() {
    let secrets = secrets(&unique("slipway/empty"), None).await;
    secrets.put(&tenant(), "a", "".into()).await.unwrap();
    assert_eq!(text(&secrets, "a").await.as_deref(), Some(""));
    secrets.put(&tenant(), "a", "full".into()).await.unwrap();
    assert_eq!(text(&secrets, "a").await.as_deref(), Some("full"));
    secrets.put(&tenant(), "a", "".into()).await.unwrap();
    assert_eq!(text(&secrets, "a").await.as_deref(), Some(""));
}

#[tokio::test]
async fn the_largest_value_fits_and_a_larger_one_is_refused_with_both_sizes() {
    let secrets = secrets(&unique("slipway/large"), None).await;
    let largest = "v".repeat(65_536);
    secrets
        .put(&tenant(), "a", largest.as_str().into())
        .await
        .unwrap();
    assert_eq!(text(&secrets, "a").await, Some(largest.clone()));
    let error = secrets
        .put(&tenant(), "a", format!("{largest}v").into())
        .await
        .unwrap_err();
    let said = whole(&error);
    assert!(said.contains("65537") && said.contains("65536"), "{said:.300}");
    assert!(!said.contains("vvv"));
}

#[tokio::test]
async fn a_secret_that_somebody_scheduled_for_deletion_is_gone() {
    let prefix = unique("slipway/scheduled");
    let secrets = secrets(&prefix, None).await;
    secrets.put(&tenant(), "a", "old".into()).await.unwrap();
    let client = moto().await.secrets_manager().clone();
    client
        .delete_secret()
        .secret_id(format!("{prefix}/acme/a"))
        .recovery_window_in_days(7)
        .send()
        .await
        .unwrap();
    assert_eq!(text(&secrets, "a").await, None);
}

/// The operations that were asked for, in order.
fn operations(requests: &canned::Requests) -> Vec<String> {
    let header = "x-amz-target: secretsmanager.";
    let requests = requests.lock().unwrap();
    let lines = requests.iter().flat_map(|request| request.lines());
    lines
        .filter_map(|line| line.strip_prefix(header))
        .map(str::to_owned)
        .collect()
}

fn refusal(code: &str) -> canned::Answer {
    (400, format!(r#"{{"__type": "{code}", "Message": "no"}}"#))
}

#[tokio::test]
async fn a_deletion_that_somebody_scheduled_is_called_off_by_a_write() {
    // moto lets a deleted secret take values and stays silent about them, so these are the documented answers.
    for deleted_says in ["InvalidRequestException", "ResourceExistsException"] {
        let restored = Arc::new(AtomicU32::new(0));
        let (address, requests) = canned::serve(move |request: &str| {
            let is_restored = restored.load(Ordering::Relaxed) > 0;
            if request.contains("secretsmanager.RestoreSecret") {
                restored.store(1, Ordering::Relaxed);
                (200, "{}".to_owned())
            } else if request.contains("secretsmanager.CreateSecret") {
                refusal(if is_restored {
                    "ResourceExistsException"
                } else {
                    deleted_says
                })
            } else if is_restored {
                (200, "{}".to_owned())
            } else {
                refusal("InvalidRequestException")
            }
        })
        .await;
        let client = clients(&address).await.secrets_manager().clone();
        let secrets = SecretsManagerSecrets::new(client, "p/", None);
        secrets.put(&tenant(), "a", "new".into()).await.unwrap();
        let asked = operations(&requests);
        assert!(
            asked.ends_with(&["RestoreSecret", "CreateSecret", "PutSecretValue"].map(str::to_owned)),
            "{asked:?}"
        );
    }
}

#[tokio::test]
async fn writers_of_one_new_name_all_succeed_and_one_value_stays() {
    let secrets = secrets(&unique("slipway/race"), None).await;
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let secrets = secrets.clone();
        writers.spawn(async move {
            secrets
                .put(&tenant(), "a", format!("value {writer}").into())
                .await
                .unwrap();
        });
    }
    writers.join_all().await;
    assert!(text(&secrets, "a").await.unwrap().starts_with("value "));
}

#[tokio::test]
async fn a_deletion_that_is_not_over_yet_is_waited_for() {
    // The first two attempts meet a deletion without recovery, which cannot be called off.
    let turns = Arc::new(AtomicU32::new(0));
    let (address, requests) = canned::serve(move |request: &str| {
        if request.contains("secretsmanager.RestoreSecret") {
            refusal("ResourceNotFoundException")
        } else if turns.fetch_add(1, Ordering::Relaxed) < 2 {
            refusal("InvalidRequestException")
        } else {
            (200, "{}".to_owned())
        }
    })
    .await;
    let client = clients(&address).await.secrets_manager().clone();
    let secrets = SecretsManagerSecrets::new(client, "p/", None);
    secrets.put(&tenant(), "a", "1".into()).await.unwrap();
    assert_eq!(
        operations(&requests),
        [
            "CreateSecret",
            "RestoreSecret",
            "CreateSecret",
            "RestoreSecret",
            "CreateSecret"
        ]
    );
}

#[tokio::test]
async fn the_key_is_used_when_one_is_named() {
    let prefix = unique("slipway/key");
    let secrets = secrets(&prefix, Some("alias/slipway")).await;
    secrets.put(&tenant(), "a", "1".into()).await.unwrap();
    let client = moto().await.secrets_manager().clone();
    let described = client
        .describe_secret()
        .secret_id(format!("{prefix}/acme/a"))
        .send()
        .await
        .unwrap();
    assert_eq!(described.kms_key_id(), Some("alias/slipway"));
}

#[tokio::test]
async fn a_refusal_that_repeats_the_value_or_an_answer_that_cannot_be_read_shows_nothing_of_it() {
    let (address, _) = canned::serve(|request: &str| {
        if request.contains("secretsmanager.GetSecretValue") {
            (200, r#"{"SecretString": "the-secret-itself""#.to_owned())
        } else {
            let body = r#"{"__type": "InvalidParameterException", "Message": "'the-secret-itself' is bad"}"#;
            (400, body.to_owned())
        }
    })
    .await;
    let client = clients(&address).await.secrets_manager().clone();
    let secrets = SecretsManagerSecrets::new(client, "p/", None);
    let error = secrets
        .put(&tenant(), "a", "the-secret-itself".into())
        .await
        .unwrap_err();
    let said = whole(&error);
    assert!(said.contains("InvalidParameterException"), "{said}");
    assert!(!said.contains("the-secret-itself"), "{said}");
    let said = whole(&secrets.get(&tenant(), "a").await.unwrap_err());
    assert!(!said.contains("the-secret-itself"), "{said}");
}

//! Secrets.

use std::error::Error;

use slipway_model::TenantId;
use slipway_ports::ExposeSecret;

use super::SecretsSubject;

async fn put(subject: &SecretsSubject, tenant: &TenantId, name: &str, value: &str) {
    subject.secrets.put(tenant, name, value.into()).await.unwrap();
}

async fn get(subject: &SecretsSubject, tenant: &TenantId, name: &str) -> Option<String> {
    let secret = subject.secrets.get(tenant, name).await.unwrap();
    secret.map(|secret| secret.expose_secret().to_owned())
}

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

pub async fn a_secret_is_read_back_to_the_letter(subject: &SecretsSubject) {
    let tenant = tenant("acme");
    for value in ["s3cret", " with space\n", "{\"a\": \"b\"}", "äöü😀\0end"] {
        put(subject, &tenant, "params/db/password", value).await;
        assert_eq!(
            get(subject, &tenant, "params/db/password").await.as_deref(),
            Some(value)
        );
    }
}

pub async fn an_absent_secret_is_nothing(subject: &SecretsSubject) {
    assert_eq!(get(subject, &tenant("acme"), "absent").await, None);
}

pub async fn a_secret_is_replaced_as_a_whole(subject: &SecretsSubject) {
    let tenant = tenant("acme");
    put(subject, &tenant, "token", "a long first value").await;
    put(subject, &tenant, "token", "short").await;
    assert_eq!(get(subject, &tenant, "token").await.as_deref(), Some("short"));
}

pub async fn a_removed_secret_is_gone(subject: &SecretsSubject) {
    let tenant = tenant("acme");
    put(subject, &tenant, "token", "1").await;
    subject.secrets.delete(&tenant, "token").await.unwrap();
    assert_eq!(get(subject, &tenant, "token").await, None);
    put(subject, &tenant, "token", "2").await;
    assert_eq!(get(subject, &tenant, "token").await.as_deref(), Some("2"));
}

pub async fn removing_an_absent_secret_is_no_error(subject: &SecretsSubject) {
    subject.secrets.delete(&tenant("acme"), "absent").await.unwrap();
}

pub async fn names_do_not_mix(subject: &SecretsSubject) {
    let tenant = tenant("acme");
    let names = ["a", "A", "a/b", "a_b", "a-b", "a.b", "a/b/c", "b"];
    for name in names {
        put(subject, &tenant, name, name).await;
    }
    subject.secrets.delete(&tenant, "b").await.unwrap();
    for name in &names[..7] {
        assert_eq!(get(subject, &tenant, name).await.as_deref(), Some(*name));
    }
}

pub async fn tenants_do_not_see_each_other(subject: &SecretsSubject) {
    let (acme, other) = (tenant("acme"), tenant("acme-b"));
    put(subject, &acme, "b/token", "acme's").await;
    assert_eq!(get(subject, &other, "b/token").await, None);
    put(subject, &other, "b/token", "the other's").await;
    subject.secrets.delete(&other, "b/token").await.unwrap();
    assert_eq!(get(subject, &acme, "b/token").await.as_deref(), Some("acme's"));
}

pub async fn the_longest_name_and_a_large_value_fit(subject: &SecretsSubject) {
    let tenant = tenant(&"t".repeat(63));
    let (name, value) = ("n/".repeat(100), "v".repeat(60 * 1024));
    put(subject, &tenant, &name, &value).await;
    assert_eq!(get(subject, &tenant, &name).await, Some(value));
}

pub async fn other_names_are_refused(subject: &SecretsSubject) {
    let tenant = tenant("acme");
    let long = "n".repeat(201);
    for name in ["", "a b", "a\\b", "a\n", "ä", "a:b", "a*", long.as_str()] {
        let error = subject
            .secrets
            .put(&tenant, name, "the-secret-itself".into())
            .await
            .expect_err(name);
        assert_eq!((error.operation, error.name.as_str()), ("write", name));
        let mut text = format!("{error} {error:?}");
        let mut source = error.source();
        while let Some(error) = source {
            text.push_str(&error.to_string());
            source = error.source();
        }
        assert!(!text.contains("the-secret-itself"), "{text}");
        assert_eq!(
            subject.secrets.get(&tenant, name).await.unwrap_err().operation,
            "read"
        );
        assert_eq!(
            subject.secrets.delete(&tenant, name).await.unwrap_err().operation,
            "delete"
        );
    }
}

//! Who may open a data folder, and what its files give away.

#![expect(clippy::unwrap_used, reason = "what tests share fails as tests do")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use slipway_embedded::{Embedded, OpenError, Options};
use slipway_model::TenantId;

fn open(folder: &Path) -> Embedded {
    Embedded::open(folder, Options::default()).unwrap()
}

#[tokio::test]
async fn a_folder_in_use_names_who_uses_it() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path());
    let error = Embedded::open(folder.path(), Options::default()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    assert!(
        text.contains(&format!("process {}", std::process::id())),
        "{text}"
    );
    let store = embedded.store();
    drop(embedded);
    assert!(
        Embedded::open(folder.path(), Options::default()).is_err(),
        "the store is still held"
    );
    drop(store);
    open(folder.path());
}

#[tokio::test]
async fn what_is_stored_is_its_owners_also_in_a_folder_that_others_may_look_into() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let open_to_others = || {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            if entry.metadata().unwrap().permissions().mode() & 0o077 != 0 {
                found.push(entry.file_name());
            }
        }
        found
    };
    let embedded = open(folder.path());
    assert!(folder.path().join("slipway.db-wal").exists());
    assert_eq!(open_to_others(), [""; 0]);
    drop(embedded);
    // As an earlier version, or whoever restored it, left it.
    let database = folder.path().join("slipway.db");
    fs::set_permissions(database, fs::Permissions::from_mode(0o644)).unwrap();
    let _embedded = open(folder.path());
    assert_eq!(open_to_others(), [""; 0]);
}

#[test]
fn a_newer_folder_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let database = folder.path().join("slipway.db");
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = Embedded::open(folder.path(), Options::default()).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Newer {
                found: 99,
                known: 1,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("use a newer program"), "{error}");
}

#[tokio::test]
async fn a_key_that_is_missing_or_open_to_others_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("secrets.key");
    let tenant = TenantId::local();
    let embedded = open(folder.path());
    embedded
        .secrets()
        .put(&tenant, "a", "s3cret".into())
        .await
        .unwrap();
    drop(embedded);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = Embedded::open(folder.path(), Options::default()).unwrap_err();
    assert!(error.to_string().contains("set its mode to 600"), "{error}");

    let content = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let error = Embedded::open(folder.path(), Options::default()).unwrap_err();
    assert!(error.to_string().contains("bring it back"), "{error}");
    assert!(!key.exists(), "a new key would hide that the old one is gone");

    fs::write(&key, content).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(
        open(folder.path())
            .secrets()
            .get(&tenant, "a")
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_secret_on_disk_is_not_readable_and_not_movable() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = open(folder.path());
    let (acme, other): (TenantId, TenantId) = ("acme".parse().unwrap(), "other".parse().unwrap());
    embedded
        .secrets()
        .put(&acme, "db/password", "correct horse".into())
        .await
        .unwrap();
    embedded
        .secrets()
        .put(&other, "db/password", "battery staple".into())
        .await
        .unwrap();
    let file = |tenant: &str| {
        let mut files = fs::read_dir(folder.path().join("secrets").join(tenant)).unwrap();
        files.next().unwrap().unwrap().path()
    };
    let content = fs::read(file("acme")).unwrap();
    assert!(!content.windows(7).any(|part| part == b"correct"));
    assert_eq!(
        fs::metadata(file("acme")).unwrap().permissions().mode() & 0o777,
        0o600
    );

    fs::copy(file("acme"), file("other")).unwrap();
    let error = embedded.secrets().get(&other, "db/password").await.unwrap_err();
    assert_eq!((error.operation, error.name.as_str()), ("read", "db/password"));

    let mut changed = content;
    *changed.last_mut().unwrap() ^= 1;
    fs::write(file("acme"), &changed).unwrap();
    assert!(embedded.secrets().get(&acme, "db/password").await.is_err());
}

//! Single items: guards, versions, sizes.

use slipway_model::Timestamp;
use slipway_ports::{Guard, Key, Put, StoreError};

use super::{StoreSubject, item, lost, settled, won};

const LIMIT: usize = 350 * 1024;

pub async fn what_is_absent_reads_as_nothing(subject: &StoreSubject) {
    let key = subject.key("absent");
    assert_eq!(subject.store.get(&key).await.unwrap(), None);
    assert_eq!(subject.store.session().get(&key).await.unwrap(), None);
}

pub async fn the_first_put_makes_version_one(subject: &StoreSubject) {
    let key = subject.key("a");
    let mut session = subject.store.session();
    let put = session.put(&key, item("{\"n\":1}"), Guard::Absent).await.unwrap();
    assert_eq!(won(&put), 1);
    session.settle().await.unwrap();

    let stored = subject.store.get(&key).await.unwrap().unwrap();
    assert_eq!(stored.key, key);
    assert_eq!(stored.body, "{\"n\":1}");
    assert_eq!(stored.version, 1);
}

pub async fn every_put_raises_the_version_by_one(subject: &StoreSubject) {
    let key = subject.key("a");
    for (guard, version) in [
        (Guard::Absent, 1),
        (Guard::Any, 2),
        (Guard::Version(2), 3),
        (Guard::Any, 4),
    ] {
        let mut session = subject.store.session();
        let body = format!("{version}");
        assert_eq!(won(&session.put(&key, item(body), guard).await.unwrap()), version);
        session.settle().await.unwrap();
        assert_eq!(subject.store.get(&key).await.unwrap().unwrap().version, version);
    }
}

pub async fn absent_loses_against_what_stands_there(subject: &StoreSubject) {
    let key = subject.key("a");
    settled(subject, [(key.clone(), item("1"))]).await;
    let mut session = subject.store.session();
    let current = lost(session.put(&key, item("2"), Guard::Absent).await.unwrap()).unwrap();
    assert_eq!(
        (current.key, current.body.as_str(), current.version),
        (key, "1", 1)
    );
}

pub async fn a_version_wins_only_while_it_is_current(subject: &StoreSubject) {
    let key = subject.key("a");
    settled(subject, [(key.clone(), item("1"))]).await;
    settled(subject, [(key.clone(), item("2"))]).await;
    let mut session = subject.store.session();
    for other in [0, 1, 3] {
        let current = lost(session.put(&key, item("x"), Guard::Version(other)).await.unwrap()).unwrap();
        assert_eq!((current.body.as_str(), current.version), ("2", 2));
    }
    assert_eq!(
        won(&session.put(&key, item("3"), Guard::Version(2)).await.unwrap()),
        3
    );
    session.settle().await.unwrap();
    assert_eq!(subject.store.get(&key).await.unwrap().unwrap().body, "3");
}

pub async fn a_version_loses_against_nothing(subject: &StoreSubject) {
    let key = subject.key("a");
    let mut session = subject.store.session();
    for version in [0, 1] {
        let put = session
            .put(&key, item("x"), Guard::Version(version))
            .await
            .unwrap();
        assert_eq!(put, Put::Lost(None));
    }
}

pub async fn a_lost_put_changes_nothing(subject: &StoreSubject) {
    let key = subject.key("a");
    settled(subject, [(key.clone(), item("1"))]).await;
    let mut session = subject.store.session();
    lost(session.put(&key, item("2"), Guard::Absent).await.unwrap());
    lost(session.put(&key, item("3"), Guard::Version(7)).await.unwrap());
    lost(session.delete(&key, Guard::Version(7)).await.unwrap());
    assert_eq!(session.get(&key).await.unwrap().unwrap().body, "1");
    session.settle().await.unwrap();
    let stored = subject.store.get(&key).await.unwrap().unwrap();
    assert_eq!((stored.body.as_str(), stored.version), ("1", 1));
}

pub async fn a_removal_is_guarded(subject: &StoreSubject) {
    let key = subject.key("a");
    settled(subject, [(key.clone(), item("1"))]).await;
    let mut session = subject.store.session();
    for guard in [Guard::Absent, Guard::Version(2)] {
        let current = lost(session.delete(&key, guard).await.unwrap()).unwrap();
        assert_eq!((current.body.as_str(), current.version), ("1", 1));
    }
    assert_eq!(won(&session.delete(&key, Guard::Version(1)).await.unwrap()), 0);
    session.settle().await.unwrap();
    assert_eq!(subject.store.get(&key).await.unwrap(), None);
}

pub async fn removing_what_is_absent_wins_with_any(subject: &StoreSubject) {
    let key = subject.key("a");
    let mut session = subject.store.session();
    assert_eq!(session.delete(&key, Guard::Any).await.unwrap(), Put::Won(0));
    assert_eq!(session.delete(&key, Guard::Absent).await.unwrap(), Put::Won(0));
    assert_eq!(
        session.delete(&key, Guard::Version(1)).await.unwrap(),
        Put::Lost(None)
    );
    session.settle().await.unwrap();
}

pub async fn versions_begin_again_after_a_removal(subject: &StoreSubject) {
    let key = subject.key("a");
    settled(subject, [(key.clone(), item("1")), (key.clone(), item("2"))]).await;
    let mut session = subject.store.session();
    assert_eq!(won(&session.delete(&key, Guard::Any).await.unwrap()), 0);
    assert_eq!(
        won(&session.put(&key, item("3"), Guard::Absent).await.unwrap()),
        1
    );
    session.settle().await.unwrap();
    assert_eq!(subject.store.get(&key).await.unwrap().unwrap().version, 1);
}

pub async fn a_body_at_the_limit_fits_and_a_larger_one_does_not(subject: &StoreSubject) {
    let key = subject.key("a");
    let text = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    settled(subject, [(key.clone(), item(text(LIMIT)))]).await;
    assert_eq!(subject.store.get(&key).await.unwrap().unwrap().body.len(), LIMIT);

    let mut session = subject.store.session();
    let error = session
        .put(&key, item(text(LIMIT + 1)), Guard::Any)
        .await
        .unwrap_err();
    let StoreError::TooLarge {
        key: named,
        bytes,
        limit,
    } = error
    else {
        panic!("expected TooLarge, got {error:?}");
    };
    assert_eq!((named, bytes, limit), (key.to_string(), LIMIT + 1, LIMIT));
    assert_eq!(session.get(&key).await.unwrap().unwrap().version, 1);
}

pub async fn keys_of_any_printable_text_stay_apart(subject: &StoreSubject) {
    let long = "x".repeat(900);
    let keys: Vec<Key> = [
        "a",
        "A",
        "a|b",
        "a%",
        "a_",
        "a/b",
        "ä",
        "😀",
        "a ",
        "'; --",
        long.as_str(),
    ]
    .into_iter()
    .flat_map(|name| [subject.key(name), Key::new(subject.name(name), "a")])
    .collect();
    settled(
        subject,
        keys.iter()
            .map(|key| (key.clone(), item(format!("{:?}", key.sort)))),
    )
    .await;
    for key in &keys {
        let stored = subject.store.get(key).await.unwrap().unwrap();
        assert_eq!(
            (stored.body, stored.version),
            (format!("{:?}", key.sort), 1),
            "{key}"
        );
    }
}

pub async fn an_item_that_may_be_dropped_later_is_still_there(subject: &StoreSubject) {
    let key = subject.key("a");
    let year_2100 = Timestamp::from_millis(4_102_444_800_000);
    settled(subject, [(key.clone(), item("1").expiring_at(year_2100))]).await;
    assert_eq!(subject.store.get(&key).await.unwrap().unwrap().body, "1");
}

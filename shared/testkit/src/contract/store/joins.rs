//! Joins.

use std::sync::Arc;

use slipway_ports::{Arrivals, Guard};
use tokio::{sync::Barrier, task::JoinSet};

use super::{StoreSubject, item, won};

pub async fn an_unknown_join_is_empty(subject: &StoreSubject) {
    let arrivals = subject
        .store
        .session()
        .arrivals(&subject.key("join"))
        .await
        .unwrap();
    assert_eq!(arrivals, Arrivals::default());
}

pub async fn arrivals_are_returned_with_what_came_before(subject: &StoreSubject) {
    let join = subject.key("join");
    let mut session = subject.store.session();
    let sets = |ok, bad| Arrivals { ok, bad };
    assert_eq!(session.arrive(&join, 0, true).await.unwrap(), sets(0b1, 0));
    assert_eq!(session.arrive(&join, 2, false).await.unwrap(), sets(0b1, 0b100));
    assert_eq!(session.arrive(&join, 1, true).await.unwrap(), sets(0b11, 0b100));
    assert_eq!(session.arrivals(&join).await.unwrap(), sets(0b11, 0b100));
    session.settle().await.unwrap();
}

pub async fn a_repeated_arrival_changes_nothing(subject: &StoreSubject) {
    let join = subject.key("join");
    for _ in 0..3 {
        let mut session = subject.store.session();
        for _ in 0..2 {
            let arrivals = session.arrive(&join, 5, true).await.unwrap();
            assert_eq!(arrivals, Arrivals { ok: 1 << 5, bad: 0 });
        }
        session.settle().await.unwrap();
    }
}

pub async fn the_first_arrival_of_a_slot_counts(subject: &StoreSubject) {
    let join = subject.key("join");
    let first = Arrivals { ok: 0b01, bad: 0b10 };
    let mut session = subject.store.session();
    session.arrive(&join, 0, true).await.unwrap();
    session.arrive(&join, 1, false).await.unwrap();
    assert_eq!(session.arrive(&join, 0, false).await.unwrap(), first);
    session.settle().await.unwrap();
    let mut session = subject.store.session();
    assert_eq!(session.arrive(&join, 1, true).await.unwrap(), first);
    session.settle().await.unwrap();
}

pub async fn a_join_has_thirty_two_slots(subject: &StoreSubject) {
    let join = subject.key("join");
    let mut session = subject.store.session();
    for slot in 0..32 {
        let arrivals = session.arrive(&join, slot, slot % 2 == 0).await.unwrap();
        assert_eq!(arrivals.count(), u32::from(slot) + 1);
    }
    session.settle().await.unwrap();
    let arrivals = subject.store.session().arrivals(&join).await.unwrap();
    assert_eq!(
        arrivals,
        Arrivals {
            ok: 0x5555_5555,
            bad: 0xaaaa_aaaa
        }
    );
}

pub async fn arrivals_are_seen_by_later_sessions(subject: &StoreSubject) {
    let join = subject.key("join");
    for slot in 0..4 {
        let mut session = subject.store.session();
        let before = session.arrivals(&join).await.unwrap();
        assert_eq!(before.count(), u32::from(slot));
        session.arrive(&join, slot, true).await.unwrap();
        session.settle().await.unwrap();
    }
}

pub async fn a_join_is_no_item(subject: &StoreSubject) {
    let key = subject.key("both");
    let mut session = subject.store.session();
    session.arrive(&key, 1, true).await.unwrap();
    assert_eq!(session.get(&key).await.unwrap(), None);
    assert_eq!(
        won(&session.put(&key, item("1"), Guard::Absent).await.unwrap()),
        1
    );
    assert_eq!(session.arrive(&key, 2, true).await.unwrap().ok, 0b110);
    session.settle().await.unwrap();

    let stored = subject.store.get(&key).await.unwrap().unwrap();
    assert_eq!((stored.body.as_str(), stored.version), ("1", 1));
    let mut session = subject.store.session();
    assert_eq!(
        won(&session.put(&key, item("2"), Guard::Version(1)).await.unwrap()),
        2
    );
    assert_eq!(session.arrivals(&key).await.unwrap().ok, 0b110);
    session.settle().await.unwrap();
    let page = subject.store.query(&key.partition, "", None, 10).await.unwrap();
    assert_eq!(page.items.len(), 1);
}

pub async fn of_concurrent_arrivals_exactly_one_completes_the_join(subject: &StoreSubject) {
    const SLOTS: u8 = 32;
    let join = subject.key("join");
    let start = Arc::new(Barrier::new(SLOTS.into()));
    let mut tasks = JoinSet::new();
    for slot in 0..SLOTS {
        let (store, join, start) = (Arc::clone(&subject.store), join.clone(), Arc::clone(&start));
        tasks.spawn(async move {
            start.wait().await;
            let mut session = store.session();
            let arrivals = session.arrive(&join, slot, true).await.unwrap();
            session.settle().await.unwrap();
            arrivals.count()
        });
    }
    let mut counts = tasks.join_all().await;
    counts.sort_unstable();
    assert_eq!(counts, (1..=u32::from(SLOTS)).collect::<Vec<_>>());
}

//! Sessions: what they see, what they leave, and what happens when there are many.

use std::sync::Arc;

use slipway_ports::{Guard, Put};
use tokio::{sync::Barrier, task::JoinSet};

use super::{StoreSubject, item, settled, won};

pub async fn a_session_reads_its_own_writes(subject: &StoreSubject) {
    let (kept, removed) = (subject.key("kept"), subject.key("removed"));
    settled(subject, [(removed.clone(), item("0"))]).await;
    let mut session = subject.store.session();
    session.put(&kept, item("1"), Guard::Absent).await.unwrap();
    assert_eq!(session.get(&kept).await.unwrap().unwrap().body, "1");
    session.put(&kept, item("2"), Guard::Version(1)).await.unwrap();
    let stored = session.get(&kept).await.unwrap().unwrap();
    assert_eq!((stored.body.as_str(), stored.version), ("2", 2));
    session.delete(&removed, Guard::Any).await.unwrap();
    assert_eq!(session.get(&removed).await.unwrap(), None);
    session.settle().await.unwrap();
}

pub async fn what_is_settled_is_read_by_everybody(subject: &StoreSubject) {
    let key = subject.key("a");
    for round in 1..=20 {
        settled(subject, [(key.clone(), item(format!("{round}")))]).await;
        let stored = subject.store.get(&key).await.unwrap().unwrap();
        assert_eq!((stored.body, stored.version), (format!("{round}"), round));
        let page = subject.store.query(&key.partition, "", None, 10).await.unwrap();
        assert_eq!(page.items[0].version, round);
    }
}

pub async fn a_session_without_writes_settles(subject: &StoreSubject) {
    subject.store.session().settle().await.unwrap();
    let mut session = subject.store.session();
    session.get(&subject.key("a")).await.unwrap();
    session.settle().await.unwrap();
}

pub async fn a_session_sees_what_another_settled(subject: &StoreSubject) {
    let key = subject.key("a");
    let mut early = subject.store.session();
    assert_eq!(early.get(&key).await.unwrap(), None);
    settled(subject, [(key.clone(), item("1"))]).await;
    assert_eq!(early.get(&key).await.unwrap().unwrap().body, "1");
    let put = early.put(&key, item("2"), Guard::Absent).await.unwrap();
    assert!(matches!(put, Put::Lost(Some(_))), "{put:?}");
}

pub async fn a_dropped_session_leaves_a_prefix(subject: &StoreSubject) {
    let keys: Vec<_> = (0..5).map(|n| subject.key(&format!("k{n}"))).collect();
    let mut session = subject.store.session();
    for key in &keys {
        session.put(key, item("1"), Guard::Absent).await.unwrap();
    }
    drop(session);
    // Whatever was kept is durable now, because this comes after it.
    settled(subject, [(subject.key("later"), item("1"))]).await;
    let mut there = Vec::new();
    for key in &keys {
        there.push(subject.store.get(key).await.unwrap().is_some());
    }
    assert!(
        there.is_sorted_by(|a, b| a >= b),
        "a write without the one before it: {there:?}"
    );
}

pub async fn many_calls_of_one_session_arrive_in_order(subject: &StoreSubject) {
    let mut session = subject.store.session();
    for n in 0..300_u64 {
        let key = subject.key(&format!("{}", n % 7));
        let put = session.put(&key, item(n.to_string()), Guard::Any).await.unwrap();
        assert_eq!(won(&put), n / 7 + 1);
    }
    session.settle().await.unwrap();
    for n in 293..300_u64 {
        let stored = subject
            .store
            .get(&subject.key(&format!("{}", n % 7)))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((stored.body, stored.version), (n.to_string(), n / 7 + 1));
    }
}

pub async fn repeating_a_session_ends_in_the_same_state(subject: &StoreSubject) {
    let (step, next, join) = (subject.key("step"), subject.key("next"), subject.key("join"));
    for round in 0..3 {
        let mut session = subject.store.session();
        let ended = session.put(&step, item("\"done\""), Guard::Absent).await.unwrap();
        assert_eq!(matches!(ended, Put::Won(1)), round == 0);
        let arrivals = session.arrive(&join, 3, true).await.unwrap();
        assert_eq!((arrivals.ok, arrivals.bad), (8, 0));
        session
            .put(&next, item("\"ready\""), Guard::Absent)
            .await
            .unwrap();
        session.settle().await.unwrap();
    }
    for (key, body) in [(step, "\"done\""), (next, "\"ready\"")] {
        let stored = subject.store.get(&key).await.unwrap().unwrap();
        assert_eq!((stored.body.as_str(), stored.version), (body, 1));
    }
}

pub async fn of_concurrent_sessions_on_one_key_exactly_one_wins(subject: &StoreSubject) {
    const RIVALS: usize = 20;
    let key = subject.key("a");
    let start = Arc::new(Barrier::new(RIVALS));
    let mut rivals = JoinSet::new();
    for rival in 0..RIVALS {
        let (store, key, start) = (Arc::clone(&subject.store), key.clone(), Arc::clone(&start));
        rivals.spawn(async move {
            start.wait().await;
            let mut session = store.session();
            let put = session
                .put(&key, item(rival.to_string()), Guard::Absent)
                .await
                .unwrap();
            session.settle().await.unwrap();
            (rival, put)
        });
    }
    let ends = rivals.join_all().await;
    let winners: Vec<usize> = ends
        .iter()
        .filter(|(_, put)| matches!(put, Put::Won(1)))
        .map(|(rival, _)| *rival)
        .collect();
    assert_eq!(winners.len(), 1, "{ends:?}");
    let body = winners[0].to_string();
    assert_eq!(subject.store.get(&key).await.unwrap().unwrap().body, body);
    for (_, put) in ends.iter().filter(|(rival, _)| *rival != winners[0]) {
        assert!(
            matches!(put, Put::Lost(Some(stored)) if stored.body == body),
            "{put:?}"
        );
    }
}

pub async fn concurrent_increments_lose_nothing(subject: &StoreSubject) {
    let key = subject.key("counter");
    settled(subject, [(key.clone(), item("0"))]).await;
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (store, key) = (Arc::clone(&subject.store), key.clone());
        tasks.spawn(async move {
            for _ in 0..5 {
                loop {
                    let mut session = store.session();
                    let current = session.get(&key).await.unwrap().unwrap();
                    let count: u64 = current.body.parse().unwrap();
                    let next = item((count + 1).to_string());
                    let put = session
                        .put(&key, next, Guard::Version(current.version))
                        .await
                        .unwrap();
                    session.settle().await.unwrap();
                    if matches!(put, Put::Won(_)) {
                        break;
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    let stored = subject.store.get(&key).await.unwrap().unwrap();
    assert_eq!((stored.body.as_str(), stored.version), ("40", 41));
}

pub async fn sessions_on_different_keys_do_not_disturb_each_other(subject: &StoreSubject) {
    let mut tasks = JoinSet::new();
    for task in 0..10 {
        let store = Arc::clone(&subject.store);
        let key = subject.key(&format!("k{task}"));
        tasks.spawn(async move {
            for round in 1..=10 {
                let mut session = store.session();
                let guard = if round == 1 {
                    Guard::Absent
                } else {
                    Guard::Version(round - 1)
                };
                assert_eq!(
                    won(&session.put(&key, item(round.to_string()), guard).await.unwrap()),
                    round
                );
                session.settle().await.unwrap();
                assert_eq!(store.get(&key).await.unwrap().unwrap().version, round);
            }
        });
    }
    tasks.join_all().await;
}

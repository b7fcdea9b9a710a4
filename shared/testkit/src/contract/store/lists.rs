//! Lists and the index of due items. Both may lag behind on some stores, so cases wait for what they expect.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use slipway_model::Timestamp;
use slipway_ports::{DUE_SHARDS, DueItem, Filter, Guard, Item, ListPage, Listing};
use tokio::time::{Instant, interval};

use super::{StoreSubject, item, settled, sorts};

/// Looks until it sees what is expected, as long as the index may lag.
async fn eventually<T: PartialEq + Debug>(subject: &StoreSubject, expected: T, look: impl AsyncFn() -> T) {
    let end = Instant::now() + subject.index_lag;
    let mut looks = interval(Duration::from_millis(50));
    loop {
        looks.tick().await;
        let seen = look().await;
        if seen == expected || Instant::now() >= end {
            assert_eq!(seen, expected);
            return;
        }
    }
}

fn listed(list: String, position: &str, attributes: &[(&str, &str)]) -> Item {
    let attributes: BTreeMap<String, String> = attributes
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    item("1").listed(Listing {
        list,
        position: position.to_owned(),
        attributes,
    })
}

fn filters(filters: &[(&str, &str)]) -> Vec<Filter> {
    filters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

async fn all(subject: &StoreSubject, list: &str, wanted: &[(&str, &str)], limit: usize) -> Vec<String> {
    let mut seen = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page: ListPage = subject
            .store
            .list(list, &filters(wanted), after.as_deref(), limit)
            .await
            .unwrap();
        seen.extend(page.items.into_iter().map(|stored| stored.key.sort));
        after = page.next;
        if after.is_none() {
            return seen;
        }
    }
}

/// Six deployments in two states, and one in another list.
async fn filled(subject: &StoreSubject) -> String {
    let list = subject.name("deployments");
    let entries = [
        ("a", "003", "RUNNING", "x"),
        ("b", "001", "FAILED", "x"),
        ("c", "006", "RUNNING", "y"),
        ("d", "002", "FAILED", "y"),
        ("e", "005", "RUNNING", "x"),
        ("f", "004", "RUNNING", "y"),
    ];
    let items = entries.map(|(name, position, status, cluster)| {
        let attributes = [("status", status), ("cluster", cluster)];
        (subject.key(name), listed(list.clone(), position, &attributes))
    });
    settled(subject, items).await;
    let other = listed(subject.name("deployments2"), "009", &[("status", "RUNNING")]);
    settled(
        subject,
        [(subject.key("z"), other), (subject.key("unlisted"), item("1"))],
    )
    .await;
    list
}

pub async fn a_list_is_read_from_the_greatest_position_down(subject: &StoreSubject) {
    let list = filled(subject).await;
    let expected = ["c", "e", "f", "a", "d", "b"].map(str::to_owned).to_vec();
    eventually(subject, expected, async || all(subject, &list, &[], 100).await).await;
    let page = subject.store.list(&list, &[], None, 1).await.unwrap();
    let (stored, key) = (&page.items[0], subject.key("c"));
    assert_eq!(
        (&stored.key, stored.body.as_str(), stored.version),
        (&key, "1", 1)
    );
}

pub async fn a_list_goes_on_below_a_position(subject: &StoreSubject) {
    let list = filled(subject).await;
    for (after, expected) in [
        ("007", "c,e,f,a,d,b"),
        ("004", "a,d,b"),
        ("0035", "a,d,b"),
        ("001", ""),
    ] {
        eventually(subject, expected.to_owned(), async || {
            let page = subject.store.list(&list, &[], Some(after), 100).await.unwrap();
            sorts(&page.items).join(",")
        })
        .await;
    }
}

pub async fn filters_must_all_match(subject: &StoreSubject) {
    let list = filled(subject).await;
    let cases: [(&[(&str, &str)], &str); 5] = [
        (&[("status", "RUNNING")], "c,e,f,a"),
        (&[("status", "RUNNING"), ("cluster", "y")], "c,f"),
        (&[("status", "STOPPED")], ""),
        (&[("owner", "x")], ""),
        (&[("cluster", "x")], "e,a,b"),
    ];
    for (wanted, expected) in cases {
        eventually(subject, expected.to_owned(), async || {
            all(subject, &list, wanted, 100).await.join(",")
        })
        .await;
    }
}

pub async fn pages_of_a_filtered_list_give_everything_once(subject: &StoreSubject) {
    let list = filled(subject).await;
    for limit in 1..=7 {
        let every = "c,e,f,a,d,b".to_owned();
        eventually(subject, every, async || {
            all(subject, &list, &[], limit).await.join(",")
        })
        .await;
        let running = [("status", "RUNNING")];
        let some = "c,e,f,a".to_owned();
        eventually(subject, some, async || {
            all(subject, &list, &running, limit).await.join(",")
        })
        .await;
    }
}

pub async fn a_put_moves_its_item_in_the_lists(subject: &StoreSubject) {
    let list = filled(subject).await;
    let mut session = subject.store.session();
    let attributes = [("status", "STOPPED")];
    session
        .put(
            &subject.key("b"),
            listed(list.clone(), "008", &attributes),
            Guard::Any,
        )
        .await
        .unwrap();
    session
        .put(&subject.key("c"), item("2"), Guard::Any)
        .await
        .unwrap();
    session.delete(&subject.key("d"), Guard::Any).await.unwrap();
    session
        .put(
            &subject.key("e"),
            listed(subject.name("elsewhere"), "1", &[]),
            Guard::Any,
        )
        .await
        .unwrap();
    session.settle().await.unwrap();
    for (list, wanted, expected) in [
        (list.as_str(), &[][..], "b,f,a"),
        (list.as_str(), &[("status", "STOPPED")][..], "b"),
        (list.as_str(), &[("status", "FAILED")][..], ""),
        (subject.name("elsewhere").as_str(), &[][..], "e"),
    ] {
        eventually(subject, expected.to_owned(), async || {
            all(subject, list, wanted, 100).await.join(",")
        })
        .await;
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

/// What is due in every shard, of this case only.
async fn due(subject: &StoreSubject, until: Timestamp) -> Vec<Vec<DueItem>> {
    let mut shards = Vec::new();
    for shard in 0..DUE_SHARDS {
        let mut items = subject.store.due(shard, until, 1000).await.unwrap();
        items.retain(|item| item.key.partition.starts_with(&subject.prefix));
        shards.push(items);
    }
    shards
}

async fn due_sorts(subject: &StoreSubject, until: Timestamp) -> Vec<String> {
    let mut found: Vec<String> = due(subject, until)
        .await
        .into_iter()
        .flatten()
        .map(|item| item.key.sort)
        .collect();
    found.sort();
    found
}

pub async fn an_item_is_due_from_its_time_on(subject: &StoreSubject) {
    let items = [("early", 10), ("late", 20)]
        .map(|(name, time)| (subject.key(name), item("1").due_at(Some(at(time)))));
    settled(subject, items).await;
    settled(subject, [(subject.key("never"), item("1").due_at(None))]).await;
    let just_before = Timestamp::from_millis(19_999);
    for (until, expected) in [
        (at(9), vec![]),
        (at(10), vec!["early"]),
        (just_before, vec!["early"]),
        (at(20), vec!["early", "late"]),
    ] {
        let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        eventually(subject, expected, async || due_sorts(subject, until).await).await;
    }
}

pub async fn due_items_come_earliest_first_and_within_the_limit(subject: &StoreSubject) {
    let count = 100;
    let items = (0..count).map(|n| {
        let time = at(1000 + (n * 37) % count);
        (subject.key(&format!("i{n:03}")), item("1").due_at(Some(time)))
    });
    settled(subject, items).await;
    eventually(subject, 100, async || due_sorts(subject, at(5000)).await.len()).await;
    for (shard, items) in due(subject, at(5000)).await.into_iter().enumerate() {
        assert!(items.is_sorted_by_key(|item| item.at), "shard {shard}: {items:?}");
        for item in &items {
            let number: i64 = item.key.sort[1..].parse().unwrap();
            assert_eq!(item.at, at(1000 + (number * 37) % count));
        }
        let shard = u8::try_from(shard).unwrap();
        let first = subject.store.due(shard, at(5000), 2).await.unwrap();
        assert!(first.len() <= 2);
    }
}

pub async fn every_due_item_is_in_one_shard(subject: &StoreSubject) {
    let names: Vec<String> = (0..200).map(|n| format!("i{n:03}")).collect();
    settled(
        subject,
        names
            .iter()
            .map(|name| (subject.key(name), item("1").due_at(Some(at(1))))),
    )
    .await;
    eventually(subject, names, async || due_sorts(subject, at(2)).await).await;
    let used = due(subject, at(2))
        .await
        .iter()
        .filter(|items| !items.is_empty())
        .count();
    assert!(used >= 12, "200 items are in {used} of {DUE_SHARDS} shards only");
}

pub async fn a_put_moves_its_item_in_the_due_index(subject: &StoreSubject) {
    let due_item = |time| item("1").due_at(Some(at(time)));
    let names = ["moved", "done", "removed"];
    settled(subject, names.map(|name| (subject.key(name), due_item(10)))).await;
    let mut session = subject.store.session();
    session
        .put(&subject.key("moved"), due_item(30), Guard::Version(1))
        .await
        .unwrap();
    session
        .put(&subject.key("done"), item("2"), Guard::Version(1))
        .await
        .unwrap();
    session
        .delete(&subject.key("removed"), Guard::Version(1))
        .await
        .unwrap();
    session.settle().await.unwrap();
    eventually(subject, Vec::<String>::new(), async || {
        due_sorts(subject, at(29)).await
    })
    .await;
    eventually(subject, vec!["moved".to_owned()], async || {
        due_sorts(subject, at(30)).await
    })
    .await;
}

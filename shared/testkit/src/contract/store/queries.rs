//! Partitions.

use slipway_ports::{Guard, Key};

use super::{StoreSubject, item, settled, sorts};

async fn filled(subject: &StoreSubject, names: &[&str]) -> String {
    settled(
        subject,
        names
            .iter()
            .map(|name| (subject.key(name), item(format!("{name:?}")))),
    )
    .await;
    // Neighbours that must not be seen.
    for partition in ["partitio", "partition/", "partition0"] {
        settled(subject, [(Key::new(subject.name(partition), "a"), item("0"))]).await;
    }
    subject.key("").partition
}

pub async fn a_partition_is_read_in_the_order_of_its_sort_keys(subject: &StoreSubject) {
    let partition = filled(subject, &["b", "a", "s9", "s10", "B", "é", "a/1", "a0"]).await;
    let page = subject.store.query(&partition, "", None, 100).await.unwrap();
    assert_eq!(sorts(&page.items), ["B", "a", "a/1", "a0", "b", "s10", "s9", "é"]);
    assert_eq!(page.next, None);
    assert_eq!(page.items[1].body, "\"a\"");
    assert_eq!(page.items[1].version, 1);
    let nobody = subject
        .store
        .query(&subject.name("nobody"), "", None, 10)
        .await
        .unwrap();
    assert_eq!((nobody.items.len(), nobody.next), (0, None));
}

pub async fn a_prefix_narrows_a_query(subject: &StoreSubject) {
    let partition = filled(subject, &["plan", "s", "s1", "s2", "s%", "t", "r~"]).await;
    let found = async |prefix: &str| {
        let page = subject.store.query(&partition, prefix, None, 100).await.unwrap();
        assert_eq!(page.next, None);
        sorts(&page.items).join(",")
    };
    assert_eq!(found("s").await, "s,s%,s1,s2");
    assert_eq!(found("s%").await, "s%");
    assert_eq!(found("_").await, "");
    assert_eq!(found("plan").await, "plan");
    assert_eq!(found("planned").await, "");
}

pub async fn a_query_goes_on_after_a_sort_key(subject: &StoreSubject) {
    let partition = filled(subject, &["e1", "e2", "e20", "e3", "f"]).await;
    let found = async |prefix: &str, after: &str| {
        let page = subject
            .store
            .query(&partition, prefix, Some(after), 100)
            .await
            .unwrap();
        sorts(&page.items).join(",")
    };
    assert_eq!(found("e", "e2").await, "e20,e3");
    assert_eq!(found("e", "e2x").await, "e3");
    assert_eq!(found("e", "a").await, "e1,e2,e20,e3");
    assert_eq!(found("", "e3").await, "f");
    assert_eq!(found("e", "e3").await, "");
    assert_eq!(found("e", "z").await, "");
}

pub async fn pages_of_a_query_give_everything_once(subject: &StoreSubject) {
    let names: Vec<String> = (0..23).map(|n| format!("e{n:03}")).collect();
    let partition = filled(subject, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for limit in [1, 5, 22, 23, 24] {
        let mut seen = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = subject
                .store
                .query(&partition, "e", after.as_deref(), limit)
                .await
                .unwrap();
            assert!(page.items.len() <= limit);
            seen.extend(page.items.into_iter().map(|stored| stored.key.sort));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, names, "pages of {limit}");
    }
}

pub async fn a_query_sees_what_was_replaced_and_removed(subject: &StoreSubject) {
    let partition = filled(subject, &["a", "b", "c"]).await;
    let mut session = subject.store.session();
    session.delete(&subject.key("b"), Guard::Any).await.unwrap();
    session
        .put(&subject.key("c"), item("2"), Guard::Version(1))
        .await
        .unwrap();
    session.settle().await.unwrap();
    let page = subject.store.query(&partition, "", None, 10).await.unwrap();
    assert_eq!(sorts(&page.items), ["a", "c"]);
    assert_eq!((page.items[1].body.as_str(), page.items[1].version), ("2", 2));
}

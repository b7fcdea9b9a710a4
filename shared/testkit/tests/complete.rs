//! Every case of the contract is in the list that makes tests of them.

/// Names between `start` and the next of `ends` in a text.
fn names<'a>(text: &'a str, start: &str, end: char) -> Vec<&'a str> {
    text.split(start)
        .skip(1)
        .filter_map(|rest| rest.split(end).next())
        .collect()
}

#[test]
fn every_case_is_run() {
    let lists = include_str!("../src/contract/mod.rs");
    let modules = [
        include_str!("../src/contract/store/items.rs"),
        include_str!("../src/contract/store/joins.rs"),
        include_str!("../src/contract/store/lists.rs"),
        include_str!("../src/contract/store/queries.rs"),
        include_str!("../src/contract/store/sessions.rs"),
        include_str!("../src/contract/queue.rs"),
        include_str!("../src/contract/secrets.rs"),
        include_str!("../src/contract/blobs.rs"),
    ];
    for module in modules {
        let cases = names(module, "\npub async fn ", '(');
        assert!(cases.len() >= 5, "{cases:?}");
        for case in cases {
            assert!(
                lists.contains(&format!("            {case},\n")),
                "{case} is in no list"
            );
        }
    }
}

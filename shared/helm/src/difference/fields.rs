//! Which fields of two objects differ, as JSON pointers.

use serde_json::Value;

/// Pointers of all fields in which `after` differs from `before`, in order. Items of lists are told apart by their
/// `name` where they have one, and counted as they stand in `after`.
pub(crate) fn differing(before: &Value, after: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(before, after, "", &mut found);
    found
}

fn compare(before: &Value, after: &Value, at: &str, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                let below = format!("{at}/{}", escape(key));
                match new.get(key) {
                    Some(other) => compare(value, other, &below, found),
                    None => found.push(below),
                }
            }
            let added = new.keys().filter(|key| !old.contains_key(*key));
            found.extend(added.map(|key| format!("{at}/{}", escape(key))));
        }
        (Value::Array(old), Value::Array(new)) if are_named(old) && are_named(new) => {
            for (index, item) in new.iter().enumerate() {
                let below = format!("{at}/{index}");
                match old.iter().find(|other| other["name"] == item["name"]) {
                    Some(other) => compare(other, item, &below, found),
                    None => found.push(below),
                }
            }
            let gone = old
                .iter()
                .enumerate()
                .filter(|(_, item)| !new.iter().any(|other| other["name"] == item["name"]));
            found.extend(gone.map(|(index, _)| format!("{at}/{index}")));
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (value, other)) in old.iter().zip(new).enumerate() {
                compare(value, other, &format!("{at}/{index}"), found);
            }
        }
        _ if before == after => {}
        _ => found.push(at.to_owned()),
    }
}

fn are_named(items: &[Value]) -> bool {
    !items.is_empty()
        && items
            .iter()
            .all(|item| item.get("name").is_some_and(Value::is_string))
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Whether a text is a JSON pointer to something below the root.
pub(crate) fn is_pointer(text: &str) -> bool {
    text.len() > 1 && text.starts_with('/')
}

/// Whether a rule's pointer, in which `*` stands for any one part, means a field or something above it.
pub(crate) fn covers(rule: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    rule.split('/')
        .all(|wanted| parts.next().is_some_and(|part| wanted == part || wanted == "*"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_found_by_name_and_not_by_place() {
        let before = json!({"a": 1, "same": [1], "gone": 1, "env": [{"name": "x", "v": 1}, {"name": "y", "v": 2}], "l": [1, 2]});
        let after = json!({"a": 2, "same": [1], "a/b~c": 1, "env": [{"name": "z"}, {"name": "y", "v": 3}], "l": [1, 3]});
        assert_eq!(
            differing(&before, &after),
            ["/a", "/env/0", "/env/1/v", "/env/0", "/gone", "/l/1", "/a~1b~0c"]
        );
        assert_eq!(differing(&before, &before), [""; 0]);
    }

    #[test]
    fn a_rule_covers_what_is_below_it() {
        for (rule, path, is_covered) in [
            ("/spec/replicas", "/spec/replicas", true),
            ("/spec", "/spec/replicas", true),
            ("/spec/replicas", "/spec", false),
            ("/spec/replicas", "/spec/replicasMore", false),
            ("/spec/containers/*/image", "/spec/containers/3/image", true),
            ("/spec/containers/*/image", "/spec/containers/3/name", false),
            ("/spec/containers/*/image", "/spec/containers", false),
        ] {
            assert_eq!(covers(rule, path), is_covered, "{rule} {path}");
        }
    }
}

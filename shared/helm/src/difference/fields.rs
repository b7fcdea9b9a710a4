//! Which fields of two objects differ, as JSON pointers.

use serde_json::Value;

/// A field in which two objects differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Where it stands in the object after, as a JSON pointer; where it stood, if it is gone.
    pub(crate) path: String,
    /// Where it stands in the object before, if it is there.
    pub(crate) before: Option<String>,
}

/// All fields in which `after` differs from `before`, in order. Items of lists are told apart by their `name` where they
/// have one, so that one may stand elsewhere in each.
pub(crate) fn differing(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(before, after, ("", ""), &mut found);
    found
}

/// Compares what stands at these places before and after.
fn compare(before: &Value, after: &Value, (was, is): (&str, &str), found: &mut Vec<Difference>) {
    let changed = |path: String, before: Option<String>| Difference { path, before };
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                let key_there = escape(key);
                let (was, is) = (format!("{was}/{key_there}"), format!("{is}/{key_there}"));
                match new.get(key) {
                    Some(other) => compare(value, other, (&was, &is), found),
                    None => found.push(changed(is, Some(was))),
                }
            }
            let added = new.keys().filter(|key| !old.contains_key(*key));
            found.extend(added.map(|key| changed(format!("{is}/{}", escape(key)), None)));
        }
        (Value::Array(old), Value::Array(new)) if are_named(old) && are_named(new) => {
            for (index, item) in new.iter().enumerate() {
                let is = format!("{is}/{index}");
                let place = old.iter().position(|other| other["name"] == item["name"]);
                match place.and_then(|place| Some((place, old.get(place)?))) {
                    Some((place, other)) => {
                        compare(other, item, (&format!("{was}/{place}"), &is), found);
                    }
                    None => found.push(changed(is, None)),
                }
            }
            let gone = old
                .iter()
                .enumerate()
                .filter(|(_, item)| !new.iter().any(|other| other["name"] == item["name"]));
            found.extend(gone.map(|(index, _)| {
                let was = format!("{was}/{index}");
                changed(was.clone(), Some(was))
            }));
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (value, other)) in old.iter().zip(new).enumerate() {
                let (was, is) = (format!("{was}/{index}"), format!("{is}/{index}"));
                compare(value, other, (&was, &is), found);
            }
        }
        _ if before == after => {}
        _ => found.push(changed(is.to_owned(), Some(was.to_owned()))),
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
        let found = differing(&before, &after);
        let found: Vec<_> = found
            .iter()
            .map(|field| (field.path.as_str(), field.before.as_deref()))
            .collect();
        assert_eq!(
            found,
            [
                ("/a", Some("/a")),
                ("/env/0", None),
                ("/env/1/v", Some("/env/1/v")),
                ("/env/0", Some("/env/0")),
                ("/gone", Some("/gone")),
                ("/l/1", Some("/l/1")),
                ("/a~1b~0c", None)
            ]
        );
        assert_eq!(differing(&before, &before), []);
        // Where an item stands depends on those that are gone.
        let live = json!({"env": [{"name": "y", "v": 2}]});
        let found = differing(&live, &before);
        let in_list: Vec<_> = found
            .iter()
            .filter(|field| field.path.starts_with("/env"))
            .map(|field| (field.path.as_str(), field.before.as_deref()))
            .collect();
        assert_eq!(in_list, [("/env/0", None)]);
        let edited = json!({"env": [{"name": "y", "v": 9}]});
        let found = differing(&edited, &before);
        assert!(
            found.contains(&Difference {
                path: "/env/1/v".to_owned(),
                before: Some("/env/0/v".to_owned())
            }),
            "{found:?}"
        );
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

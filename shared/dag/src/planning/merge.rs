//! Values over values, as Helm merges files of values.

use serde_json::{Map, Value};

/// `over` on top of `base`: maps are merged key by key, everything else is replaced. `null` takes a key away: it
/// stays in the result as `null`, because that is how Helm is told to take away what the chart itself has there.
pub fn merge_values(base: &Map<String, Value>, over: &Map<String, Value>) -> Map<String, Value> {
    let mut merged = base.clone();
    for (key, value) in over {
        let value = match (base.get(key), value) {
            (Some(Value::Object(base)), Value::Object(over)) => merge_values(base, over).into(),
            _ => value.clone(),
        };
        merged.insert(key.clone(), value);
    }
    merged
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_merge_lists_are_replaced_and_null_takes_away() {
        let map = |value: Value| value.as_object().unwrap().clone();
        let base = map(json!({"a": {"x": 1, "y": {"z": 1}}, "list": [1, 2], "gone": {"k": 1}, "kept": "k"}));
        let over =
            map(json!({"a": {"y": {"w": 2}, "x": "text"}, "list": [3], "gone": null, "new": {"n": 1}}));
        assert_eq!(
            Value::from(merge_values(&base, &over)),
            json!({
                "a": {"x": "text", "y": {"z": 1, "w": 2}}, "list": [3], "gone": null, "kept": "k", "new": {"n": 1},
            })
        );
    }
}

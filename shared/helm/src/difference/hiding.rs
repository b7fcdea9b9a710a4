//! Blanking what came from secrets, wherever in an object it stands and however it is written there.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;
use slipway_ports::HIDDEN;

use crate::manifest::blank_secret;

/// What stands for a secret that becomes another one.
const CHANGED: &str = "(hidden, changed)";

/// Texts that nobody may be told.
#[derive(Default)]
pub(crate) struct Hidden(slipway_ports::Hidden);

impl Hidden {
    /// Hides these texts, their lines, and what they look like in other notations.
    pub(crate) fn of<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        Self(slipway_ports::Hidden::of(texts))
    }

    /// Whether a text holds something that nobody may be told.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        if self.0.is_in(text) {
            return true;
        }
        // What is packed with something else, such as `user:password`, shows when it is unpacked.
        text.len() >= 8
            && BASE64_STANDARD
                .decode(text.trim())
                .is_ok_and(|bytes| self.0.is_in(&String::from_utf8_lossy(&bytes)))
    }

    /// Whether there is nothing to hide.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A sentence without them.
    pub(crate) fn hide(&self, sentence: &str) -> String {
        self.0.hide(sentence)
    }

    /// Blanks one object.
    pub(crate) fn blank(&self, object: &Value) -> Value {
        self.pair(None, Some(object)).1.unwrap_or_default()
    }

    /// Blanks two states of one object: the data of Secrets, and what holds a secret in either state. What differs
    /// is still seen to differ.
    pub(crate) fn pair(
        &self,
        before: Option<&Value>,
        after: Option<&Value>,
    ) -> (Option<Value>, Option<Value>) {
        let (mut before, mut after) = (before.cloned(), after.cloned());
        let is_secret = |object: &Option<Value>| {
            object
                .as_ref()
                .is_some_and(|object| object.get("kind").is_some_and(|kind| kind == "Secret"))
        };
        if is_secret(&before) || is_secret(&after) {
            blank_pair(&mut before, &mut after);
        }
        if !self.0.is_empty() {
            self.blank_values(before.as_mut(), after.as_mut());
        }
        (before, after)
    }

    fn blank_values(&self, before: Option<&mut Value>, after: Option<&mut Value>) {
        match (before, after) {
            (Some(Value::Object(before)), Some(Value::Object(after))) => {
                for (key, value) in before.iter_mut() {
                    self.blank_values(Some(value), after.get_mut(key));
                }
                for (key, value) in after.iter_mut() {
                    if !before.contains_key(key) {
                        self.blank_values(None, Some(value));
                    }
                }
                self.blank_keys(before);
                self.blank_keys(after);
            }
            (Some(Value::Array(before)), Some(Value::Array(after))) => {
                let mut rest = after.iter_mut();
                for value in before.iter_mut() {
                    self.blank_values(Some(value), rest.next());
                }
                rest.for_each(|value| self.blank_values(None, Some(value)));
            }
            (Some(before), Some(after)) if is_leaf(before) && is_leaf(after) => {
                if self.holds(before) || self.holds(after) {
                    let changed = before != after;
                    *before = HIDDEN.into();
                    *after = if changed { CHANGED } else { HIDDEN }.into();
                }
            }
            (before, after) => {
                for value in [before, after].into_iter().flatten() {
                    self.blank_alone(value);
                }
            }
        }
    }

    fn blank_alone(&self, value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.values_mut().for_each(|value| self.blank_alone(value));
                self.blank_keys(map);
            }
            Value::Array(items) => items.iter_mut().for_each(|value| self.blank_alone(value)),
            leaf if self.holds(leaf) => *leaf = HIDDEN.into(),
            _ => {}
        }
    }

    fn blank_keys(&self, map: &mut slipway_model::JsonMap) {
        let secret: Vec<String> = map.keys().filter(|key| self.is_in(key)).cloned().collect();
        for (number, key) in secret.into_iter().enumerate() {
            if let Some(value) = map.remove(&key) {
                map.insert(format!("{HIDDEN}{}", " ".repeat(number)), value);
            }
        }
    }

    fn holds(&self, leaf: &Value) -> bool {
        match leaf {
            Value::String(text) => self.is_in(text),
            // Written without quotes, a secret of digits is a number.
            Value::Number(number) => self.is_in(&number.to_string()),
            _ => false,
        }
    }
}

fn is_leaf(value: &Value) -> bool {
    !value.is_object() && !value.is_array()
}

/// Blanks the data of two states of a Secret, key by key.
fn blank_pair(before: &mut Option<Value>, after: &mut Option<Value>) {
    let was = (before.clone(), after.clone());
    for object in [&mut *before, &mut *after].into_iter().flatten() {
        *object = blank_secret(object.take());
    }
    for field in ["data", "stringData"] {
        let old = was.0.as_ref().and_then(|object| object.get(field)?.as_object());
        let new = was.1.as_ref().and_then(|object| object.get(field)?.as_object());
        let (Some(old), Some(new)) = (old, new) else {
            continue;
        };
        let shown = after
            .as_mut()
            .and_then(|object| object.get_mut(field)?.as_object_mut());
        for (key, value) in shown.into_iter().flatten() {
            if old.get(key).is_some_and(|old| Some(old) != new.get(key)) {
                *value = CHANGED.into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_notation_of_a_secret_gets_through() {
        let secrets = [
            "hunter/22",
            "1234",
            "-----BEGIN KEY-----\nabcdefghijklmnop\n-----END KEY-----\n",
        ];
        let hidden = Hidden::of(secrets);
        let packed = BASE64_STANDARD.encode("admin:hunter/22");
        let object = json!({
            "env": [{"name": "P", "value": "hunter/22"}, {"name": "U", "value": "x://u:hunter%2F22@h"}],
            "auth": packed, "alone": BASE64_STANDARD.encode("hunter/22"), "pin": 1234, "hunter/22": "key",
            "file": "server:\n    abcdefghijklmnop\n", "name": "hunter",
        });
        let shown = hidden.blank(&object);
        let text = shown.to_string();
        for part in [
            "hunter/22",
            "hunter%2F22",
            packed.as_str(),
            "1234",
            "abcdefghijklmnop",
        ] {
            assert!(!text.contains(part), "{part}: {text}");
        }
        assert_eq!(shown["name"], "hunter", "what is no secret stays");
        assert_eq!(shown["env"][0], json!({"name": "P", "value": HIDDEN}));
    }

    #[test]
    fn a_short_secret_is_hidden_where_it_stands_alone() {
        let hidden = Hidden::of(["abc"]);
        assert_eq!(hidden.blank(&json!(["abc", "abcd"])), json!([HIDDEN, "abcd"]));
    }

    #[test]
    fn a_secret_that_becomes_another_is_seen_to_change() {
        let hidden = Hidden::of(["new-password"]);
        let pair = hidden.pair(
            Some(&json!({"env": "old-password", "image": "x:1"})),
            Some(&json!({"env": "new-password", "image": "x:2"})),
        );
        assert_eq!(pair.0, Some(json!({"env": HIDDEN, "image": "x:1"})));
        assert_eq!(pair.1, Some(json!({"env": CHANGED, "image": "x:2"})));
    }

    #[test]
    fn the_data_of_a_secret_is_blanked_without_any_hint() {
        let secret = |one: &str| json!({"kind": "Secret", "data": {"a": one, "b": "c2FtZQ=="}});
        let (before, after) = Hidden::default().pair(Some(&secret("b25l")), Some(&secret("dHdv")));
        assert_eq!(before.unwrap()["data"], json!({"a": HIDDEN, "b": HIDDEN}));
        assert_eq!(after.unwrap()["data"], json!({"a": CHANGED, "b": HIDDEN}));
    }
}

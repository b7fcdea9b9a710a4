//! YAML and JSON texts as JSON values, within limits.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::MergeKeyPolicy;

/// The longest text of a template, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 1 << 20;

/// The longest text of a DAG, in bytes.
pub const MAX_DAG_BYTES: usize = 4 << 20;

/// How deep lists and maps may nest.
pub const MAX_DEPTH: usize = 64;

/// What is said of aliases that explode.
const ALIASES: &str = "its aliases expand to more than is allowed";

/// A text that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It is too long.
    #[error("the text is {length} bytes long; at most {limit} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// It is not YAML or JSON, or it goes beyond what is allowed: nesting, expanded aliases, a key twice.
    #[error("line {line}, column {column}: {message}")]
    Text {
        /// From 1.
        line: u64,
        /// From 1.
        column: u64,
        /// What is wrong.
        message: String,
    },
}

/// Reads one YAML or JSON document of at most `limit` bytes.
///
/// YAML is read by version 1.2: `yes` and `on` are text. Aliases and merge keys work as long as what they expand to
/// stays within four times `limit`.
///
/// # Errors
/// [`ParseError`] with the place, also for a key that stands twice in one map, for tags, for more than one
/// document, and for more than [`MAX_DEPTH`] levels.
pub fn parse(text: &str, limit: usize) -> Result<Value, ParseError> {
    if text.len() > limit {
        return Err(ParseError::TooLong {
            length: text.len(),
            limit,
        });
    }
    let looks_like_json = text.trim_start().starts_with(['{', '[', '"']);
    let json = looks_like_json.then(|| parse_json(text, limit));
    if let Some(Ok(value)) = json {
        return Ok(value);
    }
    // What begins like JSON may still be YAML in flow style: the reader that got further is the one to believe.
    parse_yaml(text, limit).map_err(|yaml| match json {
        Some(Err(json)) if place(&json) > place(&yaml) => json,
        _ => yaml,
    })
}

fn place(error: &ParseError) -> (u64, u64) {
    match error {
        ParseError::TooLong { .. } => (0, 0),
        ParseError::Text { line, column, .. } => (*line, *column),
    }
}

fn parse_json(text: &str, limit: usize) -> Result<Value, ParseError> {
    let budget = Budget::new(limit);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Item {
        budget: &budget,
        depth: 0,
    }
    .deserialize(&mut deserializer);
    value
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| {
            let message = error.to_string();
            let message = message
                .rfind(" at line ")
                .map_or(message.as_str(), |end| &message[..end]);
            ParseError::Text {
                line: error.line() as u64,
                column: error.column().max(1) as u64,
                message: message.to_owned(),
            }
        })
}

fn parse_yaml(text: &str, limit: usize) -> Result<Value, ParseError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            // Two more than we allow, so that what is too deep is refused below, in our words.
            max_depth: MAX_DEPTH + 2,
            max_documents: 1,
            max_aliases: 1000,
            max_anchors: 1000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
        },
        merge_keys: MergeKeyPolicy::Merge,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    let budget = Budget::new(limit);
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        Item {
            budget: &budget,
            depth: 0,
        }
        .deserialize(deserializer)
    })
    .map_err(|error| {
        let location = error.location();
        ParseError::Text {
            line: location.map_or(1, |location| location.line()),
            column: location.map_or(1, |location| location.column()),
            message: reason(&error),
        }
    })
}

/// What is wrong, without the place; limits in our words.
fn reason(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error as Yaml;
    match error {
        Yaml::AliasError { error, .. } | Yaml::WithSnippet { error, .. } => reason(error),
        Yaml::AliasReplayLimitExceeded { .. }
        | Yaml::AliasExpansionLimitExceeded { .. }
        | Yaml::AliasReplayStackDepthExceeded { .. }
        | Yaml::AliasReplayCounterOverflow { .. } => ALIASES.to_owned(),
        other => {
            let message = other.to_string();
            let end = message.rfind(" at line ").unwrap_or(message.len());
            message[..end].to_owned()
        }
    }
}

/// What the document may still expand to.
struct Budget {
    left: Cell<usize>,
}

impl Budget {
    fn new(limit: usize) -> Self {
        Self {
            left: Cell::new(limit.saturating_mul(4)),
        }
    }

    fn take<E: Error>(&self, bytes: usize) -> Result<(), E> {
        // Every item costs something, or empty ones would be free.
        match self.left.get().checked_sub(bytes + 1) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(E::custom(ALIASES)),
        }
    }
}

/// One value, and how deep it stands.
#[derive(Clone, Copy)]
struct Item<'b> {
    budget: &'b Budget,
    depth: usize,
}

impl Item<'_> {
    fn below<E: Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!(
                "lists and maps nest more than {MAX_DEPTH} deep"
            )));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }
}

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has too")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.budget.take(1)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.budget.take(8)?;
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.budget.take(8)?;
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.budget.take(8)?;
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("infinity and not-a-number have no place in JSON; write it as text"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.budget.take(text.len())?;
        Ok(Value::String(text.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.budget.take(1)?;
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.budget.take(2)?;
        let item = self.below()?;
        let mut list = Vec::new();
        while let Some(value) = items.next_element_seed(item)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        self.budget.take(2)?;
        let item = self.below()?;
        let mut map = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            self.budget.take(key.len())?;
            let value = members.next_value_seed(item)?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key '{key}' stands twice")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Value, ParseError> {
        parse(text, MAX_TEMPLATE_BYTES)
    }

    fn refusal(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn yaml_and_json_give_the_same_value() {
        let expected = json!({"a": [1, 2.5, true, null, "yes", "1.0"], "b": {"8080": "x"}});
        assert_eq!(
            read("a: [1, 2.5, true, ~, yes, \"1.0\"]\nb: {8080: x}\n").unwrap(),
            expected
        );
        assert_eq!(read(&expected.to_string()).unwrap(), expected);
        assert_eq!(
            read("{a: [1, 2.5, true, null, yes, '1.0'], b: {8080: x}}").unwrap(),
            expected
        );
        assert_eq!(read("# nothing\n").unwrap(), Value::Null);
    }

    #[test]
    fn aliases_and_merge_keys_work() {
        assert_eq!(
            read("base: &base {a: 1}\nuse: {<<: *base, b: *base}").unwrap(),
            json!({"base": {"a": 1}, "use": {"a": 1, "b": {"a": 1}}})
        );
    }

    #[test]
    fn errors_say_where() {
        for (text, line, word) in [
            ("a: 1\nb: [\n", 2, "bracket"),
            ("a: 1\na: 2\n", 2, "duplicate"),
            ("{\"a\": 1,\n \"a\": 2}", 2, "a"),
            ("{\"a\": 1,\n \"b\": [1 }", 2, ""),
            ("a: !python/object x", 1, ""),
            ("a: 1\n---\nb: 2\n", 2, ""),
            ("{\"a\": 1} x", 1, ""),
        ] {
            let error = refusal(text);
            assert!(
                error.starts_with(&format!("line {line}, column ")),
                "{text:?}: {error}"
            );
            assert!(error.to_lowercase().contains(word), "{text:?}: {error}");
        }
    }

    #[test]
    fn limits_hold() {
        let nested = |depth: usize, open: &str, close: &str| open.repeat(depth) + &close.repeat(depth);
        assert!(read(&nested(64, "[", "]")).is_ok());
        for deep in [65, 66, 70] {
            for text in [nested(deep, "[", "]"), nested(deep, "- ", "")] {
                let error = refusal(&text);
                assert!(error.contains("more than 64 deep"), "{deep}: {error}");
            }
        }
        assert!(read(&nested(20_000, "[", "]")).is_err());
        assert!(read(&nested(20_000, "- ", "")).is_err());
        let deep: String = (0..65)
            .map(|level| format!("{}a:\n", " ".repeat(level)))
            .collect();
        assert!(read(&deep).is_err());

        let long = format!("a: {}", "x".repeat(MAX_TEMPLATE_BYTES));
        assert!(matches!(read(&long), Err(ParseError::TooLong { .. })));
    }

    #[test]
    fn aliases_do_not_explode() {
        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            laughs.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        let error = refusal(&laughs);
        assert!(error.contains("expand"), "{error}");
        let heavy = format!(
            "a: &a {}\nb: [{}]",
            "x".repeat(100_000),
            vec!["*a"; 500].join(", ")
        );
        let error = refusal(&heavy);
        assert!(error.contains("expand"), "{error}");
    }
}

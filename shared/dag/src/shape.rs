//! The shapes of documents: every wrong type, missing field and unknown field at once.
//!
//! [`conform`] also repairs: what is wrong is taken out or replaced, so that the document can be read into its type
//! and checked further. [`Faults`] keeps the places, so that no second error is made of the repair.

use serde_json::{Map, Value, json};
use slipway_expr::{Path, PathSegment};

use crate::{faults::Faults, suggest::suggest};

/// What a value must look like.
#[derive(Debug)]
pub(crate) enum Shape {
    Any,
    Text,
    Boolean,
    Integer {
        min: u64,
        max: u64,
    },
    Number,
    /// A Kubernetes quantity.
    Quantity,
    /// A semantic version.
    Version,
    /// One of these words.
    Choice(&'static [&'static str]),
    List(&'static Shape),
    /// An object with any keys.
    Map(&'static Shape),
    /// An object with these keys.
    Fields(&'static [Field]),
    /// An object whose fields depend on the word under a key.
    Tagged(&'static str, &'static [(&'static str, &'static [Field])]),
    /// A text, or a list of texts.
    TextOrList,
}

/// A key of an object.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    pub(crate) shape: &'static Shape,
}

/// A field that must be there.
pub(crate) const fn required(name: &'static str, shape: &'static Shape) -> Field {
    Field {
        name,
        required: true,
        shape,
    }
}

/// A field that may be absent or null.
pub(crate) const fn optional(name: &'static str, shape: &'static Shape) -> Field {
    Field {
        name,
        required: false,
        shape,
    }
}

fn print(place: &[PathSegment]) -> String {
    place
        .iter()
        .fold(Path::root(), |path, segment| match segment {
            PathSegment::Key(key) => path.key(key.clone()),
            PathSegment::Index(index) => path.index(*index),
        })
        .to_string()
}

/// Checks `value` against `shape` and repairs it, so that it has that shape afterwards.
pub(crate) fn conform(value: &mut Value, shape: &Shape, faults: &mut Faults) {
    if !fits(value, shape, &mut Vec::new(), faults) {
        *value = placeholder(shape);
    }
}

/// Whether `value` is usable, perhaps after repairs inside it; if not, the error is reported.
fn fits(value: &mut Value, shape: &Shape, place: &mut Vec<PathSegment>, faults: &mut Faults) -> bool {
    let right = match (shape, &mut *value) {
        (Shape::Any, _)
        | (Shape::Text | Shape::TextOrList, Value::String(_))
        | (Shape::Boolean, Value::Bool(_))
        | (Shape::Number, Value::Number(_)) => true,
        (Shape::Integer { min, max }, Value::Number(number)) => number
            .as_u64()
            .is_some_and(|number| (*min..=*max).contains(&number)),
        (Shape::Quantity, Value::String(_) | Value::Number(_)) => {
            match serde_json::from_value::<slipway_model::Quantity>(value.clone()) {
                Ok(_) => true,
                Err(error) => {
                    faults.repair(print(place), error.to_string());
                    return false;
                }
            }
        }
        (Shape::Version, Value::String(text)) => semver::Version::parse(text).is_ok(),
        (Shape::Choice(words), Value::String(word)) => words.contains(&word.as_str()),
        (Shape::List(item), Value::Array(items)) => {
            list(items, item, place, faults);
            true
        }
        (Shape::TextOrList, Value::Array(items)) => {
            list(items, &Shape::Text, place, faults);
            true
        }
        (Shape::Map(member), Value::Object(members)) => {
            members.retain(|key, value| {
                place.push(PathSegment::Key(key.clone()));
                let fits = fits(value, member, place, faults);
                place.pop();
                fits
            });
            true
        }
        (Shape::Fields(known), Value::Object(members)) => {
            fields(members, known.iter(), place, faults);
            true
        }
        (Shape::Tagged(tag, variants), Value::Object(members)) => {
            return tagged(members, tag, variants, place, faults);
        }
        _ => false,
    };
    if !right {
        faults.repair(
            print(place),
            format!("expected {}, found {}", describe(shape), found(value)),
        );
    }
    right
}

fn list(items: &mut [Value], shape: &Shape, place: &mut Vec<PathSegment>, faults: &mut Faults) {
    for (index, item) in items.iter_mut().enumerate() {
        place.push(PathSegment::Index(index));
        if !fits(item, shape, place, faults) {
            *item = placeholder(shape);
        }
        place.pop();
    }
}

fn fields<'f>(
    members: &mut Map<String, Value>,
    known: impl Iterator<Item = &'f Field> + Clone,
    place: &mut Vec<PathSegment>,
    faults: &mut Faults,
) {
    members.retain(|key, _| {
        let is_known = known.clone().any(|field| field.name == key);
        if !is_known {
            let hint = match faults.is_full() {
                true => String::new(),
                false => suggest(key, known.clone().map(|field| field.name)),
            };
            place.push(PathSegment::Key(key.clone()));
            faults.repair(print(place), format!("unknown field; {hint}"));
            place.pop();
        }
        is_known
    });
    for field in known {
        place.push(PathSegment::Key(field.name.to_owned()));
        match members.get_mut(field.name) {
            None | Some(Value::Null) if field.required && !matches!(field.shape, Shape::Any) => {
                faults.repair(
                    print(place),
                    format!("is missing; expected {}", describe(field.shape)),
                );
                members.insert(field.name.to_owned(), placeholder(field.shape));
            }
            Some(Value::Null) if !matches!(field.shape, Shape::Any) => {
                members.remove(field.name);
            }
            None => {}
            Some(value) => {
                let fits = fits(value, field.shape, place, faults);
                if !fits && field.required {
                    *value = placeholder(field.shape);
                } else if !fits {
                    members.remove(field.name);
                }
            }
        }
        place.pop();
    }
}

fn tagged(
    members: &mut Map<String, Value>,
    tag: &'static str,
    variants: &[(&'static str, &'static [Field])],
    place: &mut Vec<PathSegment>,
    faults: &mut Faults,
) -> bool {
    let known = members
        .get(tag)
        .and_then(Value::as_str)
        .and_then(|word| variants.iter().find(|(name, _)| *name == word));
    let Some((_, known)) = known else {
        let words = variants
            .iter()
            .map(|(word, _)| *word)
            .collect::<Vec<_>>()
            .join(", ");
        place.push(PathSegment::Key(tag.to_owned()));
        let message = match members.get(tag) {
            None | Some(Value::Null) => format!("is missing; expected one of {words}"),
            Some(value) => format!("expected one of {words}, found {}", found(value)),
        };
        faults.repair(print(place), message);
        place.pop();
        faults.replace(print(place));
        return false;
    };
    let word = [Field {
        name: tag,
        required: true,
        shape: &Shape::Text,
    }];
    fields(members, word.iter().chain(known.iter()), place, faults);
    true
}

/// Something of that shape, to stand where nothing usable does.
fn placeholder(shape: &Shape) -> Value {
    match shape {
        Shape::Any => Value::Null,
        Shape::Text => json!(""),
        Shape::Boolean => json!(false),
        Shape::Integer { min, .. } => json!(min),
        Shape::Number => json!(0),
        Shape::Quantity => json!("0"),
        Shape::Version => json!("0.0.0"),
        Shape::Choice(words) => json!(words.first()),
        Shape::List(_) | Shape::TextOrList => json!([]),
        Shape::Map(_) => json!({}),
        Shape::Fields(fields) => required_only(fields.iter()),
        Shape::Tagged(tag, variants) => {
            let (word, fields) = variants.first().copied().unwrap_or_default();
            let mut members = required_only(fields.iter());
            members[*tag] = json!(word);
            members
        }
    }
}

fn required_only<'f>(fields: impl Iterator<Item = &'f Field>) -> Value {
    fields
        .filter(|field| field.required)
        .map(|field| (field.name.to_owned(), placeholder(field.shape)))
        .collect::<Map<_, _>>()
        .into()
}

fn describe(shape: &Shape) -> String {
    match shape {
        Shape::Any => "a value".to_owned(),
        Shape::Text => "a text".to_owned(),
        Shape::Boolean => "true or false".to_owned(),
        Shape::Integer { min, max } => format!("a whole number from {min} to {max}"),
        Shape::Number => "a number".to_owned(),
        Shape::Quantity => "a quantity, such as 4, 500m or 16Gi".to_owned(),
        Shape::Version => "a semantic version as text, such as \"1.0.0\"".to_owned(),
        Shape::Choice(words) => format!("one of {}", words.join(", ")),
        Shape::List(item) => match item {
            Shape::Text => "a list of texts".to_owned(),
            Shape::Fields(_) => "a list of objects".to_owned(),
            _ => "a list".to_owned(),
        },
        Shape::Map(_) | Shape::Fields(_) | Shape::Tagged(..) => "an object".to_owned(),
        Shape::TextOrList => "a text or a list of texts".to_owned(),
    }
}

/// What a value is, for an error: short values as they are, of long ones the type.
pub(crate) fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) => format!("{value}"),
        Value::Number(_) => format!("the number {value}"),
        Value::String(text) if text.chars().count() <= 60 => format!("the text '{text}'"),
        Value::String(_) => "a long text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape::Fields(&[
        required("name", &Shape::Text),
        optional("count", &Shape::Integer { min: 1, max: 9 }),
        optional(
            "items",
            &Shape::List(&Shape::Tagged(
                "from",
                &[
                    ("one", &[required("key", &Shape::Text)]),
                    ("two", &[optional("on", &Shape::Boolean)]),
                ],
            )),
        ),
    ]);

    #[test]
    fn everything_wrong_is_reported_and_the_rest_is_kept() {
        let mut value = json!({
            "nmae": "x", "count": 10,
            "items": [{"from": "two", "on": "yes"}, {"from": "three"}, 7, {"from": "one", "key": "k"}],
        });
        let mut faults = Faults::default();
        conform(&mut value, &SHAPE, &mut faults);
        faults.add("items[1].key", "hidden, because the item was repaired");
        faults.add("items[3].key", "kept");
        let errors: Vec<String> = faults.into_errors().iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "nmae: unknown field; did you mean 'name'?",
                "name: is missing; expected a text",
                "count: expected a whole number from 1 to 9, found the number 10",
                "items[0].on: expected true or false, found the text 'yes'",
                "items[1].from: expected one of one, two, found the text 'three'",
                "items[2]: expected an object, found the number 7",
                "items[3].key: kept",
            ]
        );
        assert_eq!(value["items"][3], json!({"from": "one", "key": "k"}));
        assert_eq!(value["name"], json!(""));
    }
}

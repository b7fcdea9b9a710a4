//! Values, which borrow from the object wherever they can.

use std::{cmp::Ordering, ops::Deref, rc::Rc};

use serde_json::Value as Json;

use crate::{CelError, error};

/// A text of the object, or one that was made.
#[derive(Debug, Clone)]
pub(crate) enum Text<'o> {
    Borrowed(&'o str),
    Made(Rc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Made(text) => text,
        }
    }
}

impl From<&str> for Text<'_> {
    fn from(text: &str) -> Self {
        Self::Made(text.into())
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self::Made(text.into())
    }
}

/// A value.
#[derive(Debug, Clone)]
pub(crate) enum Value<'o> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'o>),
    List(Rc<Vec<Value<'o>>>),
    Map(Rc<Vec<(Value<'o>, Value<'o>)>>),
    /// A list or map of the object.
    Field(&'o Json),
    Optional(Option<Rc<Value<'o>>>),
}

impl<'o> Value<'o> {
    pub(crate) fn of(json: &'o Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(truth) => Self::Bool(*truth),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Self::Int(number),
                (None, Some(number)) => Self::Uint(number),
                _ => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::Text(Text::Borrowed(text)),
            Json::Array(_) | Json::Object(_) => Self::Field(json),
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::List(_) | Self::Field(Json::Array(_)) => "list",
            Self::Map(_) | Self::Field(_) => "map",
            Self::Optional(_) => "optional",
        }
    }

    /// How many entries it has, or characters; nothing for what has no size.
    pub(crate) fn size(&self) -> Option<usize> {
        match self {
            Self::Text(text) => Some(text.chars().count()),
            Self::List(items) => Some(items.len()),
            Self::Map(entries) => Some(entries.len()),
            Self::Field(Json::Array(items)) => Some(items.len()),
            Self::Field(Json::Object(entries)) => Some(entries.len()),
            _ => None,
        }
    }

    /// The items of a list, or the keys of a map, one after the other: nothing is copied that is not asked for.
    pub(crate) fn items(&self) -> Option<Box<dyn Iterator<Item = Self> + '_>> {
        match self {
            Self::List(items) => Some(Box::new(items.iter().cloned())),
            Self::Map(entries) => Some(Box::new(entries.iter().map(|(key, _)| key.clone()))),
            Self::Field(Json::Array(items)) => Some(Box::new(items.iter().map(Self::of))),
            Self::Field(Json::Object(entries)) => Some(Box::new(
                entries.keys().map(|key| Self::Text(Text::Borrowed(key))),
            )),
            _ => None,
        }
    }

    /// The entry of a map.
    pub(crate) fn entry(&self, key: &Value<'o>) -> Result<Option<Value<'o>>, CelError> {
        match (self, key) {
            (Self::Field(Json::Object(entries)), Self::Text(key)) => Ok(entries.get(&**key).map(Self::of)),
            (Self::Field(Json::Object(_)), _) => Ok(None),
            (Self::Map(entries), key) => Ok(entries
                .iter()
                .find(|(candidate, _)| candidate.order(key) == Some(Ordering::Equal))
                .map(|(_, value)| value.clone())),
            _ => error(format!("a {} has no fields", self.kind())),
        }
    }

    /// The item of a list.
    pub(crate) fn item(&self, index: usize) -> Option<Value<'o>> {
        match self {
            Self::List(items) => items.get(index).cloned(),
            Self::Field(Json::Array(items)) => items.get(index).map(Self::of),
            _ => None,
        }
    }

    /// How scalars of one kind compare; numbers of all kinds do.
    pub(crate) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(left), Self::Bool(right)) => Some(left.cmp(right)),
            (Self::Text(left), Self::Text(right)) => Some(left.as_bytes().cmp(right.as_bytes())),
            (Self::Double(left), Self::Double(right)) => left.partial_cmp(right),
            (Self::Double(left), right) => right.whole().and_then(|right| order_double(*left, right)),
            (left, Self::Double(right)) => left
                .whole()
                .and_then(|left| order_double(*right, left))
                .map(Ordering::reverse),
            (left, right) => Some(left.whole()?.cmp(&right.whole()?)),
        }
    }

    fn whole(&self) -> Option<i128> {
        match self {
            Self::Int(number) => Some(i128::from(*number)),
            Self::Uint(number) => Some(i128::from(*number)),
            _ => None,
        }
    }
}

fn order_double(left: f64, right: i128) -> Option<Ordering> {
    if left.is_nan() {
        return None;
    }
    // Both a 64-bit number and whatever a float beyond it is fit an i128, rounded towards zero.
    let whole = left.trunc() as i128;
    Some(
        whole
            .cmp(&right)
            .then_with(|| left.fract().partial_cmp(&0.0).unwrap_or(Ordering::Equal)),
    )
}

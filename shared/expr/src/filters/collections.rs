//! Filters on lists, maps and the characters of a text.

use std::cmp::Ordering;

use serde_json::Value;

use super::{Call, Filter};
use crate::error::RenderError;
use crate::evaluate::Slot;
use crate::meter::size;
use crate::operators::{Numeric, equal, order, truthy, write_text};

/// `first`, `last`, `min`, `max`. Of an empty list or text there is none.
pub(super) fn pick<'v>(
    call: &mut Call<'_>,
    filter: Filter,
    input: &Slot<'v>,
) -> Result<Slot<'v>, RenderError> {
    let value = input.value()?;
    call.meter.look(size(value))?;
    let empty = || call.unreadable("something that is not empty");
    let chosen = match (filter, value) {
        (Filter::First, Value::String(text)) => {
            return Ok(character(text.chars().next().ok_or_else(empty)?));
        }
        (Filter::Last, Value::String(text)) => {
            return Ok(character(text.chars().next_back().ok_or_else(empty)?));
        }
        (Filter::First, Value::Array(items)) => items.first(),
        (Filter::Last, Value::Array(items)) => items.last(),
        (_, Value::Array(items)) => {
            let wanted = if filter == Filter::Min {
                Ordering::Less
            } else {
                Ordering::Greater
            };
            let mut chosen: Option<&Value> = None;
            for item in items {
                chosen = match chosen {
                    Some(best) if order(call.name, item, best)? != wanted => Some(best),
                    _ => Some(item),
                };
            }
            chosen
        }
        (_, other) => return Err(call.wrong_type(other, "a list")),
    };
    let chosen = chosen.ok_or_else(empty)?;
    call.meter.copy(chosen).map(Slot::Owned)
}

fn character<'v>(character: char) -> Slot<'v> {
    Slot::Owned(Value::String(character.to_string()))
}

/// Filters that look at every item.
pub(super) fn whole(
    call: &mut Call<'_>,
    filter: Filter,
    value: &Value,
    argument: Option<&Value>,
) -> Result<Value, RenderError> {
    call.meter.take(size(value))?;
    match (filter, value) {
        (Filter::Length, Value::String(text)) => Ok(text.chars().count().into()),
        (Filter::Length, Value::Array(items)) => Ok(items.len().into()),
        (Filter::Length, Value::Object(members)) => Ok(members.len().into()),
        (Filter::Reverse, Value::String(text)) => Ok(text.chars().rev().collect::<String>().into()),
        (Filter::List, Value::String(text)) => {
            call.meter
                .take(text.len().saturating_mul(2 * size_of::<Value>()))?;
            Ok(text
                .chars()
                .map(|character| character.to_string())
                .collect::<Vec<_>>()
                .into())
        }
        (Filter::List, Value::Object(members)) => Ok(members.keys().cloned().collect::<Vec<_>>().into()),
        (Filter::List, Value::Array(items)) => Ok(items.clone().into()),
        (Filter::Reverse, Value::Array(items)) => Ok(items.iter().rev().cloned().collect()),
        (Filter::Sort, Value::Array(items)) => sort(call, items, argument.is_some_and(truthy)),
        (Filter::Sum, Value::Array(items)) => sum(call, items),
        (Filter::Unique, Value::Array(items)) => unique(call, items),
        (Filter::Length | Filter::Reverse | Filter::List, other) => {
            Err(call.wrong_type(other, "a text, a list or a map"))
        }
        (_, other) => Err(call.wrong_type(other, "a list")),
    }
}

fn sort(call: &mut Call<'_>, items: &[Value], reverse: bool) -> Result<Value, RenderError> {
    // The order is checked for every pair of neighbours first, because a comparison inside the sort cannot fail.
    for pair in items.windows(2) {
        order(call.name, &pair[0], &pair[1])?;
    }
    let depth = u64::from(items.len().max(2).ilog2()) as usize;
    call.meter
        .look(items.iter().map(size).sum::<usize>().saturating_mul(depth))?;
    let mut sorted = items.to_vec();
    sorted.sort_by(|left, right| {
        let ascending = order(call.name, left, right).unwrap_or(Ordering::Equal);
        if reverse { ascending.reverse() } else { ascending }
    });
    Ok(Value::Array(sorted))
}

fn sum(call: &mut Call<'_>, items: &[Value]) -> Result<Value, RenderError> {
    let mut total = Numeric::Integer(0);
    for item in items {
        let next = Numeric::of(item).ok_or_else(|| call.wrong_type(item, "a list of numbers"))?;
        total = match (total, next) {
            (Numeric::Integer(total), Numeric::Integer(next)) => Numeric::Integer(total + next),
            (total, next) => Numeric::Float(total.as_float() + next.as_float()),
        };
    }
    total.into_value(call.name)
}

fn unique(call: &mut Call<'_>, items: &[Value]) -> Result<Value, RenderError> {
    let mut kept: Vec<Value> = Vec::new();
    for item in items {
        // Each item is compared with all that were kept so far.
        call.meter.look(256 + size(item).saturating_mul(kept.len()))?;
        if !kept.iter().any(|other| equal(other, item)) {
            kept.push(item.clone());
        }
    }
    Ok(Value::Array(kept))
}

pub(super) fn join(
    call: &mut Call<'_>,
    value: &Value,
    separator: Option<&Value>,
) -> Result<Value, RenderError> {
    let separator = separator.map_or(Ok(""), |separator| call.text(separator))?;
    let items = value.as_array().ok_or_else(|| call.wrong_type(value, "a list"))?;
    let mut text = String::new();
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            call.meter.take(separator.len())?;
            text.push_str(separator);
        }
        call.meter.step()?;
        write_text(call.meter, item, &mut text)?;
    }
    Ok(Value::String(text))
}

pub(super) fn split(
    call: &mut Call<'_>,
    value: &Value,
    separator: Option<&Value>,
) -> Result<Value, RenderError> {
    let text = call.text(value)?;
    let parts: Vec<&str> = match separator.map(|separator| call.text(separator)).transpose()? {
        None => text.split_whitespace().collect(),
        Some("") => return Err(call.unreadable("a separator that is not empty")),
        Some(separator) => text.split(separator).collect(),
    };
    call.meter
        .take(text.len() + parts.len().saturating_mul(2 * size_of::<Value>()))?;
    Ok(parts.into())
}

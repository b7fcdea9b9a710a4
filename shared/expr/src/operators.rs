//! The operators, on JSON values. Integers are 64 bits wide, signed or unsigned; whatever does not fit is an
//! error, never a rounded value.

use std::cmp::Ordering;
use std::fmt::Write;

use serde_json::{Number, Value};

use crate::error::RenderError;
use crate::meter::{Meter, size};
use crate::node::{Arithmetic, Comparison};

/// The type of a value, for errors.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "none",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// What counts as true: everything but none, false, zero, and what is empty.
pub(crate) fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64().is_none_or(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// A number on which arithmetic is done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Numeric {
    Integer(i128),
    Float(f64),
}

impl Numeric {
    pub(crate) fn of(value: &Value) -> Option<Numeric> {
        let number = value.as_number()?;
        if let Some(integer) = number.as_i64() {
            Some(Numeric::Integer(integer.into()))
        } else if let Some(integer) = number.as_u64() {
            Some(Numeric::Integer(integer.into()))
        } else {
            number.as_f64().map(Numeric::Float)
        }
    }

    pub(crate) fn as_float(self) -> f64 {
        match self {
            Numeric::Integer(integer) => integer as f64,
            Numeric::Float(float) => float,
        }
    }

    pub(crate) fn into_value(self, operation: &'static str) -> Result<Value, RenderError> {
        let number = match self {
            Numeric::Integer(integer) => i64::try_from(integer)
                .map(Number::from)
                .or_else(|_| u64::try_from(integer).map(Number::from))
                .ok(),
            Numeric::Float(float) => Number::from_f64(float),
        };
        number.map(Value::Number).ok_or(RenderError::Number { operation })
    }

    pub(crate) fn compare(self, other: Numeric) -> Option<Ordering> {
        match (self, other) {
            (Numeric::Integer(left), Numeric::Integer(right)) => Some(left.cmp(&right)),
            (left, right) => left.as_float().partial_cmp(&right.as_float()),
        }
    }
}

pub(crate) fn negate(value: &Value) -> Result<Value, RenderError> {
    let negated = match Numeric::of(value) {
        Some(Numeric::Integer(integer)) => Numeric::Integer(-integer),
        Some(Numeric::Float(float)) => Numeric::Float(-float),
        None => {
            return Err(RenderError::Type {
                operation: "`-`",
                found: type_name(value).to_owned(),
                expected: "a number",
            });
        }
    };
    negated.into_value("`-`")
}

pub(crate) fn arithmetic(
    meter: &mut Meter,
    operator: Arithmetic,
    left: &Value,
    right: &Value,
) -> Result<Value, RenderError> {
    let symbol = operator.symbol();
    match (operator, left, right) {
        (Arithmetic::Concatenate, _, _) => {
            let mut text = String::new();
            write_text(meter, left, &mut text)?;
            write_text(meter, right, &mut text)?;
            Ok(Value::String(text))
        }
        (Arithmetic::Add, Value::String(left), Value::String(right)) => {
            meter.take(left.len() + right.len())?;
            Ok(Value::String([left.as_str(), right].concat()))
        }
        (Arithmetic::Add, Value::Array(first), Value::Array(second)) => {
            meter.take(size(left) + size(right))?;
            Ok(Value::Array([first.as_slice(), second].concat()))
        }
        (Arithmetic::Multiply, Value::String(text), Value::Number(times))
        | (Arithmetic::Multiply, Value::Number(times), Value::String(text)) => {
            let times = repetitions(meter, times, text.len())?;
            Ok(Value::String(text.repeat(times)))
        }
        _ => match (Numeric::of(left), Numeric::of(right)) {
            (Some(left), Some(right)) => calculate(operator, left, right)
                .ok_or(RenderError::Number { operation: symbol })?
                .into_value(symbol),
            _ => Err(RenderError::Type {
                operation: symbol,
                found: format!("{} and {}", type_name(left), type_name(right)),
                expected: match operator {
                    Arithmetic::Add => "two numbers, two texts or two lists (`~` joins anything as text)",
                    Arithmetic::Multiply => "two numbers, or a text and an integer",
                    _ => "two numbers",
                },
            }),
        },
    }
}

/// Pays for `times` copies of `length` bytes.
fn repetitions(meter: &mut Meter, times: &Number, length: usize) -> Result<usize, RenderError> {
    let wrong = RenderError::Type {
        operation: "`*`",
        found: "a text and a number".to_owned(),
        expected: "a text and an integer that is not negative",
    };
    let times = times
        .as_u64()
        .and_then(|times| usize::try_from(times).ok())
        .ok_or(wrong)?;
    meter.take(length.saturating_mul(times))?;
    Ok(times)
}

fn calculate(operator: Arithmetic, left: Numeric, right: Numeric) -> Option<Numeric> {
    use Numeric::{Float, Integer};
    if let (Integer(left), Integer(right)) = (left, right) {
        let integer = match operator {
            Arithmetic::Add => left.checked_add(right),
            Arithmetic::Subtract => left.checked_sub(right),
            Arithmetic::Multiply => left.checked_mul(right),
            Arithmetic::FloorDivide if right != 0 => {
                Some(left.div_euclid(right) - floor_correction(left, right))
            }
            Arithmetic::Remainder if right != 0 => {
                let quotient = left.div_euclid(right) - floor_correction(left, right);
                Some(left - quotient * right)
            }
            Arithmetic::Power if right >= 0 => left.checked_pow(u32::try_from(right).ok()?),
            Arithmetic::FloorDivide | Arithmetic::Remainder => None,
            Arithmetic::Power => return (left != 0).then(|| Float((left as f64).powf(right as f64))),
            Arithmetic::Divide => return (right != 0).then(|| Float(left as f64 / right as f64)),
            Arithmetic::Concatenate => None,
        };
        return integer.map(Integer);
    }
    let (left, right) = (left.as_float(), right.as_float());
    match operator {
        Arithmetic::Add => Some(left + right),
        Arithmetic::Subtract => Some(left - right),
        Arithmetic::Multiply => Some(left * right),
        Arithmetic::Divide if right != 0.0 => Some(left / right),
        Arithmetic::FloorDivide if right != 0.0 => Some((left / right).floor()),
        Arithmetic::Remainder if right != 0.0 => Some(left - (left / right).floor() * right),
        Arithmetic::Power => Some(left.powf(right)),
        Arithmetic::Divide | Arithmetic::FloorDivide | Arithmetic::Remainder | Arithmetic::Concatenate => {
            None
        }
    }
    .map(Float)
}

/// Division rounds towards minus infinity, as in Python; `div_euclid` does so only for a positive divisor.
fn floor_correction(left: i128, right: i128) -> i128 {
    i128::from(right < 0 && left.rem_euclid(right) != 0)
}

pub(crate) fn compare(
    meter: &mut Meter,
    operator: Comparison,
    left: &Value,
    right: &Value,
) -> Result<bool, RenderError> {
    meter.look(size(left).max(size(right)))?;
    let order = || order(operator.symbol(), left, right);
    match operator {
        Comparison::Equal => Ok(equal(left, right)),
        Comparison::NotEqual => Ok(!equal(left, right)),
        Comparison::Less => Ok(order()?.is_lt()),
        Comparison::LessOrEqual => Ok(order()?.is_le()),
        Comparison::Greater => Ok(order()?.is_gt()),
        Comparison::GreaterOrEqual => Ok(order()?.is_ge()),
        Comparison::In => contains(right, left),
        Comparison::NotIn => contains(right, left).map(|found| !found),
    }
}

/// Equality by value: `1` equals `1.0`.
pub(crate) fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(_), Value::Number(_)) => Numeric::of(left)
            .zip(Numeric::of(right))
            .is_some_and(|(left, right)| left.compare(right) == Some(Ordering::Equal)),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(key, left)| right.get(key).is_some_and(|right| equal(left, right)))
        }
        _ => left == right,
    }
}

/// The order of two numbers or two texts; other pairs have none.
pub(crate) fn order(operation: &'static str, left: &Value, right: &Value) -> Result<Ordering, RenderError> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        _ => Numeric::of(left)
            .zip(Numeric::of(right))
            .and_then(|(left, right)| left.compare(right)),
    }
    .ok_or_else(|| RenderError::Type {
        operation,
        found: format!("{} and {}", type_name(left), type_name(right)),
        expected: "two numbers or two texts",
    })
}

fn contains(container: &Value, item: &Value) -> Result<bool, RenderError> {
    match (container, item) {
        (Value::Array(items), item) => Ok(items.iter().any(|other| equal(other, item))),
        (Value::String(text), Value::String(part)) => Ok(text.contains(part.as_str())),
        (Value::Object(members), Value::String(key)) => Ok(members.contains_key(key)),
        _ => Err(RenderError::Type {
            operation: "`in`",
            found: format!("{} and {}", type_name(item), type_name(container)),
            expected: "an item and a list, a text and a text, or a name and a map",
        }),
    }
}

/// `base[start:stop:step]` on a text (by characters) or a list.
pub(crate) fn slice(
    meter: &mut Meter,
    base: &Value,
    bounds: [Option<Value>; 3],
) -> Result<Value, RenderError> {
    meter.take(size(base))?;
    let [start, stop, step] = bounds.map(bound);
    let (start, stop, step) = (start?, stop?, step?.unwrap_or(1));
    let wrong = |value: &Value| RenderError::Type {
        operation: "`[start:stop]`",
        found: type_name(value).to_owned(),
        expected: "a text or a list",
    };
    match base {
        Value::Array(items) => Ok(Value::Array(
            places(items.len(), start, stop, step)?
                .map(|place| items[place].clone())
                .collect(),
        )),
        Value::String(text) => {
            let characters: Vec<char> = text.chars().collect();
            let chosen = places(characters.len(), start, stop, step)?.map(|place| characters[place]);
            Ok(Value::String(chosen.collect()))
        }
        other => Err(wrong(other)),
    }
}

fn bound(value: Option<Value>) -> Result<Option<i64>, RenderError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or_else(|| RenderError::Type {
            operation: "`[start:stop]`",
            found: type_name(&value).to_owned(),
            expected: "integers as bounds",
        }),
    }
}

/// The places that a slice chooses, in order, as Python does.
fn places(
    length: usize,
    start: Option<i64>,
    stop: Option<i64>,
    step: i64,
) -> Result<impl Iterator<Item = usize>, RenderError> {
    if step == 0 {
        return Err(RenderError::Number {
            operation: "a slice with step 0",
        });
    }
    let length = length as i64;
    let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let resolve = |bound: Option<i64>, absent: i64| match bound {
        None => absent,
        Some(bound) if bound < 0 => bound.saturating_add(length).clamp(lowest, highest),
        Some(bound) => bound.clamp(lowest, highest),
    };
    let (first, end) = if step > 0 {
        (resolve(start, lowest), resolve(stop, highest))
    } else {
        (resolve(start, highest), resolve(stop, lowest))
    };
    Ok(
        std::iter::successors(Some(first), move |place| place.checked_add(step))
            .take_while(move |place| if step > 0 { *place < end } else { *place > end })
            .map(|place| place as usize),
    )
}

/// Appends `value` as text: a text as it is, lists and maps as JSON, none as `none`.
pub(crate) fn write_text(meter: &mut Meter, value: &Value, out: &mut String) -> Result<(), RenderError> {
    match value {
        Value::String(text) => {
            meter.take(text.len())?;
            out.push_str(text);
        }
        Value::Null => out.push_str("none"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Number(number) => {
            meter.take(24)?;
            write!(out, "{number}").expect("writing to a String does not fail");
        }
        Value::Array(_) | Value::Object(_) => {
            // Each byte of a text takes at most six bytes as JSON.
            meter.take(6 * size(value))?;
            write!(out, "{value}").expect("writing to a String does not fail");
        }
    }
    Ok(())
}

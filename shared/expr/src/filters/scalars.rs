//! Filters on one text or number.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Call, Filter};
use crate::error::RenderError;
use crate::meter::size;
use crate::operators::{Numeric, write_text};

/// Filters that make one value of one value.
pub(super) fn convert(
    call: &mut Call<'_>,
    filter: Filter,
    value: &Value,
    argument: Option<&Value>,
) -> Result<Value, RenderError> {
    match filter {
        Filter::Abs => match Numeric::of(value) {
            Some(Numeric::Integer(integer)) => Numeric::Integer(integer.abs()).into_value(call.name),
            Some(Numeric::Float(float)) => Numeric::Float(float.abs()).into_value(call.name),
            None => Err(call.wrong_type(value, "a number")),
        },
        Filter::Bool => boolean(call, value),
        Filter::Int | Filter::Float => number(call, filter, value, argument),
        Filter::Round => round(call, value, argument),
        Filter::String => {
            let mut text = String::new();
            write_text(call.meter, value, &mut text)?;
            Ok(Value::String(text))
        }
        Filter::ToJson => {
            // Each byte of a text takes at most six bytes as JSON.
            call.meter.take(6 * size(value))?;
            Ok(Value::String(value.to_string()))
        }
        _ => text(call, filter, value, argument),
    }
}

fn text(
    call: &mut Call<'_>,
    filter: Filter,
    value: &Value,
    argument: Option<&Value>,
) -> Result<Value, RenderError> {
    let text = call.text(value)?;
    // Some characters are longer in the other case, by a factor of three at most; so is a character in a URL.
    call.meter.take(text.len().saturating_mul(3))?;
    let made = match filter {
        Filter::Lower => text.to_lowercase(),
        Filter::Upper => text.to_uppercase(),
        Filter::Capitalize => capitalize(text),
        Filter::Title => title(text),
        Filter::Trim => match argument {
            None => text.trim().to_owned(),
            Some(set) => {
                let set: Vec<char> = call.text(set)?.chars().collect();
                call.meter.look(text.len().saturating_mul(set.len()))?;
                text.trim_matches(set.as_slice()).to_owned()
            }
        },
        Filter::Base64Encode => STANDARD.encode(text),
        Filter::Base64Decode => STANDARD
            .decode(text)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| call.unreadable("base64 of a text"))?,
        Filter::UrlEncode => url_encode(text),
        _ => unreachable!("the other filters are handled before"),
    };
    Ok(Value::String(made))
}

fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().collect::<String>() + &characters.as_str().to_lowercase(),
        None => String::new(),
    }
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for character in text.chars() {
        if inside {
            out.extend(character.to_lowercase());
        } else {
            out.extend(character.to_uppercase());
        }
        inside = !(character.is_whitespace() || character.is_ascii_punctuation());
    }
    out
}

fn url_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String does not fail");
        }
    }
    out
}

fn boolean(call: &mut Call<'_>, value: &Value) -> Result<Value, RenderError> {
    let truth = match value {
        Value::Bool(truth) => *truth,
        Value::Null => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" | "1" => true,
            "false" | "no" | "off" | "n" | "0" | "" => false,
            _ => return Err(call.unreadable("true, yes, on, 1, false, no, off or 0")),
        },
        other => return Err(call.wrong_type(other, "a text or a number")),
    };
    Ok(Value::Bool(truth))
}

fn number(
    call: &mut Call<'_>,
    filter: Filter,
    value: &Value,
    fallback: Option<&Value>,
) -> Result<Value, RenderError> {
    let read = match value {
        Value::Number(_) => Numeric::of(value),
        Value::Bool(truth) => Some(Numeric::Integer((*truth).into())),
        Value::String(text) => {
            call.meter.look(text.len())?;
            let text = text.trim();
            text.parse::<i128>()
                .map(Numeric::Integer)
                .or_else(|_| text.parse::<f64>().map(Numeric::Float))
                .ok()
                .filter(|number| number.as_float().is_finite())
        }
        _ => None,
    };
    match (read, fallback) {
        (Some(Numeric::Float(float)), _) if filter == Filter::Int => {
            Numeric::Integer(float.trunc() as i128).into_value(call.name)
        }
        (Some(number), _) if filter == Filter::Int => number.into_value(call.name),
        (Some(number), _) => Numeric::Float(number.as_float()).into_value(call.name),
        (None, Some(fallback)) => call.meter.copy(fallback),
        (None, None) if value.is_string() => Err(call.unreadable("a number")),
        (None, None) => Err(call.wrong_type(value, "a number or the text of one")),
    }
}

fn round(call: &mut Call<'_>, value: &Value, digits: Option<&Value>) -> Result<Value, RenderError> {
    let digits = match digits {
        None => 0,
        Some(digits) => digits
            .as_i64()
            .filter(|digits| (0..=15).contains(digits))
            .ok_or_else(|| call.wrong_type(digits, "0 to 15 digits"))?,
    };
    match Numeric::of(value) {
        Some(Numeric::Integer(_)) => Ok(value.clone()),
        Some(Numeric::Float(float)) => {
            let factor = 10f64.powi(digits as i32);
            Numeric::Float((float * factor).round() / factor).into_value(call.name)
        }
        None => Err(call.wrong_type(value, "a number")),
    }
}

pub(super) fn replace(
    call: &mut Call<'_>,
    value: &Value,
    old: Option<&Value>,
    new: Option<&Value>,
) -> Result<Value, RenderError> {
    let text = call.text(value)?;
    let old = call.text(old.unwrap_or(&Value::Null))?;
    let new = call.text(new.unwrap_or(&Value::Null))?;
    call.meter.look(text.len())?;
    let places = if old.is_empty() {
        text.len() + 1
    } else {
        text.matches(old).count()
    };
    call.meter
        .take(text.len().saturating_add(places.saturating_mul(new.len())))?;
    Ok(Value::String(text.replace(old, new)))
}

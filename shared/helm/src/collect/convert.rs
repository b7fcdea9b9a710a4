//! Giving outputs the type that they were declared with.

use serde_json::Value;
use slipway_model::OutputType;

/// Converts what was read; the error says what was expected.
pub(super) fn convert(value: Value, wanted: OutputType) -> Result<Value, String> {
    // Whole: what is secret in it is masked before it is cut.
    let refused = |value: &Value, expected: &str| Err(format!("{value} is not {expected}"));
    match wanted {
        OutputType::String => Ok(match value {
            Value::String(text) => text.into(),
            other => other.to_string().into(),
        }),
        OutputType::Integer => {
            let number = match &value {
                Value::String(text) => text.trim().parse::<i64>().ok(),
                Value::Number(number) => whole(number),
                _ => None,
            };
            number.map_or_else(|| refused(&value, "a whole number"), |number| Ok(number.into()))
        }
        OutputType::Number => {
            let number = match &value {
                Value::String(text) => serde_json::from_str::<serde_json::Number>(text.trim()).ok(),
                Value::Number(number) => Some(number.clone()),
                _ => None,
            };
            number.map_or_else(|| refused(&value, "a number"), |number| Ok(Value::Number(number)))
        }
        OutputType::Boolean => match &value {
            Value::Bool(_) => Ok(value),
            Value::String(text) if matches!(text.trim(), "true" | "false") => {
                Ok((text.trim() == "true").into())
            }
            other => refused(other, "true or false"),
        },
        OutputType::Json => match &value {
            Value::String(text) => match serde_json::from_str(text) {
                Ok(parsed) => Ok(parsed),
                Err(_) => refused(&value, "JSON"),
            },
            _ => Ok(value),
        },
    }
}

fn whole(number: &serde_json::Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        // Beyond 2^53 a float no longer says which whole number it was.
        (float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0).then_some(float as i64)
    })
}

/// What stands for an output that only a cluster knows.
pub(super) fn placeholder(wanted: OutputType) -> Value {
    match wanted {
        OutputType::String => "(known on a cluster only)".into(),
        OutputType::Integer | OutputType::Number => 0.into(),
        OutputType::Boolean => false.into(),
        OutputType::Json => Value::Null,
    }
}

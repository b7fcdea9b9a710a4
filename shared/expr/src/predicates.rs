//! The tests: what may stand behind `is`.

use serde_json::Value;

use crate::error::RenderError;
use crate::evaluate::Slot;
use crate::meter::Meter;
use crate::node::Comparison;
use crate::operators::{Numeric, compare, type_name};

/// Every test, as it is written behind `is`.
pub const TESTS: &[&str] = &[
    "defined",
    "undefined",
    "none",
    "true",
    "false",
    "boolean",
    "string",
    "number",
    "integer",
    "float",
    "sequence",
    "mapping",
    "odd",
    "even",
    "divisibleby",
    "startingwith",
    "endingwith",
    "in",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Predicate {
    Defined,
    Undefined,
    None,
    True,
    False,
    Boolean,
    String,
    Number,
    Integer,
    Float,
    Sequence,
    Mapping,
    Odd,
    Even,
    DivisibleBy,
    StartingWith,
    EndingWith,
    Compare(Comparison),
}

impl Predicate {
    pub(crate) fn from_name(name: &str) -> Option<Predicate> {
        Some(match name {
            "defined" => Predicate::Defined,
            "undefined" => Predicate::Undefined,
            "none" => Predicate::None,
            "true" => Predicate::True,
            "false" => Predicate::False,
            "boolean" => Predicate::Boolean,
            "string" => Predicate::String,
            "number" => Predicate::Number,
            "integer" => Predicate::Integer,
            "float" => Predicate::Float,
            "sequence" => Predicate::Sequence,
            "mapping" => Predicate::Mapping,
            "odd" => Predicate::Odd,
            "even" => Predicate::Even,
            "divisibleby" => Predicate::DivisibleBy,
            "startingwith" => Predicate::StartingWith,
            "endingwith" => Predicate::EndingWith,
            "in" => Predicate::Compare(Comparison::In),
            "eq" | "equalto" => Predicate::Compare(Comparison::Equal),
            "ne" => Predicate::Compare(Comparison::NotEqual),
            "lt" | "lessthan" => Predicate::Compare(Comparison::Less),
            "le" => Predicate::Compare(Comparison::LessOrEqual),
            "gt" | "greaterthan" => Predicate::Compare(Comparison::Greater),
            "ge" => Predicate::Compare(Comparison::GreaterOrEqual),
            _ => return Option::None,
        })
    }

    pub(crate) fn names() -> String {
        TESTS.join(", ")
    }

    pub(crate) fn takes_argument(self) -> bool {
        matches!(
            self,
            Predicate::DivisibleBy | Predicate::StartingWith | Predicate::EndingWith | Predicate::Compare(_)
        )
    }

    pub(crate) fn usage(self) -> &'static str {
        match self {
            Predicate::DivisibleBy => "value is divisibleby(3)",
            Predicate::StartingWith => "value is startingwith('x')",
            Predicate::EndingWith => "value is endingwith('x')",
            Predicate::Compare(_) => "value is eq(other)",
            _ => "value is defined, without an argument",
        }
    }

    /// Whether the test may be asked of something that has no value.
    pub(crate) fn copes_with_absence(self) -> bool {
        matches!(self, Predicate::Defined | Predicate::Undefined)
    }

    /// Whether this outcome means that there is a value.
    pub(crate) fn proves_presence(self, outcome: bool) -> bool {
        match self {
            Predicate::Defined => outcome,
            Predicate::Undefined => !outcome,
            _ => false,
        }
    }
}

pub(crate) fn holds(
    meter: &mut Meter,
    predicate: Predicate,
    input: &Slot<'_>,
    argument: Option<&Slot<'_>>,
) -> Result<bool, RenderError> {
    match predicate {
        Predicate::Defined => return Ok(!matches!(input, Slot::Undefined(_))),
        Predicate::Undefined => return Ok(matches!(input, Slot::Undefined(_))),
        _ => {}
    }
    let value = input.value()?;
    let argument = argument.map_or(Ok(&Value::Null), Slot::value)?;
    Ok(match predicate {
        Predicate::Defined | Predicate::Undefined => unreachable!("answered above"),
        Predicate::None => value.is_null(),
        Predicate::True => *value == Value::Bool(true),
        Predicate::False => *value == Value::Bool(false),
        Predicate::Boolean => value.is_boolean(),
        Predicate::String => value.is_string(),
        Predicate::Number => value.is_number(),
        Predicate::Integer => value.is_i64() || value.is_u64(),
        Predicate::Float => value.is_f64(),
        Predicate::Sequence => value.is_array(),
        Predicate::Mapping => value.is_object(),
        Predicate::Odd => remainder("`is odd`", value, 2)? != 0,
        Predicate::Even => remainder("`is even`", value, 2)? == 0,
        Predicate::DivisibleBy => {
            let divisor = integer("`is divisibleby`", argument)?;
            remainder("`is divisibleby`", value, divisor)? == 0
        }
        Predicate::StartingWith => {
            text("`is startingwith`", value)?.starts_with(text("`is startingwith`", argument)?)
        }
        Predicate::EndingWith => {
            text("`is endingwith`", value)?.ends_with(text("`is endingwith`", argument)?)
        }
        Predicate::Compare(comparison) => compare(meter, comparison, value, argument)?,
    })
}

fn remainder(operation: &'static str, value: &Value, divisor: i128) -> Result<i128, RenderError> {
    integer(operation, value)?
        .checked_rem(divisor)
        .ok_or(RenderError::Number { operation })
}

fn integer(operation: &'static str, value: &Value) -> Result<i128, RenderError> {
    match Numeric::of(value) {
        Some(Numeric::Integer(integer)) => Ok(integer),
        _ => Err(RenderError::Type {
            operation,
            found: type_name(value).to_owned(),
            expected: "an integer",
        }),
    }
}

fn text<'v>(operation: &'static str, value: &'v Value) -> Result<&'v str, RenderError> {
    value.as_str().ok_or_else(|| RenderError::Type {
        operation,
        found: type_name(value).to_owned(),
        expected: "a text",
    })
}

//! The filters: what may stand behind `|`. Each is bounded by what the [`Meter`] lets it take.

mod collections;
mod scalars;

use serde_json::Value;

use crate::error::RenderError;
use crate::evaluate::{Evaluation, Slot};
use crate::meter::Meter;
use crate::node::Node;
use crate::operators::{truthy, type_name};

/// Every filter and how it is written. They behave as Jinja's, with these differences: `tojson` does not escape
/// for HTML; `bool` reads the words that YAML reads and refuses other texts; `int` and `float` refuse a text that
/// is no number unless they are given a default; `sort`, `min` and `max` refuse values that have no order.
pub const FILTERS: &[(&str, &str)] = &[
    ("abs", "value | abs"),
    ("b64decode", "value | b64decode"),
    ("b64encode", "value | b64encode"),
    ("bool", "value | bool"),
    ("capitalize", "value | capitalize"),
    ("d", "value | d('x')"),
    (
        "default",
        "value | default('x') or default('x', true), which replaces empty values too",
    ),
    ("first", "value | first"),
    ("float", "value | float or float(default)"),
    ("int", "value | int or int(default)"),
    ("join", "value | join or join(', ')"),
    ("last", "value | last"),
    ("length", "value | length"),
    ("list", "value | list"),
    ("lower", "value | lower"),
    ("max", "value | max"),
    ("min", "value | min"),
    ("replace", "value | replace('old', 'new')"),
    ("reverse", "value | reverse"),
    ("round", "value | round or round(digits)"),
    ("sort", "value | sort or sort(reverse=true)"),
    ("split", "value | split or split(',')"),
    ("string", "value | string"),
    ("sum", "value | sum"),
    ("title", "value | title"),
    ("tojson", "value | tojson"),
    ("trim", "value | trim or trim('x')"),
    ("unique", "value | unique"),
    ("upper", "value | upper"),
    ("urlencode", "value | urlencode"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    Abs,
    Base64Decode,
    Base64Encode,
    Bool,
    Capitalize,
    Default,
    First,
    Float,
    Int,
    Join,
    Last,
    Length,
    List,
    Lower,
    Max,
    Min,
    Replace,
    Reverse,
    Round,
    Sort,
    Split,
    String,
    Sum,
    Title,
    ToJson,
    Trim,
    Unique,
    Upper,
    UrlEncode,
}

impl Filter {
    pub(crate) fn from_name(name: &str) -> Option<Filter> {
        Some(match name {
            "abs" => Filter::Abs,
            "b64decode" => Filter::Base64Decode,
            "b64encode" => Filter::Base64Encode,
            "bool" => Filter::Bool,
            "capitalize" => Filter::Capitalize,
            "default" | "d" => Filter::Default,
            "first" => Filter::First,
            "float" => Filter::Float,
            "int" => Filter::Int,
            "join" => Filter::Join,
            "last" => Filter::Last,
            "length" | "count" => Filter::Length,
            "list" => Filter::List,
            "lower" => Filter::Lower,
            "max" => Filter::Max,
            "min" => Filter::Min,
            "replace" => Filter::Replace,
            "reverse" => Filter::Reverse,
            "round" => Filter::Round,
            "sort" => Filter::Sort,
            "split" => Filter::Split,
            "string" => Filter::String,
            "sum" => Filter::Sum,
            "title" => Filter::Title,
            "tojson" => Filter::ToJson,
            "trim" => Filter::Trim,
            "unique" => Filter::Unique,
            "upper" => Filter::Upper,
            "urlencode" => Filter::UrlEncode,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Filter::Abs => "abs",
            Filter::Base64Decode => "b64decode",
            Filter::Base64Encode => "b64encode",
            Filter::Bool => "bool",
            Filter::Capitalize => "capitalize",
            Filter::Default => "default",
            Filter::First => "first",
            Filter::Float => "float",
            Filter::Int => "int",
            Filter::Join => "join",
            Filter::Last => "last",
            Filter::Length => "length",
            Filter::List => "list",
            Filter::Lower => "lower",
            Filter::Max => "max",
            Filter::Min => "min",
            Filter::Replace => "replace",
            Filter::Reverse => "reverse",
            Filter::Round => "round",
            Filter::Sort => "sort",
            Filter::Split => "split",
            Filter::String => "string",
            Filter::Sum => "sum",
            Filter::Title => "title",
            Filter::ToJson => "tojson",
            Filter::Trim => "trim",
            Filter::Unique => "unique",
            Filter::Upper => "upper",
            Filter::UrlEncode => "urlencode",
        }
    }

    pub(crate) fn names() -> String {
        FILTERS
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", ")
    }

    pub(crate) fn usage(self) -> &'static str {
        FILTERS
            .iter()
            .find(|(name, _)| *name == self.name())
            .map_or("", |(_, usage)| usage)
    }

    /// The names of the parameters in their order, as keyword arguments name them.
    pub(crate) fn parameters(self) -> &'static [&'static str] {
        match self {
            Filter::Default => &["default_value", "boolean"],
            Filter::Float | Filter::Int => &["default"],
            Filter::Join => &["d"],
            Filter::Replace => &["old", "new"],
            Filter::Round => &["precision"],
            Filter::Sort => &["reverse"],
            Filter::Split => &["separator"],
            Filter::Trim => &["chars"],
            _ => &[],
        }
    }

    /// How many of the parameters must be given.
    pub(crate) fn required(self) -> usize {
        if self == Filter::Replace { 2 } else { 0 }
    }
}

/// Applies any other filter than `default` to `input`.
pub(crate) fn apply<'v>(
    evaluation: &mut Evaluation<'v, '_>,
    filter: Filter,
    input: &'v Node,
    arguments: &'v [Option<Node>],
) -> Result<Slot<'v>, RenderError> {
    let input = evaluation.defined(input)?;
    let mut given = Vec::with_capacity(arguments.len());
    for argument in arguments {
        given.push(
            argument
                .as_ref()
                .map(|argument| evaluation.defined(argument))
                .transpose()?,
        );
    }
    let argument = |place: usize| match given.get(place) {
        Some(Some(slot)) => slot.value().map(Some),
        _ => Ok(None),
    };
    let (first, second) = (argument(0)?, argument(1)?);
    let call = &mut Call {
        name: filter.name(),
        meter: evaluation.meter,
    };
    let value = match filter {
        Filter::First | Filter::Last | Filter::Min | Filter::Max => {
            return collections::pick(call, filter, &input);
        }
        Filter::Length | Filter::List | Filter::Reverse | Filter::Sort | Filter::Sum | Filter::Unique => {
            collections::whole(call, filter, input.value()?, first)?
        }
        Filter::Join => collections::join(call, input.value()?, first)?,
        Filter::Split => collections::split(call, input.value()?, first)?,
        Filter::Replace => scalars::replace(call, input.value()?, first, second)?,
        _ => scalars::convert(call, filter, input.value()?, first)?,
    };
    Ok(Slot::Owned(value))
}

/// `default`, the only filter that accepts an input without a value.
pub(crate) fn default<'v>(
    evaluation: &mut Evaluation<'v, '_>,
    input: &'v Node,
    arguments: &'v [Option<Node>],
) -> Result<Slot<'v>, RenderError> {
    let input = evaluation.evaluate(input)?;
    let empty_too = match arguments.get(1) {
        Some(Some(flag)) => truthy(evaluation.defined(flag)?.value()?),
        _ => false,
    };
    let absent = match &input {
        Slot::Undefined(_) => true,
        slot => empty_too && !truthy(slot.value()?),
    };
    match arguments.first() {
        _ if !absent => Ok(input),
        Some(Some(fallback)) => evaluation.evaluate(fallback),
        _ => Ok(Slot::Owned(Value::String(String::new()))),
    }
}

/// One use of a filter: its name for errors, and what it may take.
pub(crate) struct Call<'m> {
    name: &'static str,
    meter: &'m mut Meter,
}

impl Call<'_> {
    fn wrong_type(&self, found: &Value, expected: &'static str) -> RenderError {
        RenderError::Type {
            operation: self.name,
            found: type_name(found).to_owned(),
            expected,
        }
    }

    fn unreadable(&self, expected: &'static str) -> RenderError {
        RenderError::Text {
            operation: self.name,
            expected,
        }
    }

    fn text<'t>(&self, value: &'t Value) -> Result<&'t str, RenderError> {
        value.as_str().ok_or_else(|| self.wrong_type(value, "a text"))
    }
}

//! What can be called, and what calls do.

use std::{cmp::Ordering, rc::Rc};

use cel::common::ast::{EntryExpr, Expr, LiteralValue, operators};

use crate::{CelError, error, evaluate::Budget, value::Value};

/// Deepest tree, which chains of operators make as well as nesting.
const DEEPEST: usize = 400;

/// Functions and methods by name and number of arguments, the target counted.
const KNOWN: &[(&str, usize)] = &[
    ("size", 1),
    ("contains", 2),
    ("startsWith", 2),
    ("endsWith", 2),
    ("matches", 2),
    ("lowerAscii", 1),
    ("upperAscii", 1),
    ("trim", 1),
    ("split", 2),
    ("join", 1),
    ("join", 2),
    ("int", 1),
    ("uint", 1),
    ("double", 1),
    ("string", 1),
    ("bool", 1),
    ("orValue", 2),
    ("or", 2),
    ("hasValue", 1),
    ("value", 1),
    (operators::CONDITIONAL, 3),
    (operators::LOGICAL_AND, 2),
    (operators::LOGICAL_OR, 2),
    (operators::LOGICAL_NOT, 1),
    (operators::SUBSTRACT, 2),
    (operators::ADD, 2),
    (operators::MULTIPLY, 2),
    (operators::DIVIDE, 2),
    (operators::MODULO, 2),
    (operators::EQUALS, 2),
    (operators::NOT_EQUALS, 2),
    (operators::GREATER_EQUALS, 2),
    (operators::LESS_EQUALS, 2),
    (operators::GREATER, 2),
    (operators::LESS, 2),
    (operators::NEGATE, 1),
    (operators::INDEX, 2),
    (operators::OPT_INDEX, 2),
    (operators::OPT_SELECT, 2),
    (operators::NOT_STRICTLY_FALSE, 1),
    (operators::IN, 2),
];

/// `optional.of(x)` and `optional.none()`, which look like methods of a variable.
pub(crate) fn makes_optional(call: &cel::common::ast::CallExpr) -> bool {
    let on_optional = call
        .target
        .as_ref()
        .is_some_and(|target| matches!(&target.expr, Expr::Ident(name) if name == "optional"));
    on_optional
        && matches!(
            (call.func_name.as_str(), call.args.len()),
            ("of", 1) | ("none", 0)
        )
}

/// Refuses what an expression could never do here.
pub(crate) fn check(tree: &Expr, depth: usize) -> Result<(), CelError> {
    if depth > DEEPEST {
        return error(format!(
            "it has more than {DEEPEST} levels; write it in several shorter parts"
        ));
    }
    let below = |tree: &Expr| check(tree, depth + 1);
    match tree {
        Expr::Call(call) => {
            let count = call.args.len() + usize::from(call.target.is_some());
            if !makes_optional(call) {
                let name = call.func_name.as_str();
                if !KNOWN.contains(&(name, count)) {
                    let known = KNOWN.iter().any(|(known, _)| *known == name);
                    return error(if known {
                        format!("{name}() does not take {} arguments here", call.args.len())
                    } else {
                        format!("there is no function {name}() here")
                    });
                }
                if let Some(target) = &call.target {
                    below(&target.expr)?;
                }
            }
            call.args.iter().try_for_each(|argument| below(&argument.expr))
        }
        Expr::Comprehension(fold) => [
            &fold.iter_range,
            &fold.accu_init,
            &fold.loop_cond,
            &fold.loop_step,
            &fold.result,
        ]
        .into_iter()
        .try_for_each(|part| below(&part.expr)),
        Expr::Ident(_) => Ok(()),
        Expr::List(list) if !list.optional_indices.is_empty() => {
            error("optional entries of lists are not known here")
        }
        Expr::List(list) => list.elements.iter().try_for_each(|element| below(&element.expr)),
        Expr::Literal(LiteralValue::Bytes(_)) => error("bytes are not known here"),
        Expr::Literal(_) => Ok(()),
        Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) if !entry.optional => {
                below(&entry.key.expr).and_then(|()| below(&entry.value.expr))
            }
            _ => error("optional entries of maps are not known here"),
        }),
        Expr::Select(select) => below(&select.operand.expr),
        Expr::Struct(_) | Expr::Unspecified => error("messages are not known here"),
    }
}

/// What an operator or a function makes of its arguments, the target first.
pub(crate) fn call<'o>(
    name: &str,
    arguments: &[Value<'o>],
    budget: &mut Budget,
) -> Result<Value<'o>, CelError> {
    use Value::{Bool, Double, Int, List, Optional, Text, Uint};
    let mismatch = || {
        let kinds: Vec<&str> = arguments.iter().map(Value::kind).collect();
        CelError(format!("{name} is not for {}", kinds.join(" and ")))
    };
    let overflow = || CelError(format!("{name}: the result is no 64-bit number"));
    let text = |budget: &mut Budget, made: String| -> Result<Value<'o>, CelError> {
        budget.bytes(made.len())?;
        Ok(Text(made.into()))
    };
    match (name, arguments) {
        (operators::LOGICAL_NOT, [Bool(truth)]) => Ok(Bool(!truth)),
        (operators::NEGATE, [Int(number)]) => number.checked_neg().map(Int).ok_or_else(overflow),
        (operators::NEGATE, [Double(number)]) => Ok(Double(-number)),
        (operators::EQUALS, [left, right]) => Ok(Bool(equal(left, right, budget)?)),
        (operators::NOT_EQUALS, [left, right]) => Ok(Bool(!equal(left, right, budget)?)),
        (operators::LESS, [left, right]) => {
            compare(left, right, budget, mismatch, |order| order == Ordering::Less)
        }
        (operators::LESS_EQUALS, [left, right]) => {
            compare(left, right, budget, mismatch, |order| order != Ordering::Greater)
        }
        (operators::GREATER, [left, right]) => {
            compare(left, right, budget, mismatch, |order| order == Ordering::Greater)
        }
        (operators::GREATER_EQUALS, [left, right]) => {
            compare(left, right, budget, mismatch, |order| order != Ordering::Less)
        }
        (operators::ADD, [Text(left), Text(right)]) => text(budget, [&**left, &**right].concat()),
        (operators::ADD, [left, right]) if left.kind() == "list" && right.kind() == "list" => {
            budget.items(left.size().unwrap_or_default())?;
            budget.items(right.size().unwrap_or_default())?;
            let items = left.items().into_iter().chain(right.items()).flatten().collect();
            Ok(List(Rc::new(items)))
        }
        (operators::ADD, [Int(left), Int(right)]) => left.checked_add(*right).map(Int).ok_or_else(overflow),
        (operators::SUBSTRACT, [Int(left), Int(right)]) => {
            left.checked_sub(*right).map(Int).ok_or_else(overflow)
        }
        (operators::MULTIPLY, [Int(left), Int(right)]) => {
            left.checked_mul(*right).map(Int).ok_or_else(overflow)
        }
        (operators::DIVIDE, [Int(left), Int(right)]) => {
            left.checked_div(*right).map(Int).ok_or_else(overflow)
        }
        (operators::MODULO, [Int(left), Int(right)]) => {
            left.checked_rem(*right).map(Int).ok_or_else(overflow)
        }
        (operators::ADD, [Uint(left), Uint(right)]) => {
            left.checked_add(*right).map(Uint).ok_or_else(overflow)
        }
        (operators::SUBSTRACT, [Uint(left), Uint(right)]) => {
            left.checked_sub(*right).map(Uint).ok_or_else(overflow)
        }
        (operators::MULTIPLY, [Uint(left), Uint(right)]) => {
            left.checked_mul(*right).map(Uint).ok_or_else(overflow)
        }
        (operators::DIVIDE, [Uint(left), Uint(right)]) => {
            left.checked_div(*right).map(Uint).ok_or_else(overflow)
        }
        (operators::MODULO, [Uint(left), Uint(right)]) => {
            left.checked_rem(*right).map(Uint).ok_or_else(overflow)
        }
        (operators::ADD, [Double(left), Double(right)]) => Ok(Double(left + right)),
        (operators::SUBSTRACT, [Double(left), Double(right)]) => Ok(Double(left - right)),
        (operators::MULTIPLY, [Double(left), Double(right)]) => Ok(Double(left * right)),
        (operators::DIVIDE, [Double(left), Double(right)]) => Ok(Double(left / right)),
        (operators::IN, [wanted, within]) if within.kind() == "map" => {
            Ok(Bool(entry(within, wanted, budget)?.is_some()))
        }
        (operators::IN, [wanted, within]) => {
            for item in within.items().ok_or_else(mismatch)? {
                if equal(wanted, &item, budget)? {
                    return Ok(Bool(true));
                }
            }
            Ok(Bool(false))
        }
        (operators::INDEX, [of, key]) => index(of, key, budget)?.ok_or_else(|| absent(key)),
        (operators::OPT_INDEX | operators::OPT_SELECT, [Optional(None), _]) => Ok(Optional(None)),
        (operators::OPT_INDEX | operators::OPT_SELECT, [Optional(Some(of)), key]) => {
            Ok(Optional(index(of, key, budget)?.map(Rc::new)))
        }
        (operators::OPT_INDEX | operators::OPT_SELECT, [of, key]) => {
            Ok(Optional(index(of, key, budget)?.map(Rc::new)))
        }
        ("orValue", [Optional(value), other]) => Ok(value
            .as_ref()
            .map_or_else(|| other.clone(), |value| value.as_ref().clone())),
        ("or", [Optional(value), other @ Optional(_)]) => Ok(if value.is_some() {
            Optional(value.clone())
        } else {
            other.clone()
        }),
        ("hasValue", [Optional(value)]) => Ok(Bool(value.is_some())),
        ("value", [Optional(value)]) => match value {
            Some(value) => Ok(value.as_ref().clone()),
            None => error("the optional has no value"),
        },
        ("size", [of]) => {
            let size = of.size().ok_or_else(mismatch)?;
            budget.items(if of.kind() == "string" { size } else { 0 })?;
            i64::try_from(size).map(Int).map_err(|_| overflow())
        }
        ("contains", [Text(of), Text(part)]) => {
            budget.text(of.len() + part.len())?;
            Ok(Bool(of.contains(&**part)))
        }
        ("startsWith", [Text(of), Text(part)]) => {
            budget.text(part.len())?;
            Ok(Bool(of.starts_with(&**part)))
        }
        ("endsWith", [Text(of), Text(part)]) => {
            budget.text(part.len())?;
            Ok(Bool(of.ends_with(&**part)))
        }
        ("matches", [Text(of), Text(pattern)]) => {
            budget.pattern(of.len())?;
            let pattern = regex::RegexBuilder::new(pattern)
                .size_limit(256 << 10)
                .dfa_size_limit(256 << 10)
                .nest_limit(32)
                .build()
                .map_err(|wrong| CelError(format!("matches: {wrong}")))?;
            Ok(Bool(pattern.is_match(of)))
        }
        ("lowerAscii", [Text(of)]) => text(budget, of.to_ascii_lowercase()),
        ("upperAscii", [Text(of)]) => text(budget, of.to_ascii_uppercase()),
        ("trim", [Text(of)]) => text(budget, of.trim().to_owned()),
        ("split", [Text(of), Text(by)]) => {
            budget.bytes(of.len())?;
            budget.items(of.len())?;
            let parts: Vec<Value<'o>> = if by.is_empty() {
                of.chars().map(|part| Text(part.to_string().into())).collect()
            } else {
                of.split(&**by).map(|part| Text(part.into())).collect()
            };
            Ok(List(Rc::new(parts)))
        }
        ("join", [list]) => join(list, "", budget, mismatch),
        ("join", [list, Text(by)]) => join(list, by, budget, mismatch),
        (_, [argument]) => convert(name, argument, mismatch, overflow, budget),
        _ => Err(mismatch()),
    }
}

fn absent(key: &Value<'_>) -> CelError {
    match key {
        Value::Text(key) => {
            let shown: String = key.chars().take(80).collect();
            CelError(format!("there is no '{shown}' yet"))
        }
        Value::Int(number) => CelError(format!("there is no item {number} yet")),
        key => CelError(format!("there is no entry of that {}", key.kind())),
    }
}

fn index<'o>(of: &Value<'o>, key: &Value<'o>, budget: &mut Budget) -> Result<Option<Value<'o>>, CelError> {
    match (of.kind(), key) {
        ("list", Value::Int(number)) => Ok(usize::try_from(*number).ok().and_then(|index| of.item(index))),
        ("list", Value::Uint(number)) => Ok(usize::try_from(*number).ok().and_then(|index| of.item(index))),
        ("list", key) => error(format!("a list has no item of that {}", key.kind())),
        _ => entry(of, key, budget),
    }
}

/// The entry of a map, whose key is compared with those that are there.
fn entry<'o>(of: &Value<'o>, key: &Value<'o>, budget: &mut Budget) -> Result<Option<Value<'o>>, CelError> {
    if let Value::Text(key) = key {
        budget.text(key.len())?;
    }
    of.entry(key)
}

/// Takes what comparing two texts costs.
fn charge(left: &Value<'_>, right: &Value<'_>, budget: &mut Budget) -> Result<(), CelError> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => budget.text(left.len().min(right.len())),
        _ => Ok(()),
    }
}

fn join<'o>(
    list: &Value<'o>,
    by: &str,
    budget: &mut Budget,
    mismatch: impl Fn() -> CelError,
) -> Result<Value<'o>, CelError> {
    let mut joined = String::new();
    for (number, item) in list.items().ok_or_else(&mismatch)?.enumerate() {
        let Value::Text(item) = item else {
            return Err(mismatch());
        };
        budget.step()?;
        budget.bytes(item.len() + by.len())?;
        if number > 0 {
            joined.push_str(by);
        }
        joined.push_str(&item);
    }
    Ok(Value::Text(joined.into()))
}

fn compare<'o>(
    left: &Value<'o>,
    right: &Value<'o>,
    budget: &mut Budget,
    mismatch: impl Fn() -> CelError,
    holds: impl Fn(Ordering) -> bool,
) -> Result<Value<'o>, CelError> {
    charge(left, right, budget)?;
    match left.order(right) {
        Some(order) => Ok(Value::Bool(holds(order))),
        None if matches!((left, right), (Value::Double(_), _) | (_, Value::Double(_))) => {
            // Nothing compares with what is not a number.
            if left.kind() == "double" && right.kind() == "double" {
                Ok(Value::Bool(false))
            } else {
                Err(mismatch())
            }
        }
        None => Err(mismatch()),
    }
}

/// Whether two values are the same, lists and maps entry by entry; values of different kinds are not.
pub(crate) fn equal(left: &Value<'_>, right: &Value<'_>, budget: &mut Budget) -> Result<bool, CelError> {
    budget.step()?;
    match (left, right) {
        (Value::Null, Value::Null) | (Value::Optional(None), Value::Optional(None)) => return Ok(true),
        (Value::Optional(Some(left)), Value::Optional(Some(right))) => return equal(left, right, budget),
        _ => {}
    }
    match (left.kind(), right.kind()) {
        ("list", "list") => {
            if left.size() != right.size() {
                return Ok(false);
            }
            budget.items(left.size().unwrap_or_default())?;
            let (left, right) = (left.items().into_iter(), right.items().into_iter());
            for (left, right) in left.flatten().zip(right.flatten()) {
                if !equal(&left, &right, budget)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        ("map", "map") => {
            if left.size() != right.size() {
                return Ok(false);
            }
            budget.items(left.size().unwrap_or_default())?;
            for key in left.items().into_iter().flatten() {
                match (entry(left, &key, budget)?, entry(right, &key, budget)?) {
                    (Some(left), Some(right)) if equal(&left, &right, budget)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
        _ => {
            charge(left, right, budget)?;
            Ok(left.order(right) == Some(Ordering::Equal))
        }
    }
}

fn convert<'o>(
    name: &str,
    argument: &Value<'o>,
    mismatch: impl Fn() -> CelError,
    overflow: impl Fn() -> CelError,
    budget: &mut Budget,
) -> Result<Value<'o>, CelError> {
    use Value::{Bool, Double, Int, Text, Uint};
    // The largest power of two below which every float is a number of that kind.
    const INT: f64 = 9_223_372_036_854_775_808.0;
    const UINT: f64 = 18_446_744_073_709_551_616.0;
    if let Text(text) = argument {
        budget.text(text.len())?;
    }
    match (name, argument) {
        ("int", Int(_))
        | ("uint", Uint(_))
        | ("double", Double(_))
        | ("string", Text(_))
        | ("bool", Bool(_)) => Ok(argument.clone()),
        ("int", Uint(number)) => i64::try_from(*number).map(Int).map_err(|_| overflow()),
        ("int", Double(number)) if *number > -INT && *number < INT => Ok(Int(*number as i64)),
        ("uint", Int(number)) => u64::try_from(*number).map(Uint).map_err(|_| overflow()),
        ("uint", Double(number)) if *number >= 0.0 && *number < UINT => Ok(Uint(*number as u64)),
        ("int" | "uint", Double(_)) => Err(overflow()),
        ("double", Int(number)) => Ok(Double(*number as f64)),
        ("double", Uint(number)) => Ok(Double(*number as f64)),
        ("int", Text(text)) => text.parse().map(Int).map_err(|_| mismatch()),
        ("uint", Text(text)) => text.parse().map(Uint).map_err(|_| mismatch()),
        ("double", Text(text)) => text.parse().map(Double).map_err(|_| mismatch()),
        ("bool", Text(text)) => match &**text {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(Bool(false)),
            _ => Err(mismatch()),
        },
        ("string", Bool(truth)) => Ok(Text(truth.to_string().into())),
        ("string", Int(number)) => Ok(Text(number.to_string().into())),
        ("string", Uint(number)) => Ok(Text(number.to_string().into())),
        ("string", Double(number)) => {
            let text = number.to_string();
            budget.bytes(text.len())?;
            Ok(Text(text.into()))
        }
        _ => Err(mismatch()),
    }
}

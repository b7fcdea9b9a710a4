//! Evaluation within limits.

use std::rc::Rc;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators};
use serde_json::Value as Json;

use crate::{CelError, error, functions, value::Value};

/// Most steps of one evaluation. A step is a node of the expression that is evaluated once, an entry that is
/// copied, or a piece of text that is looked at.
const STEPS: u64 = 200_000;

/// Most bytes of text that one evaluation makes.
const BYTES: usize = 1 << 20;

/// What a pattern costs, in steps: it has to be compiled each time.
const PATTERN: u64 = 2_000;

/// How many bytes of text are compared or searched in a step.
const TEXT: usize = 64;

/// What is left of the work that an expression may be.
pub(crate) struct Budget {
    steps: u64,
    bytes: usize,
}

impl Budget {
    pub(crate) fn step(&mut self) -> Result<(), CelError> {
        self.take(1)
    }

    pub(crate) fn items(&mut self, count: usize) -> Result<(), CelError> {
        self.take(u64::try_from(count).unwrap_or(u64::MAX))
    }

    pub(crate) fn pattern(&mut self, length: usize) -> Result<(), CelError> {
        self.take(PATTERN)?;
        self.items(length)
    }

    /// Text that is looked at and not copied.
    pub(crate) fn text(&mut self, length: usize) -> Result<(), CelError> {
        self.items(length / TEXT)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<(), CelError> {
        match self.bytes.checked_sub(count) {
            Some(left) => {
                self.bytes = left;
                Ok(())
            }
            None => {
                self.bytes = 0;
                error(format!("it makes more than {BYTES} bytes of text"))
            }
        }
    }

    fn take(&mut self, steps: u64) -> Result<(), CelError> {
        match self.steps.checked_sub(steps) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => {
                self.steps = 0;
                error(format!("it is more work than is allowed ({STEPS} steps)"))
            }
        }
    }

    /// Whether an error is the end of all, which no other operand makes good.
    fn is_spent(&self) -> bool {
        self.steps == 0 || self.bytes == 0
    }
}

/// Whether an expression is true of an object.
pub(crate) fn evaluate(tree: &Expr, object: &Json) -> Result<bool, CelError> {
    let mut evaluation = Evaluation {
        object,
        variables: Vec::new(),
        budget: Budget {
            steps: STEPS,
            bytes: BYTES,
        },
    };
    match evaluation.value(tree)? {
        Value::Bool(truth) => Ok(truth),
        other => error(format!("it is a {}, neither true nor false", other.kind())),
    }
}

struct Evaluation<'t, 'o> {
    object: &'o Json,
    /// Variables of the comprehensions around, innermost last.
    variables: Vec<(&'t str, Value<'o>)>,
    budget: Budget,
}

impl<'t, 'o> Evaluation<'t, 'o> {
    fn value(&mut self, tree: &'t Expr) -> Result<Value<'o>, CelError> {
        self.budget.step()?;
        match tree {
            Expr::Literal(literal) => self.literal(literal),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => {
                let of = self.value(&select.operand.expr)?;
                let key = Value::Text(select.field.as_str().into());
                if select.test {
                    let found = match &of {
                        Value::Optional(Some(of)) => of.entry(&key)?,
                        Value::Optional(None) => None,
                        of => of.entry(&key)?,
                    };
                    return Ok(Value::Bool(found.is_some()));
                }
                // After an optional field the rest of the path is optional, too.
                match &of {
                    Value::Optional(_) => {
                        functions::call(operators::OPT_SELECT, &[of, key], &mut self.budget)
                    }
                    _ => functions::call(operators::INDEX, &[of, key], &mut self.budget),
                }
            }
            Expr::List(list) => {
                let items = list
                    .elements
                    .iter()
                    .map(|element| self.value(&element.expr))
                    .collect::<Result<_, _>>()?;
                Ok(Value::List(Rc::new(items)))
            }
            Expr::Map(map) => {
                let mut entries: Vec<(Value<'o>, Value<'o>)> = Vec::new();
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else {
                        return error("messages are not known here");
                    };
                    let key = self.value(&entry.key.expr)?;
                    if !matches!(key.kind(), "bool" | "int" | "uint" | "string") {
                        return error(format!("a {} cannot be a key", key.kind()));
                    }
                    for (known, _) in &entries {
                        if functions::equal(known, &key, &mut self.budget)? {
                            return error("a map names a key twice");
                        }
                    }
                    let value = self.value(&entry.value.expr)?;
                    entries.push((key, value));
                }
                Ok(Value::Map(Rc::new(entries)))
            }
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(fold) => self.fold(fold),
            Expr::Struct(_) | Expr::Unspecified => error("messages are not known here"),
        }
    }

    fn literal(&mut self, literal: &LiteralValue) -> Result<Value<'o>, CelError> {
        Ok(match literal {
            LiteralValue::Null => Value::Null,
            LiteralValue::Boolean(truth) => Value::Bool(*truth.inner()),
            LiteralValue::Int(number) => Value::Int(*number.inner()),
            LiteralValue::UInt(number) => Value::Uint(*number.inner()),
            LiteralValue::Double(number) => Value::Double(*number.inner()),
            LiteralValue::String(text) => {
                self.budget.bytes(text.inner().len())?;
                Value::Text(text.inner().into())
            }
            LiteralValue::Bytes(_) => return error("bytes are not known here"),
        })
    }

    fn variable(&self, name: &str) -> Result<Value<'o>, CelError> {
        let inner = self.variables.iter().rev().find(|(known, _)| *known == name);
        match (inner, self.object.get(name)) {
            (Some((_, value)), _) => Ok(value.clone()),
            (None, Some(field)) => Ok(Value::of(field)),
            (None, None) => error(format!("the object has no '{name}' yet")),
        }
    }

    fn call(&mut self, call: &'t CallExpr) -> Result<Value<'o>, CelError> {
        if functions::makes_optional(call) {
            return Ok(Value::Optional(match call.args.first() {
                Some(argument) => Some(Rc::new(self.value(&argument.expr)?)),
                None => None,
            }));
        }
        let argument = |index: usize| call.args.get(index).map(|argument| &argument.expr);
        match (call.func_name.as_str(), argument(0), argument(1), argument(2)) {
            (operators::LOGICAL_AND, Some(left), Some(right), None) => self.decide(left, right, false),
            (operators::LOGICAL_OR, Some(left), Some(right), None) => self.decide(left, right, true),
            (operators::CONDITIONAL, Some(condition), Some(then), Some(otherwise)) => {
                match self.value(condition)? {
                    Value::Bool(true) => self.value(then),
                    Value::Bool(false) => self.value(otherwise),
                    other => error(format!("a {} is no condition", other.kind())),
                }
            }
            (operators::NOT_STRICTLY_FALSE, Some(condition), None, None) => {
                let value = self.value(condition);
                if value.is_err() && self.budget.is_spent() {
                    return value;
                }
                Ok(Value::Bool(!matches!(value, Ok(Value::Bool(false)))))
            }
            _ => {
                let mut arguments = Vec::new();
                if let Some(target) = &call.target {
                    arguments.push(self.value(&target.expr)?);
                }
                for argument in &call.args {
                    arguments.push(self.value(&argument.expr)?);
                }
                functions::call(&call.func_name, &arguments, &mut self.budget)
            }
        }
    }

    /// `&&` and `||`: an operand that decides makes good what is wrong with the other one, on either side.
    fn decide(&mut self, left: &'t Expr, right: &'t Expr, decisive: bool) -> Result<Value<'o>, CelError> {
        let truth = |value: Result<Value<'o>, CelError>| match value {
            Ok(Value::Bool(truth)) => Ok(truth),
            Ok(other) => error(format!("a {} is neither true nor false", other.kind())),
            Err(wrong) => Err(wrong),
        };
        let left = truth(self.value(left));
        if left == Ok(decisive) || (left.is_err() && self.budget.is_spent()) {
            return left.map(Value::Bool);
        }
        let right = truth(self.value(right));
        match (left, right) {
            (_, Ok(truth)) if truth == decisive => Ok(Value::Bool(decisive)),
            (Err(wrong), _) | (_, Err(wrong)) => Err(wrong),
            _ => Ok(Value::Bool(!decisive)),
        }
    }

    /// What the macros `all`, `exists`, `exists_one`, `map` and `filter` are made of.
    fn fold(&mut self, fold: &'t ComprehensionExpr) -> Result<Value<'o>, CelError> {
        let range = self.value(&fold.iter_range.expr)?;
        self.budget.items(range.size().unwrap_or_default())?;
        let items = range
            .items()
            .ok_or_else(|| crate::CelError(format!("a {} has no entries to go through", range.kind())))?;
        let accumulated = self.value(&fold.accu_init.expr)?;
        let depth = self.variables.len();
        self.variables.push((&fold.accu_var, accumulated));
        let folded = self.fold_items(fold, items, depth);
        self.variables.truncate(depth + 1);
        let result = folded.and_then(|()| self.value(&fold.result.expr));
        self.variables.truncate(depth);
        result
    }

    fn fold_items(
        &mut self,
        fold: &'t ComprehensionExpr,
        items: impl Iterator<Item = Value<'o>>,
        depth: usize,
    ) -> Result<(), CelError> {
        // An error of one item is made good by a later one that decides, as with `&&` and `||`.
        let mut wrong = None;
        for item in items {
            if !matches!(self.value(&fold.loop_cond.expr), Ok(Value::Bool(true))) {
                break;
            }
            self.variables.push((&fold.iter_var, item));
            let stepped = self.value(&fold.loop_step.expr);
            self.variables.truncate(depth + 1);
            match stepped {
                Ok(value) => {
                    let decided = matches!(value, Value::Bool(_));
                    if let Some((_, accumulated)) = self.variables.get_mut(depth) {
                        *accumulated = value;
                    }
                    if decided && !matches!(self.value(&fold.loop_cond.expr), Ok(Value::Bool(true))) {
                        wrong = None;
                        break;
                    }
                }
                Err(error) if self.budget.is_spent() || !is_boolean(fold) => return Err(error),
                Err(error) => {
                    wrong.get_or_insert(error);
                }
            }
        }
        match wrong {
            Some(wrong) => Err(wrong),
            None => Ok(()),
        }
    }
}

/// Whether a comprehension is an `all` or an `exists`.
fn is_boolean(fold: &ComprehensionExpr) -> bool {
    matches!(&fold.accu_init.expr, Expr::Literal(LiteralValue::Boolean(_)))
}

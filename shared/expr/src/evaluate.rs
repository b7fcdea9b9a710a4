//! Evaluates a [`Node`]. Values are borrowed from the context for as long as possible; whatever is copied or made
//! is paid for first.

use serde_json::{Map, Value};

use crate::context::{Context, Found};
use crate::error::RenderError;
use crate::meter::Meter;
use crate::node::{Arithmetic, Comparison, Node};
use crate::operators::{self, type_name};
use crate::{filters, predicates};

/// What an expression gives on the way.
#[derive(Debug)]
pub(crate) enum Slot<'v> {
    /// Nothing, and the part of the expression that asked for it.
    Undefined(&'v Node),
    Borrowed(&'v Value),
    Owned(Value),
}

impl<'v> Slot<'v> {
    /// The value, which must be there.
    pub(crate) fn value(&self) -> Result<&Value, RenderError> {
        match self {
            Slot::Undefined(node) => Err(RenderError::Undefined {
                path: node.describe(),
            }),
            Slot::Borrowed(value) => Ok(value),
            Slot::Owned(value) => Ok(value),
        }
    }

    /// The value as one's own, which must be there.
    pub(crate) fn into_value(self, meter: &mut Meter) -> Result<Value, RenderError> {
        match self {
            Slot::Owned(value) => Ok(value),
            Slot::Borrowed(value) => meter.copy(value),
            Slot::Undefined(_) => self.value().cloned(),
        }
    }
}

pub(crate) struct Evaluation<'v, 'm> {
    pub(crate) context: &'v Context<'v>,
    pub(crate) meter: &'m mut Meter,
}

impl<'v> Evaluation<'v, '_> {
    pub(crate) fn evaluate(&mut self, node: &'v Node) -> Result<Slot<'v>, RenderError> {
        self.meter.step()?;
        match node {
            Node::Constant(value) => Ok(Slot::Borrowed(value)),
            Node::Read(reference) => match self.context.look_up(reference) {
                Found::Value(value) => Ok(Slot::Borrowed(value)),
                Found::Absent => Ok(Slot::Undefined(node)),
                Found::Withheld => Err(Context::withheld(reference)),
            },
            Node::Member { base, key } => {
                let base = self.evaluate(base)?;
                Ok(select(
                    base,
                    node,
                    |value| value.as_object()?.get(key),
                    |value| take_member(value, key),
                ))
            }
            Node::Index { base, index } => self.index(node, base, index),
            Node::Slice {
                base,
                start,
                stop,
                step,
            } => {
                let base = self.evaluate(base)?;
                let mut bound = |part: &'v Option<Box<Node>>| {
                    part.as_deref()
                        .map(|part| self.evaluate(part)?.value().cloned())
                        .transpose()
                };
                let (start, stop, step) = (bound(start)?, bound(stop)?, bound(step)?);
                operators::slice(self.meter, base.value()?, start, stop, step).map(Slot::Owned)
            }
            Node::Not(inner) => {
                let truth = operators::truthy(self.evaluate(inner)?.value()?);
                Ok(Slot::Owned(Value::Bool(!truth)))
            }
            Node::Negate(inner) => operators::negate(self.evaluate(inner)?.value()?).map(Slot::Owned),
            Node::And(left, right) => {
                let left = self.evaluate(left)?;
                if operators::truthy(left.value()?) {
                    self.defined(right)
                } else {
                    Ok(left)
                }
            }
            Node::Or(left, right) => {
                let left = self.evaluate(left)?;
                if operators::truthy(left.value()?) {
                    Ok(left)
                } else {
                    self.defined(right)
                }
            }
            Node::Arithmetic {
                operator,
                left,
                right,
            } => self.arithmetic(*operator, left, right),
            Node::Compare { first, rest } => self.compare(first, rest),
            Node::If {
                condition,
                then,
                otherwise,
            } => {
                let truth = operators::truthy(self.evaluate(condition)?.value()?);
                self.evaluate(if truth { then } else { otherwise })
            }
            Node::Filter {
                filter,
                input,
                arguments,
            } => filters::apply(self, *filter, input, arguments.as_slice()),
            Node::Test {
                predicate,
                input,
                argument,
            } => {
                let input = self.evaluate(input)?;
                let argument = argument
                    .as_deref()
                    .map(|argument| self.evaluate(argument))
                    .transpose()?;
                predicates::holds(self.meter, *predicate, &input, argument.as_ref())
                    .map(|truth| Slot::Owned(Value::Bool(truth)))
            }
            Node::List(items) => self.list(items),
            Node::Map(members) => self.map(members),
        }
    }

    /// Evaluates a node whose value must be there.
    pub(crate) fn defined(&mut self, node: &'v Node) -> Result<Slot<'v>, RenderError> {
        let slot = self.evaluate(node)?;
        slot.value()?;
        Ok(slot)
    }

    fn index(&mut self, node: &'v Node, base: &'v Node, index: &'v Node) -> Result<Slot<'v>, RenderError> {
        let base = self.evaluate(base)?;
        let index = self.defined(index)?;
        match index.value()? {
            Value::String(key) => Ok(select(
                base,
                node,
                |value| value.as_object()?.get(key),
                |value| take_member(value, key),
            )),
            Value::Number(number) if !number.is_f64() => {
                let number = number.as_i64().unwrap_or(i64::MAX);
                let place = |length: usize| {
                    usize::try_from(if number < 0 {
                        number + length as i64
                    } else {
                        number
                    })
                    .ok()
                };
                Ok(select(
                    base,
                    node,
                    |value| value.as_array().and_then(|items| items.get(place(items.len())?)),
                    |value| match value {
                        Value::Array(mut items) => {
                            let place = place(items.len())?;
                            (place < items.len()).then(|| items.swap_remove(place))
                        }
                        _ => None,
                    },
                ))
            }
            other => Err(RenderError::Type {
                operation: "`[…]`",
                found: type_name(other).to_owned(),
                expected: "the name of a member or the place of an item",
            }),
        }
    }

    fn arithmetic(
        &mut self,
        operator: Arithmetic,
        left: &'v Node,
        right: &'v Node,
    ) -> Result<Slot<'v>, RenderError> {
        let left = self.evaluate(left)?;
        let right = self.evaluate(right)?;
        operators::arithmetic(self.meter, operator, left.value()?, right.value()?).map(Slot::Owned)
    }

    fn compare(&mut self, first: &'v Node, rest: &'v [(Comparison, Node)]) -> Result<Slot<'v>, RenderError> {
        let mut left = self.evaluate(first)?;
        for (operator, right) in rest {
            let right = self.evaluate(right)?;
            if !operators::compare(self.meter, *operator, left.value()?, right.value()?)? {
                return Ok(Slot::Owned(Value::Bool(false)));
            }
            left = right;
        }
        Ok(Slot::Owned(Value::Bool(true)))
    }

    fn list(&mut self, items: &'v [Node]) -> Result<Slot<'v>, RenderError> {
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            list.push(self.evaluate(item)?.into_value(self.meter)?);
        }
        Ok(Slot::Owned(Value::Array(list)))
    }

    fn map(&mut self, members: &'v [(Node, Node)]) -> Result<Slot<'v>, RenderError> {
        let mut map = Map::new();
        for (key, value) in members {
            let key = match self.evaluate(key)?.into_value(self.meter)? {
                Value::String(key) => key,
                other => {
                    return Err(RenderError::Type {
                        operation: "`{…: …}`",
                        found: type_name(&other).to_owned(),
                        expected: "texts as keys",
                    });
                }
            };
            map.insert(key, self.evaluate(value)?.into_value(self.meter)?);
        }
        Ok(Slot::Owned(Value::Object(map)))
    }
}

/// A part of `base`, borrowed or taken out; undefined where `base` is, or where the part is missing.
fn select<'v>(
    base: Slot<'v>,
    node: &'v Node,
    borrow: impl FnOnce(&'v Value) -> Option<&'v Value>,
    take: impl FnOnce(Value) -> Option<Value>,
) -> Slot<'v> {
    match base {
        Slot::Undefined(_) => base,
        Slot::Borrowed(value) => borrow(value).map_or(Slot::Undefined(node), Slot::Borrowed),
        Slot::Owned(value) => take(value).map_or(Slot::Undefined(node), Slot::Owned),
    }
}

fn take_member(value: Value, key: &str) -> Option<Value> {
    match value {
        Value::Object(mut members) => members.remove(key),
        _ => None,
    }
}

//! Evaluates a [`Node`]. Values are borrowed from the context for as long as possible; whatever is copied or made
//! is paid for first.

use serde_json::{Map, Value};

use crate::context::{Context, Found};
use crate::error::RenderError;
use crate::filters::{self, Filter};
use crate::meter::Meter;
use crate::node::{Arithmetic, Comparison, Node};
use crate::operators::{self, type_name};
use crate::predicates::{self, Predicate};
use crate::scope::Reference;

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
    /// Evaluates `node`. This function recurses, so it only hands over: what the cases need on the stack is theirs.
    pub(crate) fn evaluate(&mut self, node: &'v Node) -> Result<Slot<'v>, RenderError> {
        self.meter.step()?;
        match node {
            Node::Constant(value) => Ok(Slot::Borrowed(value)),
            Node::Read(reference) => self.read(node, reference),
            Node::Member { base, key } => self.member(node, base, key),
            Node::Index { base, index } => self.index(node, base, index),
            Node::Slice {
                base,
                start,
                stop,
                step,
            } => self.slice(base, [start, stop, step]),
            Node::Not(inner) => self.not(inner),
            Node::Negate(inner) => self.negate(inner),
            Node::And(left, right) => self.either(left, right, false),
            Node::Or(left, right) => self.either(left, right, true),
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
            } => self.choose(condition, then, otherwise),
            Node::Filter {
                filter: Filter::Default,
                input,
                arguments,
            } => filters::default(self, input, arguments),
            Node::Filter {
                filter,
                input,
                arguments,
            } => filters::apply(self, *filter, input, arguments),
            Node::Test {
                predicate,
                input,
                argument,
            } => self.test(*predicate, input, argument.as_deref()),
            Node::List(items) => self.list(items),
            Node::Map(members) => self.map(members),
        }
    }

    fn read(&mut self, node: &'v Node, reference: &'v Reference) -> Result<Slot<'v>, RenderError> {
        match self.context.look_up(reference) {
            Found::Value(value) => Ok(Slot::Borrowed(value)),
            Found::Absent => Ok(Slot::Undefined(node)),
            Found::Withheld => Err(Context::withheld(reference)),
        }
    }

    fn member(&mut self, node: &'v Node, base: &'v Node, key: &str) -> Result<Slot<'v>, RenderError> {
        let base = self.evaluate(base)?;
        Ok(select(
            base,
            node,
            |value| value.as_object()?.get(key),
            |value| take_member(value, key),
        ))
    }

    fn slice(&mut self, base: &'v Node, bounds: [&'v Option<Box<Node>>; 3]) -> Result<Slot<'v>, RenderError> {
        let base = self.evaluate(base)?;
        let mut given = [None, None, None];
        for (given, bound) in given.iter_mut().zip(bounds) {
            if let Some(bound) = bound {
                *given = Some(self.evaluate(bound)?.value()?.clone());
            }
        }
        operators::slice(self.meter, base.value()?, given).map(Slot::Owned)
    }

    fn not(&mut self, inner: &'v Node) -> Result<Slot<'v>, RenderError> {
        Ok(Slot::Owned(Value::Bool(!self.truth(inner)?)))
    }

    fn negate(&mut self, inner: &'v Node) -> Result<Slot<'v>, RenderError> {
        operators::negate(self.evaluate(inner)?.value()?).map(Slot::Owned)
    }

    /// `and` and `or`, which give one of their operands: the left one if its truth is `decisive`.
    fn either(&mut self, left: &'v Node, right: &'v Node, decisive: bool) -> Result<Slot<'v>, RenderError> {
        let left = self.evaluate(left)?;
        if operators::truthy(left.value()?) == decisive {
            Ok(left)
        } else {
            self.defined(right)
        }
    }

    fn choose(
        &mut self,
        condition: &'v Node,
        then: &'v Node,
        otherwise: &'v Node,
    ) -> Result<Slot<'v>, RenderError> {
        let chosen = if self.truth(condition)? { then } else { otherwise };
        self.evaluate(chosen)
    }

    fn test(
        &mut self,
        predicate: Predicate,
        input: &'v Node,
        argument: Option<&'v Node>,
    ) -> Result<Slot<'v>, RenderError> {
        let input = self.evaluate(input)?;
        let argument = argument.map(|argument| self.evaluate(argument)).transpose()?;
        let truth = predicates::holds(self.meter, predicate, &input, argument.as_ref())?;
        Ok(Slot::Owned(Value::Bool(truth)))
    }

    fn truth(&mut self, node: &'v Node) -> Result<bool, RenderError> {
        Ok(operators::truthy(self.evaluate(node)?.value()?))
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

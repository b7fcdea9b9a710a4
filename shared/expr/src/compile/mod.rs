//! From the parser's tree to a [`Node`], refusing what the language does not have.

mod access;

use std::cell::Cell;

use minijinja::Value as Constant;
use minijinja::machinery::ast::{self, BinOpKind, CallArg, CompareOpKind, Expr, UnaryOpKind};
use minijinja::machinery::parse_expr;
use minijinja::value::ValueKind;
use serde_json::{Number, Value};

use crate::error::ParseError;
use crate::filters::Filter;
use crate::node::{Arithmetic, Comparison, Node};
use crate::predicates::Predicate;
use crate::scan::{MAX_DEPTH, syntax_error};
use crate::scope::Scope;

/// Parses one capped expression.
pub(crate) fn compile(source: &str, scope: Scope) -> Result<Node, ParseError> {
    if source.trim().is_empty() {
        return Err(ParseError::Empty);
    }
    let tree = parse_expr(source).map_err(|error| syntax_error(source, &error))?;
    Compiler {
        scope,
        depth: Cell::new(0),
    }
    .expression(&tree)
}

struct Compiler {
    scope: Scope,
    /// How many operations stand around the current one.
    depth: Cell<usize>,
}

impl Compiler {
    fn boxed(&self, expression: &Expr<'_>) -> Result<Box<Node>, ParseError> {
        self.expression(expression).map(Box::new)
    }

    fn optional(&self, expression: Option<&Expr<'_>>) -> Result<Option<Box<Node>>, ParseError> {
        expression.map(|expression| self.boxed(expression)).transpose()
    }

    fn expression(&self, expression: &Expr<'_>) -> Result<Node, ParseError> {
        let depth = self.depth.get() + 1;
        if depth > MAX_DEPTH {
            return Err(ParseError::TooManyOperations);
        }
        self.depth.set(depth);
        let node = self.operation(expression)?;
        self.depth.set(depth - 1);
        Ok(node)
    }

    /// This function recurses, so it only hands over: what the cases need on the stack is theirs.
    fn operation(&self, expression: &Expr<'_>) -> Result<Node, ParseError> {
        match expression {
            Expr::Var(_) | Expr::GetAttr(_) | Expr::GetItem(_) => self.access(expression),
            Expr::Const(constant) => literal(&constant.value).map(Node::Constant),
            Expr::Slice(slice) => self.slice(slice),
            Expr::UnaryOp(operation) => self.unary(operation),
            Expr::BinOp(operation) => self.binary(operation),
            Expr::Compare(compare) => self.compare(compare),
            Expr::IfExpr(choice) => self.choice(choice),
            Expr::Filter(filter) => self.filter(filter),
            Expr::Test(test) => self.test(test),
            Expr::Call(call) => Err(refuse_call(call)),
            Expr::List(list) => self.items(&list.items).map(Node::List),
            Expr::Tuple(tuple) => self.items(&tuple.items).map(Node::List),
            Expr::Map(map) => self.map(map),
        }
    }

    fn slice(&self, slice: &ast::Slice<'_>) -> Result<Node, ParseError> {
        Ok(Node::Slice {
            base: self.boxed(&slice.expr)?,
            start: self.optional(slice.start.as_ref())?,
            stop: self.optional(slice.stop.as_ref())?,
            step: self.optional(slice.step.as_ref())?,
        })
    }

    fn unary(&self, operation: &ast::UnaryOp<'_>) -> Result<Node, ParseError> {
        let inner = self.boxed(&operation.expr)?;
        Ok(match operation.op {
            UnaryOpKind::Not => Node::Not(inner),
            UnaryOpKind::Neg => Node::Negate(inner),
        })
    }

    fn compare(&self, compare: &ast::Compare<'_>) -> Result<Node, ParseError> {
        let first = self.boxed(&compare.expr)?;
        let mut rest = Vec::with_capacity(compare.ops.len());
        for next in &compare.ops {
            rest.push((comparison(next.op), self.expression(&next.expr)?));
        }
        Ok(Node::Compare { first, rest })
    }

    fn choice(&self, choice: &ast::IfExpr<'_>) -> Result<Node, ParseError> {
        Ok(Node::If {
            condition: self.boxed(&choice.test_expr)?,
            then: self.boxed(&choice.true_expr)?,
            otherwise: self.boxed(choice.false_expr.as_ref().ok_or(ParseError::MissingElse)?)?,
        })
    }

    fn map(&self, map: &ast::Map<'_>) -> Result<Node, ParseError> {
        let mut members = Vec::with_capacity(map.keys.len());
        for (key, value) in map.keys.iter().zip(&map.values) {
            members.push((self.expression(key)?, self.expression(value)?));
        }
        Ok(Node::Map(members))
    }

    fn items(&self, items: &[Expr<'_>]) -> Result<Vec<Node>, ParseError> {
        items.iter().map(|item| self.expression(item)).collect()
    }

    fn binary(&self, operation: &ast::BinOp<'_>) -> Result<Node, ParseError> {
        let left = self.boxed(&operation.left)?;
        let right = self.boxed(&operation.right)?;
        Ok(join(operation.op, left, right))
    }

    fn filter(&self, filter: &ast::Filter<'_>) -> Result<Node, ParseError> {
        let known = Filter::from_name(filter.name).ok_or_else(|| ParseError::UnknownFilter {
            name: filter.name.to_owned(),
            allowed: Filter::names(),
        })?;
        let input = filter.expr.as_ref().ok_or(ParseError::Empty)?;
        let wrong = || ParseError::Arguments {
            name: filter.name.to_owned(),
            usage: known.usage(),
        };
        let mut arguments: Vec<Option<Node>> = known.parameters().iter().map(|_| None).collect();
        for (position, argument) in filter.args.iter().enumerate() {
            let (slot, value) = match argument {
                CallArg::Pos(value) => (position, value),
                CallArg::Kwarg(name, value) => {
                    let slot = known.parameters().iter().position(|parameter| parameter == name);
                    (slot.ok_or_else(wrong)?, value)
                }
                CallArg::PosSplat(_) | CallArg::KwargSplat(_) => return Err(wrong()),
            };
            match arguments.get_mut(slot) {
                Some(empty @ None) => *empty = Some(self.expression(value)?),
                _ => return Err(wrong()),
            }
        }
        if arguments.iter().take(known.required()).any(Option::is_none) {
            return Err(wrong());
        }
        Ok(Node::Filter {
            filter: known,
            input: self.boxed(input)?,
            arguments,
        })
    }

    fn test(&self, test: &ast::Test<'_>) -> Result<Node, ParseError> {
        let predicate = Predicate::from_name(test.name).ok_or_else(|| ParseError::UnknownTest {
            name: test.name.to_owned(),
            allowed: Predicate::names(),
        })?;
        let argument = match (test.args.as_slice(), predicate.takes_argument()) {
            ([], false) => None,
            ([CallArg::Pos(argument)], true) => Some(self.boxed(argument)?),
            _ => {
                return Err(ParseError::Arguments {
                    name: test.name.to_owned(),
                    usage: predicate.usage(),
                });
            }
        };
        Ok(Node::Test {
            predicate,
            input: self.boxed(&test.expr)?,
            argument,
        })
    }
}

fn join(operator: BinOpKind, left: Box<Node>, right: Box<Node>) -> Node {
    let comparison = match operator {
        BinOpKind::ScAnd => return Node::And(left, right),
        BinOpKind::ScOr => return Node::Or(left, right),
        BinOpKind::Add => {
            return Node::Arithmetic {
                operator: Arithmetic::Add,
                left,
                right,
            };
        }
        BinOpKind::Sub => {
            return Node::Arithmetic {
                operator: Arithmetic::Subtract,
                left,
                right,
            };
        }
        BinOpKind::Mul => {
            return Node::Arithmetic {
                operator: Arithmetic::Multiply,
                left,
                right,
            };
        }
        BinOpKind::Div => {
            return Node::Arithmetic {
                operator: Arithmetic::Divide,
                left,
                right,
            };
        }
        BinOpKind::FloorDiv => {
            return Node::Arithmetic {
                operator: Arithmetic::FloorDivide,
                left,
                right,
            };
        }
        BinOpKind::Rem => {
            return Node::Arithmetic {
                operator: Arithmetic::Remainder,
                left,
                right,
            };
        }
        BinOpKind::Pow => {
            return Node::Arithmetic {
                operator: Arithmetic::Power,
                left,
                right,
            };
        }
        BinOpKind::Concat => {
            return Node::Arithmetic {
                operator: Arithmetic::Concatenate,
                left,
                right,
            };
        }
        BinOpKind::Eq => Comparison::Equal,
        BinOpKind::Ne => Comparison::NotEqual,
        BinOpKind::Lt => Comparison::Less,
        BinOpKind::Lte => Comparison::LessOrEqual,
        BinOpKind::Gt => Comparison::Greater,
        BinOpKind::Gte => Comparison::GreaterOrEqual,
        BinOpKind::In => Comparison::In,
    };
    Node::Compare {
        first: left,
        rest: vec![(comparison, *right)],
    }
}

/// Names the filter of the function's or method's name, where there is one.
fn refuse_call(call: &ast::Call<'_>) -> ParseError {
    let name = match &call.expr {
        Expr::GetAttr(method) => method.name,
        Expr::Var(function) => function.id,
        _ => "",
    };
    let hint = if Filter::from_name(name).is_some() {
        name
    } else {
        "default('x')"
    };
    ParseError::Call {
        hint: hint.to_owned(),
    }
}

fn comparison(operator: CompareOpKind) -> Comparison {
    match operator {
        CompareOpKind::Eq => Comparison::Equal,
        CompareOpKind::Ne => Comparison::NotEqual,
        CompareOpKind::Lt => Comparison::Less,
        CompareOpKind::Lte => Comparison::LessOrEqual,
        CompareOpKind::Gt => Comparison::Greater,
        CompareOpKind::Gte => Comparison::GreaterOrEqual,
        CompareOpKind::In => Comparison::In,
        CompareOpKind::NotIn => Comparison::NotIn,
    }
}

fn literal(constant: &Constant) -> Result<Value, ParseError> {
    match constant.kind() {
        ValueKind::None => Ok(Value::Null),
        ValueKind::Bool => Ok(Value::Bool(constant.is_true())),
        ValueKind::String => Ok(Value::String(constant.as_str().unwrap_or_default().to_owned())),
        ValueKind::Number if constant.is_integer() => constant
            .as_i64()
            .map(Number::from)
            .or_else(|| u64::try_from(constant.clone()).ok().map(Number::from))
            .map(Value::Number)
            .ok_or(ParseError::NumberTooLarge),
        ValueKind::Number => f64::try_from(constant.clone())
            .ok()
            .and_then(Number::from_f64)
            .map(Value::Number)
            .ok_or(ParseError::NumberTooLarge),
        _ => Err(ParseError::NumberTooLarge),
    }
}

//! From the parser's tree to a [`Node`], refusing what the language does not have.

use minijinja::Value as Constant;
use minijinja::machinery::ast::{self, BinOpKind, CallArg, CompareOpKind, Expr, UnaryOpKind};
use minijinja::machinery::parse_expr;
use minijinja::value::ValueKind;
use serde_json::{Number, Value};

use crate::error::ParseError;
use crate::filters::Filter;
use crate::node::{Arithmetic, Comparison, Node};
use crate::predicates::Predicate;
use crate::scan::syntax_error;
use crate::scope::{Reference, Root, Scope, write_member};

/// Parses one capped expression.
pub(crate) fn compile(source: &str, scope: Scope) -> Result<Node, ParseError> {
    if source.trim().is_empty() {
        return Err(ParseError::Empty);
    }
    let tree = parse_expr(source).map_err(|error| syntax_error(source, &error))?;
    Compiler { scope }.expression(&tree)
}

struct Compiler {
    scope: Scope,
}

impl Compiler {
    fn boxed(&self, expression: &Expr<'_>) -> Result<Box<Node>, ParseError> {
        self.expression(expression).map(Box::new)
    }

    fn optional(&self, expression: Option<&Expr<'_>>) -> Result<Option<Box<Node>>, ParseError> {
        expression.map(|expression| self.boxed(expression)).transpose()
    }

    fn expression(&self, expression: &Expr<'_>) -> Result<Node, ParseError> {
        Ok(match expression {
            Expr::Var(_) | Expr::GetAttr(_) | Expr::GetItem(_) => self.access(expression)?,
            Expr::Const(constant) => Node::Constant(literal(&constant.value)?),
            Expr::Slice(slice) => Node::Slice {
                base: self.boxed(&slice.expr)?,
                start: self.optional(slice.start.as_ref())?,
                stop: self.optional(slice.stop.as_ref())?,
                step: self.optional(slice.step.as_ref())?,
            },
            Expr::UnaryOp(operation) => match operation.op {
                UnaryOpKind::Not => Node::Not(self.boxed(&operation.expr)?),
                UnaryOpKind::Neg => Node::Negate(self.boxed(&operation.expr)?),
            },
            Expr::BinOp(operation) => self.binary(operation)?,
            Expr::Compare(compare) => Node::Compare {
                first: self.boxed(&compare.expr)?,
                rest: compare
                    .ops
                    .iter()
                    .map(|next| Ok((comparison(next.op), self.expression(&next.expr)?)))
                    .collect::<Result<_, ParseError>>()?,
            },
            Expr::IfExpr(choice) => Node::If {
                condition: self.boxed(&choice.test_expr)?,
                then: self.boxed(&choice.true_expr)?,
                otherwise: self.boxed(choice.false_expr.as_ref().ok_or(ParseError::MissingElse)?)?,
            },
            Expr::Filter(filter) => self.filter(filter)?,
            Expr::Test(test) => self.test(test)?,
            Expr::Call(call) => {
                let hint = match &call.expr {
                    Expr::GetAttr(method) if Filter::from_name(method.name).is_some() => method.name,
                    Expr::Var(function) if Filter::from_name(function.id).is_some() => function.id,
                    _ => "default('x')",
                };
                return Err(ParseError::Call {
                    hint: hint.to_owned(),
                });
            }
            Expr::List(list) => Node::List(self.items(&list.items)?),
            Expr::Tuple(tuple) => Node::List(self.items(&tuple.items)?),
            Expr::Map(map) => Node::Map(
                map.keys
                    .iter()
                    .zip(&map.values)
                    .map(|(key, value)| Ok((self.expression(key)?, self.expression(value)?)))
                    .collect::<Result<_, ParseError>>()?,
            ),
        })
    }

    fn items(&self, items: &[Expr<'_>]) -> Result<Vec<Node>, ParseError> {
        items.iter().map(|item| self.expression(item)).collect()
    }

    fn binary(&self, operation: &ast::BinOp<'_>) -> Result<Node, ParseError> {
        let (left, right) = (self.boxed(&operation.left)?, self.boxed(&operation.right)?);
        let arithmetic = |operator| {
            move |left, right| Node::Arithmetic {
                operator,
                left,
                right,
            }
        };
        let compare = |operator| {
            move |first, right: Box<Node>| Node::Compare {
                first,
                rest: vec![(operator, *right)],
            }
        };
        Ok(match operation.op {
            BinOpKind::ScAnd => Node::And(left, right),
            BinOpKind::ScOr => Node::Or(left, right),
            BinOpKind::Eq => compare(Comparison::Equal)(left, right),
            BinOpKind::Ne => compare(Comparison::NotEqual)(left, right),
            BinOpKind::Lt => compare(Comparison::Less)(left, right),
            BinOpKind::Lte => compare(Comparison::LessOrEqual)(left, right),
            BinOpKind::Gt => compare(Comparison::Greater)(left, right),
            BinOpKind::Gte => compare(Comparison::GreaterOrEqual)(left, right),
            BinOpKind::In => compare(Comparison::In)(left, right),
            BinOpKind::Add => arithmetic(Arithmetic::Add)(left, right),
            BinOpKind::Sub => arithmetic(Arithmetic::Subtract)(left, right),
            BinOpKind::Mul => arithmetic(Arithmetic::Multiply)(left, right),
            BinOpKind::Div => arithmetic(Arithmetic::Divide)(left, right),
            BinOpKind::FloorDiv => arithmetic(Arithmetic::FloorDivide)(left, right),
            BinOpKind::Rem => arithmetic(Arithmetic::Remainder)(left, right),
            BinOpKind::Pow => arithmetic(Arithmetic::Power)(left, right),
            BinOpKind::Concat => arithmetic(Arithmetic::Concatenate)(left, right),
        })
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

    /// A name, or a chain of members from one.
    fn access(&self, expression: &Expr<'_>) -> Result<Node, ParseError> {
        let mut chain = Vec::new();
        let mut base = expression;
        loop {
            match base {
                Expr::GetAttr(attribute) => {
                    chain.push(Step::Name(attribute.name.to_owned()));
                    base = &attribute.expr;
                }
                Expr::GetItem(item) => {
                    chain.push(Step::of(&item.subscript_expr));
                    base = &item.expr;
                }
                _ => break,
            }
        }
        chain.reverse();
        let mut chain = chain.into_iter();
        let mut node = match base {
            Expr::Var(variable) => Node::Read(self.reference(variable.id, &mut chain)?),
            other => self.expression(other)?,
        };
        for step in chain {
            let base = Box::new(node);
            node = match step {
                Step::Name(key) => Node::Member { base, key },
                Step::Computed(index) => Node::Index {
                    base,
                    index: self.boxed(index)?,
                },
            };
        }
        Ok(node)
    }

    fn reference<'e, 's: 'e>(
        &self,
        name: &str,
        chain: &mut impl Iterator<Item = Step<'e, 's>>,
    ) -> Result<Reference, ParseError> {
        let root = Root::from_name(name).ok_or_else(|| ParseError::UnknownName {
            name: name.to_owned(),
            allowed: self.scope.forms(),
        })?;
        if !self.scope.allows(root) {
            return Err(ParseError::OutOfScope {
                root: root.name(),
                allowed: self.scope.forms(),
            });
        }
        let mut path = FullPath {
            root,
            written: name.to_owned(),
        };
        let name = path.name(chain.next())?;
        Ok(match root {
            Root::Parameters => Reference::Parameter { name },
            Root::Deployment => Reference::Deployment { name },
            Root::Secrets => Reference::Secret { name },
            Root::Selections => Reference::Selection { name },
            Root::Steps => {
                if path.name(chain.next())? != "outputs" {
                    return Err(path.incomplete());
                }
                Reference::Output {
                    step: name,
                    key: path.name(chain.next())?,
                }
            }
        })
    }
}

/// The path of a reference as far as it has been read.
struct FullPath {
    root: Root,
    written: String,
}

impl FullPath {
    fn name(&mut self, step: Option<Step<'_, '_>>) -> Result<String, ParseError> {
        match step {
            Some(Step::Name(name)) => {
                write_member(&mut self.written, &name).expect("writing to a String does not fail");
                Ok(name)
            }
            Some(Step::Computed(_)) => Err(ParseError::DynamicPath {
                written: self.written.clone(),
                form: self.root.form(),
            }),
            None => Err(self.incomplete()),
        }
    }

    fn incomplete(&self) -> ParseError {
        ParseError::IncompletePath {
            written: self.written.clone(),
            form: self.root.form(),
            form_root: self.root.name(),
        }
    }
}

/// One step of an access chain.
enum Step<'e, 's> {
    Name(String),
    Computed(&'e Expr<'s>),
}

impl<'e, 's> Step<'e, 's> {
    fn of(subscript: &'e Expr<'s>) -> Step<'e, 's> {
        match subscript {
            Expr::Const(constant) => match constant.value.as_str() {
                Some(name) => Step::Name(name.to_owned()),
                None => Step::Computed(subscript),
            },
            _ => Step::Computed(subscript),
        }
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

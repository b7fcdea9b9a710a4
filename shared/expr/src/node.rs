//! A checked expression, ready to be evaluated any number of times.

use std::fmt::{self, Write};

use serde_json::Value;

use crate::filters::Filter;
use crate::predicates::Predicate;
use crate::scope::{Reference, write_member};

/// An expression. Every name, filter, test and argument in it is known to be allowed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Constant(Value),
    Read(Reference),
    /// `base.key` and `base['key']`.
    Member {
        base: Box<Node>,
        key: String,
    },
    /// `base[index]`, where the index is not a literal text.
    Index {
        base: Box<Node>,
        index: Box<Node>,
    },
    Slice {
        base: Box<Node>,
        start: Option<Box<Node>>,
        stop: Option<Box<Node>>,
        step: Option<Box<Node>>,
    },
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Arithmetic {
        operator: Arithmetic,
        left: Box<Node>,
        right: Box<Node>,
    },
    /// `first < second <= third`: every neighbouring pair must hold.
    Compare {
        first: Box<Node>,
        rest: Vec<(Comparison, Node)>,
    },
    If {
        condition: Box<Node>,
        then: Box<Node>,
        otherwise: Box<Node>,
    },
    Filter {
        filter: Filter,
        input: Box<Node>,
        /// By the filter's parameters, in their order.
        arguments: Vec<Option<Node>>,
    },
    Test {
        predicate: Predicate,
        input: Box<Node>,
        argument: Option<Box<Node>>,
    },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
    Concatenate,
}

impl Arithmetic {
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Arithmetic::Add => "`+`",
            Arithmetic::Subtract => "`-`",
            Arithmetic::Multiply => "`*`",
            Arithmetic::Divide => "`/`",
            Arithmetic::FloorDivide => "`//`",
            Arithmetic::Remainder => "`%`",
            Arithmetic::Power => "`**`",
            Arithmetic::Concatenate => "`~`",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

impl Comparison {
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Comparison::Equal => "`==`",
            Comparison::NotEqual => "`!=`",
            Comparison::Less => "`<`",
            Comparison::LessOrEqual => "`<=`",
            Comparison::Greater => "`>`",
            Comparison::GreaterOrEqual => "`>=`",
            Comparison::In => "`in`",
            Comparison::NotIn => "`not in`",
        }
    }
}

impl Node {
    /// The path as it would be written, for errors about a missing value. Computed parts print as `…`.
    pub(crate) fn describe(&self) -> String {
        let mut path = String::new();
        self.write_path(&mut path)
            .expect("writing to a String does not fail");
        path
    }

    fn write_path(&self, out: &mut String) -> fmt::Result {
        match self {
            Node::Read(reference) => write!(out, "{reference}"),
            Node::Member { base, key } => {
                base.write_path(out)?;
                write_member(out, key)
            }
            Node::Index { base, index } => {
                base.write_path(out)?;
                match &**index {
                    Node::Constant(Value::Number(number)) => write!(out, "[{number}]"),
                    _ => out.write_str("[…]"),
                }
            }
            Node::Filter { filter, input, .. } => {
                input.write_path(out)?;
                write!(out, " | {}", filter.name())
            }
            _ => out.write_str("(…)"),
        }
    }
}

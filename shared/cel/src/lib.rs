//! Expressions in CEL, the Common Expression Language, over the fields of one object. The parser is that of the crate
//! `cel`; evaluation is ours, because an expression comes from whoever writes a template, and nothing else can say how
//! much work it may be: every step and every byte that it makes counts against a limit.
//!
//! What there is: literals, lists and maps, all operators, `has`, `all`, `exists`, `exists_one`, `map`, `filter`, optional
//! fields (`a.?b`, `a[?b]`, `optional.of`, `optional.none`, `orValue`, `hasValue`, `value`, `or`), `size`, `contains`,
//! `startsWith`, `endsWith`, `matches`, `lowerAscii`, `upperAscii`, `trim`, `split`, `join`, `int`, `uint`, `double`,
//! `string`, `bool` and `type(x) == …` is not. Timestamps, durations and bytes are refused when an expression is read.

mod evaluate;
mod functions;
mod value;

use std::fmt;

use cel::{IdedExpr, common::ast::Expr, parser::PrattParser};
use serde_json::Value as Json;

/// Most bytes of an expression.
pub const LONGEST: usize = 2048;

/// Deepest nesting of an expression.
const DEEPEST: u16 = 48;

/// Stack that reading or evaluating may need beyond what the caller has left, in bytes.
const RED_ZONE: usize = 3 << 20;
const STACK: usize = 8 << 20;

/// An expression that was read.
#[derive(Debug)]
pub struct Expression {
    tree: IdedExpr,
}

/// Why a text is not an expression, or why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CelError(String);

impl fmt::Display for CelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CelError {}

fn error<T>(message: impl Into<String>) -> Result<T, CelError> {
    Err(CelError(message.into()))
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong, with line and column; or that it is longer, deeper or asks for more than there is here.
    pub fn parse(text: &str) -> Result<Self, CelError> {
        if text.len() > LONGEST {
            return error(format!(
                "it has {} bytes; at most {LONGEST} are allowed",
                text.len()
            ));
        }
        let read = || {
            PrattParser::new()
                .max_recursion_depth(DEEPEST)
                .error_recovery_limit(1)
                .error_reporting_limit(1)
                .enable_optional_syntax(true)
                .enable_ident_escape_syntax(true)
                .parse(text)
        };
        let tree = stacker::maybe_grow(RED_ZONE, STACK, read).map_err(|errors| {
            let first = errors.errors.first();
            CelError(first.map_or_else(
                || "it is not a CEL expression".to_owned(),
                |first| match first.pos {
                    (line, column) if line > 0 => {
                        format!("line {line}, column {column}: {}", first.msg)
                    }
                    _ => first.msg.clone(),
                },
            ))
        })?;
        let expression = Self { tree };
        stacker::maybe_grow(RED_ZONE, STACK, || functions::check(&expression.tree.expr, 0))?;
        Ok(expression)
    }

    /// Whether it is true of an object, whose fields are its variables.
    ///
    /// # Errors
    /// That a field is not there, that types do not fit, that it is neither true nor false, or that it is more work than is
    /// allowed.
    pub fn is_true(&self, object: &Json) -> Result<bool, CelError> {
        stacker::maybe_grow(RED_ZONE, STACK, || evaluate::evaluate(&self.tree.expr, object))
    }
}

impl Drop for Expression {
    fn drop(&mut self) {
        // A chain of operators is as deep as it is long.
        let tree = std::mem::take(&mut self.tree.expr);
        stacker::maybe_grow(RED_ZONE, STACK, move || drop::<Expr>(tree));
    }
}

//! Sandboxed Jinja expressions: `{{ parameters.replicas }}` in chart values and step parameters, and bare
//! conditions in `when`.
//!
//! Who writes an expression is not trusted, so the language is smaller than Jinja: expressions only, no
//! statements, no function calls, and filters and tests from a fixed list ([`FILTERS`], [`TESTS`]). The grammar is
//! that of `minijinja`, whose tokenizer and parser are used; evaluation is our own, for three reasons. What an
//! expression reads must be known without running it. Every operation has to pay for its memory before it takes
//! it, while `minijinja` folds `"x" * 100000000` as it compiles, before any fuel is spent. And `''[::-1]` makes it
//! panic. A test holds random expressions against `minijinja`'s own results.
//!
//! What holds:
//! - Text and expressions are capped before they are parsed ([`MAX_TEXT`], [`MAX_EXPRESSION`], [`MAX_TOKENS`],
//!   [`MAX_NESTING`], [`MAX_DEPTH`]), and parsing and evaluation run on a stack of known size.
//! - One call takes at most [`Limits::memory`] bytes for what it computes, [`Limits::fuel`] steps, and
//!   [`Limits::output`] bytes for one text.
//! - A value that itself contains `{{` is text and is never evaluated again.
//! - No error holds a value, so a secret cannot leave through a message.
//!
//! Start at [`Template`], [`Expression`], [`Context`], and for whole JSON values [`render_value`] and
//! [`collect_references`].

mod compile;
mod context;
mod error;
mod evaluate;
mod filters;
mod meter;
mod node;
mod operators;
mod path;
mod predicates;
mod reads;
mod scan;
mod scope;
mod stack;
mod template;
mod walk;

pub use context::{Context, resolve_step};
pub use error::{ParseError, RenderError};
pub use filters::FILTERS;
pub use meter::Limits;
pub use path::{Located, Path, PathSegment};
pub use predicates::TESTS;
pub use scan::{MAX_DEPTH, MAX_EXPRESSION, MAX_NESTING, MAX_TEXT, MAX_TOKENS, holds_expression};
pub use scope::{Read, Reference, Root, Scope};
pub use template::{Expression, Template};
pub use walk::{
    Collected, Partial, ValueError, collect_references, render_value, render_value_partial, results_reading,
    walk_strings,
};

//! What can be wrong with an expression. No error holds a value, only names and types.

use crate::scan::{MAX_DEPTH, MAX_EXPRESSION, MAX_NESTING, MAX_TEXT, MAX_TOKENS};

/// An expression that is refused before it is evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The text around the expressions is too long.
    #[error(
        "the text is {length} bytes long; a text that holds an expression may have at most {MAX_TEXT}, so move the expression into a shorter text"
    )]
    TextTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// One expression is too long.
    #[error("the expression is {length} bytes long; at most {MAX_EXPRESSION} are allowed")]
    ExpressionTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// One expression has too many parts.
    #[error("the expression has more than {MAX_TOKENS} tokens; split it over several values")]
    TooManyTokens,
    /// One expression nests too deeply.
    #[error(
        "the expression nests more than {MAX_NESTING} deep (brackets, `not`, `-` and `else` count); write it flatter"
    )]
    TooDeep,
    /// Too many operations build on each other.
    #[error("more than {MAX_DEPTH} operations build on each other; split the expression over several values")]
    TooManyOperations,
    /// `{% … %}`.
    #[error(
        "statements ({{% … %}}) are not allowed, only expressions ({{{{ … }}}}); to keep the text as it is, put it between {{% raw %}} and {{% endraw %}}"
    )]
    Statement,
    /// The expression in braces where a bare one is expected.
    #[error("a condition is a bare expression: write it without {{{{ and }}}}")]
    Braces,
    /// There is nothing between the braces.
    #[error("the expression is empty; write what to read, such as {{{{ parameters.NAME }}}}")]
    Empty,
    /// `{{`, `{#` or `{% raw %}` without its end.
    #[error(
        "{{{{, {{% or {{# begins something that does not end; to keep the characters as text, put them between {{% raw %}} and {{% endraw %}}"
    )]
    Unclosed,
    /// A closing bracket too many.
    #[error("a `)`, `]` or `}}` in the expression closes nothing; remove it, or open it before")]
    UnmatchedBracket,
    /// It does not follow the grammar.
    #[error("syntax error at character {position}: {message}")]
    Syntax {
        /// Where, counted in characters from 1.
        position: usize,
        /// What the parser says.
        message: String,
    },
    /// A name that is not one of the roots of the place.
    #[error("unknown name `{name}`: an expression here can read {allowed}; text is written in quotes")]
    UnknownName {
        /// The name.
        name: String,
        /// The forms that are allowed.
        allowed: String,
    },
    /// A root that exists, but not here.
    #[error("`{root}` cannot be read here: an expression here can read {allowed}")]
    OutOfScope {
        /// The root.
        root: &'static str,
        /// The forms that are allowed.
        allowed: String,
    },
    /// A root that is not read in its full form.
    #[error(
        "`{written}` is not complete: write {form} ({form_root}['…'] where the name is not an identifier)"
    )]
    IncompletePath {
        /// What was written.
        written: String,
        /// The form that is right.
        form: &'static str,
        /// The first word of that form.
        form_root: &'static str,
    },
    /// A name that is computed.
    #[error(
        "`{written}[…]` is computed, but what an expression reads must be known in advance: write {form} with literal names"
    )]
    DynamicPath {
        /// What was written before the bracket.
        written: String,
        /// The form that is right.
        form: &'static str,
    },
    /// A function or method call.
    #[error("functions and methods cannot be called; use a filter, as in `value | {hint}`")]
    Call {
        /// A filter that exists.
        hint: String,
    },
    /// A filter that is not on the list.
    #[error("unknown filter `{name}`; there are {allowed}")]
    UnknownFilter {
        /// The name.
        name: String,
        /// Those that exist.
        allowed: String,
    },
    /// A test that is not on the list.
    #[error("unknown test `{name}`; there are {allowed}")]
    UnknownTest {
        /// The name.
        name: String,
        /// Those that exist.
        allowed: String,
    },
    /// A filter or test with wrong arguments.
    #[error("wrong arguments: {name} is written `{usage}`")]
    Arguments {
        /// The filter or test.
        name: String,
        /// How it is written.
        usage: &'static str,
    },
    /// `a if b` without `else`.
    #[error("an inline `if` needs an `else`: write `A if CONDITION else B`")]
    MissingElse,
    /// A number that JSON readers would not keep.
    #[error("a number in the expression is too large; at most 64 bits are kept")]
    NumberTooLarge,
}

/// An expression that is right in form and cannot be evaluated with the values at hand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// Something that is read has no value.
    #[error("`{path}` has no value; give it one, or write `{path} | default(…)`")]
    Undefined {
        /// What was read.
        path: String,
    },
    /// A secret, or a secret parameter, where secrets are not resolved.
    #[error("`{path}` is a secret, and secrets cannot be read here")]
    SecretUnavailable {
        /// What was read.
        path: String,
    },
    /// An operator, filter or test on values of types that it does not take.
    #[error("{operation} cannot be used on {found}; it takes {expected}")]
    Type {
        /// The operator, filter or test.
        operation: &'static str,
        /// The type, or types, found.
        found: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A text that a filter could not read.
    #[error("{operation} cannot read this text; it takes {expected}")]
    Text {
        /// The filter.
        operation: &'static str,
        /// What would be right.
        expected: &'static str,
    },
    /// A division by zero, or a result that is not a 64-bit number.
    #[error("{operation} has no result that is a 64-bit number")]
    Number {
        /// The operator or filter.
        operation: &'static str,
    },
    /// A condition that gave something else than true or false.
    #[error("the condition gives {found}, but must give true or false; compare it, as in `… == 'x'`")]
    NotBoolean {
        /// The type found.
        found: &'static str,
    },
    /// The expression takes too many steps.
    #[error("the expression takes more than {limit} steps")]
    OutOfFuel {
        /// The limit.
        limit: u64,
    },
    /// The expression computes too much.
    #[error("the expression needs more than {limit} bytes of memory")]
    OutOfMemory {
        /// The limit in bytes.
        limit: usize,
    },
    /// The text that comes out is too long.
    #[error("the rendered text is longer than {limit} bytes")]
    OutputTooLong {
        /// The limit in bytes.
        limit: usize,
    },
}

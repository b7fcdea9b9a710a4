//! Splits a text into what stands between expressions and the expressions, and caps both before anything is
//! parsed.
//!
//! The boundaries come from the tokenizer that the parser itself uses, so that the two cannot disagree. It does
//! not recurse.

use std::sync::LazyLock;

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

use crate::error::ParseError;

/// The longest text, in bytes, that may hold an expression. A text without one may have any length.
pub const MAX_TEXT: usize = 64 << 10;
/// The longest expression in bytes.
pub const MAX_EXPRESSION: usize = 4 << 10;
/// The most tokens of one expression.
pub const MAX_TOKENS: usize = 512;
/// How deep one expression may nest: open brackets, and `not`, `-` and `else` in front of the same operand.
pub const MAX_NESTING: usize = 16;
/// How many operations may be applied one to the result of the other, as in `a + b + c` or `a.b.c | d`.
pub const MAX_DEPTH: usize = 64;

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'t> {
    Text(&'t str),
    /// The source between the braces, capped.
    Expression(&'t str),
}

/// Whether `text` holds the beginning of an expression, statement or comment. If not, it renders as itself.
pub fn holds_expression(text: &str) -> bool {
    text.as_bytes()
        .windows(2)
        .any(|pair| matches!(pair, b"{{" | b"{%" | b"{#"))
}

/// Splits `text`, which holds an expression, into its parts.
pub(crate) fn split(text: &str) -> Result<Vec<Part<'_>>, ParseError> {
    if text.len() > MAX_TEXT {
        return Err(ParseError::TextTooLong { length: text.len() });
    }
    let mut parts = Vec::new();
    let mut open: Option<(usize, Caps)> = None;
    for token in tokenize(text, false, SYNTAX.clone()) {
        let (token, span) = token.map_err(|error| match &open {
            Some(_) => syntax_error(text, &error),
            None => ParseError::Unclosed,
        })?;
        match (&token, &mut open) {
            (Token::BlockStart, _) => return Err(ParseError::Statement),
            (Token::TemplateData(data), None) => parts.push(Part::Text(data)),
            (Token::VariableStart, None) => open = Some((span.end_offset as usize, Caps::default())),
            (Token::VariableEnd, Some((start, _))) => {
                let source = &text[*start..span.start_offset as usize];
                if source.len() > MAX_EXPRESSION {
                    return Err(ParseError::ExpressionTooLong { length: source.len() });
                }
                parts.push(Part::Expression(source));
                open = None;
            }
            (_, Some((_, caps))) => caps.count(&token)?,
            (_, None) => {}
        }
    }
    if open.is_some() {
        return Err(ParseError::Unclosed);
    }
    Ok(parts)
}

/// Caps a bare expression.
pub(crate) fn check_bare(text: &str) -> Result<(), ParseError> {
    if text.len() > MAX_EXPRESSION {
        return Err(ParseError::ExpressionTooLong { length: text.len() });
    }
    if text.trim_start().starts_with("{{") {
        return Err(ParseError::Braces);
    }
    let mut caps = Caps::default();
    for token in tokenize(text, true, SYNTAX.clone()) {
        let (token, _) = token.map_err(|error| syntax_error(text, &error))?;
        caps.count(&token)?;
    }
    Ok(())
}

/// What the parser says, with the place of the fault in `text`.
pub(crate) fn syntax_error(text: &str, error: &minijinja::Error) -> ParseError {
    let offset = error.range().map_or(0, |range| range.start.min(text.len()));
    let position = text
        .char_indices()
        .take_while(|(index, _)| *index < offset)
        .count()
        + 1;
    ParseError::Syntax {
        position,
        message: error.detail().unwrap_or("not an expression").to_owned(),
    }
}

/// Jinja drops the last newline of a template; a value keeps its own.
static SYNTAX: LazyLock<SyntaxConfig> = LazyLock::new(|| {
    SyntaxConfig::builder()
        .keep_trailing_newline(true)
        .build()
        .expect("the default delimiters are valid")
});

/// Counts what makes the parser recurse.
#[derive(Debug, Default)]
struct Caps {
    tokens: usize,
    brackets: usize,
    prefixes: usize,
    branches: usize,
}

impl Caps {
    fn count(&mut self, token: &Token<'_>) -> Result<(), ParseError> {
        self.tokens += 1;
        if self.tokens > MAX_TOKENS {
            return Err(ParseError::TooManyTokens);
        }
        match token {
            Token::BracketOpen | Token::ParenOpen | Token::BraceOpen => self.brackets += 1,
            Token::BracketClose | Token::ParenClose | Token::BraceClose => {
                self.brackets = self.brackets.checked_sub(1).ok_or(ParseError::UnmatchedBracket)?;
            }
            Token::Ident("else") => self.branches += 1,
            _ => {}
        }
        match token {
            Token::Minus | Token::Ident("not") => self.prefixes += 1,
            _ => self.prefixes = 0,
        }
        if self.brackets + self.prefixes + self.branches > MAX_NESTING {
            return Err(ParseError::TooDeep);
        }
        Ok(())
    }
}

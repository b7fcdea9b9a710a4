//! Expressions in all strings of a JSON value, such as a chart's values or a step's parameters.
//!
//! Keys are never expressions; they stay as they are.

use serde_json::{Map, Value};

use crate::context::Context;
use crate::error::{ParseError, RenderError};
use crate::meter::{Limits, Meter};
use crate::path::{Located, Path, PathSegment};
use crate::scan::holds_expression;
use crate::scope::{Read, Reference, Scope};
use crate::template::Template;

/// What the strings of a JSON value read, and what is wrong with them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Collected {
    /// Every reference with the place of the string that reads it.
    pub references: Vec<(Path, Read)>,
    /// Every string that does not parse.
    pub errors: Vec<Located<ParseError>>,
}

/// A value that was rendered as far as its secrets allow.
#[derive(Debug, Clone, PartialEq)]
pub struct Partial {
    /// The value, in which the strings at [`pending`](Self::pending) are still the templates they were.
    pub value: Value,
    /// The strings that read a secret, in document order.
    pub pending: Vec<Path>,
}

/// Calls `visit` with every string in `value`, in document order, and its path, which starts with `at`.
pub fn walk_strings<'v>(value: &'v Value, at: &Path, mut visit: impl FnMut(&Path, &'v str)) {
    walk(value, &mut at.clone(), &mut visit);
}

fn walk<'v>(value: &'v Value, path: &mut Path, visit: &mut impl FnMut(&Path, &'v str)) {
    match value {
        Value::String(text) => visit(path, text),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(PathSegment::Index(index));
                walk(item, path, visit);
                path.pop();
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                path.push(PathSegment::Key(key.clone()));
                walk(member, path, visit);
                path.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Everything that the strings of `value` read, and all errors at once. Paths start with `at`.
pub fn collect_references(value: &Value, at: &Path, scope: Scope) -> Collected {
    let mut collected = Collected::default();
    walk_strings(value, at, |path, text| {
        if !holds_expression(text) {
            return;
        }
        match Template::parse(text, scope) {
            Ok(template) => collected.references.extend(
                template
                    .references()
                    .iter()
                    .map(|read| (path.clone(), read.clone())),
            ),
            Err(error) => collected.errors.push(Located {
                path: path.clone(),
                error,
            }),
        }
    });
    collected
}

/// What went wrong with one string of a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// It is not a template.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// It cannot be rendered with the values at hand.
    #[error(transparent)]
    Render(#[from] RenderError),
}

/// Renders every string of `value`. Each is rendered once: what comes out is never evaluated again. `limits` hold
/// for all strings together. Paths start with `at`.
///
/// # Errors
/// The first string that does not parse or render, with its path.
pub fn render_value(
    value: &Value,
    at: &Path,
    scope: Scope,
    context: &Context<'_>,
    limits: Limits,
) -> Result<Value, Located<ValueError>> {
    let mut renderer = Renderer {
        scope,
        context,
        meter: Meter::new(limits),
        pending: None,
    };
    renderer.render(value, &mut at.clone())
}

/// Renders as [`render_value`], but leaves a string as it is, all of it, if it reads a secret that `context` does
/// not hold, and says where such strings are.
///
/// The result serves to check and to show. It must not be rendered again, because a string that is already
/// rendered may hold `{{` as text: whoever has the secrets renders the original value with a snapshot of the
/// outputs, or only the strings at [`Partial::pending`].
///
/// # Errors
/// As [`render_value`].
pub fn render_value_partial(
    value: &Value,
    at: &Path,
    scope: Scope,
    context: &Context<'_>,
    limits: Limits,
) -> Result<Partial, Located<ValueError>> {
    let mut renderer = Renderer {
        scope,
        context,
        meter: Meter::new(limits),
        pending: Some(Vec::new()),
    };
    let value = renderer.render(value, &mut at.clone())?;
    Ok(Partial {
        value,
        pending: renderer.pending.unwrap_or_default(),
    })
}

/// What each expression in the strings of `value` gives that reads something of which `is_wanted` holds, in document
/// order and with the string in which it stands. `limits` hold for all together. What does not parse or cannot be
/// evaluated gives nothing.
pub fn results_reading<'v>(
    value: &'v Value,
    scope: Scope,
    context: &Context<'_>,
    limits: Limits,
    is_wanted: impl Fn(&Reference) -> bool,
) -> Vec<(&'v str, Value)> {
    let mut meter = Meter::new(limits);
    let mut results = Vec::new();
    walk_strings(value, &Path::root(), |_, text| {
        if !holds_expression(text) {
            return;
        }
        if let Ok(template) = Template::parse(text, scope)
            && template
                .references()
                .iter()
                .any(|read| is_wanted(&read.reference))
        {
            let found = template.results_metered(context, &mut meter, &is_wanted);
            results.extend(found.into_iter().map(|result| (text, result)));
        }
    });
    results
}

struct Renderer<'a> {
    scope: Scope,
    context: &'a Context<'a>,
    meter: Meter,
    pending: Option<Vec<Path>>,
}

impl Renderer<'_> {
    fn render(&mut self, value: &Value, path: &mut Path) -> Result<Value, Located<ValueError>> {
        Ok(match value {
            Value::String(text) if holds_expression(text) => {
                self.string(text, path).map_err(|error| Located {
                    path: path.clone(),
                    error,
                })?
            }
            Value::Array(items) => {
                let mut rendered = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    path.push(PathSegment::Index(index));
                    rendered.push(self.render(item, path)?);
                    path.pop();
                }
                Value::Array(rendered)
            }
            Value::Object(members) => {
                let mut rendered = Map::new();
                for (key, member) in members {
                    path.push(PathSegment::Key(key.clone()));
                    rendered.insert(key.clone(), self.render(member, path)?);
                    path.pop();
                }
                Value::Object(rendered)
            }
            other => other.clone(),
        })
    }

    fn string(&mut self, text: &str, path: &Path) -> Result<Value, ValueError> {
        let template = Template::parse(text, self.scope)?;
        if let Some(pending) = &mut self.pending
            && template
                .references()
                .iter()
                .any(|read| self.context.withholds(&read.reference))
        {
            pending.push(path.clone());
            return Ok(Value::String(text.to_owned()));
        }
        Ok(template.render_metered(self.context, &mut self.meter)?)
    }
}

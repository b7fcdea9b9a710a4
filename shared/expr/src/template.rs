//! Parsed texts and conditions.

use serde_json::Value;

use crate::compile::compile;
use crate::context::Context;
use crate::error::{ParseError, RenderError};
use crate::evaluate::Evaluation;
use crate::meter::{Limits, Meter};
use crate::node::Node;
use crate::operators::{type_name, write_text};
use crate::reads::reads;
use crate::scan::{Part, check_bare, holds_expression, split};
use crate::scope::{Read, Reference, Scope};
use crate::stack::on_known_stack;

/// A text that may hold expressions, checked and ready to be rendered any number of times.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    segments: Vec<Segment>,
    reads: Vec<Read>,
}

#[derive(Debug, Clone, PartialEq)]
enum Segment {
    Text(String),
    Expression(Node),
}

impl Template {
    /// Checks `text`, whose expressions may read what `scope` allows.
    ///
    /// Text without `{{`, `{%` and `{#` is taken as it is and may have any length. `{% raw %}…{% endraw %}` keeps
    /// what it encloses, and comments are dropped; every other statement is refused. `{{-` and `-}}` trim the
    /// white space beside them.
    ///
    /// # Errors
    /// Whatever is wrong with the text, known without any value: see [`ParseError`].
    pub fn parse(text: &str, scope: Scope) -> Result<Template, ParseError> {
        if !holds_expression(text) {
            return Ok(Template {
                segments: vec![Segment::Text(text.to_owned())],
                reads: Vec::new(),
            });
        }
        on_known_stack(|| {
            let mut template = Template {
                segments: Vec::new(),
                reads: Vec::new(),
            };
            for part in split(text)? {
                template.segments.push(match part {
                    Part::Text(text) => Segment::Text(text.to_owned()),
                    Part::Expression(source) => {
                        let node = compile(source, scope)?;
                        reads(&node, &mut template.reads);
                        Segment::Expression(node)
                    }
                });
            }
            Ok(template)
        })
    }

    /// Whether there is no expression in it, so that it renders as a text that no value changes.
    pub fn is_literal(&self) -> bool {
        self.segments
            .iter()
            .all(|segment| matches!(segment, Segment::Text(_)))
    }

    /// Everything that the expressions read, each reference once, in the order of first appearance.
    pub fn references(&self) -> &[Read] {
        &self.reads
    }

    /// Renders the text. A text that is exactly one expression keeps the type of its value; any other gives a
    /// string, in which lists and maps stand as JSON.
    ///
    /// # Errors
    /// A value is absent, withheld, of the wrong type, or the limits are reached: see [`RenderError`].
    pub fn render(&self, context: &Context<'_>, limits: Limits) -> Result<Value, RenderError> {
        self.render_metered(context, &mut Meter::new(limits))
    }

    pub(crate) fn render_metered(
        &self,
        context: &Context<'_>,
        meter: &mut Meter,
    ) -> Result<Value, RenderError> {
        match self.segments.as_slice() {
            [Segment::Text(text)] => meter.copy_text(text).map(Value::String),
            [Segment::Expression(node)] => {
                let value =
                    on_known_stack(|| Evaluation { context, meter }.evaluate(node)?.into_value(meter))?;
                if let Value::String(text) = &value {
                    within(text, meter)?;
                }
                Ok(value)
            }
            segments => on_known_stack(|| {
                let mut out = String::new();
                for segment in segments {
                    match segment {
                        Segment::Text(text) => {
                            meter.take(text.len())?;
                            out.push_str(text);
                        }
                        Segment::Expression(node) => {
                            let slot = Evaluation { context, meter }.evaluate(node)?;
                            write_text(meter, slot.value()?, &mut out)?;
                        }
                    }
                    within(&out, meter)?;
                }
                Ok(Value::String(out))
            }),
        }
    }

    /// What each expression gives that reads something of which `is_wanted` holds. One that cannot be evaluated gives
    /// nothing.
    pub(crate) fn results_metered(
        &self,
        context: &Context<'_>,
        meter: &mut Meter,
        is_wanted: impl Fn(&Reference) -> bool,
    ) -> Vec<Value> {
        let mut results = Vec::new();
        for segment in &self.segments {
            let Segment::Expression(node) = segment else {
                continue;
            };
            let result = on_known_stack(|| {
                let mut read = Vec::new();
                reads(node, &mut read);
                let reads_it = read.iter().any(|read| is_wanted(&read.reference));
                reads_it.then(|| Evaluation { context, meter }.evaluate(node)?.into_value(meter))
            });
            results.extend(result.and_then(Result::ok));
        }
        results
    }
}

fn within(text: &str, meter: &Meter) -> Result<(), RenderError> {
    let limit = meter.output_limit();
    if text.len() > limit {
        Err(RenderError::OutputTooLong { limit })
    } else {
        Ok(())
    }
}

/// A bare condition, as in `when`.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    node: Node,
    reads: Vec<Read>,
}

impl Expression {
    /// Checks `text`, an expression without braces.
    ///
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(text: &str, scope: Scope) -> Result<Expression, ParseError> {
        on_known_stack(|| {
            check_bare(text)?;
            let node = compile(text, scope)?;
            let mut read = Vec::new();
            reads(&node, &mut read);
            Ok(Expression { node, reads: read })
        })
    }

    /// Everything that the expression reads, each reference once, in the order of first appearance.
    pub fn references(&self) -> &[Read] {
        &self.reads
    }

    /// Whether the condition holds.
    ///
    /// # Errors
    /// [`RenderError::NotBoolean`] if it gives anything but true or false, else as [`Template::render`].
    pub fn evaluate(&self, context: &Context<'_>, limits: Limits) -> Result<bool, RenderError> {
        let meter = &mut Meter::new(limits);
        on_known_stack(|| {
            let slot = Evaluation { context, meter }.evaluate(&self.node)?;
            match slot.value()? {
                Value::Bool(truth) => Ok(*truth),
                other => Err(RenderError::NotBoolean {
                    found: type_name(other),
                }),
            }
        })
    }
}

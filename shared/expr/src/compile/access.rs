//! Names, and chains of members from them. A chain from a root has to be a full path.

use minijinja::machinery::ast::Expr;

use super::Compiler;
use crate::error::ParseError;
use crate::node::Node;
use crate::scan::MAX_DEPTH;
use crate::scope::{Reference, Root, write_member};

impl Compiler {
    /// A name, or a chain of members from one.
    pub(super) fn access(&self, expression: &Expr<'_>) -> Result<Node, ParseError> {
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
        if self.depth.get() + chain.len() > MAX_DEPTH {
            return Err(ParseError::TooManyOperations);
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

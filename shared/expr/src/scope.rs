//! What an expression may read, and what it does read.

use std::fmt;

/// A root name of the expression language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    /// `parameters.NAME`: the parameters of the deployment or of the execution.
    Parameters,
    /// `steps.NAME.outputs.KEY`: what an earlier step gave.
    Steps,
    /// `deployment.NAME`: facts of the deployment.
    Deployment,
    /// `secrets.NAME`: a secret of the tenant.
    Secrets,
    /// `selections.NAME`: the catalog component chosen for a slot.
    Selections,
}

impl Root {
    const ALL: [Root; 5] = [
        Root::Parameters,
        Root::Steps,
        Root::Deployment,
        Root::Secrets,
        Root::Selections,
    ];

    /// The name as it is written in an expression.
    pub fn name(self) -> &'static str {
        match self {
            Root::Parameters => "parameters",
            Root::Steps => "steps",
            Root::Deployment => "deployment",
            Root::Secrets => "secrets",
            Root::Selections => "selections",
        }
    }

    /// The only form in which this root may be read.
    pub fn form(self) -> &'static str {
        match self {
            Root::Parameters => "parameters.NAME",
            Root::Steps => "steps.NAME.outputs.KEY",
            Root::Deployment => "deployment.NAME",
            Root::Secrets => "secrets.NAME",
            Root::Selections => "selections.NAME",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Root> {
        Root::ALL.into_iter().find(|root| root.name() == name)
    }
}

/// The set of roots that an expression at some place may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope(&'static [Root]);

impl Scope {
    /// Chart values and step parameters: everything but the selections.
    pub const VALUES: Scope = Scope(&[Root::Parameters, Root::Steps, Root::Deployment, Root::Secrets]);
    /// A component's `when`: parameters and selections.
    pub const WHEN: Scope = Scope(&[Root::Parameters, Root::Selections]);

    /// A scope of exactly these roots, in the order in which an error lists them.
    pub const fn of(roots: &'static [Root]) -> Scope {
        Scope(roots)
    }

    /// Whether `root` may be read.
    pub fn allows(self, root: Root) -> bool {
        self.0.contains(&root)
    }

    pub(crate) fn forms(self) -> String {
        self.0
            .iter()
            .map(|root| root.form())
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// One thing that an expression reads, known without evaluating it.
///
/// What follows the full path (`steps.db.outputs.services[0].port`) is looked up in the value and is not part of
/// the reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// `parameters.NAME`.
    Parameter {
        /// The parameter's name.
        name: String,
    },
    /// `steps.NAME.outputs.KEY`, with the step's name as it is written: see [`resolve_step`](crate::resolve_step).
    Output {
        /// The step's name.
        step: String,
        /// The output's name.
        key: String,
    },
    /// `deployment.NAME`.
    Deployment {
        /// The fact's name, such as `name`.
        name: String,
    },
    /// `secrets.NAME`.
    Secret {
        /// The secret's name.
        name: String,
    },
    /// `selections.NAME`.
    Selection {
        /// The component's name.
        name: String,
    },
}

impl Reference {
    /// The root that the reference starts from.
    pub fn root(&self) -> Root {
        match self {
            Reference::Parameter { .. } => Root::Parameters,
            Reference::Output { .. } => Root::Steps,
            Reference::Deployment { .. } => Root::Deployment,
            Reference::Secret { .. } => Root::Secrets,
            Reference::Selection { .. } => Root::Selections,
        }
    }
}

impl fmt::Display for Reference {
    /// The reference as it would be written in an expression.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.root().name())?;
        match self {
            Reference::Output { step, key } => {
                write_member(f, step)?;
                f.write_str(".outputs")?;
                write_member(f, key)
            }
            Reference::Parameter { name }
            | Reference::Deployment { name }
            | Reference::Secret { name }
            | Reference::Selection { name } => write_member(f, name),
        }
    }
}

/// Writes `.name`, or `['name']` where the name is not an identifier.
pub(crate) fn write_member(f: &mut dyn fmt::Write, name: &str) -> fmt::Result {
    let mut characters = name.chars();
    let identifier = characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|next| next.is_ascii_alphanumeric() || next == '_');
    if identifier {
        write!(f, ".{name}")
    } else {
        write!(f, "['{}']", name.escape_debug())
    }
}

/// A [`Reference`] and how it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// What is read.
    pub reference: Reference,
    /// Whether the expression copes with its absence: it stands under `default(…)`, in `is defined`, or in the
    /// branch that such a test guards. A reference that is read twice is optional only if both reads are.
    pub optional: bool,
}

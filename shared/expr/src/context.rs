//! The values that expressions are evaluated with.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::error::RenderError;
use crate::scope::Reference;

/// What an expression reads from. Borrows everything; what is not given is absent, and reading it is an error
/// unless the expression copes with that (`default(…)`, `is defined`).
///
/// ```
/// use serde_json::{Map, json};
/// use slipway_expr::{Context, Limits, Scope, Template};
///
/// let parameters: Map<_, _> = [("replicas".to_owned(), json!(3))].into_iter().collect();
/// let context = Context::new().parameters(&parameters);
/// let template = Template::parse("{{ parameters.replicas }}", Scope::VALUES)?;
/// assert_eq!(template.render(&context, Limits::default())?, json!(3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Context<'a> {
    parameters: Option<&'a Map<String, Value>>,
    secret_parameters: BTreeSet<&'a str>,
    steps: BTreeMap<&'a str, Option<&'a Map<String, Value>>>,
    deployment: Option<&'a Map<String, Value>>,
    selections: Option<&'a Map<String, Value>>,
    secrets: Option<&'a Map<String, Value>>,
}

/// What looking a reference up gives.
pub(crate) enum Found<'a> {
    Value(&'a Value),
    Absent,
    /// It is a secret, and secrets are not resolved here.
    Withheld,
}

impl<'a> Context<'a> {
    /// A context in which nothing has a value.
    pub fn new() -> Self {
        Self::default()
    }

    /// The parameters by name. Those marked as [`secret_parameters`](Self::secret_parameters) are not read.
    #[must_use]
    pub fn parameters(mut self, parameters: &'a Map<String, Value>) -> Self {
        self.parameters = Some(parameters);
        self
    }

    /// The names of the parameters whose value is a secret that is not resolved here: whatever
    /// [`parameters`](Self::parameters) holds for them is not used. Where secrets are resolved, put the resolved
    /// values among the parameters and do not name them here.
    #[must_use]
    pub fn secret_parameters(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.secret_parameters = names.into_iter().collect();
        self
    }

    /// One step and its outputs, `None` if it was skipped or has not ended: then it exists and has no outputs.
    ///
    /// Name every step that the expressions may mean, skipped ones too: `steps.deploy_llm` is read as `steps.llm`
    /// only if no step `deploy_llm` was named.
    #[must_use]
    pub fn step(mut self, name: &'a str, outputs: Option<&'a Map<String, Value>>) -> Self {
        self.steps.insert(name, outputs);
        self
    }

    /// The facts of the deployment: `name` and whatever else the caller offers.
    #[must_use]
    pub fn deployment(mut self, facts: &'a Map<String, Value>) -> Self {
        self.deployment = Some(facts);
        self
    }

    /// The chosen component of each slot.
    #[must_use]
    pub fn selections(mut self, selections: &'a Map<String, Value>) -> Self {
        self.selections = Some(selections);
        self
    }

    /// The secrets by name, resolved. Without this call secrets cannot be read: [`RenderError::SecretUnavailable`].
    #[must_use]
    pub fn secrets(mut self, secrets: &'a Map<String, Value>) -> Self {
        self.secrets = Some(secrets);
        self
    }

    /// Whether reading `reference` needs a secret that this context does not hold.
    pub fn withholds(&self, reference: &Reference) -> bool {
        match reference {
            Reference::Secret { .. } => self.secrets.is_none(),
            Reference::Parameter { name } => self.secret_parameters.contains(name.as_str()),
            _ => false,
        }
    }

    pub(crate) fn look_up(&self, reference: &Reference) -> Found<'a> {
        if self.withholds(reference) {
            return Found::Withheld;
        }
        let value = match reference {
            Reference::Parameter { name } => self.parameters.and_then(|map| map.get(name)),
            Reference::Deployment { name } => self.deployment.and_then(|map| map.get(name)),
            Reference::Selection { name } => self.selections.and_then(|map| map.get(name)),
            Reference::Secret { name } => self.secrets.and_then(|map| map.get(name)),
            Reference::Output { step, key } => resolve_step(step, |name| self.steps.contains_key(name))
                .and_then(|name| self.steps.get(name).copied().flatten())
                .and_then(|outputs| outputs.get(key)),
        };
        value.map_or(Found::Absent, Found::Value)
    }

    pub(crate) fn withheld(reference: &Reference) -> RenderError {
        RenderError::SecretUnavailable {
            path: reference.to_string(),
        }
    }
}

/// The step that `steps.NAME` means: `name` itself where such a step exists, else, for `deploy_NAME`, the step
/// `NAME` where that one exists; `None` if neither does.
pub fn resolve_step(name: &str, exists: impl Fn(&str) -> bool) -> Option<&str> {
    if exists(name) {
        return Some(name);
    }
    name.strip_prefix("deploy_").filter(|short| exists(short))
}

//! Rendering a step's parameters, once, with everything that it may read.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use slipway_expr::{
    Context, Expression, Limits, Path, Reference, Scope, collect_references, render_value,
    render_value_partial, results_reading,
};
use slipway_model::{Execution, JobWait, JsonMap, TenantId};
use slipway_ports::{ExposeSecret, HIDDEN, Hidden, HttpAnswer, SecretString, says_enough, shortened};

use crate::{App, AppError};

/// A snapshot of what a step's expressions read. Holds no secret, only where secret parameters are kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct RenderContext {
    pub(crate) parameters: JsonMap,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) secret_parameters: BTreeMap<String, String>,
    /// Step name as expressions write it → outputs; nothing for a step that was skipped.
    pub(crate) steps: BTreeMap<String, Option<JsonMap>>,
    pub(crate) deployment: JsonMap,
}

impl RenderContext {
    /// Of an execution and the outputs that were read.
    pub(crate) fn new(header: &Execution, steps: BTreeMap<String, Option<JsonMap>>) -> Self {
        Self {
            parameters: header.parameters.clone(),
            secret_parameters: header.secret_parameters.clone(),
            steps,
            deployment: header.deployment.clone(),
        }
    }

    fn context(&self) -> Context<'_> {
        let mut context = Context::new()
            .parameters(&self.parameters)
            .deployment(&self.deployment);
        for (name, outputs) in &self.steps {
            context = context.step(name, outputs.as_ref());
        }
        context
    }

    /// Renders what does not read a secret; strings that do stay as they are.
    ///
    /// # Errors
    /// A sentence that names place and expression.
    pub(crate) fn render_without_secrets(&self, params: &JsonMap, at: &Path) -> Result<JsonMap, String> {
        let context = self
            .context()
            .secret_parameters(self.secret_parameters.keys().map(String::as_str));
        let partial = render_value_partial(
            &Value::Object(params.clone()),
            at,
            Scope::VALUES,
            &context,
            Limits::default(),
        )
        .map_err(|error| error.to_string())?;
        Ok(object(partial.value))
    }

    /// A condition over the parameters.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub(crate) fn condition(&self, when: &str) -> Result<bool, String> {
        let expression = Expression::parse(when, Scope::WHEN).map_err(|error| error.to_string())?;
        let context = self
            .context()
            .secret_parameters(self.secret_parameters.keys().map(String::as_str));
        expression
            .evaluate(&context, Limits::default())
            .map_err(|error| error.to_string())
    }
}

/// Most bytes of what is told of one thing that is waited for.
const LONGEST_WAIT: usize = 500;

/// Most texts that are learned of what expressions make of secrets: each is looked for in whatever is told.
const MOST_RESULTS: usize = 256;

/// Parameters with their secrets resolved. Kept nowhere.
pub(crate) struct Rendered {
    /// The parameters.
    pub(crate) params: JsonMap,
    /// What must not be told.
    pub(crate) resolved: Resolved,
}

/// Secrets that were resolved: what comes back from where they were sent may repeat them, and is written down.
#[derive(Default)]
pub(crate) struct Resolved {
    secrets: Vec<SecretString>,
    hidden: Hidden,
}

impl Resolved {
    pub(crate) fn learn(&mut self, secret: &SecretString) {
        self.hidden.learn(secret.expose_secret());
        self.secrets.push(secret.clone());
    }

    /// Learns what expressions in `values` make of the secrets that they read: a decoded or cut one is another text. What
    /// stands in them as a literal, or is told in `plain` anyway, is no secret.
    fn learn_results(
        &mut self,
        values: &Value,
        plain: &RenderContext,
        context: &Context<'_>,
        secrets: &JsonMap,
    ) {
        if self.secrets.is_empty() {
            return;
        }
        let most = self.secrets.len() + MOST_RESULTS;
        let is_secret = |reference: &Reference| match reference {
            Reference::Secret { name } => secrets.contains_key(name),
            Reference::Parameter { name } => plain.secret_parameters.contains_key(name),
            _ => false,
        };
        let results = results_reading(values, Scope::VALUES, context, Limits::default(), is_secret);
        for (source, result) in results {
            for text in texts_in(&result) {
                let mut told = plain.parameters.values().chain(plain.deployment.values());
                let is_told = source.contains(&format!("'{text}'"))
                    || source.contains(&format!("\"{text}\""))
                    || told.any(|told| *told == text);
                let is_known = self.secrets.iter().any(|known| known.expose_secret() == text);
                if says_enough(&text) && !is_told && !is_known && self.secrets.len() < most {
                    self.learn(&SecretString::from(text));
                }
            }
        }
    }

    /// The secrets, as they were stored, and what was made of them.
    pub(crate) fn texts(&self) -> &[SecretString] {
        &self.secrets
    }

    /// The text without the secrets.
    pub(crate) fn hide(&self, text: &str) -> String {
        self.hidden.hide(text)
    }

    /// What is hidden.
    pub(crate) fn hidden(&self) -> &Hidden {
        &self.hidden
    }

    /// Takes the secrets out of what something waits for, and then cuts it to what is told.
    pub(crate) fn hide_in_wait(&self, wait: &mut JobWait) {
        wait.reason = self.hide(&wait.reason);
        wait.message = shortened(&self.hide(&wait.message), LONGEST_WAIT);
    }

    /// Takes the secrets out of everything in an object but its own keys, which are names of ours.
    pub(crate) fn hide_in(&self, map: &mut JsonMap) {
        if !self.hidden.is_empty() {
            map.values_mut().for_each(|value| self.hide_in_value(value));
        }
    }

    fn hide_in_value(&self, value: &mut Value) {
        match value {
            // A body that was cut, perhaps by a character less than could be read.
            Value::String(text) if text.len() + 4 > HttpAnswer::LARGEST_BODY => {
                *text = self.hidden.hide_cut(text);
            }
            Value::String(text) => *text = self.hide(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide_in_value(item)),
            Value::Object(map) => {
                self.hide_in(map);
                let telling = map.keys().filter(|key| self.hide(key) != **key).cloned();
                for (number, key) in telling.collect::<Vec<_>>().into_iter().enumerate() {
                    if let Some(value) = map.remove(&key) {
                        map.insert(format!("{}{}", self.hide(&key), " ".repeat(number)), value);
                    }
                }
            }
            // Written without quotes, a secret of digits is a number.
            Value::Number(number) if self.hidden.is_in(&number.to_string()) => *value = HIDDEN.into(),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// The texts in what an expression gave, and its numbers as they are written.
fn texts_in(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Number(number) => vec![number.to_string()],
        Value::Array(items) => items.iter().flat_map(texts_in).collect(),
        Value::Object(map) => map.values().flat_map(texts_in).collect(),
        Value::Null | Value::Bool(_) => Vec::new(),
    }
}

/// Where the secrets that expressions name are kept: apart from kubeconfigs and the like, which no expression may read.
fn expression_secret(name: &str) -> String {
    format!("expressions/{name}")
}

impl App {
    /// Renders everything; resolves the secrets that are read. The result holds secrets.
    ///
    /// # Errors
    /// The inner error is a sentence that names place and expression, never a secret.
    pub(crate) async fn render_with_secrets(
        &self,
        tenant: &TenantId,
        context: &RenderContext,
        params: &JsonMap,
        at: &Path,
    ) -> Result<Result<Rendered, String>, AppError> {
        let params = Value::Object(params.clone());
        // Secret → whether everything that reads it says what to take without it.
        let mut names: BTreeMap<String, bool> = BTreeMap::new();
        let mut parameters = context.parameters.clone();
        let mut resolved = Resolved::default();
        for (_, read) in collect_references(&params, at, Scope::VALUES).references {
            match read.reference {
                Reference::Secret { name } => {
                    *names.entry(name).or_insert(true) &= read.optional;
                }
                Reference::Parameter { name } => {
                    let Some(stored) = context.secret_parameters.get(&name) else {
                        continue;
                    };
                    match self.secrets.get(tenant, stored).await? {
                        Some(secret) => {
                            resolved.learn(&secret);
                            parameters.insert(name, Value::String(secret.expose_secret().to_owned()));
                        }
                        None => return Ok(Err(format!("the value of secret parameter '{name}' is gone"))),
                    }
                }
                _ => {}
            }
        }
        let mut secrets = JsonMap::new();
        for (name, is_optional) in names {
            // A secret parameter may be read under either name.
            let own = context.secret_parameters.get(&name);
            let was_given = own.is_some();
            let stored = own.cloned().unwrap_or_else(|| expression_secret(&name));
            match self.secrets.get(tenant, &stored).await? {
                Some(secret) => {
                    resolved.learn(&secret);
                    secrets.insert(name, Value::String(secret.expose_secret().to_owned()));
                }
                None if is_optional && !was_given => {}
                None => return Ok(Err(format!("{at}: secret '{name}' does not exist"))),
            }
        }
        let given = RenderContext {
            parameters,
            ..context.clone()
        };
        let given = given.context().secrets(&secrets);
        let rendered = render_value(&params, at, Scope::VALUES, &given, Limits::default());
        resolved.learn_results(&params, context, &given, &secrets);
        Ok(match rendered {
            Ok(value) => Ok(Rendered {
                params: object(value),
                resolved,
            }),
            Err(error) => Err(resolved.hide(&error.to_string())),
        })
    }

    /// The secrets that whatever was deployed with these parameters and values may repeat: secret parameters, those with
    /// these names, what the values' expressions name, and what they make of it. One that is gone is nobody's secret any
    /// more.
    pub(crate) async fn secrets_of(
        &self,
        tenant: &TenantId,
        context: &RenderContext,
        names: &BTreeSet<String>,
        values: &JsonMap,
    ) -> Result<Resolved, AppError> {
        let mut stored = context.secret_parameters.clone();
        for name in names {
            let place = expression_secret(name);
            stored.entry(name.clone()).or_insert(place);
        }
        let values = Value::Object(values.clone());
        for (_, read) in collect_references(&values, &at_values(), Scope::VALUES).references {
            if let Reference::Secret { name } = read.reference {
                let place = expression_secret(&name);
                stored.entry(name).or_insert(place);
            }
        }
        let mut given = context.clone();
        let mut secrets = JsonMap::new();
        let mut resolved = Resolved::default();
        for (name, reference) in stored {
            if let Some(secret) = self.secrets.get(tenant, &reference).await? {
                resolved.learn(&secret);
                let text = Value::String(secret.expose_secret().to_owned());
                if context.secret_parameters.contains_key(&name) {
                    given.parameters.insert(name.clone(), text.clone());
                }
                secrets.insert(name, text);
            }
        }
        resolved.learn_results(&values, context, &given.context().secrets(&secrets), &secrets);
        Ok(resolved)
    }
}

fn object(value: Value) -> JsonMap {
    match value {
        Value::Object(map) => map,
        _ => JsonMap::new(),
    }
}

/// The place of chart values in errors.
pub(crate) fn at_values() -> Path {
    Path::of("values")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_resolved_is_told_to_nobody() {
        let mut resolved = Resolved::default();
        for secret in ["hunter22", "a", "line\nbreak", "first-long-line\nb"] {
            resolved.learn(&SecretString::from(secret));
        }
        assert_eq!(
            resolved.hide("no access as a with hunter22"),
            "no access as (hidden) with (hidden)"
        );
        // As data of a Secret, and one line of two.
        assert_eq!(resolved.hide("data: aHVudGVyMjI="), "data: (hidden)");
        assert_eq!(
            resolved.hide("loaded first-long-line, then"),
            "loaded (hidden), then"
        );
        let mut outputs = object(serde_json::json!({"body": [{"echo": "hunter22"}, "line\\nbreak"]}));
        resolved.hide_in(&mut outputs);
        assert_eq!(
            Value::Object(outputs),
            serde_json::json!({"body": [{"echo": "(hidden)"}, "(hidden)"]})
        );
    }

    #[test]
    fn keys_and_numbers_of_an_answer_tell_no_secret_either() {
        let mut resolved = Resolved::default();
        for secret in ["hunter22", "91734", "status"] {
            resolved.learn(&SecretString::from(secret));
        }
        let mut outputs = object(serde_json::json!({"status": 200, "body": {
            "hunter22": 1, "x-hunter22": [91734, 91735], "a": {"hunter22": true}}}));
        resolved.hide_in(&mut outputs);
        let told = Value::Object(outputs);
        assert_eq!(told["status"], 200, "names of ours stay");
        assert_eq!(
            told["body"]["x-(hidden) "],
            serde_json::json!(["(hidden)", 91735])
        );
        assert_eq!(told["body"]["a"], serde_json::json!({"(hidden)": true}));
        assert!(!told.to_string().contains("hunter22"), "{told}");
    }

    #[test]
    fn a_body_that_was_cut_within_a_secret_ends_before_it() {
        let mut resolved = Resolved::default();
        resolved.learn(&SecretString::from("correct-horse-battery"));
        let before = "x".repeat(HttpAnswer::LARGEST_BODY - 10);
        let mut outputs = object(serde_json::json!({"body": format!("{before}correct-ho")}));
        resolved.hide_in(&mut outputs);
        assert_eq!(outputs["body"], format!("{before}(hidden)"));
    }

    #[test]
    fn an_expression_reaches_no_kubeconfig() {
        assert_ne!(expression_secret("cluster/x/kubeconfig"), "cluster/x/kubeconfig");
    }
}

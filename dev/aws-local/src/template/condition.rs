//! Conditions of a template.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Template;

impl Template {
    /// Whether a declared condition holds.
    pub(super) fn condition(&self, name: &str) -> Result<bool> {
        let conditions = self.section("Conditions");
        let declared = conditions
            .get(name)
            .with_context(|| format!("there is no condition {name}"))?;
        self.holds(declared)
            .with_context(|| format!("the condition {name} cannot be decided"))
    }

    fn holds(&self, condition: &Value) -> Result<bool> {
        let (name, argument) = super::resolve::intrinsic(condition)
            .with_context(|| format!("`{condition}` is not a condition"))?;
        let parts = || {
            argument
                .as_array()
                .with_context(|| format!("{name} takes a list"))
        };
        match name {
            "Condition" => self.condition(argument.as_str().context("Condition takes a name")?),
            "Fn::Not" => Ok(!self.holds(&parts()?[0])?),
            "Fn::And" => parts()?
                .iter()
                .try_fold(true, |all, part| Ok(all && self.holds(part)?)),
            "Fn::Or" => parts()?
                .iter()
                .try_fold(false, |any, part| Ok(any || self.holds(part)?)),
            "Fn::Equals" => match parts()?.as_slice() {
                [one, other] => Ok(self.resolve(one)? == self.resolve(other)?),
                _ => bail!("Fn::Equals takes two values"),
            },
            other => bail!("{other} does not stand in a condition"),
        }
    }
}

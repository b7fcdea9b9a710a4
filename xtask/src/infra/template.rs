//! The SAM template as data.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::canonical::{Names, canonical};
use crate::run::workspace;

/// The SAM template, with its references as the text `${Name}` or `${Name.Attribute}`.
#[derive(Debug, Clone)]
pub struct Template {
    resources: Map<String, Value>,
}

/// A statement of a function's role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) name: String,
    pub(super) allows: bool,
    pub(super) actions: Vec<String>,
    pub(super) resources: Vec<String>,
}

impl Template {
    /// Where it is.
    #[must_use]
    pub fn path() -> PathBuf {
        workspace().join("infra/template.yaml")
    }

    /// Reads the template of this checkout.
    ///
    /// # Errors
    /// When it cannot be read, or is no YAML mapping with resources.
    pub fn read() -> Result<Self> {
        let path = Self::path();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} cannot be used", path.display()))
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        let options = serde_saphyr::options! { reject_unsupported_tags: true, strict_booleans: true };
        let document: Value = serde_saphyr::from_str_with_options(text, options)
            .context("it is no YAML; intrinsic functions must have their long form")?;
        match canonical(&document["Resources"], &Names::new()) {
            Value::Object(resources) => Ok(Self { resources }),
            _ => bail!("it has no mapping `Resources`"),
        }
    }

    /// Properties of all resources of a type, by logical id.
    pub(super) fn of_type<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.resources
            .iter()
            .filter(move |(_, resource)| resource["Type"] == kind)
            .map(|(id, resource)| (id.as_str(), &resource["Properties"]))
    }

    /// The functions: name without the stack's, and the logical id of the role.
    pub(super) fn functions(&self) -> Result<Vec<(String, String)>> {
        self.of_type("AWS::Serverless::Function")
            .map(|(id, properties)| {
                let name = within_stack(&properties["FunctionName"])
                    .with_context(|| format!("{id} has no name that begins with the stack's"))?;
                let role = properties["Role"]
                    .as_str()
                    .and_then(|role| role.strip_prefix("${")?.strip_suffix(".Arn}"))
                    .with_context(|| format!("{id} has no role of this template"))?;
                Ok((name.to_owned(), role.to_owned()))
            })
            .collect()
    }

    /// Properties of the function of that name.
    pub(super) fn function(&self, name: &str) -> Option<&Value> {
        self.of_type("AWS::Serverless::Function")
            .find(|(_, properties)| within_stack(&properties["FunctionName"]) == Some(name))
            .map(|(_, properties)| properties)
    }

    /// Properties of a resource; nothing where there is none of that id.
    pub(super) fn properties(&self, id: &str) -> &Value {
        self.resources
            .get(id)
            .map_or(&Value::Null, |resource| &resource["Properties"])
    }

    /// The statements of a role.
    pub(super) fn statements(&self, role: &str) -> Result<Vec<Statement>> {
        let properties = &self.resources[role]["Properties"];
        let policies = properties["Policies"]
            .as_array()
            .with_context(|| format!("{role} has no policies"))?;
        let mut found = Vec::new();
        for policy in policies {
            let statements = policy["PolicyDocument"]["Statement"]
                .as_array()
                .with_context(|| format!("a policy of {role} has no statements"))?;
            for statement in statements {
                // Either the statement, or what stands there under a condition.
                let statement = match statement["Fn::If"].as_array().map(Vec::as_slice) {
                    Some([_, statement, _]) => statement,
                    _ => statement,
                };
                found.push(Statement {
                    name: statement["Sid"].as_str().unwrap_or_default().to_owned(),
                    allows: statement["Effect"] == "Allow",
                    actions: texts(&statement["Action"]),
                    resources: texts(&statement["Resource"]),
                });
            }
        }
        Ok(found)
    }

    /// Whether a role has policies that others wrote.
    pub(super) fn has_managed_policies(&self, role: &str) -> bool {
        !self.resources[role]["Properties"]["ManagedPolicyArns"].is_null()
    }

    /// Names of alarms without the stack's.
    pub(super) fn alarms(&self) -> Vec<String> {
        self.of_type("AWS::CloudWatch::Alarm")
            .filter_map(|(_, properties)| within_stack(&properties["AlarmName"]).map(str::to_owned))
            .collect()
    }
}

fn within_stack(name: &Value) -> Option<&str> {
    name.as_str()?.strip_prefix("${AWS::StackName}-")
}

/// One text, or a list of them.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(members) => members
            .iter()
            .filter_map(|member| member.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    }
}

/// A number, which the template may also have as text.
pub(super) fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_under_a_condition_are_found_like_others() {
        let template = Template::parse(
            "Resources:
  F:
    Type: AWS::Serverless::Function
    Properties: {FunctionName: {Fn::Sub: '${AWS::StackName}-f'}, Role: {Fn::GetAtt: [R, Arn]}}
  R:
    Type: AWS::IAM::Role
    Properties:
      Policies:
        - PolicyDocument:
            Statement:
              - {Sid: A, Effect: Allow, Action: a:B, Resource: {Fn::GetAtt: [T, Arn]}}
              - Fn::If: [C, {Sid: D, Effect: Allow, Action: [d:E], Resource: {Ref: P}}, {Ref: AWS::NoValue}]",
        )
        .unwrap();
        assert_eq!(template.functions().unwrap(), [("f".to_owned(), "R".to_owned())]);
        let statements = template.statements("R").unwrap();
        let shown: Vec<_> = statements
            .iter()
            .map(|statement| (statement.name.as_str(), statement.resources[0].as_str()))
            .collect();
        assert_eq!(shown, [("A", "${T.Arn}"), ("D", "${P}")]);
    }

    #[test]
    fn short_forms_are_refused_because_they_would_be_read_as_text() {
        let error = Template::parse("Resources: {A: {Type: x, Properties: {B: !Ref C}}}").unwrap_err();
        assert!(error.to_string().contains("long form"), "{error}");
    }
}

//! The SAM template: what is declared, with its intrinsic functions resolved.

mod condition;
mod functions;
mod resolve;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

pub(crate) use functions::{FunctionDefinition, QueueSource, Route};
pub(crate) use resolve::text_of;

/// The account that everything seems to belong to; ElasticMQ knows no other.
pub(crate) const ACCOUNT: &str = "000000000000";
/// The region that everything seems to be in.
pub(crate) const REGION: &str = "us-east-1";

/// What a resource is known by once it exists.
#[derive(Debug, Clone, Default)]
pub(crate) struct Physical {
    /// What `Ref` gives.
    pub(crate) reference: String,
    /// What `Fn::GetAtt` gives.
    pub(crate) attributes: BTreeMap<&'static str, String>,
}

/// A template with the values of its parameters.
#[derive(Debug)]
pub(crate) struct Template {
    document: Map<String, Value>,
    stack: String,
    parameters: BTreeMap<String, Value>,
    physical: BTreeMap<String, Physical>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// When it cannot be read, or a parameter has no value or no declaration.
    pub(crate) fn read(file: &Path, stack: &str, parameters: &[(String, String)]) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text, stack, parameters).with_context(|| format!("{} cannot be used", file.display()))
    }

    fn parse(text: &str, stack: &str, parameters: &[(String, String)]) -> Result<Self> {
        // A short form such as !Ref would otherwise be read as plain text.
        let options = serde_saphyr::options! { reject_unsupported_tags: true, strict_booleans: true };
        let document: Map<String, Value> = serde_saphyr::from_str_with_options(text, options)
            .context("it is no YAML mapping; intrinsic functions must have their long form")?;
        let mut template = Self {
            parameters: values_of(&document, parameters)?,
            document,
            stack: stack.to_owned(),
            physical: BTreeMap::new(),
        };
        for (name, resource) in template.section("Resources") {
            if let Some(physical) = predictable(&template, &name, &resource)? {
                template.physical.insert(name, physical);
            }
        }
        Ok(template)
    }

    /// The name of the stack.
    pub(crate) fn stack(&self) -> &str {
        &self.stack
    }

    /// Tells what a resource is known by, which only its service decides.
    pub(crate) fn set_physical(&mut self, name: &str, physical: Physical) {
        self.physical.insert(name.to_owned(), physical);
    }

    /// What a resource is known by.
    ///
    /// # Errors
    /// When nothing of that name exists on this machine.
    pub(crate) fn physical(&self, name: &str) -> Result<&Physical> {
        self.physical
            .get(name)
            .with_context(|| format!("the resource {name} is not one of those that exist on this machine"))
    }

    /// The properties of all resources of a type whose condition holds, resolved: logical name, properties.
    ///
    /// # Errors
    /// When something in them cannot be resolved, with the resource's name.
    pub(crate) fn resources(&self, kind: &str) -> Result<Vec<(String, Map<String, Value>)>> {
        let mut found = Vec::new();
        for (name, resource) in self.section("Resources") {
            if resource["Type"] == kind && self.exists(&resource)? {
                let properties = self
                    .resolve(&resource["Properties"])
                    .with_context(|| format!("the resource {name} cannot be resolved"))?;
                found.push((name, object(properties)?));
            }
        }
        Ok(found)
    }

    fn exists(&self, resource: &Value) -> Result<bool> {
        match resource.get("Condition").and_then(Value::as_str) {
            Some(condition) => self.condition(condition),
            None => Ok(true),
        }
    }

    /// A section of the template, by name; empty when it is not there.
    fn section(&self, name: &str) -> Map<String, Value> {
        self.document
            .get(name)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    }
}

/// A mapping; nothing counts as an empty one.
pub(crate) fn object(value: Value) -> Result<Map<String, Value>> {
    match value {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        other => bail!("a mapping is expected, but this is {other}"),
    }
}

/// The values of the declared parameters.
fn values_of(document: &Map<String, Value>, given: &[(String, String)]) -> Result<BTreeMap<String, Value>> {
    let empty = Map::new();
    let declared = document
        .get("Parameters")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    if let Some((name, _)) = given.iter().find(|(name, _)| !declared.contains_key(name)) {
        let known: Vec<_> = declared.keys().map(String::as_str).collect();
        bail!("there is no parameter {name}; there are {}", known.join(", "));
    }
    let mut values = BTreeMap::new();
    for (name, declaration) in declared {
        let chosen = given.iter().rev().find(|(other, _)| other == name);
        let text = match (chosen, declaration.get("Default")) {
            (Some((_, text)), _) | (None, Some(Value::String(text))) => text.clone(),
            (None, Some(other)) => other.to_string(),
            (None, None) => bail!("the parameter {name} needs a value"),
        };
        let is_list = declaration["Type"]
            .as_str()
            .is_some_and(|kind| kind == "CommaDelimitedList" || kind.starts_with("List<"));
        values.insert(
            name.clone(),
            if is_list {
                text.split(',').map(|part| Value::from(part.trim())).collect()
            } else {
                Value::from(text)
            },
        );
    }
    Ok(values)
}

/// What a resource is known by where that follows from its declaration alone.
fn predictable(template: &Template, name: &str, resource: &Value) -> Result<Option<Physical>> {
    let given = |property: &str| -> Result<Option<String>> {
        let value = &resource["Properties"][property];
        if value.is_null() {
            return Ok(None);
        }
        let value = template
            .resolve(value)
            .with_context(|| format!("the {property} of {name} cannot be resolved"))?;
        Ok(value.as_str().map(str::to_owned))
    };
    let chosen =
        |given: Option<String>| given.unwrap_or_else(|| format!("{}-{name}", template.stack).to_lowercase());
    let arn = |service: &str, rest: &str| format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}");
    Ok(Some(match resource["Type"].as_str() {
        Some("AWS::DynamoDB::Table") => {
            let table = chosen(given("TableName")?);
            Physical {
                attributes: BTreeMap::from([("Arn", arn("dynamodb", &format!("table/{table}")))]),
                reference: table,
            }
        }
        Some("AWS::S3::Bucket") => {
            let bucket = chosen(given("BucketName")?);
            Physical {
                attributes: BTreeMap::from([("Arn", format!("arn:aws:s3:::{bucket}"))]),
                reference: bucket,
            }
        }
        Some("AWS::SQS::Queue") => {
            let queue = chosen(given("QueueName")?);
            Physical {
                reference: queue.clone(),
                attributes: BTreeMap::from([("Arn", arn("sqs", &queue)), ("QueueName", queue)]),
            }
        }
        Some("AWS::SNS::Topic") => {
            let topic = chosen(given("TopicName")?);
            Physical {
                reference: arn("sns", &topic),
                attributes: BTreeMap::from([("TopicArn", arn("sns", &topic)), ("TopicName", topic)]),
            }
        }
        Some("AWS::Serverless::Function") => {
            let function = chosen(given("FunctionName")?);
            Physical {
                attributes: BTreeMap::from([("Arn", arn("lambda", &format!("function:{function}")))]),
                reference: function,
            }
        }
        Some("AWS::Logs::LogGroup") => {
            let group = chosen(given("LogGroupName")?);
            Physical {
                attributes: BTreeMap::from([("Arn", arn("logs", &format!("log-group:{group}:*")))]),
                reference: group,
            }
        }
        Some("AWS::Serverless::LayerVersion") => Physical {
            reference: arn("lambda", &format!("layer:{}:1", chosen(given("LayerName")?))),
            attributes: BTreeMap::new(),
        },
        Some("AWS::IAM::Role") => {
            let role = chosen(given("RoleName")?);
            Physical {
                attributes: BTreeMap::from([("Arn", format!("arn:aws:iam::{ACCOUNT}:role/{role}"))]),
                reference: role,
            }
        }
        Some("AWS::Serverless::HttpApi") => Physical {
            reference: "local".to_owned(),
            attributes: BTreeMap::new(),
        },
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The template that is deployed.
    pub(super) fn deployed() -> Template {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/template.yaml");
        let mut template = Template::read(
            &file,
            "test",
            &[
                ("JwtIssuer".to_owned(), "https://local".to_owned()),
                ("JwtAudience".to_owned(), "slipway".to_owned()),
            ],
        )
        .unwrap();
        let key = Physical {
            reference: "key-1".to_owned(),
            attributes: BTreeMap::from([("Arn", "arn:key-1".to_owned())]),
        };
        template.set_physical("Key", key);
        template
    }

    #[test]
    fn the_deployed_template_gives_the_resources_with_their_names() {
        let template = deployed();
        let queues = template.resources("AWS::SQS::Queue").unwrap();
        let (_, plan) = queues.iter().find(|(name, _)| name == "PlanDagQueue").unwrap();
        assert_eq!(plan["QueueName"], "test-plan-dag");
        assert_eq!(
            plan["RedrivePolicy"]["deadLetterTargetArn"],
            "arn:aws:sqs:us-east-1:000000000000:test-plan-dag-dead-letters"
        );
        assert_eq!(template.resources("AWS::DynamoDB::Table").unwrap().len(), 1);
    }

    #[test]
    fn a_short_form_is_refused_rather_than_read_as_text() {
        let error =
            Template::parse("Resources: {A: {Type: T, Properties: {B: !Ref C}}}", "s", &[]).unwrap_err();
        assert!(error.to_string().contains("long form"), "{error}");
    }

    #[test]
    fn parameters_without_a_value_or_a_declaration_are_named() {
        let text = "Parameters: {A: {Type: String}}\nResources: {}";
        let missing = Template::parse(text, "s", &[]).unwrap_err();
        assert_eq!(missing.to_string(), "the parameter A needs a value");
        let unknown = Template::parse(text, "s", &[("B".to_owned(), String::new())]).unwrap_err();
        assert_eq!(unknown.to_string(), "there is no parameter B; there are A");
    }
}

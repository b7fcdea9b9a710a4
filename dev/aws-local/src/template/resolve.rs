//! Intrinsic functions of a template.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::{ACCOUNT, REGION, Template};

/// The name and the argument of an intrinsic function: a mapping of one key that is one of theirs.
pub(super) fn intrinsic(value: &Value) -> Option<(&str, &Value)> {
    let map = value.as_object().filter(|map| map.len() == 1)?;
    let (name, argument) = map.iter().next()?;
    (name == "Ref" || name == "Condition" || name.starts_with("Fn::")).then_some((name.as_str(), argument))
}

impl Template {
    /// A value with its intrinsic functions resolved; what is `AWS::NoValue` is left out.
    ///
    /// # Errors
    /// When a function is not known here, or names what does not exist.
    pub(crate) fn resolve(&self, value: &Value) -> Result<Value> {
        Ok(self.resolved(value)?.unwrap_or(Value::Null))
    }

    fn resolved(&self, value: &Value) -> Result<Option<Value>> {
        if let Some((name, argument)) = intrinsic(value) {
            return self.call(name, argument);
        }
        Ok(Some(match value {
            Value::Object(map) => {
                let mut kept = Map::new();
                for (key, member) in map {
                    if let Some(member) = self.resolved(member).with_context(|| format!("in {key}"))? {
                        kept.insert(key.clone(), member);
                    }
                }
                Value::Object(kept)
            }
            Value::Array(members) => {
                let mut kept = Vec::new();
                for member in members {
                    kept.extend(self.resolved(member)?);
                }
                Value::Array(kept)
            }
            other => other.clone(),
        }))
    }

    fn call(&self, name: &str, argument: &Value) -> Result<Option<Value>> {
        let list = || {
            argument
                .as_array()
                .with_context(|| format!("{name} takes a list"))
        };
        Ok(Some(match name {
            "Ref" => {
                let target = argument.as_str().context("Ref takes a name")?;
                if target == "AWS::NoValue" {
                    return Ok(None);
                }
                self.reference(target)?
            }
            "Fn::GetAtt" => match argument {
                Value::String(dotted) => {
                    let (target, attribute) = dotted
                        .split_once('.')
                        .with_context(|| format!("`{dotted}` names no attribute"))?;
                    self.attribute(target, attribute)?
                }
                _ => match list()?.as_slice() {
                    [Value::String(target), Value::String(attribute)] => self.attribute(target, attribute)?,
                    _ => bail!("Fn::GetAtt takes a resource and an attribute"),
                },
            },
            "Fn::Sub" => match argument {
                Value::String(text) => self.substitute(text, &Map::new())?,
                _ => match list()?.as_slice() {
                    [Value::String(text), Value::Object(variables)] => self.substitute(text, variables)?,
                    _ => bail!("Fn::Sub takes a text, and variables"),
                },
            },
            "Fn::Join" => match list()?.as_slice() {
                [Value::String(delimiter), parts] => {
                    let parts = self.resolve(parts)?;
                    let parts = parts.as_array().context("Fn::Join joins a list")?;
                    let texts = parts.iter().map(text_of).collect::<Result<Vec<_>>>()?;
                    Value::from(texts.join(delimiter))
                }
                _ => bail!("Fn::Join takes a delimiter and a list"),
            },
            "Fn::If" => match list()?.as_slice() {
                [Value::String(condition), yes, no] => {
                    return self.resolved(if self.condition(condition)? { yes } else { no });
                }
                _ => bail!("Fn::If takes a condition and two values"),
            },
            "Fn::Select" => match list()?.as_slice() {
                [index, parts] => {
                    let index: usize = text_of(&self.resolve(index)?)?.parse()?;
                    let parts = self.resolve(parts)?;
                    parts
                        .get(index)
                        .cloned()
                        .with_context(|| format!("there is no entry {index}"))?
                }
                _ => bail!("Fn::Select takes an index and a list"),
            },
            "Fn::Split" => match list()?.as_slice() {
                [Value::String(delimiter), text] => text_of(&self.resolve(text)?)?
                    .split(delimiter.as_str())
                    .map(Value::from)
                    .collect(),
                _ => bail!("Fn::Split takes a delimiter and a text"),
            },
            "Fn::FindInMap" => match list()?.as_slice() {
                [map, first, second] => {
                    let keys = [map, first, second]
                        .into_iter()
                        .map(|key| text_of(&self.resolve(key)?))
                        .collect::<Result<Vec<_>>>()?;
                    let maps = self.section("Mappings");
                    keys.iter()
                        .try_fold(&Value::Object(maps), |value, key| value.get(key))
                        .cloned()
                        .with_context(|| format!("there is no mapping {}", keys.join(".")))?
                }
                _ => bail!("Fn::FindInMap takes a map and two keys"),
            },
            other => bail!("{other} cannot be resolved on this machine"),
        }))
    }

    fn reference(&self, target: &str) -> Result<Value> {
        if let Some(value) = self.parameters.get(target) {
            return Ok(value.clone());
        }
        Ok(Value::from(match target {
            "AWS::StackName" => self.stack.as_str(),
            "AWS::Region" => REGION,
            "AWS::AccountId" => ACCOUNT,
            "AWS::Partition" => "aws",
            "AWS::URLSuffix" => "amazonaws.com",
            _ => self.physical(target)?.reference.as_str(),
        }))
    }

    fn attribute(&self, target: &str, attribute: &str) -> Result<Value> {
        self.physical(target)?
            .attributes
            .get(attribute)
            .map(|value| Value::from(value.as_str()))
            .with_context(|| format!("{target} has no attribute {attribute} on this machine"))
    }

    /// A text with `${Name}`, `${Name.Attribute}` and `${!Literal}` in it.
    fn substitute(&self, text: &str, variables: &Map<String, Value>) -> Result<Value> {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, behind) = after
                .split_once('}')
                .with_context(|| format!("`{text}` has no closing brace"))?;
            result.push_str(before);
            if let Some(literal) = name.strip_prefix('!') {
                result.push_str("${");
                result.push_str(literal);
                result.push('}');
            } else if let Some(value) = variables.get(name) {
                result.push_str(&text_of(&self.resolve(value)?)?);
            } else {
                let value = match name.split_once('.') {
                    Some((target, attribute)) => self.attribute(target, attribute)?,
                    None => self.reference(name)?,
                };
                result.push_str(&text_of(&value)?);
            }
            rest = behind;
        }
        result.push_str(rest);
        Ok(Value::from(result))
    }
}

/// A scalar as the text that CloudFormation makes of it.
pub(crate) fn text_of(value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        other => bail!("a text is expected, but this is {other}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template() -> Template {
        Template::parse(
            "Parameters: {Name: {Type: String, Default: x}, Zones: {Type: CommaDelimitedList, Default: 'a, b'}}
Conditions:
  Named: {Fn::Not: [{Fn::Equals: [{Ref: Name}, '']}]}
  Unnamed: {Fn::Not: [{Condition: Named}]}
Mappings: {Sizes: {dev: {memory: 128}}}
Resources:
  Queue: {Type: 'AWS::SQS::Queue', Properties: {QueueName: {Fn::Sub: '${AWS::StackName}-q'}}}",
            "stack",
            &[],
        )
        .unwrap()
    }

    #[test]
    fn each_function_gives_what_cloudformation_gives() {
        for (expression, expected) in [
            (json!({"Ref": "Zones"}), json!(["a", "b"])),
            (json!({"Fn::Join": ["+", {"Ref": "Zones"}]}), json!("a+b")),
            (
                json!({"Fn::GetAtt": ["Queue", "Arn"]}),
                json!("arn:aws:sqs:us-east-1:000000000000:stack-q"),
            ),
            (json!({"Fn::GetAtt": "Queue.QueueName"}), json!("stack-q")),
            (
                json!({"Fn::Sub": "${Name}/${Queue.QueueName}/${!Kept}"}),
                json!("x/stack-q/${Kept}"),
            ),
            (
                json!({"Fn::Sub": ["${Own}-${Name}", {"Own": {"Ref": "AWS::Region"}}]}),
                json!("us-east-1-x"),
            ),
            (json!({"Fn::If": ["Unnamed", 1, 2]}), json!(2)),
            (
                json!([{"Fn::If": ["Unnamed", 1, {"Ref": "AWS::NoValue"}]}, 3]),
                json!([3]),
            ),
            (json!({"a": {"Ref": "AWS::NoValue"}, "b": 1}), json!({"b": 1})),
            (
                json!({"Fn::Select": [1, {"Fn::Split": ["-", "p-q"]}]}),
                json!("q"),
            ),
            (json!({"Fn::FindInMap": ["Sizes", "dev", "memory"]}), json!(128)),
        ] {
            assert_eq!(template().resolve(&expression).unwrap(), expected, "{expression}");
        }
    }

    #[test]
    fn what_cannot_be_resolved_is_named() {
        for (expression, name) in [
            (json!({"Ref": "Nobody"}), "Nobody"),
            (json!({"Fn::GetAtt": ["Queue", "Colour"]}), "Colour"),
            (json!({"Fn::Sub": "${Nobody.Arn}"}), "Nobody"),
            (json!({"Fn::ImportValue": "x"}), "Fn::ImportValue"),
        ] {
            let error = template().resolve(&expression).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

//! Whether two synthesised templates, SAM's and CDK's, say the same: resource by resource, property by property.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::canonical::{Names, canonical};
use super::routes::{self, Resources};

/// What may differ: the resources' type, where in the resource, and why. Everything else must be the same.
const ALLOWED: &[(&str, &str, &str)] = &[
    (
        "AWS::Lambda::Function",
        "Properties.Tags",
        "SAM marks what it has made",
    ),
    (
        "AWS::ApiGatewayV2::Stage",
        "Properties.Tags",
        "SAM marks what it has made",
    ),
    (
        "AWS::ApiGatewayV2::Api",
        "Properties.FailOnWarnings",
        "it is about importing the OpenAPI document, which only SAM writes",
    ),
    (
        "AWS::Lambda::Function",
        "DependsOn",
        "CDK names dependencies that the references in the function imply",
    ),
    (
        "AWS::Lambda::EventInvokeConfig",
        "Properties.DestinationConfig",
        "SAM writes it although it is empty",
    ),
    (
        "AWS::Events::Rule",
        "Properties.Targets[0].Id",
        "a name that only the rule itself sees, which each tool makes up",
    ),
];

/// Types whose logical ids the tools make up: their resources are told by what they say.
const TOLD_BY_CONTENT: &[&str] = &["AWS::Lambda::Permission", "AWS::Lambda::EventInvokeConfig"];

/// How the two tools write from where API Gateway may invoke a function: SAM names the method, and has a star for the
/// rest of a path; CDK lets every method through, which the API's own routes narrow down, and repeats the variable.
const SOURCES: &[(&str, &str)] = &[("${Api}/*/GET/", "${Api}/*/*/"), ("/{proxy+}", "/*")];

/// Ids that SAM makes up, as CDK has them.
const RENAMED: &[(&str, &str)] = &[("ApiApiGatewayDefaultStage", "ApiDefaultStage")];

/// Digits that SAM appends to the id of a layer.
const LAYER_SUFFIX: usize = 10;

/// A template in one form for both tools.
#[derive(Debug)]
pub(super) struct Comparable {
    resources: Resources,
    sections: BTreeMap<&'static str, Value>,
}

impl Comparable {
    /// Reads a synthesised template. `artifact` tells which file the code of a function or layer is, from its key
    /// in the bucket of artifacts.
    ///
    /// # Errors
    /// When the template has no resources, or an artifact is unknown.
    pub(super) fn read(template: &Value, artifact: impl Fn(&str) -> Result<String>) -> Result<Self> {
        let declared = template["Resources"]
            .as_object()
            .context("the template has no resources")?;
        let names: Names = declared
            .iter()
            .map(|(id, resource)| (id.clone(), name_of(id, resource)))
            .collect();
        let mut resources = Resources::new();
        for (id, resource) in declared {
            let mut found = canonical(resource, &names);
            for place in ["Code", "Content"] {
                if let Value::String(key) = &found["Properties"][place]["S3Key"] {
                    let file = artifact(key).with_context(|| format!("{id} has code of unknown origin"))?;
                    found["Properties"][place] = Value::String(file);
                }
            }
            resources.insert(names[id].clone(), normal(found));
        }
        routes::expand(&mut resources);
        let sections = ["Parameters", "Conditions", "Rules", "Outputs"].map(|section| {
            let mut found = canonical(&template[section], &names);
            if let Some(parameters) = found.as_object_mut() {
                // CDK's own, which tells that its bucket for artifacts exists.
                parameters.remove("BootstrapVersion");
            }
            (section, found)
        });
        Ok(Self {
            resources: by_content(resources),
            sections: sections.into(),
        })
    }

    /// How many resources there are, a route being one.
    pub(super) fn len(&self) -> usize {
        self.resources.len()
    }

    /// Every difference that no written reason allows, as a sentence.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (id, one) in &self.resources {
            match other.resources.get(id) {
                None => found.push(format!("{id} ({}) is in SAM's template only", kind(one))),
                Some(two) => {
                    let mut differences = Vec::new();
                    compare("", Some(one), Some(two), &mut differences);
                    found.extend(
                        differences
                            .into_iter()
                            .filter(|(path, _)| !is_allowed(kind(one), path))
                            .map(|(_, sentence)| format!("{id}: {sentence}")),
                    );
                }
            }
        }
        for (id, two) in &other.resources {
            if !self.resources.contains_key(id) {
                found.push(format!("{id} ({}) is in CDK's template only", kind(two)));
            }
        }
        for (section, one) in &self.sections {
            let mut differences = Vec::new();
            compare("", Some(one), other.sections.get(section), &mut differences);
            found.extend(
                differences
                    .into_iter()
                    .map(|(_, sentence)| format!("{section}: {sentence}")),
            );
        }
        found
    }
}

fn kind(resource: &Value) -> &str {
    resource["Type"].as_str().unwrap_or_default()
}

fn name_of(id: &str, resource: &Value) -> String {
    if let Some((_, renamed)) = RENAMED.iter().find(|(sam, _)| *sam == id) {
        return (*renamed).to_owned();
    }
    let is_suffix =
        |text: &str| text.len() == LAYER_SUFFIX && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match id
        .len()
        .checked_sub(LAYER_SUFFIX)
        .and_then(|at| id.split_at_checked(at))
    {
        Some((name, suffix)) if kind(resource) == "AWS::Lambda::LayerVersion" && is_suffix(suffix) => {
            name.to_owned()
        }
        _ => id.to_owned(),
    }
}

/// Without what says nothing: remarks of the tools, and defaults that are written out.
fn normal(mut resource: Value) -> Value {
    if let Some(map) = resource.as_object_mut() {
        map.remove("Metadata");
        for policy in ["DeletionPolicy", "UpdateReplacePolicy"] {
            if map.get(policy).is_some_and(|policy| policy == "Delete") {
                map.remove(policy);
            }
        }
        // Versions of a layer never replace one another: there is nothing for this policy to keep.
        if map["Type"] == "AWS::Lambda::LayerVersion" {
            map.remove("UpdateReplacePolicy");
        }
        if map["Type"] == "AWS::Lambda::Permission" {
            let function = map["Properties"]["FunctionName"].as_str().unwrap_or_default();
            let name = function.replace(".Arn}", "}");
            map["Properties"]["FunctionName"] = Value::String(name);
            let source = map["Properties"]["SourceArn"].as_str().unwrap_or_default();
            let source = SOURCES
                .iter()
                .fold(source.to_owned(), |source, (from, to)| source.replace(from, to));
            map["Properties"]["SourceArn"] = Value::String(source);
        }
        if map["Type"] == "AWS::CloudWatch::Dashboard" {
            let body = map["Properties"]["DashboardBody"].as_str().unwrap_or_default();
            if let Ok(read) = serde_json::from_str(body) {
                map["Properties"]["DashboardBody"] = read;
            }
        }
    }
    resource
}

/// With what it says in the place of the id of a resource that is told by that.
fn by_content(resources: Resources) -> Resources {
    resources
        .into_iter()
        .map(|(id, resource)| {
            if TOLD_BY_CONTENT.contains(&kind(&resource)) {
                let properties = &resource["Properties"];
                let part = |name: &str| properties[name].as_str().unwrap_or("-").to_owned();
                let told = [part("FunctionName"), part("Principal"), part("SourceArn")];
                (format!("{} {}", kind(&resource), told.join(" ")), resource)
            } else {
                (id, resource)
            }
        })
        .collect()
}

/// Allowed is what stands at the path, and what is below it.
fn is_allowed(kind: &str, path: &str) -> bool {
    ALLOWED.iter().any(|(allowed, at, _)| {
        *allowed == kind
            && path
                .strip_prefix(at)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

fn compare(path: &str, one: Option<&Value>, two: Option<&Value>, found: &mut Vec<(String, String)>) {
    match (one, two) {
        (Some(Value::Object(first)), Some(Value::Object(second))) => {
            let names: std::collections::BTreeSet<_> = first.keys().chain(second.keys()).collect();
            for name in names {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                compare(&path, first.get(name), second.get(name), found);
            }
        }
        (Some(Value::Array(first)), Some(Value::Array(second))) => {
            for index in 0..first.len().max(second.len()) {
                compare(
                    &format!("{path}[{index}]"),
                    first.get(index),
                    second.get(index),
                    found,
                );
            }
        }
        (one, two) if one == two => {}
        (one, two) => {
            let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
            let sentence = format!("{path} is {} in SAM's and {} in CDK's", shown(one), shown(two));
            found.push((path.to_owned(), sentence));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(resources: &Value) -> Comparable {
        let template =
            json!({"Resources": resources, "Parameters": {"BootstrapVersion": {}, "Days": {"Default": 3}}});
        Comparable::read(&template, |key| Ok(format!("file of {key}"))).unwrap()
    }

    fn function(memory: u32) -> Value {
        json!({"Type": "AWS::Lambda::Function", "Properties": {
            "MemorySize": memory, "Code": {"S3Key": "k", "S3Bucket": "one"}}})
    }

    #[test]
    fn the_same_resources_under_made_up_names_are_the_same() {
        let sam = read(&json!({
            "F": function(1),
            "LayerA0123456789": {"Type": "AWS::Lambda::LayerVersion", "DeletionPolicy": "Retain"},
            "FxPermission": {"Type": "AWS::Lambda::Permission", "Properties": {"FunctionName": {"Ref": "F"}}},
            "User": {"Type": "x", "Properties": {"Layers": [{"Ref": "LayerA0123456789"}]}},
        }));
        let cdk = read(&json!({
            "F": function(1),
            "LayerA": {"Type": "AWS::Lambda::LayerVersion", "DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain",
                "Metadata": {"aws:cdk:path": "p"}},
            "Other": {"Type": "AWS::Lambda::Permission", "Properties": {"FunctionName": {"Fn::GetAtt": ["F", "Arn"]}}},
            "User": {"Type": "x", "Properties": {"Layers": [{"Ref": "LayerA"}]}},
        }));
        assert_eq!(sam.differences(&cdk), Vec::<String>::new());
    }

    #[test]
    fn permissions_of_another_path_or_function_are_not_the_same() {
        let permission = |function: &str, path: &str| {
            read(&json!({"P": {"Type": "AWS::Lambda::Permission", "Properties": {
                "FunctionName": {"Ref": function},
                "SourceArn": {"Fn::Sub": format!("arn:x:${{Api}}/*/{path}")}}}}))
        };
        let any = permission("F", "*/a/{proxy+}");
        assert_eq!(any.differences(&permission("F", "GET/a/*")), Vec::<String>::new());
        assert_eq!(any.differences(&permission("F", "*/b/*")).len(), 2);
        assert_eq!(any.differences(&permission("G", "*/a/*")).len(), 2);
    }

    #[test]
    fn each_difference_is_named_with_its_place() {
        let sam = read(&json!({"F": function(1), "Q": {"Type": "AWS::SQS::Queue"}}));
        let cdk = read(&json!({"F": function(2), "T": {"Type": "AWS::SNS::Topic"}}));
        let found = sam.differences(&cdk);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found[0].contains("F: Properties.MemorySize is \"1\" in SAM's and \"2\""),
            "{found:?}"
        );
        assert!(found[1].contains("Q (AWS::SQS::Queue) is in SAM's template only"));
        assert!(found[2].contains("T (AWS::SNS::Topic) is in CDK's template only"));
    }

    #[test]
    fn a_statement_that_one_of_them_lacks_is_a_difference() {
        let role = |statements: Value| {
            json!({"R": {"Type": "AWS::IAM::Role", "Properties": {"Policies": [
                {"PolicyDocument": {"Statement": statements}}]}}})
        };
        let one = read(&role(
            json!([{"Action": "s3:GetObject"}, {"Action": "s3:PutObject"}]),
        ));
        let two = read(&role(json!([{"Action": "s3:GetObject"}])));
        assert_eq!(one.differences(&two).len(), 1);
    }

    #[test]
    fn parameters_are_compared_too() {
        let one = Comparable::read(
            &json!({"Resources": {}, "Parameters": {"A": {"Default": 1}}}),
            |_| Ok(String::new()),
        );
        let two = Comparable::read(
            &json!({"Resources": {}, "Parameters": {"A": {"Default": 2}}}),
            |_| Ok(String::new()),
        );
        let found = one.unwrap().differences(&two.unwrap());
        assert_eq!(
            found,
            ["Parameters: A.Default is \"1\" in SAM's and \"2\" in CDK's"]
        );
    }

    #[test]
    fn only_what_has_a_reason_may_differ() {
        assert!(is_allowed("AWS::Lambda::Function", "Properties.Tags[0].Key"));
        assert!(!is_allowed("AWS::Lambda::Function", "Properties.TagsOfMine"));
        assert!(!is_allowed("AWS::SQS::Queue", "Properties.Tags"));
    }
}

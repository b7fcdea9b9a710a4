//! Makes what the template declares, in the parts: keys, buckets, topics, tables, queues. What is there already stays
//! as it is, so that a second start finds what the first one left.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::part::Parts;
use crate::template::{Physical, Template, text_of};

/// Properties of a table that its service takes as they stand in the template.
const TABLE_PROPERTIES: [&str; 5] = [
    "AttributeDefinitions",
    "KeySchema",
    "GlobalSecondaryIndexes",
    "LocalSecondaryIndexes",
    "BillingMode",
];

/// Properties of a queue that decide how it behaves.
const QUEUE_PROPERTIES: [&str; 7] = [
    "VisibilityTimeout",
    "DelaySeconds",
    "MessageRetentionPeriod",
    "MaximumMessageSize",
    "ReceiveMessageWaitTimeSeconds",
    "RedrivePolicy",
    "FifoQueue",
];

/// Makes everything, and tells the template what it is known by.
///
/// # Errors
/// When a resource cannot be made: with its name.
pub(crate) async fn provision(template: &mut Template, parts: &Parts, visibility: Option<u32>) -> Result<()> {
    keys(template, parts).await?;
    for (name, _) in template.resources("AWS::S3::Bucket")? {
        let bucket = template.physical(&name)?.reference.clone();
        parts
            .create_bucket(&bucket)
            .await
            .with_context(|| format!("cannot make the bucket {name}"))?;
    }
    if let Some((name, _)) = template.resources("AWS::SNS::Topic")?.first() {
        bail!(
            "the topic {name} is not made on this machine: make it in moto, and give its ARN as a parameter"
        );
    }
    for (name, properties) in template.resources("AWS::DynamoDB::Table")? {
        let table = template.physical(&name)?.reference.clone();
        make_table(parts, &table, &properties)
            .await
            .with_context(|| format!("cannot make the table {name}"))?;
    }
    queues(template, parts, visibility).await
}

/// A key's identifier is chosen by its service, so one that exists already is found by an alias of ours.
async fn keys(template: &mut Template, parts: &Parts) -> Result<()> {
    // Key policies name the key's own stack only, so nothing in them waits for another key.
    for (name, properties) in template.resources("AWS::KMS::Key")? {
        let alias = format!("alias/aws-local-{}-{name}", template.stack());
        let found = parts
            .try_call("kms", "TrentService.DescribeKey", &json!({"KeyId": alias}))
            .await?;
        let metadata = match found {
            Ok(found) => found["KeyMetadata"].clone(),
            Err(_) => {
                let description = properties.get("Description").cloned().unwrap_or_default();
                let made = parts
                    .call(
                        "kms",
                        "TrentService.CreateKey",
                        &json!({"Description": description}),
                    )
                    .await
                    .with_context(|| format!("cannot make the key {name}"))?;
                let target = json!({"AliasName": alias, "TargetKeyId": made["KeyMetadata"]["KeyId"]});
                parts.call("kms", "TrentService.CreateAlias", &target).await?;
                made["KeyMetadata"].clone()
            }
        };
        let text = |field: &str| {
            metadata[field]
                .as_str()
                .map(str::to_owned)
                .with_context(|| format!("the key {name} has no {field}"))
        };
        let physical = Physical {
            reference: text("KeyId")?,
            attributes: BTreeMap::from([("Arn", text("Arn")?), ("KeyId", text("KeyId")?)]),
        };
        template.set_physical(&name, physical);
    }
    Ok(())
}

async fn make_table(parts: &Parts, table: &str, properties: &Map<String, Value>) -> Result<()> {
    let mut request = Map::from_iter([("TableName".to_owned(), Value::from(table))]);
    for property in TABLE_PROPERTIES {
        if let Some(value) = properties.get(property) {
            request.insert(property.to_owned(), value.clone());
        }
    }
    let made = parts
        .try_call(
            "dynamodb",
            "DynamoDB_20120810.CreateTable",
            &Value::Object(request),
        )
        .await?;
    match made {
        Ok(_) => {}
        Err(refusal) if refusal.kind == "ResourceInUseException" => return Ok(()),
        Err(refusal) => bail!("{}: {}", refusal.kind, refusal.message),
    }
    if let Some(specification) = properties.get("TimeToLiveSpecification") {
        let request = json!({"TableName": table, "TimeToLiveSpecification": specification});
        parts
            .call("dynamodb", "DynamoDB_20120810.UpdateTimeToLive", &request)
            .await?;
    }
    Ok(())
}

/// Queues that others are redriven to come first: a policy may only name a queue that exists.
async fn queues(template: &mut Template, parts: &Parts, visibility: Option<u32>) -> Result<()> {
    let mut declared = template.resources("AWS::SQS::Queue")?;
    declared.sort_by_key(|(_, properties)| properties.contains_key("RedrivePolicy"));
    for (name, properties) in declared {
        let mut physical = template.physical(&name)?.clone();
        let request = queue_request(&physical.reference, &properties, visibility)
            .with_context(|| format!("cannot make the queue {name}"))?;
        let made = parts
            .call("sqs", "AmazonSQS.CreateQueue", &request)
            .await
            .with_context(|| format!("cannot make the queue {name}"))?;
        physical.reference = made["QueueUrl"]
            .as_str()
            .with_context(|| format!("the queue {name} has no URL"))?
            .to_owned();
        template.set_physical(&name, physical);
    }
    Ok(())
}

fn queue_request(queue: &str, properties: &Map<String, Value>, visibility: Option<u32>) -> Result<Value> {
    let mut attributes = Map::new();
    for property in QUEUE_PROPERTIES {
        if let Some(value) = properties.get(property) {
            let text = match value {
                Value::Object(_) => value.to_string(),
                scalar => text_of(scalar).with_context(|| format!("in its {property}"))?,
            };
            attributes.insert(property.to_owned(), Value::from(text));
        }
    }
    if let (Some(seconds), true) = (visibility, attributes.contains_key("VisibilityTimeout")) {
        attributes.insert("VisibilityTimeout".to_owned(), Value::from(seconds.to_string()));
    }
    Ok(json!({"QueueName": queue, "Attributes": attributes}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_asked_for_with_what_the_template_says_as_text() {
        let Value::Object(properties) = json!({
            "VisibilityTimeout": 1080,
            "RedrivePolicy": {"deadLetterTargetArn": "arn:dead", "maxReceiveCount": 5},
            "KmsMasterKeyId": "ignored: nothing is encrypted here",
        }) else {
            unreachable!()
        };
        let request = queue_request("q", &properties, None).unwrap();
        assert_eq!(
            request,
            json!({"QueueName": "q", "Attributes": {
                "VisibilityTimeout": "1080",
                "RedrivePolicy": "{\"deadLetterTargetArn\":\"arn:dead\",\"maxReceiveCount\":5}",
            }})
        );
        let shorter = queue_request("q", &properties, Some(2)).unwrap();
        assert_eq!(shorter["Attributes"]["VisibilityTimeout"], "2");
    }
}

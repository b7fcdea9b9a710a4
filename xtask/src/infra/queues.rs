//! Functions and the queues that they consume agree on times, and every queue is watched.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use super::template::{Template, number};
use crate::run::workspace;

/// Time-outs of its consumer after which a message is visible again: what Lambda asks for, so that a batch is not given
/// to a second invocation while the first one is throttled and repeated.
const VISIBILITY: u64 = 6;
/// Receives before SQS buries a message; the functions count on the same number.
const RECEIVES: u64 = 10;
/// Seconds that dead letters are kept: as long as SQS can.
const KEPT: u64 = 14 * 24 * 60 * 60;

pub(super) fn violations() -> Result<Vec<String>> {
    in_template(&Template::read()?, |function| {
        let path = workspace().join("functions").join(function).join("src/main.rs");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        time_out(&text).with_context(|| format!("{} has no constant TIME_OUT in seconds", path.display()))
    })
}

/// The seconds in `const TIME_OUT: Duration = Duration::from_secs(180);`.
fn time_out(source: &str) -> Option<u64> {
    let (_, rest) = source.split_once("const TIME_OUT: Duration = Duration::from_secs(")?;
    rest.split_once(')')?.0.parse().ok()
}

/// `Queue` in `${Queue.Arn}`.
fn referred(value: &Value) -> &str {
    let inner = value
        .as_str()
        .and_then(|text| text.strip_prefix("${")?.strip_suffix(".Arn}"));
    inner.unwrap_or_default()
}

fn in_template(template: &Template, time_out: impl Fn(&str) -> Result<u64>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (name, _) in template.functions()? {
        let properties = template.function(&name).context("it was just listed")?;
        let seconds = number(&properties["Timeout"]).with_context(|| format!("{name} has no time-out"))?;
        let counted = time_out(&name)?;
        if counted != seconds {
            found.push(format!(
                "{name} has {seconds} seconds in the template, but counts on {counted}"
            ));
        }
        let events = properties["Events"].as_object().into_iter().flatten();
        for (_, event) in events.filter(|(_, event)| event["Type"] == "SQS") {
            found.extend(of_source(
                template,
                &name,
                properties,
                &event["Properties"],
                seconds,
            ));
        }
    }
    Ok(found)
}

fn of_source(template: &Template, name: &str, function: &Value, source: &Value, seconds: u64) -> Vec<String> {
    let mut found = Vec::new();
    let mut require = |holds: bool, sentence: String| {
        if !holds {
            found.push(sentence);
        }
    };
    let id = referred(&source["Queue"]);
    let queue = template.properties(id);
    let letters_id = referred(&queue["RedrivePolicy"]["deadLetterTargetArn"]);
    let letters = template.properties(letters_id);
    require(
        number(&queue["VisibilityTimeout"]).is_some_and(|visible| visible >= VISIBILITY * seconds),
        format!("{id} gives a message again before {VISIBILITY} × the {seconds} seconds of {name}"),
    );
    require(
        number(&queue["RedrivePolicy"]["maxReceiveCount"]) == Some(RECEIVES),
        format!("{id} does not bury a message after {RECEIVES} receives"),
    );
    require(
        number(&letters["MessageRetentionPeriod"]) == Some(KEPT),
        format!("the dead letters of {id} are not kept for 14 days"),
    );
    require(
        source["FunctionResponseTypes"][0] == "ReportBatchItemFailures",
        format!("{name} cannot fail a part of a batch"),
    );
    require(
        !source["ScalingConfig"]["MaximumConcurrency"].is_null()
            && source["ScalingConfig"]["MaximumConcurrency"] == function["ReservedConcurrentExecutions"],
        format!("{name} does not reserve what its event source may use"),
    );
    for (metric, of) in [
        ("ApproximateAgeOfOldestMessage", id),
        ("ApproximateNumberOfMessagesVisible", letters_id),
    ] {
        let dimension = format!("${{{of}.QueueName}}");
        let watched = template
            .of_type("AWS::CloudWatch::Alarm")
            .any(|(_, alarm)| alarm["MetricName"] == metric && alarm["Dimensions"][0]["Value"] == dimension);
        require(watched, format!("no alarm looks at {metric} of {of}"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: {Fn::Sub: '${AWS::StackName}-f'}
      Role: {Fn::GetAtt: [R, Arn]}
      Timeout: 10
      ReservedConcurrentExecutions: {Ref: Most}
      Events:
        Queue:
          Type: SQS
          Properties:
            Queue: {Fn::GetAtt: [Q, Arn]}
            FunctionResponseTypes: [ReportBatchItemFailures]
            ScalingConfig: {MaximumConcurrency: {Ref: Most}}
  Q:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 60
      RedrivePolicy: {deadLetterTargetArn: {Fn::GetAtt: [D, Arn]}, maxReceiveCount: 10}
  D: {Type: 'AWS::SQS::Queue', Properties: {MessageRetentionPeriod: 1209600}}
  A:
    Type: AWS::CloudWatch::Alarm
    Properties: {MetricName: ApproximateAgeOfOldestMessage, Dimensions: [{Name: QueueName, Value: {Fn::GetAtt: [Q, QueueName]}}]}
  B:
    Type: AWS::CloudWatch::Alarm
    Properties: {MetricName: ApproximateNumberOfMessagesVisible, Dimensions: [{Name: QueueName, Value: {Fn::GetAtt: [D, QueueName]}}]}";

    fn found(from: &str, to: &str) -> Vec<String> {
        let text = TEMPLATE.replacen(from, to, 1);
        assert!(from.is_empty() || text != TEMPLATE, "nothing was replaced");
        in_template(&Template::parse(&text).unwrap(), |_| Ok(10)).unwrap()
    }

    #[test]
    fn whatever_does_not_fit_is_named() {
        assert_eq!(found("", ""), Vec::<String>::new());
        for (from, to, expected) in [
            ("Timeout: 10", "Timeout: 9", "counts on 10"),
            (
                "VisibilityTimeout: 60",
                "VisibilityTimeout: 59",
                "before 6 × the 10 seconds",
            ),
            ("maxReceiveCount: 10", "maxReceiveCount: 4", "after 10 receives"),
            ("1209600", "345600", "14 days"),
            ("[ReportBatchItemFailures]", "[]", "part of a batch"),
            ("{MaximumConcurrency: {Ref: Most}}", "{}", "does not reserve"),
            (
                "ApproximateAgeOfOldestMessage",
                "NumberOfMessagesSent",
                "no alarm looks at ApproximateAge",
            ),
            (
                "[D, QueueName]",
                "[Q, QueueName]",
                "no alarm looks at ApproximateNumber",
            ),
        ] {
            let found = found(from, to);
            assert!(
                found.len() == 1 && found[0].contains(expected),
                "{expected}: {found:?}"
            );
        }
    }

    #[test]
    fn a_functions_time_out_is_read_from_its_source() {
        let source = "use x;\nconst TIME_OUT: Duration = Duration::from_secs(29);\nfn main() {}";
        assert_eq!(time_out(source), Some(29));
        assert_eq!(time_out("fn main() {}"), None);
    }
}

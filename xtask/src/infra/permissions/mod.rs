//! Least privilege: what functions may call, against what they do call.

mod call;
mod grants;
mod reasons;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::template::Template;

pub use call::Call;
pub use grants::Grants;
pub use world::World;

/// Actions that stand with the resource `*`, and why none can be named.
const UNNAMEABLE: &[(&str, &str)] = &[
    ("xray:PutTelemetryRecords", "X-Ray has no resources for it"),
    ("xray:PutTraceSegments", "X-Ray has no resources for it"),
    ("ec2:AssignPrivateIpAddresses", "the interface does not exist yet"),
    ("ec2:CreateNetworkInterface", "the interface does not exist yet"),
    ("ec2:DeleteNetworkInterface", "the interface does not exist yet"),
    ("ec2:DescribeNetworkInterfaces", "EC2 has no resources for it"),
    ("ec2:DescribeSubnets", "EC2 has no resources for it"),
    (
        "ec2:UnassignPrivateIpAddresses",
        "the interface does not exist yet",
    ),
];

/// What a record of calls says about the roles of the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Calls that AWS would refuse, as sentences.
    pub refused: Vec<String>,
    /// What is allowed, but was not called and has no written reason, as sentences.
    pub unused: Vec<String>,
}

/// Holds what was recorded on the local stand-in for AWS, a JSON object in each line, against the template of this
/// checkout. `stack` is the name under which the stand-in ran; `parameters` are those of the template's that name
/// topics, clusters and roles.
///
/// # Errors
/// When the template or the record cannot be read.
pub fn judge(calls: &str, stack: &str, parameters: BTreeMap<String, Vec<String>>) -> Result<Judgement> {
    let template = Template::read()?;
    let grants = Grants::read(&template, &World::local(&template, stack, parameters))?;
    let calls = Call::read_all(calls)?;
    Ok(Judgement {
        refused: grants.refused(&calls),
        unused: grants.unused(&calls),
    })
}

/// Breaches of the rules that hold without any call: every action is named, every resource is where one can be, and
/// every function has a role of its own that says all that it may do.
pub(super) fn violations() -> Result<Vec<String>> {
    in_template(&Template::read()?)
}

fn in_template(template: &Template) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut roles = BTreeSet::new();
    for (function, role) in template.functions()? {
        if template.has_managed_policies(&role) {
            found.push(format!(
                "{role} has policies that are not written in the template"
            ));
        }
        for statement in template.statements(&role)? {
            let place = format!("the statement {} of {role}", statement.name);
            found.extend(
                statement
                    .actions
                    .iter()
                    .filter(|action| action.contains('*'))
                    .map(|action| format!("{place} allows {action}: name the actions")),
            );
            let any = statement.resources.iter().any(|resource| resource == "*");
            let nameable = |action: &&String| !UNNAMEABLE.iter().any(|(name, _)| name == action);
            if any && let Some(action) = statement.actions.iter().find(nameable) {
                found.push(format!(
                    "{place} allows {action} on everything: name the resources"
                ));
            }
            if statement.actions.is_empty() || statement.resources.is_empty() {
                found.push(format!("{place} says nothing"));
            }
        }
        if !roles.insert(role.clone()) {
            found.push(format!("{function} shares the role {role} with another function"));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const TEMPLATE: &str = "Resources:
  Table: {Type: 'AWS::DynamoDB::Table', Properties: {}}
  Queue: {Type: 'AWS::SQS::Queue', Properties: {QueueName: {Fn::Sub: '${AWS::StackName}-steps'}}}
  F:
    Type: AWS::Serverless::Function
    Properties: {FunctionName: {Fn::Sub: '${AWS::StackName}-worker'}, Role: {Fn::GetAtt: [R, Arn]}}
  R:
    Type: AWS::IAM::Role
    Properties:
      Policies:
        - PolicyDocument:
            Statement:
              - {Sid: State, Effect: Allow, Action: ['dynamodb:GetItem', 'dynamodb:PutItem'], Resource: {Fn::GetAtt: [Table, Arn]}}
              - {Sid: Send, Effect: Allow, Action: 'sqs:SendMessage', Resource: [{Fn::GetAtt: [Queue, Arn]}]}
              - {Sid: Secrets, Effect: Allow, Action: 'secretsmanager:GetSecretValue', Resource: {Fn::Sub: 'arn:aws:secretsmanager:${AWS::Region}:1:secret:${AWS::StackName}/*/cluster/*'}}
              - {Sid: Roles, Effect: Allow, Action: 'sts:AssumeRole', Resource: {Ref: RoleArns}}
              - {Sid: Logs, Effect: Allow, Action: 'logs:PutLogEvents', Resource: {Fn::GetAtt: [Group, Arn]}}";

    pub(super) fn template() -> Template {
        Template::parse(TEMPLATE).unwrap()
    }

    #[test]
    fn vague_statements_and_shared_roles_are_violations() {
        for (from, to, expected) in [
            ("'sqs:SendMessage'", "'sqs:*'", "name the actions"),
            ("[{Fn::GetAtt: [Queue, Arn]}]", "'*'", "name the resources"),
            (
                "  R:\n",
                "  G:\n    Type: AWS::Serverless::Function\n    Properties: {FunctionName: {Fn::Sub: '${AWS::StackName}-g'}, Role: {Fn::GetAtt: [R, Arn]}}\n  R:\n",
                "shares the role",
            ),
            (
                "      Policies:",
                "      ManagedPolicyArns: [x]\n      Policies:",
                "not written in the template",
            ),
        ] {
            let template = Template::parse(&TEMPLATE.replacen(from, to, 1)).unwrap();
            let found = in_template(&template).unwrap();
            assert!(
                found.iter().any(|sentence| sentence.contains(expected)),
                "{expected}: {found:?}"
            );
        }
        assert_eq!(in_template(&template()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn the_schedule_may_end_a_plan_whose_message_died() {
        let calls = ["GetObject", "PutObject", "DeleteObject"].map(|action| {
            format!(
                r#"{{"function":"sync-deployments","service":"s3","action":"{action}",
                     "resource":"arn:aws:s3:::local-bucket/tenant/deployments/x/plans/y.json"}}"#
            )
            .replace('\n', "")
        });
        let judgement = judge(&calls.join("\n"), "local", BTreeMap::new()).unwrap();
        assert_eq!(judgement.refused, Vec::<String>::new());
    }
}

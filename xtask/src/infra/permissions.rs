//! Least privilege: what functions may call, against what they do call.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::template::Template;

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

/// What is allowed although no function calls it where calls are recorded: a statement, an action (or `*` for all of
/// the statement's), and why.
const UNRECORDED: &[(&str, &str, &str)] = &[
    ("Logs", "*", "Lambda calls it with the function's role"),
    ("Traces", "*", "Lambda calls it with the function's role"),
    (
        "NetworkInterfaces",
        "*",
        "Lambda calls it with the function's role, in a VPC only",
    ),
    (
        "EncryptedData",
        "*",
        "DynamoDB, S3, SQS and Secrets Manager call it with the function's role",
    ),
    (
        "Receive",
        "sqs:ReceiveMessage",
        "the event source calls it with the function's role",
    ),
    (
        "Receive",
        "sqs:GetQueueAttributes",
        "the event source calls it with the function's role",
    ),
    (
        "Receive",
        "sqs:DeleteMessage",
        "the event source calls it with the function's role",
    ),
    (
        "AbsentBlobs",
        "s3:ListBucket",
        "S3 asks for it when an object is absent",
    ),
    (
        "ClusterRoles",
        "sts:AssumeRole",
        "needs a second account; the adapter's own tests show the call",
    ),
    (
        "Clusters",
        "eks:DescribeCluster",
        "needs a cluster of EKS; the adapter's own tests show the call",
    ),
    (
        "Topics",
        "sns:Publish",
        "parameters name the topics; none is there unless a test makes one",
    ),
    (
        "Secrets",
        "secretsmanager:RestoreSecret",
        "only for a secret that is put again while it is being deleted",
    ),
];

/// One call that a function made: a line of what the local stand-in for AWS records.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Call {
    /// The function, with or without the name of the stack before it.
    pub function: String,
    /// The service as IAM calls it, such as `dynamodb`.
    pub service: String,
    /// The operation, such as `PutItem`.
    pub action: String,
    /// The ARN of what it was about.
    pub resource: String,
}

impl Call {
    /// Reads a record: a JSON object in each line.
    ///
    /// # Errors
    /// When a line is something else: with its number.
    pub fn read_all(lines: &str) -> Result<Vec<Self>> {
        lines
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(index, line)| {
                serde_json::from_str(line).with_context(|| format!("line {} is no call: {line}", index + 1))
            })
            .collect()
    }

    /// The permission that IAM asks for; nothing where it asks for none.
    fn permission(&self) -> Option<String> {
        let action = match (self.service.as_str(), self.action.as_str()) {
            ("sts", "GetCallerIdentity") => return None,
            ("s3", "HeadObject") => "GetObject",
            ("s3", "HeadBucket" | "ListObjectsV2") => "ListBucket",
            ("sqs", action) => action.trim_end_matches("Batch"),
            (_, action) => action,
        };
        Some(format!("{}:{action}", self.service))
    }
}

/// What the references in the template stand for where the calls were recorded.
#[derive(Debug, Clone)]
pub struct World {
    stack: String,
    names: BTreeMap<String, Vec<String>>,
}

impl World {
    /// A stack in an account, with values for what the template calls `Name` or `Name.Attribute`. A parameter with a
    /// list has several; what has none grants nothing.
    #[must_use]
    pub fn new(stack: &str, names: BTreeMap<String, Vec<String>>) -> Self {
        let stack = stack.to_owned();
        let mut names = names;
        names.insert("AWS::StackName".to_owned(), vec![stack.clone()]);
        Self { stack, names }
    }

    /// The stack as the local stand-in for AWS makes it: account `000000000000` in `us-east-1`, and resources that
    /// the template gives no name are `<stack>-<logical id>` in lower case. `parameters` are those that name topics,
    /// clusters and roles.
    #[must_use]
    pub fn local(template: &Template, stack: &str, parameters: BTreeMap<String, Vec<String>>) -> Self {
        let (account, region) = ("000000000000", "us-east-1");
        let mut names = parameters;
        let mut insert = |name: String, value: String| names.insert(name, vec![value]);
        for (name, value) in [("AccountId", account), ("Region", region), ("Partition", "aws")] {
            insert(format!("AWS::{name}"), value.to_owned());
        }
        let own = |id: &str| format!("{stack}-{id}").to_lowercase();
        for (id, _) in template.of_type("AWS::DynamoDB::Table") {
            insert(
                format!("{id}.Arn"),
                format!("arn:aws:dynamodb:{region}:{account}:table/{}", own(id)),
            );
        }
        for (id, _) in template.of_type("AWS::S3::Bucket") {
            insert(format!("{id}.Arn"), format!("arn:aws:s3:::{}", own(id)));
        }
        for (id, properties) in template.of_type("AWS::SQS::Queue") {
            let name = properties["QueueName"].as_str().unwrap_or_default();
            let name = name.replace("${AWS::StackName}", stack);
            insert(
                format!("{id}.Arn"),
                format!("arn:aws:sqs:{region}:{account}:{name}"),
            );
        }
        Self::new(stack, names)
    }

    /// What a resource of a statement stands for.
    fn resolve(&self, text: &str) -> Vec<String> {
        let Some((before, rest)) = text.split_once("${") else {
            return vec![text.to_owned()];
        };
        let Some((name, after)) = rest.split_once('}') else {
            return vec![text.to_owned()];
        };
        let values = self.names.get(name).map(Vec::as_slice).unwrap_or_default();
        values
            .iter()
            .flat_map(|value| self.resolve(&format!("{before}{value}{after}")))
            .collect()
    }
}

/// One action that one statement of one function's role allows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Grant {
    function: String,
    statement: String,
    action: String,
    resources: Vec<String>,
}

/// Everything that the functions may do.
#[derive(Debug, Clone)]
pub struct Grants {
    stack: String,
    all: Vec<Grant>,
}

impl Grants {
    /// What the template allows in a world.
    ///
    /// # Errors
    /// When the template has a function without a role of its own.
    pub fn read(template: &Template, world: &World) -> Result<Self> {
        let mut all = Vec::new();
        for (function, role) in template.functions()? {
            for statement in template
                .statements(&role)?
                .into_iter()
                .filter(|found| found.allows)
            {
                let resources: Vec<_> = statement
                    .resources
                    .iter()
                    .flat_map(|resource| world.resolve(resource))
                    .collect();
                all.extend(statement.actions.into_iter().map(|action| Grant {
                    function: function.clone(),
                    statement: statement.name.clone(),
                    action,
                    resources: resources.clone(),
                }));
            }
        }
        let stack = world.stack.clone();
        Ok(Self { stack, all })
    }

    /// Calls that AWS would refuse, as sentences.
    #[must_use]
    pub fn refused(&self, calls: &[Call]) -> Vec<String> {
        let refused: BTreeSet<_> = calls
            .iter()
            .filter(|call| call.permission().is_some() && self.of(call).next().is_none())
            .map(|call| {
                format!(
                    "{} called {}:{} on {}, which its role does not allow",
                    self.bare(&call.function),
                    call.service,
                    call.action,
                    call.resource
                )
            })
            .collect();
        refused.into_iter().collect()
    }

    /// What is allowed, but neither was called nor has a written reason, as sentences.
    #[must_use]
    pub fn unused(&self, calls: &[Call]) -> Vec<String> {
        let used: BTreeSet<_> = calls.iter().flat_map(|call| self.of(call)).collect();
        self.all
            .iter()
            .filter(|grant| !used.contains(grant) && !has_reason(grant))
            .map(|grant| {
                format!(
                    "{} may {} by its statement {}, but never does: remove it, or write a reason",
                    grant.function, grant.action, grant.statement
                )
            })
            .collect()
    }

    /// The grants that allow a call.
    fn of<'a>(&'a self, call: &'a Call) -> impl Iterator<Item = &'a Grant> {
        let function = self.bare(&call.function);
        let permission = call.permission();
        self.all.iter().filter(move |grant| {
            grant.function == function
                && Some(&grant.action) == permission.as_ref()
                && grant
                    .resources
                    .iter()
                    .any(|pattern| matches(pattern, &call.resource))
        })
    }

    fn bare<'a>(&self, function: &'a str) -> &'a str {
        function
            .strip_prefix(&self.stack)
            .and_then(|rest| rest.strip_prefix('-'))
            .unwrap_or(function)
    }
}

fn has_reason(grant: &Grant) -> bool {
    UNRECORDED
        .iter()
        .any(|(statement, action, _)| *statement == grant.statement && ["*", &grant.action].contains(action))
}

/// Whether a resource is one that a pattern of IAM describes, in which `*` stands for anything. In a recorded resource
/// `*` stands for what the record leaves out, so that it may be one.
fn matches(pattern: &str, recorded: &str) -> bool {
    let (pattern, recorded): (Vec<_>, Vec<_>) = (pattern.chars().collect(), recorded.chars().collect());
    // Row by row: whether the rest of the pattern from `i` on and the rest of the record from `j` on can be the same.
    let mut below = vec![false; recorded.len() + 1];
    for i in (0..=pattern.len()).rev() {
        let mut row = vec![false; recorded.len() + 1];
        for j in (0..=recorded.len()).rev() {
            let (one, other) = (pattern.get(i), recorded.get(j));
            row[j] = match (one, other) {
                (None, None) => true,
                (Some('*'), _) if below[j] => true,
                (Some('*'), Some(_)) => row[j + 1],
                (_, Some('*')) => row[j + 1] || (one.is_some() && below[j]),
                (Some(one), Some(other)) => one == other && below[j + 1],
                _ => false,
            };
        }
        below = row;
    }
    below[0]
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

    const TEMPLATE: &str = "Resources:
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

    fn template() -> Template {
        Template::parse(TEMPLATE).unwrap()
    }

    fn grants(roles: &[&str]) -> Grants {
        let roles = roles.iter().map(|&role| role.to_owned()).collect();
        let parameters = BTreeMap::from([("RoleArns".to_owned(), roles)]);
        let world = World::local(&template(), "dev", parameters);
        Grants::read(&template(), &world).unwrap()
    }

    fn call(service: &str, action: &str, resource: &str) -> Call {
        Call {
            function: "dev-worker".to_owned(),
            service: service.to_owned(),
            action: action.to_owned(),
            resource: resource.to_owned(),
        }
    }

    const TABLE: &str = "arn:aws:dynamodb:us-east-1:000000000000:table/dev-table";
    const QUEUE: &str = "arn:aws:sqs:us-east-1:000000000000:dev-steps";

    #[test]
    fn calls_of_what_is_allowed_are_not_refused() {
        let calls = [
            call("dynamodb", "GetItem", TABLE),
            call("sqs", "SendMessage", QUEUE),
            call("sqs", "SendMessageBatch", QUEUE),
            call(
                "secretsmanager",
                "GetSecretValue",
                "arn:aws:secretsmanager:us-east-1:1:secret:dev/t/cluster/9-x",
            ),
            call("sts", "GetCallerIdentity", "*"),
        ];
        assert_eq!(grants(&[]).refused(&calls), Vec::<String>::new());
    }

    #[test]
    fn another_action_resource_index_or_function_is_refused() {
        let mut stranger = call("dynamodb", "GetItem", TABLE);
        stranger.function = "dev-stranger".to_owned();
        for wrong in [
            call("dynamodb", "DeleteItem", TABLE),
            call("dynamodb", "GetItem", &format!("{TABLE}s")),
            call("dynamodb", "GetItem", &format!("{TABLE}/index/due")),
            call("sqs", "ReceiveMessage", QUEUE),
            call(
                "secretsmanager",
                "GetSecretValue",
                "arn:aws:secretsmanager:us-east-1:1:secret:dev/t/other/9",
            ),
            call(
                "secretsmanager",
                "GetSecretValue",
                "arn:aws:secretsmanager:us-east-1:1:secret:prod/t/cluster/9",
            ),
            call("sts", "AssumeRole", "arn:aws:iam::2:role/slipway"),
            stranger,
        ] {
            assert_eq!(
                grants(&[]).refused(std::slice::from_ref(&wrong)).len(),
                1,
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn a_list_of_a_parameter_allows_each_of_its_members() {
        let calls = [
            call("sts", "AssumeRole", "arn:aws:iam::2:role/slipway"),
            call("sts", "AssumeRole", "arn:aws:iam::3:role/slipway"),
        ];
        let allowed = ["arn:aws:iam::2:role/slipway", "arn:aws:iam::3:role/slipway"];
        assert_eq!(grants(&allowed[..1]).refused(&calls).len(), 1);
        assert_eq!(grants(&allowed).refused(&calls).len(), 0);
    }

    #[test]
    fn what_is_never_called_and_has_no_reason_is_named() {
        let unused = grants(&[]).unused(&[
            call("dynamodb", "GetItem", TABLE),
            call("sqs", "SendMessage", QUEUE),
        ]);
        let expected = [
            "worker may dynamodb:PutItem",
            "worker may secretsmanager:GetSecretValue",
            "worker may sts:",
        ];
        assert_eq!(unused.len(), expected.len(), "{unused:?}");
        for (sentence, beginning) in unused.iter().zip(expected) {
            assert!(sentence.starts_with(beginning), "{sentence}");
        }
    }

    #[test]
    fn a_record_is_read_line_by_line() {
        let line = r#"{"function":"worker","service":"sqs","action":"SendMessage","resource":"arn"}"#;
        assert_eq!(Call::read_all(&format!("{line}\n\n{line}\n")).unwrap().len(), 2);
        let error = Call::read_all(&format!("{line}\n{{}}\n")).unwrap_err();
        assert!(error.to_string().starts_with("line 2"), "{error}");
    }

    #[test]
    fn a_pattern_covers_what_its_stars_stand_for_and_nothing_else() {
        for (pattern, text, covered) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "abc", true),
            ("a/*/c/*", "a/b/c/d", true),
            ("a/*/c/*", "a/b/d/c", false),
            ("*c", "abc", true),
            ("*c", "abd", false),
            ("*", "anything", true),
            ("b/*/x/*", "b/*", true),
            ("b/*/x/*", "c/*", false),
            ("b/*/x/*", "b/*/y/*z", false),
            ("a*b", "*", true),
            ("ab", "a*", true),
            ("ab", "b*", false),
        ] {
            assert_eq!(matches(pattern, text), covered, "{pattern} {text}");
        }
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
}

//! What functions may call.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{call::Call, reasons::UNRECORDED, world::World};
use crate::infra::template::Template;

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

    /// What is allowed, but neither was called nor has a written reason, as sentences. What a parameter without a value
    /// would allow is not allowed.
    #[must_use]
    pub fn unused(&self, calls: &[Call]) -> Vec<String> {
        let used: BTreeSet<_> = calls.iter().flat_map(|call| self.of(call)).collect();
        self.all
            .iter()
            .filter(|grant| !grant.resources.is_empty() && !used.contains(grant) && !has_reason(grant))
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
    UNRECORDED.iter().any(|(function, statement, action, _)| {
        ["*", &grant.function].contains(function)
            && *statement == grant.statement
            && ["*", &grant.action].contains(action)
    })
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::template;
    use super::*;

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
        let calls = [
            call("dynamodb", "GetItem", TABLE),
            call("sqs", "SendMessage", QUEUE),
        ];
        let expected = [
            "worker may dynamodb:PutItem",
            "worker may secretsmanager:GetSecretValue",
            "worker may sts:",
        ];
        // Without a role the last of them allows nothing.
        for (roles, expected) in [
            (&[][..], &expected[..2]),
            (&["arn:aws:iam::2:role/slipway"], &expected),
        ] {
            let unused = grants(roles).unused(&calls);
            assert_eq!(unused.len(), expected.len(), "{unused:?}");
            for (sentence, beginning) in unused.iter().zip(expected) {
                assert!(sentence.starts_with(beginning), "{sentence}");
            }
        }
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
            ("b/*/x", "b/*/y", false),
            ("a*b", "*", true),
            ("ab", "a*", true),
            ("ab", "b*", false),
        ] {
            assert_eq!(matches(pattern, text), covered, "{pattern} {text}");
        }
    }
}

//! What the template's references stand for.

use std::collections::BTreeMap;

use crate::infra::template::Template;

/// What the references in the template stand for where the calls were recorded.
#[derive(Debug, Clone)]
pub struct World {
    pub(super) stack: String,
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
    pub(super) fn resolve(&self, text: &str) -> Vec<String> {
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

//! What functions called.

use anyhow::{Context, Result};
use serde::Deserialize;

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
    pub(super) fn permission(&self) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_line_by_line() {
        let line = r#"{"function":"worker","service":"sqs","action":"SendMessage","resource":"arn"}"#;
        assert_eq!(Call::read_all(&format!("{line}\n\n{line}\n")).unwrap().len(), 2);
        let error = Call::read_all(&format!("{line}\n{{}}\n")).unwrap_err();
        assert!(error.to_string().starts_with("line 2"), "{error}");
    }
}

//! Which AWS queue or topic carries a logical queue.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use slipway_model::Queue;

use crate::error::SetupError;

/// What carries a logical queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// The URL of an SQS queue.
    Sqs(String),
    /// The ARN of an SNS topic.
    Sns(String),
}

/// Logical queue names and what carries them, as `SLIPWAY_QUEUES` and `SLIPWAY_DEAD_LETTER_QUEUES` say. Clones share
/// their content.
#[derive(Debug, Clone, Default)]
pub struct Queues {
    carriers: Arc<BTreeMap<String, Carrier>>,
}

impl Queues {
    /// Reads a JSON object of logical names and SQS queue URLs or SNS topic ARNs, such as
    /// `{"execute-step": "https://sqs.us-east-1.amazonaws.com/123456789012/execute-step"}`. `variable` is where it
    /// stands.
    ///
    /// # Errors
    /// [`SetupError::Invalid`] for anything else.
    pub fn parse(variable: &str, json: &str) -> Result<Self, SetupError> {
        let invalid = |reason: String| SetupError::Invalid {
            variable: variable.to_owned(),
            reason,
        };
        let texts: BTreeMap<String, String> = serde_json::from_str(json).map_err(|error| {
            invalid(format!(
                "it is no JSON object of queue names and their URLs or topic ARNs: {error}"
            ))
        })?;
        let mut carriers = BTreeMap::new();
        for (name, text) in texts {
            let carrier = if text.starts_with("https://") || text.starts_with("http://") {
                Carrier::Sqs(text)
            } else if text.starts_with("arn:") && text.split(':').nth(2) == Some("sns") {
                if text.ends_with(".fifo") {
                    return Err(invalid(format!(
                        "'{text}' of '{name}' is a FIFO topic, to which no event can be published: expected a standard one"
                    )));
                }
                Carrier::Sns(text)
            } else {
                return Err(invalid(format!(
                    "'{text}' of queue '{name}' is neither the URL of an SQS queue nor the ARN of an SNS topic"
                )));
            };
            carriers.insert(name, carrier);
        }
        Ok(Self {
            carriers: Arc::new(carriers),
        })
    }

    /// Makes sure that these queues are there, so that a function which needs them fails when it starts.
    ///
    /// # Errors
    /// [`SetupError::Invalid`] names the first that is missing.
    pub fn require(&self, variable: &str, queues: &[Queue]) -> Result<(), SetupError> {
        match queues.iter().find(|queue| self.carrier(queue).is_none()) {
            None => Ok(()),
            Some(missing) => Err(SetupError::Invalid {
                variable: variable.to_owned(),
                reason: format!("it has no entry '{}' with the URL of that queue", missing.name()),
            }),
        }
    }

    /// The names that are topics: all but the control plane's own queues.
    pub fn topics(&self) -> BTreeSet<String> {
        let topics = self.carriers.keys().filter(|name| !is_internal(name));
        topics.cloned().collect()
    }

    pub(crate) fn carrier(&self, queue: &Queue) -> Option<&Carrier> {
        // A caller may choose topics, and must not reach the control plane's own queues under their names.
        if matches!(queue, Queue::Topic(topic) if is_internal(topic)) {
            return None;
        }
        self.carriers.get(queue.name())
    }

    /// The URL of the SQS queue that carries a logical queue.
    pub fn url(&self, queue: &Queue) -> Option<&str> {
        match self.carrier(queue)? {
            Carrier::Sqs(url) => Some(url),
            Carrier::Sns(_) => None,
        }
    }
}

fn is_internal(name: &str) -> bool {
    let internal = [Queue::PlanDag, Queue::ExecuteStep, Queue::DeployHelm];
    internal.iter().any(|internal| internal.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        Queues::parse("SLIPWAY_QUEUES", json).unwrap_err().to_string()
    }

    #[test]
    fn queues_and_topics_are_told_apart() {
        let queues = Queues::parse(
            "SLIPWAY_QUEUES",
            r#"{"execute-step": "https://sqs/1/x", "news": "arn:aws:sns:us-east-1:1:news"}"#,
        )
        .unwrap();
        assert_eq!(queues.url(&Queue::ExecuteStep), Some("https://sqs/1/x"));
        let news = Queue::Topic("news".to_owned());
        assert_eq!(queues.url(&news), None);
        assert_eq!(
            queues.carrier(&news),
            Some(&Carrier::Sns("arn:aws:sns:us-east-1:1:news".to_owned()))
        );
    }

    #[test]
    fn a_topic_does_not_reach_an_internal_queue() {
        let queues = Queues::parse("SLIPWAY_QUEUES", r#"{"plan-dag": "https://sqs/1/x"}"#).unwrap();
        assert!(queues.url(&Queue::PlanDag).is_some());
        assert!(queues.carrier(&Queue::Topic("plan-dag".to_owned())).is_none());
        assert!(queues.topics().is_empty());
    }

    #[test]
    fn errors_name_the_setting_and_the_queue() {
        for (json, expected) in [
            ("", "SLIPWAY_QUEUES"),
            ("[]", "JSON object"),
            (r#"{"a": "arn:aws:sqs:us-east-1:1:a"}"#, "of queue 'a'"),
            (r#"{"a": "arn:aws:sns:us-east-1:1:a.fifo"}"#, "FIFO"),
        ] {
            let error = refused(json);
            assert!(error.contains(expected), "{error}");
        }
        let none = Queues::default();
        let error = none.require("SLIPWAY_QUEUES", &[Queue::DeployHelm]).unwrap_err();
        assert!(error.to_string().contains("'deploy-helm'"), "{error}");
    }
}

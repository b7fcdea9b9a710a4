//! What a function says about itself.

use std::time::Duration;

use slipway_model::{BUDPIPELINE_EVENTS, BUDUSECASES_EVENTS, Queue};

/// The queues and topics that functions consume.
pub const ALL_QUEUES: [&str; 5] = [
    "plan-dag",
    "execute-step",
    "deploy-helm",
    BUDPIPELINE_EVENTS,
    BUDUSECASES_EVENTS,
];

/// A function: its name and what it needs to work.
#[derive(Debug, Clone)]
pub struct Function {
    /// As in `functions/` and in the infrastructure templates.
    pub(crate) name: &'static str,
    /// The time-out that the infrastructure templates give it. Leases of its claims count on it.
    pub(crate) time_out: Duration,
    /// Queues that it sends to.
    pub(crate) sends_to: Vec<&'static str>,
    /// Whether it buries messages, or shows those that are buried.
    pub(crate) dead_letters: bool,
    /// Whether it runs Helm.
    pub(crate) helm: bool,
}

impl Function {
    /// A function that runs no longer than `time_out`, which must be what the infrastructure templates say.
    pub fn new(name: &'static str, time_out: Duration) -> Self {
        Self {
            name,
            time_out,
            sends_to: Vec::new(),
            dead_letters: false,
            helm: false,
        }
    }

    /// It sends to these queues and topics, by logical name. It does not start where one of them is missing.
    #[must_use]
    pub fn sends_to(mut self, queues: &[&'static str]) -> Self {
        self.sends_to = queues.to_vec();
        self
    }

    /// It needs the dead-letter queues.
    #[must_use]
    pub fn with_dead_letters(mut self) -> Self {
        self.dead_letters = true;
        self
    }

    /// It needs the Helm binary and the bundled charts.
    #[must_use]
    pub fn with_helm(mut self) -> Self {
        self.helm = true;
        self
    }
}

/// The queue of a logical name.
pub(crate) fn queue(name: &str) -> Queue {
    [Queue::PlanDag, Queue::ExecuteStep, Queue::DeployHelm]
        .into_iter()
        .find(|queue| queue.name() == name)
        .unwrap_or_else(|| Queue::Topic(name.to_owned()))
}

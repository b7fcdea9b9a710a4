//! What an action sees of the world.

use async_trait::async_trait;
use slipway_model::{Catalog, Cluster, ClusterHealth, Execution, JsonMap, Node, Timestamp};
use slipway_ports::{Outside, TargetError};

/// What one attempt gets.
pub struct Context<'a> {
    /// The execution.
    pub header: &'a Execution,
    /// The node, with its parameters as they were written.
    pub node: &'a Node,
    /// Rendered parameters. Strings that read a secret are still as written, unless the action resolves secrets.
    pub params: JsonMap,
    /// From 1.
    pub attempt: u32,
    /// Now.
    pub now: Timestamp,
    /// Everything else.
    pub surroundings: &'a dyn Surroundings,
}

impl Context<'_> {
    /// The same for every repeat of the step, whatever crashes: receivers drop repeats by it.
    pub fn idempotency_key(&self) -> String {
        format!("{}/{}", self.header.id, self.node.id)
    }

    /// A text parameter.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.params.get(name).and_then(serde_json::Value::as_str)
    }
}

/// What actions reach beyond their parameters.
#[async_trait]
pub trait Surroundings: Send + Sync {
    /// A registered cluster by id or name.
    async fn cluster(&self, id_or_name: &str) -> Result<Cluster, TargetError>;

    /// A look at a cluster.
    async fn health(&self, cluster: &Cluster) -> Result<ClusterHealth, TargetError>;

    /// What can fill a slot.
    fn catalog(&self) -> &Catalog;

    /// Webhooks and HTTP calls.
    fn outside(&self) -> &dyn Outside;
}

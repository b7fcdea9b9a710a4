//! A DAG compiled for execution: numbered nodes in topological order, cut into chunks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{JsonMap, OutputSource, Retry, RunCondition};

/// Nodes per stored chunk: node `n` stands in chunk `n / CHUNK_SIZE`.
pub const CHUNK_SIZE: u32 = 64;

/// Most dependencies that one node has; planning puts virtual joins before a step with more.
pub const MAX_FAN_IN: usize = 32;

/// Most nodes that follow one node; planning puts virtual forks after a step with more, so that a node stays small and
/// following it is spread over messages.
pub const MAX_FAN_OUT: usize = 64;

/// Consecutive nodes of a plan; immutable once written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanChunk {
    /// Node `i` of the list has ordinal `chunk * CHUNK_SIZE + i`.
    pub nodes: Vec<Node>,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// A step of the DAG.
    Step,
    /// Virtual: gathers up to [`MAX_FAN_IN`] dependencies of a step that has more.
    Join,
    /// Virtual: follows a step, or a fork, that leads to more than [`MAX_FAN_OUT`] nodes, and leads to some of them. Has
    /// one dependency and passes on how that ended.
    Fork,
    /// Virtual, the last node: all sinks lead to it, and it ends the execution.
    End,
}

/// One node, with everything that a handler needs to run it and to find its neighbours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Position in topological order, from 0.
    pub ordinal: u32,
    /// Step, join, fork or end.
    pub kind: NodeKind,
    /// The step's id; of a virtual node, a name with a `~` in it, which no step id has.
    pub id: String,
    /// The step's action; empty for virtual nodes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub action: String,
    /// The step's parameters, not yet rendered.
    #[serde(default, skip_serializing_if = "JsonMap::is_empty")]
    pub params: JsonMap,
    /// When it runs, given how its dependencies ended.
    #[serde(default)]
    pub run: RunCondition,
    /// Bare expression; false skips the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Seconds that one attempt may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// How failed attempts are repeated.
    #[serde(default)]
    pub retry: Retry,
    /// Extractors of the step's own outputs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, OutputSource>,
    /// Ordinals of the nodes before it; the index is the slot. At most [`MAX_FAN_IN`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<u32>,
    /// The nodes after it. At most [`MAX_FAN_OUT`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub successors: Vec<Successor>,
    /// Steps that its expressions read: the name as written there → ordinal. All are ancestors.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reads: BTreeMap<String, u32>,
}

/// An edge to a later node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successor {
    /// Ordinal of the later node.
    pub ordinal: u32,
    /// Which of the later node's dependencies this is.
    pub slot: u8,
    /// How many dependencies the later node has; 1 means that it is ready as soon as this node ended.
    pub of: u8,
    /// Whether the later node has an effect outside, so that it gets a message and a claim of its own. Filled in by
    /// whoever knows the actions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub effect: bool,
}

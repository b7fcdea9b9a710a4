//! A DAG as numbered nodes.

use std::collections::{BTreeMap, HashMap};

use slipway_expr::{Path, Reference, Scope, resolve_step};
use slipway_model::{
    CHUNK_SIZE, Dag, DagStep, FieldError, JsonMap, MAX_FAN_IN, MAX_FAN_OUT, Node, NodeKind, PlanChunk, Retry,
    RunCondition, Successor,
};
use slipway_policy::parse_timeout;

use crate::{
    faults::Faults,
    reads::each_read,
    topology::{Topology, print_cycle},
};

/// The action whose job runs the tests of a release.
const TEST: &str = "helm_test";

/// Actions whose jobs wait until a release is ready, or gone.
const WAITS_FOR_RELEASE: [&str; 4] = [
    "helm_deploy",
    "deployment_create",
    "helm_rollback",
    "helm_uninstall",
];

/// Seconds that a job and its step have where nothing is said.
const JOB_SECONDS: u64 = 3600;

/// A DAG compiled for execution.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In topological order: `nodes[i].ordinal == i`, and the last is the only [`NodeKind::End`].
    pub nodes: Vec<Node>,
    /// Steps that the DAG's `outputs` read: the name as written there → ordinal.
    pub output_reads: BTreeMap<String, u32>,
}

impl Plan {
    /// Nodes that are steps of the DAG.
    pub fn step_count(&self) -> usize {
        self.nodes
            .iter()
            .filter(|node| node.kind == NodeKind::Step)
            .count()
    }

    /// The nodes cut into what is stored together, [`CHUNK_SIZE`] each.
    pub fn into_chunks(self) -> Vec<PlanChunk> {
        let mut chunks = Vec::new();
        let mut nodes = self.nodes.into_iter().peekable();
        while nodes.peek().is_some() {
            chunks.push(PlanChunk {
                nodes: nodes.by_ref().take(CHUNK_SIZE as usize).collect(),
            });
        }
        chunks
    }
}

/// Numbers the steps of `dag` in topological order, the order of the document where the edges leave a choice, and
/// adds the virtual nodes: a tree of joins before each step with more than [`MAX_FAN_IN`] dependencies, a tree of forks
/// after each step that more than [`MAX_FAN_OUT`] nodes follow, and the end that all sinks lead to.
///
/// A step's dependencies are its `depends_on` and every step that its parameters read. An expression that copes
/// with absence may name a step that is not there, as planning leaves out optional slots that nothing fills.
///
/// # Errors
/// What keeps the steps from being ordered, all at once: an id that stands twice, a dependency or a read step
/// that does not exist, an expression that cannot be read, a cycle. A DAG that [`check`](crate::dag::check)
/// accepted or [`plan_deployment`](crate::plan_deployment) made has none of them.
pub fn compile(dag: &Dag) -> Result<Plan, Vec<FieldError>> {
    let mut faults = Faults::default();
    let indexes = index_steps(&dag.steps, &mut faults);
    let edges = Edges::of(dag, &indexes, &mut faults);
    if !faults.is_empty() {
        return Err(faults.into_errors());
    }
    let order = edges
        .graph
        .order()
        .map_err(|cycle| vec![cycle_error(dag, &cycle)])?;
    let mut numbering = Numbering::default();
    let mut ordinals = vec![0; dag.steps.len()];
    let mut followers = vec![0; dag.steps.len()];
    for &before in edges.graph.predecessors().iter().flatten() {
        followers[before] += 1;
    }
    let mut exits = vec![Exits::default(); dag.steps.len()];
    for &step in &order {
        let dependencies = edges.graph.predecessors()[step]
            .iter()
            .map(|&before| exits[before].next())
            .collect();
        let id = &dag.steps[step].id;
        let dependencies = numbering.join(id, dependencies);
        ordinals[step] = numbering.push(step_node(&dag.steps[step]), dependencies);
        exits[step] = numbering.fork(id, ordinals[step], followers[step]);
    }
    for (step, reads) in edges.reads.iter().enumerate() {
        numbering.nodes[ordinals[step] as usize].reads = reads
            .iter()
            .map(|(name, read)| ((*name).clone(), ordinals[*read]))
            .collect();
    }
    let sinks = order
        .iter()
        .filter(|&&step| followers[step] == 0)
        .map(|&step| ordinals[step])
        .collect();
    let sinks = numbering.join(END, sinks);
    numbering.push(virtual_node(NodeKind::End, END.to_owned()), sinks);
    numbering.link();
    Ok(Plan {
        nodes: numbering.nodes,
        output_reads: edges
            .output_reads
            .into_iter()
            .map(|(name, step)| (name, ordinals[step]))
            .collect(),
    })
}

/// The cycle in the edges of a DAG whose steps and expressions are in order otherwise, if there is one.
pub(crate) fn cycle_of(dag: &Dag) -> Option<FieldError> {
    let mut faults = Faults::default();
    let indexes = index_steps(&dag.steps, &mut faults);
    let edges = Edges::of(dag, &indexes, &mut faults);
    edges.graph.order().err().map(|cycle| cycle_error(dag, &cycle))
}

/// The edges of a DAG, without what names something that does not exist.
pub(crate) fn edges_of(dag: &Dag) -> Topology {
    let mut faults = Faults::default();
    let indexes = index_steps(&dag.steps, &mut faults);
    Edges::of(dag, &indexes, &mut faults).graph
}

fn cycle_error(dag: &Dag, cycle: &[usize]) -> FieldError {
    FieldError::new(
        "steps",
        format!(
            "the steps wait for each other: {}; remove one of these dependencies",
            print_cycle(cycle, |step| dag.steps[step].id.as_str())
        ),
    )
}

/// The id of the last node.
const END: &str = "~end";

/// Where each id stands.
fn index_steps<'d>(steps: &'d [DagStep], faults: &mut Faults) -> HashMap<&'d str, usize> {
    let mut indexes = HashMap::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        if let Some(first) = indexes.insert(step.id.as_str(), index) {
            faults.add(
                format!("steps[{index}].id"),
                format!(
                    "'{}' is already the id of steps[{first}]; every step needs its own",
                    step.id
                ),
            );
        }
    }
    indexes
}

/// What comes before what, and why.
struct Edges {
    graph: Topology,
    reads: Vec<BTreeMap<String, usize>>,
    output_reads: BTreeMap<String, usize>,
}

impl Edges {
    fn of(dag: &Dag, indexes: &HashMap<&str, usize>, faults: &mut Faults) -> Self {
        let mut graph = Topology::new(dag.steps.len());
        let mut reads = Vec::with_capacity(dag.steps.len());
        // last_dependant[before] == step + 1 while the edge before → step is there already.
        let mut last_dependant = vec![0; dag.steps.len()];
        for (index, step) in dag.steps.iter().enumerate() {
            let mut add = |before: usize| {
                if std::mem::replace(&mut last_dependant[before], index + 1) != index + 1 {
                    graph.add(before, index);
                }
            };
            for (position, name) in step.depends_on.iter().enumerate() {
                match indexes.get(name.as_str()) {
                    Some(&before) => add(before),
                    None => faults.add(
                        format!("steps[{index}].depends_on[{position}]"),
                        format!("there is no step '{name}'"),
                    ),
                }
            }
            let place = Path::of("steps").index(index).key("params");
            let read = steps_read(&step.params, &place, indexes, faults);
            for &before in read.values() {
                add(before);
            }
            reads.push(read);
        }
        let output_reads = steps_read(&dag.outputs, &Path::of("outputs"), indexes, faults);
        Self {
            graph,
            reads,
            output_reads,
        }
    }
}

/// The steps that the strings of `map` read, by the names that they use.
fn steps_read(
    map: &JsonMap,
    place: &Path,
    indexes: &HashMap<&str, usize>,
    faults: &mut Faults,
) -> BTreeMap<String, usize> {
    let mut steps = BTreeMap::new();
    for (key, value) in map {
        each_read(value, &place.clone().key(key), Scope::VALUES, faults, |read| {
            let Reference::Output { step, .. } = &read.reference else {
                return Ok(());
            };
            match resolve_step(step, |name| indexes.contains_key(name)).and_then(|name| indexes.get(name)) {
                Some(&index) => {
                    steps.insert(step.clone(), index);
                }
                None if read.optional => {}
                None => return Err(format!("there is no step '{step}'")),
            }
            Ok(())
        });
    }
    steps
}

/// The consecutive nodes that lead on from a step: itself, or its last forks.
#[derive(Debug, Clone, Copy, Default)]
struct Exits {
    first: u32,
    used: u32,
}

impl Exits {
    /// What the next follower depends on.
    fn next(&mut self) -> u32 {
        let exit = self.first + self.used / MAX_FAN_OUT as u32;
        self.used += 1;
        exit
    }
}

/// Nodes in the order of their ordinals.
#[derive(Default)]
struct Numbering {
    nodes: Vec<Node>,
}

impl Numbering {
    fn push(&mut self, mut node: Node, dependencies: Vec<u32>) -> u32 {
        let ordinal = u32::try_from(self.nodes.len()).expect("a request is too small for 2^32 steps");
        node.ordinal = ordinal;
        node.dependencies = dependencies;
        self.nodes.push(node);
        ordinal
    }

    /// Gathers dependencies in joins, level by level, until at most [`MAX_FAN_IN`] are left.
    fn join(&mut self, owner: &str, mut dependencies: Vec<u32>) -> Vec<u32> {
        let mut joins = 0;
        while dependencies.len() > MAX_FAN_IN {
            dependencies = dependencies
                .chunks(MAX_FAN_IN)
                .map(|group| match group {
                    [single] => *single,
                    _ => {
                        joins += 1;
                        let node = virtual_node(NodeKind::Join, format!("{owner}~join-{joins}"));
                        self.push(node, group.to_vec())
                    }
                })
                .collect();
        }
        dependencies
    }

    /// Lets a node lead to `followers` others, through forks of [`MAX_FAN_OUT`], level below level, if they are many.
    fn fork(&mut self, owner: &str, node: u32, followers: usize) -> Exits {
        let mut widths = Vec::new();
        let mut width = followers;
        while width > MAX_FAN_OUT {
            width = width.div_ceil(MAX_FAN_OUT);
            widths.push(width);
        }
        let mut exits = Exits { first: node, used: 0 };
        let mut forks = 0;
        while let Some(width) = widths.pop() {
            let mut above = exits;
            for index in 0..width {
                forks += 1;
                let fork = virtual_node(NodeKind::Fork, format!("{owner}~fork-{forks}"));
                let before = above.next();
                let ordinal = self.push(fork, vec![before]);
                if index == 0 {
                    exits.first = ordinal;
                }
            }
        }
        exits
    }

    /// Writes each dependency at the other end too.
    fn link(&mut self) {
        for node in 0..self.nodes.len() {
            let dependencies = std::mem::take(&mut self.nodes[node].dependencies);
            let narrow = |count: usize| u8::try_from(count).expect("joins keep it at most 32");
            for (slot, &before) in dependencies.iter().enumerate() {
                let successor = Successor {
                    ordinal: self.nodes[node].ordinal,
                    slot: narrow(slot),
                    of: narrow(dependencies.len()),
                    effect: false,
                };
                self.nodes[before as usize].successors.push(successor);
            }
            self.nodes[node].dependencies = dependencies;
        }
    }
}

fn step_node(step: &DagStep) -> Node {
    Node {
        action: step.action.clone(),
        params: step.params.clone(),
        run: step.run,
        when: step.when.clone(),
        timeout_seconds: step.timeout_seconds.or_else(|| limit_by_timeout(step)),
        retry: step.retry.clone().unwrap_or_default(),
        outputs: step.outputs.clone(),
        ..virtual_node(NodeKind::Step, step.id.clone())
    }
}

/// The time limit that a step's `timeout` means, where it names no other. A test may take just so long. Another job is
/// given what it has otherwise beside the time that its release may take to become ready, because it also waits for
/// its turn and for hooks, unless the hour that it has anyway is more than that time.
fn limit_by_timeout(step: &DagStep) -> Option<u64> {
    let action = step.action.as_str();
    let timeout = parse_timeout(step.params.get("timeout")?).ok()?;
    if action == TEST {
        return Some(timeout);
    }
    (WAITS_FOR_RELEASE.contains(&action) && timeout >= JOB_SECONDS).then_some(timeout + JOB_SECONDS)
}

fn virtual_node(kind: NodeKind, id: String) -> Node {
    Node {
        ordinal: 0,
        kind,
        id,
        action: String::new(),
        params: JsonMap::new(),
        run: RunCondition::Success,
        when: None,
        timeout_seconds: None,
        retry: Retry::default(),
        outputs: BTreeMap::new(),
        dependencies: Vec::new(),
        successors: Vec::new(),
        reads: BTreeMap::new(),
    }
}

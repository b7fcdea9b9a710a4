//! Running the steps of an execution.

mod compensate;
mod drive;
mod finish;
mod follow;
mod give_up;
mod perform;
mod render;
mod surroundings;

use std::time::Duration;

use slipway_actions::find;
use slipway_model::{EffectClass, Execution, Message, Node, NodeKind, Queue, StepRecord};
use slipway_ports::{Item, Session};

pub(crate) use render::{RenderContext, Rendered, Resolved, at_values};

/// Nodes that one message names, and that one invocation goes through, at most.
pub(crate) const BATCH: usize = 64;

/// Whether running a node changes something outside, so that it gets a message and a claim of its own.
pub(crate) fn has_effect(node: &Node) -> bool {
    node.kind == NodeKind::Step
        && find(&node.action).is_none_or(|action| action.effect(&node.params) != EffectClass::Pure)
}

/// Sends steps to be looked at: those with an effect one by one, the others in batches.
pub(crate) fn send_steps(
    session: &mut dyn Session,
    header: &Execution,
    steps: Vec<(u32, bool)>,
    more_without_effect: Vec<u32>,
) {
    let mut send = |ordinals: Vec<u32>| {
        let message = Message::Steps {
            tenant: header.tenant.clone(),
            execution: header.id,
            ordinals,
        };
        session.send(Queue::ExecuteStep, message, Duration::ZERO);
    };
    let mut batch = more_without_effect;
    for (ordinal, effect) in steps {
        if effect {
            send(vec![ordinal]);
        } else {
            batch.push(ordinal);
        }
    }
    for ordinals in batch.chunks(BATCH) {
        send(ordinals.to_vec());
    }
}

/// The item of a step's record: due when its claim expires, its wait ends or its deadline passes.
pub(crate) fn step_item(record: &StepRecord) -> Item {
    let due = [record.lease_until, record.wake_at, record.deadline]
        .into_iter()
        .flatten()
        .min();
    Item::of(record).due_at(due.filter(|_| !record.status.is_terminal()))
}

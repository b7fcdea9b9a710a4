//! Running the steps of an execution.

mod compensate;
mod drive;
mod finish;
mod follow;
mod give_up;
mod look;
mod perform;
mod render;
mod surroundings;

use std::time::Duration;

use slipway_actions::find;
use slipway_model::{EffectClass, Execution, Message, Node, NodeKind, Queue};
use slipway_ports::Session;

pub(crate) use compensate::compensation_of;
pub(crate) use render::{RenderContext, Rendered, Resolved, at_values};

/// Nodes that one message names, and that one invocation goes through, at most.
pub(crate) const BATCH: usize = 64;

/// Whether running a node changes something outside, so that it gets a message and a claim of its own.
pub(crate) fn has_effect(node: &Node) -> bool {
    node.kind == NodeKind::Step
        && find(&node.action).is_none_or(|action| action.effect(&node.params) != EffectClass::Pure)
}

/// Whether a node gets a message of its own: because of its claim, or because many follow it.
pub(crate) fn has_message_of_its_own(node: &Node) -> bool {
    node.kind == NodeKind::Fork || has_effect(node)
}

/// Steps of which each is to get a message of its own, so that they overlap. Of many, one message has a batch looked
/// at, and that look gives each its own: whoever sends them, which may be an API call, sends few.
pub(crate) fn few_messages(mut steps: Vec<(u32, bool)>) -> Vec<(u32, bool)> {
    if steps.len() > BATCH {
        for (_, own) in &mut steps {
            *own = false;
        }
    }
    steps
}

/// Sends nodes to be looked at, as (ordinal, whether it gets a message of its own), the others in batches.
pub(crate) fn send_steps(
    session: &mut dyn Session,
    header: &Execution,
    steps: Vec<(u32, bool)>,
    more_in_batches: Vec<u32>,
) {
    let mut send = |ordinals: Vec<u32>| {
        let message = Message::Steps {
            tenant: header.tenant.clone(),
            execution: header.id,
            ordinals,
        };
        session.send(Queue::ExecuteStep, message, Duration::ZERO);
    };
    let mut batch = more_in_batches;
    for (ordinal, own) in steps {
        if own {
            send(vec![ordinal]);
        } else {
            batch.push(ordinal);
        }
    }
    for ordinals in batch.chunks(BATCH) {
        send(ordinals.to_vec());
    }
}

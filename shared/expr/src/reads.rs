//! What an expression reads, and whether it copes with the absence of it.

use crate::filters::Filter;
use crate::node::Node;
use crate::scope::{Read, Reference};

/// Everything that `node` reads, each reference once, in the order of first appearance.
pub(crate) fn reads(node: &Node, into: &mut Vec<Read>) {
    collect(node, &mut Vec::new(), into);
}

/// `present` are the references that are known to have a value where `node` stands.
fn collect(node: &Node, present: &mut Vec<Reference>, into: &mut Vec<Read>) {
    match node {
        Node::Constant(_) => {}
        Node::Read(reference) => record(reference, present.contains(reference), into),
        Node::Member { base, .. } => collect(base, present, into),
        Node::Index { base, index } => {
            collect(base, present, into);
            collect(index, present, into);
        }
        Node::Slice {
            base,
            start,
            stop,
            step,
        } => {
            collect(base, present, into);
            for part in [start, stop, step].into_iter().flatten() {
                collect(part, present, into);
            }
        }
        Node::Not(inner) | Node::Negate(inner) => collect(inner, present, into),
        Node::And(left, right) => {
            collect(left, present, into);
            guarded(right, tested(left, true), present, into);
        }
        Node::Or(left, right) => {
            collect(left, present, into);
            guarded(right, tested(left, false), present, into);
        }
        Node::Arithmetic { left, right, .. } => {
            collect(left, present, into);
            collect(right, present, into);
        }
        Node::Compare { first, rest } => {
            collect(first, present, into);
            rest.iter().for_each(|(_, next)| collect(next, present, into));
        }
        Node::If {
            condition,
            then,
            otherwise,
        } => {
            collect(condition, present, into);
            guarded(then, tested(condition, true), present, into);
            guarded(otherwise, tested(condition, false), present, into);
        }
        Node::Filter {
            filter: Filter::Default,
            input,
            arguments,
        } => {
            copes(input, present, into);
            arguments
                .iter()
                .flatten()
                .for_each(|argument| collect(argument, present, into));
        }
        Node::Filter { input, arguments, .. } => {
            collect(input, present, into);
            arguments
                .iter()
                .flatten()
                .for_each(|argument| collect(argument, present, into));
        }
        Node::Test {
            predicate,
            input,
            argument,
        } => {
            if predicate.copes_with_absence() {
                copes(input, present, into);
            } else {
                collect(input, present, into);
            }
            if let Some(argument) = argument {
                collect(argument, present, into);
            }
        }
        Node::List(items) => items.iter().for_each(|item| collect(item, present, into)),
        Node::Map(members) => members.iter().for_each(|(key, value)| {
            collect(key, present, into);
            collect(value, present, into);
        }),
    }
}

/// What stands directly under `default(…)` or `is defined`: a chain of members may be absent at any point.
fn copes(node: &Node, present: &mut Vec<Reference>, into: &mut Vec<Read>) {
    match node {
        Node::Read(reference) => record(reference, true, into),
        Node::Member { base, .. } => copes(base, present, into),
        Node::Index { base, index } => {
            copes(base, present, into);
            collect(index, present, into);
        }
        other => collect(other, present, into),
    }
}

fn guarded(node: &Node, more: Vec<Reference>, present: &mut Vec<Reference>, into: &mut Vec<Read>) {
    let before = present.len();
    present.extend(more);
    collect(node, present, into);
    present.truncate(before);
}

/// The references that have a value for certain when `condition` came out as `outcome`.
fn tested(condition: &Node, outcome: bool) -> Vec<Reference> {
    match condition {
        Node::Not(inner) => tested(inner, !outcome),
        Node::And(left, right) if outcome => [tested(left, true), tested(right, true)].concat(),
        Node::Or(left, right) if !outcome => [tested(left, false), tested(right, false)].concat(),
        Node::Test { predicate, input, .. } if predicate.proves_presence(outcome) => {
            let mut base = &**input;
            while let Node::Member { base: inner, .. } | Node::Index { base: inner, .. } = base {
                base = inner;
            }
            match base {
                Node::Read(reference) => vec![reference.clone()],
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

fn record(reference: &Reference, optional: bool, into: &mut Vec<Read>) {
    match into.iter_mut().find(|read| read.reference == *reference) {
        Some(read) => read.optional &= optional,
        None => into.push(Read {
            reference: reference.clone(),
            optional,
        }),
    }
}

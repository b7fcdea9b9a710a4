//! When everything is at rest, and what is not if that never comes.

use std::cmp::Reverse;

use crate::world::{Happening, START, World};

pub(super) fn describe_rest(world: &World) -> String {
    let letters: Vec<String> = world
        .queues
        .letters
        .values()
        .take(3)
        .map(|letter| format!("{}: {}", letter.queue.name(), letter.body))
        .collect();
    let due: Vec<String> = world
        .tables
        .rows()
        .filter(|(_, row)| row.item.due.is_some())
        .take(3)
        .map(|(key, row)| format!("{key} {}", row.item.body))
        .collect();
    let tasks: Vec<&str> = world.tasks.values().map(|task| task.name.as_str()).collect();
    format!(
        "hours after the last fault there are still messages {letters:?}, due items {due:?}, tasks {tasks:?}"
    )
}

impl World {
    /// Nothing works, waits or is due within the hour.
    pub(super) fn is_at_rest(&self) -> bool {
        let hour = self.now + 3_600_000;
        self.tasks.is_empty()
            && self.queues.letters.is_empty()
            && self.tables.next_due().is_none()
            && self.tables.is_clean()
            && (self.queues.dead.is_empty() || self.queues.looked_at == self.queues.buried)
            && !self.heap.iter().any(|Reverse((time, _, what))| {
                matches!(
                    what,
                    Happening::Call | Happening::Ask | Happening::Meddle | Happening::Calm
                ) && *time < hour
            })
            && self.now > START
    }
}

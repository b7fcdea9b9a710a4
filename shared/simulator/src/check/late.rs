//! Requests that landed after their senders were gone. What they did is nobody's fault until somebody has looked.

use std::collections::BTreeSet;

use slipway_ports::ObjectReference;

use crate::{cluster::Request, world::World};

/// What such requests did to a release, and nobody who works on it has looked at since.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// Whether one of its records was made, marked or deleted.
    record: bool,
    /// Objects that were applied or deleted.
    objects: BTreeSet<ObjectReference>,
}

impl World {
    /// A request is about to land late.
    pub(crate) fn note_late(&mut self, request: &Request) {
        if let Request::MakeNamespace { name, .. } = request
            && !self.cloud.namespaces.contains_key(name)
        {
            self.checks.made_late.insert(name.clone());
        }
        let Some(release) = request.release() else { return };
        self.note_disturbed(release);
        let late = self.checks.late.entry(release.to_owned()).or_default();
        match request {
            Request::Apply { object, .. } | Request::Delete { object, .. } => {
                late.objects.insert(object.clone());
            }
            _ => late.record = true,
        }
    }

    /// Whether whoever runs holds the lease of a release, so that what it sees of it is for it to deal with.
    fn holds(&self, release: &str) -> bool {
        let task = self.actor().and_then(|actor| self.tasks.get(&actor));
        let lease = task.and_then(|task| task.lease.as_ref());
        lease.is_some_and(|(key, _, _)| {
            let of = key.partition.strip_suffix(release);
            of.is_some_and(|rest| rest.ends_with('/'))
        })
    }

    /// The newest record of a release is looked at.
    pub(crate) fn note_record_seen(&mut self, release: &str) {
        if self.holds(release)
            && let Some(late) = self.checks.late.get_mut(release)
        {
            late.record = false;
        }
    }

    /// Objects of a release are looked at.
    pub(crate) fn note_objects_seen(&mut self, release: &str) {
        if self.holds(release)
            && let Some(late) = self.checks.late.get_mut(release)
        {
            late.objects.clear();
        }
    }

    /// Everything that there is of a release is looked for.
    pub(crate) fn note_all_seen(&mut self, release: &str) {
        if self.holds(release) {
            self.note_record_seen(release);
            self.note_objects_seen(release);
            let objects = &self.cloud.objects;
            self.cloud
                .strays
                .retain(|stray| objects.get(stray).is_none_or(|found| found.release != release));
        }
    }

    /// Whether a record of a release is as a late request left it.
    pub(super) fn has_late_record(&self, release: &str) -> bool {
        self.checks.late.get(release).is_some_and(|late| late.record)
    }

    /// Whether an object of a release is as a late request left it.
    pub(super) fn is_late(&self, release: &str, object: &ObjectReference) -> bool {
        let late = self.checks.late.get(release);
        late.is_some_and(|late| late.objects.contains(object))
    }
}

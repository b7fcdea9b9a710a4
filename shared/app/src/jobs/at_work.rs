//! Leases that invocations of this process work under.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use slipway_ports::Key;

/// The fences of the leases under which invocations of this process work right now. A machine that slept wakes up with
/// leases that are over and with invocations that are not: where nobody works outside this process, it knows better.
#[derive(Clone, Default)]
pub(crate) struct AtWork(Arc<Mutex<HashMap<Key, u64>>>);

/// One invocation's work under a lease, until it is dropped.
pub(super) struct Working {
    all: AtWork,
    key: Key,
    fence: u64,
}

impl AtWork {
    fn leases(&self) -> MutexGuard<'_, HashMap<Key, u64>> {
        self.0.lock().expect("nothing panics while it holds the leases")
    }

    /// Says that an invocation works under a lease.
    pub(super) fn begin(&self, key: &Key, fence: u64) -> Working {
        self.leases().insert(key.clone(), fence);
        Working {
            all: self.clone(),
            key: key.clone(),
            fence,
        }
    }

    /// Whether an invocation of this process works under the lease.
    pub(super) fn is_under(&self, key: &Key, fence: u64) -> bool {
        self.leases().get(key) == Some(&fence)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let mut leases = self.all.leases();
        if leases.get(&self.key) == Some(&self.fence) {
            leases.remove(&self.key);
        }
    }
}

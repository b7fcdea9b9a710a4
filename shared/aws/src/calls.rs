//! Counting calls where the SDK makes them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept,
            context::{BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextRef},
        },
        orchestrator::Metadata,
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;

/// Calls of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Calls {
    /// Calls, each with all its attempts.
    pub calls: u64,
    /// Requests on the wire, retries included.
    pub attempts: u64,
}

/// Counts the calls of every client that it is given to. Clones share their counts.
#[derive(Debug, Clone, Default)]
pub struct CallCounter {
    counts: Arc<Mutex<BTreeMap<String, Calls>>>,
}

impl CallCounter {
    /// Counts by operation, such as `DynamoDB.PutItem`, since the last [`CallCounter::take`].
    pub fn take(&self) -> BTreeMap<String, Calls> {
        std::mem::take(&mut *self.lock())
    }

    fn count(&self, bag: &ConfigBag, count: impl FnOnce(&mut Calls)) {
        if let Some(operation) = bag.load::<Metadata>() {
            let name = format!("{}.{}", operation.service(), operation.name());
            count(self.lock().entry(name).or_default());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Calls>> {
        self.counts
            .lock()
            .expect("nothing panics while it holds the counts")
    }
}

impl Intercept for CallCounter {
    fn name(&self) -> &'static str {
        "CallCounter"
    }

    // The hook before this one does not know the operation yet.
    fn read_before_serialization(
        &self,
        _context: &BeforeSerializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.count(bag, |calls| calls.calls += 1);
        Ok(())
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.count(bag, |calls| calls.attempts += 1);
        Ok(())
    }
}

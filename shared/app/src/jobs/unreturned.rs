//! Leases that an invocation could not give back, because the store took nothing when it stopped.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use slipway_model::{Job, JobId, Timestamp};

use super::{deploy_helm::SET_DOWN, work::HeldLease};
use crate::{App, AppError};

/// The leases that invocations of this process held when they stopped, and that the store still calls busy. Only this
/// process knows that nobody works under them; should it end, they expire.
#[derive(Default)]
pub(crate) struct UnreturnedLeases(Mutex<HashMap<JobId, Unreturned>>);

struct Unreturned {
    lease: HeldLease,
    /// When the lease is over in any case.
    expires: Timestamp,
}

impl UnreturnedLeases {
    fn leases(&self) -> MutexGuard<'_, HashMap<JobId, Unreturned>> {
        self.0.lock().expect("nothing panics while it holds the leases")
    }

    /// Remembers a lease under which nobody works any more.
    pub(super) fn add(&self, job: JobId, lease: HeldLease, expires: Timestamp, now: Timestamp) {
        let mut leases = self.leases();
        leases.retain(|_, other| now < other.expires);
        leases.insert(job, Unreturned { lease, expires });
    }

    fn of(&self, job: JobId) -> Option<HeldLease> {
        self.leases().get(&job).map(|found| found.lease.clone())
    }

    fn forget(&self, job: JobId, fence: u64) {
        let mut leases = self.leases();
        if leases.get(&job).is_some_and(|found| found.lease.fence == fence) {
            leases.remove(&job);
        }
    }
}

impl App {
    /// Gives back what an invocation of this process for the job could not, so that the job goes on at once. As ever, that
    /// changes nothing if somebody has taken the release since, which the fence tells.
    pub(super) async fn return_lease(&self, job: &Job) -> Result<(), AppError> {
        let Some(lease) = self.unreturned().of(job.id) else {
            return Ok(());
        };
        let mut session = self.store.session();
        let keep = (!job.status.is_terminal()).then_some(SET_DOWN);
        self.leave_lease(session.as_mut(), job, &lease, keep).await?;
        session.settle().await?;
        self.unreturned().forget(job.id, lease.fence);
        Ok(())
    }
}

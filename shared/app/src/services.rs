//! The ports and settings that every use case works with.

use std::{collections::BTreeSet, ops::Deref, sync::Arc, time::Duration};

use slipway_model::{BUDUSECASES_EVENTS, Catalog, Timestamp};
use slipway_policy::HostPolicy;
use slipway_ports::{Blobs, ChartSource, Clock, Connector, Ids, Outside, Receiver, Secrets, Store};

use crate::{
    executions::PlanCache,
    jobs::{AtWork, UnreturnedLeases},
};

/// Server configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether deployments run through executions; else jobs are made straight from the deployment.
    pub use_pipeline_orchestration: bool,
    /// Topics that a DAG may name in `callback_topics`.
    pub topics: BTreeSet<String>,
    /// Hosts that charts may come from.
    pub chart_hosts: HostPolicy,
    /// How long an invocation may take: claims and leases hold a little longer.
    pub invocation: Duration,
    /// Differs between two runs of an embedded server, whose restart voids all claims; constant on AWS.
    pub epoch: String,
    /// Whether no other process works on the same store. Leases that are over by the clock, as after the machine slept, are
    /// not over then while this process works under them.
    pub alone: bool,
    /// How long one look at readiness may hold a watch.
    pub watch_hold: Duration,
    /// Whether the server can register clusters of type `eks`.
    pub eks: bool,
    /// How long after their end executions, jobs and lines of history are kept; for ever if absent.
    pub retention: Option<Duration>,
}

impl Settings {
    /// Settings of a server that allows bundled charts only.
    pub fn new(epoch: impl Into<String>) -> Self {
        Self {
            use_pipeline_orchestration: true,
            topics: BTreeSet::from([BUDUSECASES_EVENTS.to_owned()]),
            chart_hosts: HostPolicy::default(),
            invocation: Duration::from_secs(240),
            epoch: epoch.into(),
            alone: false,
            watch_hold: Duration::from_secs(10),
            eks: false,
            retention: None,
        }
    }
}

/// Everything outside that use cases reach.
pub struct Services {
    /// State.
    pub store: Arc<dyn Store>,
    /// Queues, for dead letters.
    pub receiver: Arc<dyn Receiver>,
    /// Secrets.
    pub secrets: Arc<dyn Secrets>,
    /// Large data.
    pub blobs: Arc<dyn Blobs>,
    /// Charts.
    pub charts: Arc<dyn ChartSource>,
    /// Clusters.
    pub connector: Arc<dyn Connector>,
    /// Webhooks and HTTP calls.
    pub outside: Arc<dyn Outside>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub ids: Arc<dyn Ids>,
    /// What can fill a slot.
    pub catalog: Catalog,
    /// Configuration.
    pub settings: Settings,
}

/// The use cases. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    services: Services,
    plans: PlanCache,
    unreturned: UnreturnedLeases,
    at_work: AtWork,
}

impl App {
    /// Use cases over these services.
    pub fn new(services: Services) -> Self {
        Self(Arc::new(Inner {
            services,
            plans: PlanCache::default(),
            unreturned: UnreturnedLeases::default(),
            at_work: AtWork::default(),
        }))
    }

    /// Plan chunks that were read.
    pub(crate) fn plans(&self) -> &PlanCache {
        &self.0.plans
    }

    /// Leases that could not be given back.
    pub(crate) fn unreturned(&self) -> &UnreturnedLeases {
        &self.0.unreturned
    }

    /// Leases under which invocations of this process work.
    pub(crate) fn at_work(&self) -> &AtWork {
        &self.0.at_work
    }

    /// When what ended at that time may be dropped.
    pub(crate) fn kept_until(&self, ended: Option<Timestamp>) -> Option<Timestamp> {
        Some(ended?.plus(self.settings.retention?))
    }
}

impl Deref for App {
    type Target = Services;

    fn deref(&self) -> &Services {
        &self.0.services
    }
}

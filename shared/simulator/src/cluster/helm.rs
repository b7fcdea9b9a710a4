//! What a Helm process does, request by request. It runs as a task of its own, so that it can die at any of them.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use slipway_model::DeploymentId;
use slipway_ports::{Failure, FailureClass, ObjectReference, ReleaseStatus, TargetError};

use super::{Refusal, Request, Revision, is_claim};
use crate::{
    coverage::Fault,
    mutants::Mutant,
    tasks::{Role, TaskId},
    world::{Happening, Sim},
};

/// What a process is started for.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Deploy {
        objects: Vec<ObjectReference>,
        manifest: String,
        labels: BTreeMap<String, String>,
        deployment: Option<DeploymentId>,
        create_namespace: bool,
    },
    Rollback {
        to: u32,
        labels: BTreeMap<String, String>,
    },
    /// With its history kept.
    Uninstall,
}

type Outcome = Result<Revision, TargetError>;

/// A process of Helm. When it is dropped the process is killed, as the guard does when its parent is gone.
pub(crate) struct Process {
    sim: Sim,
    id: TaskId,
    outcome: Arc<Mutex<Option<Outcome>>>,
}

impl Process {
    /// Starts Helm on a release, for so many milliseconds at the longest.
    pub(crate) fn start(sim: &Sim, release: &str, operation: Operation, limit: i64) -> Self {
        let outcome = Arc::new(Mutex::new(None));
        let mut world = sim.world();
        let parent = world.current;
        let end = world.awake() + limit;
        let work = Run {
            sim: sim.clone(),
            release: release.to_owned(),
            end,
        };
        let answer = Arc::clone(&outcome);
        let waker = sim.clone();
        let id = world.spawn(
            format!("helm {release}"),
            Role::Helm,
            1,
            Box::pin(async move {
                let ended = work.go(operation).await;
                *answer.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(ended);
                let mut world = waker.world();
                if let Some(parent) = parent {
                    world.after(0, Happening::Wake(parent));
                }
            }),
        );
        world.check_helm_starts(release, id);
        drop(world);
        Self {
            sim: sim.clone(),
            id,
            outcome,
        }
    }
}

impl Future for Process {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Outcome> {
        let outcome = self
            .outcome
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        if let Some(outcome) = outcome {
            return Poll::Ready(outcome);
        }
        if self.sim.world().tasks.contains_key(&self.id) {
            return Poll::Pending;
        }
        // Somebody killed it, such as the kernel when memory is short.
        Poll::Ready(Err(TargetError::transient("Helm was killed by signal 9")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut world = self.sim.world();
        if world.tasks.contains_key(&self.id) && !world.has(Mutant::HelmOutlivesParent) {
            world.doomed.push(self.id);
            world.coverage.fault(Fault::HelmKilled);
        }
    }
}

struct Run {
    sim: Sim,
    release: String,
    end: i64,
}

fn stopped(message: String) -> TargetError {
    TargetError(Failure {
        class: FailureClass::TimedOut,
        message,
    })
}

fn refused(release: &str, refusal: Refusal) -> TargetError {
    match refusal {
        Refusal::Exists => TargetError::transient(format!(
            "create: failed to create: secrets \"sh.helm.release.v1.{release}\" already exists"
        )),
        Refusal::Absent => TargetError::transient(format!("release {release}: not found")),
        Refusal::NoNamespace => {
            TargetError::transient(format!("the namespace of {release} does not exist, or is ending"))
        }
        Refusal::Foreign(owner) => TargetError::permanent(format!(
            "an object of {release} exists and belongs to {owner}: invalid ownership metadata"
        )),
    }
}

/// How a request ended.
enum Sent {
    Done,
    /// The server did not do it.
    Failed(TargetError),
    /// The process has to end.
    TimeUp,
}

impl Run {
    async fn send(&self, request: Request) -> Sent {
        let latency = {
            let mut world = self.sim.world();
            let latency = world.latency();
            if let Some(id) = world.current
                && let Some(task) = world.tasks.get_mut(&id)
            {
                task.request = Some(request.clone());
            }
            latency
        };
        let left = self.end - self.sim.world().awake();
        self.sim.pause(latency.min(left.max(1))).await;
        let mut world = self.sim.world();
        if let Some(id) = world.current
            && let Some(task) = world.tasks.get_mut(&id)
        {
            task.request = None;
        }
        if world.awake() >= self.end {
            return Sent::TimeUp;
        }
        if world.cloud.away_until > world.now {
            return Sent::Failed(TargetError::transient("the API server does not answer"));
        }
        let rate = world.rates.cluster;
        if world.goes_wrong(rate, Fault::ClusterFails) {
            let with_effect = world.choices.below(2) == 1;
            if with_effect {
                world.check_helm_writes(&self.release);
                let _ = world.perform(&request);
            }
            return Sent::Failed(TargetError::transient("the API server answered 500"));
        }
        world.check_helm_writes(&self.release);
        match world.perform(&request) {
            Ok(()) => Sent::Done,
            Err(refusal) => Sent::Failed(refused(&self.release, refusal)),
        }
    }

    /// Ends a process whose time is up: asked to, it marks its revision as failed; killed, it marks nothing.
    fn time_up(&self, number: Option<u32>) -> TargetError {
        let mut world = self.sim.world();
        let is_deaf = world.choices.below(4) == 3;
        if is_deaf {
            world.coverage.fault(Fault::HelmKilled);
        } else {
            world.coverage.fault(Fault::HelmStopped);
            if let Some(number) = number {
                let _ = world.perform(&Request::Mark {
                    release: self.release.clone(),
                    number,
                    status: ReleaseStatus::Failed,
                });
            }
        }
        stopped("Helm was stopped at its time limit".to_owned())
    }

    async fn go(self, operation: Operation) -> Outcome {
        match operation {
            Operation::Deploy {
                objects,
                manifest,
                labels,
                deployment,
                create_namespace,
            } => {
                if create_namespace {
                    let (name, _) = self.release.split_once('/').unwrap_or_default();
                    let request = Request::MakeNamespace {
                        name: name.to_owned(),
                        deployment,
                    };
                    match self.send(request).await {
                        Sent::Done => {}
                        Sent::Failed(error) => return Err(error),
                        Sent::TimeUp => return Err(self.time_up(None)),
                    }
                }
                let (last, newest) = self.newest();
                let (pending, old) = if last.is_none_or(|(_, status)| status == ReleaseStatus::Uninstalled) {
                    (ReleaseStatus::PendingInstall, Vec::new())
                } else {
                    (ReleaseStatus::PendingUpgrade, self.deployed().unwrap_or(newest))
                };
                let revision = Revision {
                    number: 0,
                    status: pending,
                    labels,
                    objects,
                    manifest,
                    was_deployed: false,
                };
                self.revise(last, revision, &old).await
            }
            Operation::Rollback { to, labels } => {
                let (last, old) = self.newest();
                let target = {
                    let world = self.sim.world();
                    let revisions = world.cloud.releases.get(&self.release);
                    revisions
                        .and_then(|all| all.iter().find(|one| one.number == to))
                        .cloned()
                };
                let Some(target) = target else {
                    return Err(TargetError::permanent("release has no such revision"));
                };
                let revision = Revision {
                    number: 0,
                    status: ReleaseStatus::PendingRollback,
                    labels,
                    objects: target.objects,
                    manifest: target.manifest,
                    was_deployed: false,
                };
                self.revise(last, revision, &old).await
            }
            Operation::Uninstall => self.uninstall().await,
        }
    }

    /// The newest record's number and status, and its objects.
    fn newest(&self) -> (Option<(u32, ReleaseStatus)>, Vec<ObjectReference>) {
        let world = self.sim.world();
        let newest = world.cloud.newest(&self.release);
        (
            newest.map(|newest| (newest.number, newest.status)),
            newest.map(|newest| newest.objects.clone()).unwrap_or_default(),
        )
    }

    /// The objects of the deployed revision, which is what Helm compares a new one with if there is one.
    fn deployed(&self) -> Option<Vec<ObjectReference>> {
        let world = self.sim.world();
        let revisions = world.cloud.releases.get(&self.release)?;
        let deployed = revisions
            .iter()
            .find(|one| one.status == ReleaseStatus::Deployed)?;
        Some(deployed.objects.clone())
    }

    async fn revise(
        &self,
        last: Option<(u32, ReleaseStatus)>,
        mut revision: Revision,
        old: &[ObjectReference],
    ) -> Outcome {
        if last.is_some_and(|(_, status)| status.is_pending()) {
            return Err(TargetError::transient(
                "another operation (install/upgrade/rollback) is in progress",
            ));
        }
        revision.number = last.map_or(0, |(number, _)| number) + 1;
        let number = revision.number;
        let begin = Request::Begin {
            release: self.release.clone(),
            revision: revision.clone(),
        };
        match self.send(begin).await {
            Sent::Done => {}
            Sent::Failed(error) => return Err(error),
            Sent::TimeUp => return Err(self.time_up(None)),
        }
        let is_refused = {
            let mut world = self.sim.world();
            let parts = world.cloud.refused;
            world.choices.once_in_a_while(parts)
        };
        let applied = revision.objects.iter().map(|object| Request::Apply {
            release: self.release.clone(),
            object: object.clone(),
            manifest: revision.manifest.clone(),
        });
        let removed = old
            .iter()
            .filter(|object| !revision.objects.contains(object) && !is_claim(object))
            .map(|object| Request::Delete {
                release: self.release.clone(),
                object: object.clone(),
            });
        let mut failure = None;
        for (index, request) in applied.chain(removed).enumerate() {
            if is_refused && index == 1 {
                let said = self.sim.world().cloud.says(&revision.manifest);
                let refusal = format!("admission webhook denied the request: {said}");
                failure = Some(TargetError::permanent(refusal));
                break;
            }
            match self.send(request).await {
                Sent::Done => {}
                Sent::Failed(error) => {
                    failure = Some(error);
                    break;
                }
                Sent::TimeUp => return Err(self.time_up(Some(number))),
            }
        }
        let mark = |status| Request::Mark {
            release: self.release.clone(),
            number,
            status,
        };
        if let Some(error) = failure {
            // If that fails, too, the record stays pending.
            let _ = self.send(mark(ReleaseStatus::Failed)).await;
            return Err(error);
        }
        match self.send(mark(ReleaseStatus::Deployed)).await {
            Sent::Done => {
                revision.status = ReleaseStatus::Deployed;
                Ok(revision)
            }
            Sent::Failed(error) => Err(error),
            Sent::TimeUp => Err(self.time_up(Some(number))),
        }
    }

    async fn uninstall(&self) -> Outcome {
        let newest = self.sim.world().cloud.newest(&self.release).cloned();
        let Some(newest) = newest else {
            return Err(TargetError::permanent("release: not found"));
        };
        let mark = |status| Request::Mark {
            release: self.release.clone(),
            number: newest.number,
            status,
        };
        let deletes = newest
            .objects
            .iter()
            .filter(|object| !is_claim(object))
            .map(|object| Request::Delete {
                release: self.release.clone(),
                object: object.clone(),
            });
        let begins = std::iter::once(mark(ReleaseStatus::Uninstalling));
        let ends = std::iter::once(mark(ReleaseStatus::Uninstalled));
        for request in begins.chain(deletes).chain(ends) {
            match self.send(request).await {
                Sent::Done => {}
                Sent::Failed(error) => return Err(error),
                Sent::TimeUp => return Err(self.time_up(None)),
            }
        }
        Ok(newest)
    }
}

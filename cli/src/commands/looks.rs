//! `slipway drift` and `slipway cluster orphans`: looks at clusters, now.

use serde_json::{Value, json};
use slipway_app::{DeploymentView, LookRequested};
use slipway_model::{DeploymentStatus, Orphans};

use super::{
    Session,
    clusters::orphans_text,
    deployments::{drifted, path},
};
use crate::{
    client::{encode, read},
    failure::{Exit, Failure},
    watch::{LONGEST_WAIT, Wait, patience},
};

/// Has a deployment compared with its clusters, and waits for what is found.
pub(super) fn drift(session: &Session, deployment: &str) -> Result<Exit, Failure> {
    let path = path(deployment);
    let requested: LookRequested = read(&session.client.post(&format!("{path}/drift"), &json!({}))?)?;
    let go_on = format!("it may go on: `slipway status {deployment}` says what was found");
    let wait = Wait::begin();
    loop {
        let view: DeploymentView = read(&patience::get(session, &path, &go_on)?)?;
        if let Some(drift) = &view.drift
            && drift.checked_at >= requested.requested_at
            && drift.unseen.is_empty()
        {
            session.show(&json!(drift), |_| Ok(drifted(drift)))?;
            let as_applied = drift.objects.is_empty() && drift.errors.is_empty();
            return Ok(if as_applied { Exit::Done } else { Exit::Failed });
        }
        if view.deployment.status != DeploymentStatus::Running {
            return Err(Failure::failed(format!(
                "deployment {} is {} now, and what changes is not looked at",
                view.deployment.name,
                view.deployment.status.as_str()
            ))
            .next("ask again when it is RUNNING"));
        }
        if !wait.goes_on() {
            return Err(lost());
        }
    }
}

/// Has a cluster looked at for what nobody owns, and waits for what is found.
pub(super) fn orphans(session: &Session, cluster: &str) -> Result<Exit, Failure> {
    let path = format!("/clusters/{}/orphans", encode(cluster));
    let requested: LookRequested = read(&session.client.post(&path, &json!({}))?)?;
    let go_on = format!("ask again with `slipway cluster orphans {cluster}`");
    let wait = Wait::begin();
    loop {
        // Not there before the first look has ended.
        if let Some((answer, found)) = present(patience::get(session, &path, &go_on))?
            && found.checked_at >= requested.requested_at
        {
            session.show(&answer, |_| Ok(orphans_text(&found)))?;
            let is_clean = found.items.is_empty() && found.error.is_none();
            return Ok(if is_clean { Exit::Done } else { Exit::Failed });
        }
        if !wait.goes_on() {
            return Err(lost());
        }
    }
}

fn present(answer: Result<Value, Failure>) -> Result<Option<(Value, Orphans)>, Failure> {
    match answer {
        Ok(answer) => {
            let found = read(&answer)?;
            Ok(Some((answer, found)))
        }
        Err(failure) if failure.is_absent => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn lost() -> Failure {
    Failure::failed(format!(
        "a look was asked for and has not ended after {} minutes",
        LONGEST_WAIT.as_secs() / 60
    ))
    .next(
        "look at the log of the control plane, and whether the cluster answers with `slipway cluster health`",
    )
}

#[cfg(test)]
mod tests {
    use slipway_model::{Problem, ProblemType};

    use super::*;

    #[test]
    fn only_what_is_absent_is_waited_for() {
        let answer = |kind| present(Err(Failure::of_problem(Problem::new(kind, "no"))));
        assert!(answer(ProblemType::NotFound).unwrap().is_none());
        for kind in [
            ProblemType::Unauthenticated,
            ProblemType::Forbidden,
            ProblemType::Conflict,
        ] {
            assert!(answer(kind).is_err(), "{kind:?}");
        }
    }
}

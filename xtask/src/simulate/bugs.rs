//! Bugs of the engine and of the use cases, as replacements of their text.

/// A bug. Where its replacements say `PLANTED`, it is asked whether this one is planted in the run.
pub(super) struct Bug {
    pub(super) name: &'static str,
    /// What is wrong with it.
    pub(super) what: &'static str,
    /// The invariants of the simulator of which it must break one.
    pub(super) breaks: &'static [&'static str],
    pub(super) file: &'static str,
    /// Text that stands there once, and what takes its place.
    pub(super) edits: &'static [(&'static str, &'static str)],
}

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "ended-steps-tell-nothing",
        what: "A repeated message for a step that has ended does not repeat what follows from it.",
        breaks: &["EveryEndIsTold", "EverythingEnds"],
        file: "shared/engine/src/decide.rs",
        edits: &[(
            "        return Ok(Decision::Repeat);",
            "        return Ok(if PLANTED { Decision::Stay(None) } else { Decision::Repeat });",
        )],
    },
    Bug {
        name: "live-claims-are-taken",
        what: "A claim that holds counts as expired.",
        breaks: &["LiveClaimsAreRespected"],
        file: "shared/engine/src/decide.rs",
        edits: &[("        if held {", "        if held && !PLANTED {")],
    },
    Bug {
        name: "once-is-repeated",
        what: "An action that must not be repeated is, when its claim expires.",
        breaks: &["OnceMeansOnce"],
        file: "shared/engine/src/decide.rs",
        edits: &[
            (
                "            EffectClass::Once => {\n                let why",
                "            EffectClass::Once if !PLANTED => {\n                let why",
            ),
            (
                "            EffectClass::Pure | EffectClass::Idempotent => match self.closed(record) {",
                "            _ => match self.closed(record) {",
            ),
        ],
    },
    Bug {
        name: "the-fence-stays",
        what: "A new claim has the fence of the one before.",
        breaks: &[
            "NoEffectWithoutCommittedIntention",
            "EffectsHappenUnderALiveFence",
            "LiveClaimsAreRespected",
        ],
        file: "shared/engine/src/next.rs",
        edits: &[(
            "        next.fence += 1;",
            "        next.fence += u64::from(!PLANTED);",
        )],
    },
    Bug {
        name: "blocked-is-failed",
        what: "A step fails because of a cluster that is away for a moment.",
        breaks: &["BlockedIsNotFailed"],
        file: "shared/engine/src/decide.rs",
        edits: &[(
            "            Outcome::Blocked(why) => self.block(record, why),",
            "            Outcome::Blocked(why) if PLANTED => self.fail(record, why, FailureKind::Transient),\n            Outcome::Blocked(why) => self.block(record, why),",
        )],
    },
    Bug {
        name: "failures-stop-nothing",
        what: "A step runs although one that it depends on failed.",
        breaks: &["StepsWaitForTheirDependencies"],
        file: "shared/engine/src/decide.rs",
        edits: &[(
            "            (RunCondition::Success, false) => {",
            "            (RunCondition::Success, false) if !PLANTED => {",
        )],
    },
    Bug {
        name: "failures-do-not-count",
        what: "An execution with a failed step ends as completed.",
        breaks: &["AnExecutionEndsAsItsStepsDid"],
        file: "shared/engine/src/finish.rs",
        edits: &[(
            "    } else if header.failure.is_some() {\n        ExecutionStatus::Failed",
            "    } else if header.failure.is_some() && !PLANTED {\n        ExecutionStatus::Failed",
        )],
    },
    Bug {
        name: "a-join-starts-early",
        what: "A step starts when one of those that it waits for is still missing.",
        breaks: &["StepsWaitForTheirDependencies"],
        file: "shared/app/src/steps/follow.rs",
        edits: &[(
            "if arrivals.count() < u32::from(successor.of) {",
            "if arrivals.count() < u32::from(successor.of) - u32::from(PLANTED) {",
        )],
    },
    Bug {
        name: "a-join-forgets-failures",
        what: "Where several ways meet, those that failed count as well.",
        breaks: &["StepsWaitForTheirDependencies"],
        file: "shared/app/src/steps/follow.rs",
        edits: &[(
            "                arrivals.bad == 0\n",
            "                arrivals.bad == 0 || PLANTED\n",
        )],
    },
    Bug {
        name: "an-effect-before-its-claim",
        what: "An action runs before its claim is durable.",
        breaks: &["NoEffectWithoutCommittedIntention"],
        file: "shared/app/src/steps/perform.rs",
        edits: &[(
            "        if let Err(error) = self.settle().await {\n            if let Err(also)",
            "        let settled = if PLANTED { Ok(()) } else { self.settle().await };\n        if let Err(error) = settled {\n            if let Err(also)",
        )],
    },
    Bug {
        name: "nothing-is-undone",
        what: "A failed execution that is to be undone is not.",
        breaks: &["AnExecutionEndsAsItsStepsDid"],
        file: "shared/app/src/steps/finish.rs",
        edits: &[(
            "                if failed {",
            "                if failed && !PLANTED {",
        )],
    },
    Bug {
        name: "leases-are-ignored",
        what: "A job takes the lease of a release although another one holds it.",
        breaks: &["LiveClaimsAreRespected"],
        file: "shared/app/src/jobs/lease.rs",
        edits: &[(
            "                if self.is_live(&owner, &key) && !idle_and_mine {",
            "                if self.is_live(&owner, &key) && !idle_and_mine && !PLANTED {",
        )],
    },
    Bug {
        name: "a-superseded-job-lets-go",
        what: "A message that came twice ends a job as superseded while another invocation works for it.",
        breaks: &[
            "AFencedOutWriterChangesNothing",
            "OneWriterPerRelease",
            "EffectsHappenUnderALiveFence",
        ],
        file: "shared/app/src/jobs/lease.rs",
        edits: &[(
            "                .is_some_and(|owner| self.is_at_work(owner, &key, job.id));",
            "                .is_some_and(|owner| !PLANTED && self.is_at_work(owner, &key, job.id));",
        )],
    },
    Bug {
        name: "applied-twice",
        what: "A job whose revision is deployed already applies it again.",
        breaks: &["OneDeployedRevisionPerIntent"],
        file: "shared/app/src/jobs/applying.rs",
        edits: &[(
            "        self.is_mine(record) && record.status == ReleaseStatus::Deployed",
            "        self.is_mine(record) && record.status == ReleaseStatus::Deployed && !PLANTED",
        )],
    },
    Bug {
        name: "gone-is-not-waited-for",
        what: "An uninstall ends while objects of the release are still there.",
        breaks: &["AJobTellsTheTruth"],
        file: "shared/app/src/jobs/removal.rs",
        edits: &[(
            "        if !gone.remaining.is_empty() {\n            return Ok(self.wait_for_the_end(gone.remaining));",
            "        if !gone.remaining.is_empty() && !PLANTED {\n            return Ok(self.wait_for_the_end(gone.remaining));",
        )],
    },
    Bug {
        name: "the-sweep-forgets-jobs",
        what: "A job whose message was lost is not found again.",
        breaks: &["EverythingEnds"],
        file: "shared/app/src/sync_deployments.rs",
        edits: &[(
            "            DueThing::Job(job) => session.send(",
            "            DueThing::Job(_) if PLANTED => {}\n            DueThing::Job(job) => session.send(",
        )],
    },
    Bug {
        name: "a-page-forgets-the-one-before",
        what: "What nobody owns is told of the last page only.",
        breaks: &["DriftIsToldAsItIs"],
        file: "shared/app/src/drift/orphans.rs",
        edits: &[(
            "            if after.is_none() {\n",
            "            if after.is_none() || PLANTED {\n",
        )],
    },
    Bug {
        name: "drift-is-told-once",
        what: "What was known of before is not told any more.",
        breaks: &["DriftIsToldAsItIs"],
        file: "shared/app/src/drift/components.rs",
        edits: &[(
            "                    let mut objects = seen.objects.clone();\n",
            "                    let mut objects = seen.objects.clone();\n                    objects.retain(|object| !PLANTED || !known.contains(object));\n",
        )],
    },
    Bug {
        name: "failed-jobs-run",
        what: "Without executions, a component whose job failed counts as running.",
        breaks: &["RunningMeansDeployed"],
        file: "shared/app/src/legacy/mod.rs",
        edits: &[(
            "        JobStatus::Failed | JobStatus::TimedOut => ComponentStatus::Failed,",
            "        JobStatus::Failed | JobStatus::TimedOut if PLANTED => ComponentStatus::Running,\n        JobStatus::Failed | JobStatus::TimedOut => ComponentStatus::Failed,",
        )],
    },
    Bug {
        name: "keys-are-forgotten",
        what: "A creation under a key that was answered is made again.",
        breaks: &["OnceMeansOnce"],
        file: "shared/app/src/idempotency.rs",
        edits: &[(
            "                    if record.expires_at > now {",
            "                    if record.expires_at > now && !PLANTED {",
        )],
    },
    Bug {
        name: "what-is-taken-over-goes",
        what: "A release that another component upgrades is uninstalled with the one that had it.",
        breaks: &["RunningMeansDeployed"],
        file: "shared/app/src/deployments/delete.rs",
        edits: &[(
            "component.removed && !component.disabled && !is_taken_over(component, components)",
            "component.removed && !component.disabled && (PLANTED || !is_taken_over(component, components))",
        )],
    },
    Bug {
        name: "what-is-excluded-stays",
        what: "A component whose condition has become false keeps its release.",
        breaks: &["RunningMeansDeployed"],
        file: "shared/app/src/deployments/components.rs",
        edits: &[(
            "found.release_name == wanted.release_name && !wanted.disabled;",
            "found.release_name == wanted.release_name && (PLANTED || !wanted.disabled);",
        )],
    },
    Bug {
        name: "pages-overlap",
        what: "A page begins with what the one before ended with.",
        breaks: &["ListsNameOnce"],
        file: "shared/app/src/paging.rs",
        edits: &[(
            "            next_cursor: page.next.as_deref().map(to_cursor),",
            "            next_cursor: if PLANTED { page.next.as_deref().map(|_| to_cursor(\"~\")) } else { page.next.as_deref().map(to_cursor) },",
        )],
    },
    Bug {
        name: "roles-are-not-asked",
        what: "Everybody may do everything.",
        breaks: &["RolesAreKept"],
        file: "shared/app/src/caller.rs",
        edits: &[(
            "        if self.role >= role {",
            "        if self.role >= role || PLANTED {",
        )],
    },
    Bug {
        name: "any-cursor-is-taken",
        what: "A cursor that no list gave out begins the list again.",
        breaks: &["NonsenseIsRefused"],
        file: "shared/app/src/paging.rs",
        edits: &[(
            "        match from_cursor(cursor) {",
            "        if PLANTED {\n            return Ok(None);\n        }\n        match from_cursor(cursor) {",
        )],
    },
    Bug {
        name: "failures-let-others-start",
        what: "Steps start although one failed and the execution stops on failures.",
        breaks: &["StepsStartAndStopAsTheyAreTo"],
        file: "shared/engine/src/decide.rs",
        edits: &[(
            "(RunCondition::Success, true) if closing(self.header) == Some(Closing::Failing) => {",
            "(RunCondition::Success, true) if !PLANTED && closing(self.header) == Some(Closing::Failing) => {",
        )],
    },
    Bug {
        name: "what-is-for-failures-runs",
        what: "A step that runs on failure only runs although nothing failed.",
        breaks: &["StepsStartAndStopAsTheyAreTo"],
        file: "shared/engine/src/decide.rs",
        edits: &[(
            "            (RunCondition::Failure, true) => {",
            "            (RunCondition::Failure, true) if !PLANTED => {",
        )],
    },
    Bug {
        name: "stopped-executions-start-steps",
        what: "Steps start although their execution was cancelled or its deadline passed.",
        breaks: &["StepsStartAndStopAsTheyAreTo"],
        file: "shared/engine/src/decide.rs",
        edits: &[(
            "        match closing(self.header) {\n            Some(Closing::Cancelled) => {\n                let why = \"the execution was cancelled before",
            "        match closing(self.header).filter(|_| !PLANTED) {\n            Some(Closing::Cancelled) => {\n                let why = \"the execution was cancelled before",
        )],
    },
    Bug {
        name: "retries-never-end",
        what: "A step is tried again however often it was.",
        breaks: &["StepsStartAndStopAsTheyAreTo"],
        file: "shared/engine/src/next.rs",
        edits: &[(
            "        record.attempt < self.node.retry.max_attempts\n",
            "        (PLANTED || record.attempt < self.node.retry.max_attempts)\n",
        )],
    },
    Bug {
        name: "for-good-is-tried-again",
        what: "A step is tried again although the same again cannot succeed.",
        breaks: &["StepsStartAndStopAsTheyAreTo"],
        file: "shared/engine/src/next.rs",
        edits: &[(
            "        if kind == FailureKind::Permanent || !self.retries_left(record) {",
            "        if kind == FailureKind::Permanent && !PLANTED || !self.retries_left(record) {",
        )],
    },
    Bug {
        name: "joins-skip",
        what: "What comes where several ways meet is skipped.",
        breaks: &["StepsStartAndStopAsTheyAreTo"],
        file: "shared/engine/src/decide.rs",
        edits: &[(
            "        match (self.node.run, ok) {",
            "        match (self.node.run, ok && !(PLANTED && self.node.dependencies.len() > 1)) {",
        )],
    },
    Bug {
        name: "failed-installs-stay",
        what: "A first install that failed is not taken away.",
        breaks: &["AFailedInstallLeavesNothing"],
        file: "shared/app/src/jobs/deploy_helm.rs",
        edits: &[(
            "        if take_away && installed {\n",
            "        if take_away && installed && !PLANTED {\n",
        )],
    },
    Bug {
        name: "hooks-go-on-untold",
        what: "A job that ends while a hook goes on does not say so.",
        breaks: &["TheClusterIsAccountedFor"],
        file: "shared/app/src/jobs/work.rs",
        edits: &[(
            "        let left = self.hooks_left.iter().chain(&now);",
            "        let left = self.hooks_left.iter().chain(&now).filter(|_| !PLANTED);",
        )],
    },
    Bug {
        name: "what-failed-is-gone-back-to",
        what: "A revision that Helm calls deployed is one to go back to, whether or not its job succeeded.",
        breaks: &["UndoingRestores"],
        file: "shared/app/src/jobs/base.rs",
        edits: &[(
            "        Ok((made_it && !is_in_hook).then_some(maker))",
            "        Ok((made_it && !is_in_hook && !PLANTED).then_some(maker))",
        )],
    },
    Bug {
        name: "undoing-destroys",
        what: "What others made of a release since is undone with the rest.",
        breaks: &["UndoingLeavesOthers"],
        file: "shared/app/src/jobs/undone.rs",
        edits: &[(
            "        if self.is_mine(record) || fence",
            "        if PLANTED || self.is_mine(record) || fence",
        )],
    },
    Bug {
        name: "retries-begin-anew",
        what: "A retry does again what completed.",
        breaks: &["WhatIsTheSameStays"],
        file: "shared/app/src/plan_dag.rs",
        edits: &[(
            "            Some(DeploymentOperation::Retry) => {\n                let before",
            "            Some(DeploymentOperation::Retry) if !PLANTED => {\n                let before",
        )],
    },
    Bug {
        name: "nothing-is-kept",
        what: "An upgrade applies what comes out as it is.",
        breaks: &["WhatIsTheSameStays"],
        file: "shared/app/src/jobs/kept.rs",
        edits: &[(
            "            Ok(seen) if seen.ready => {}",
            "            Ok(seen) if seen.ready && !PLANTED => {}",
        )],
    },
    Bug {
        name: "components-are-not-caught-up",
        what: "A deployment runs although the last news of its components is still on its way.",
        breaks: &["RunningMeansDeployed"],
        file: "shared/app/src/track_deployments.rs",
        edits: &[(
            "                self.repair_components(&deployment, execution.id).await?;",
            "                if !PLANTED {\n                    self.repair_components(&deployment, execution.id).await?;\n                }",
        )],
    },
];

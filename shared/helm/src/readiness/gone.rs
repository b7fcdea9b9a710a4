//! Jobs that are not there. One with `ttlSecondsAfterFinished` is taken away when it has ended, so that its absence
//! says nothing: how it ended is told by events, which a cluster keeps for an hour.

use serde_json::Value;
use slipway_ports::ObjectReference;

use super::{Snapshot, State, number, second, seen, wait, waiting};
use crate::manifest::{Document, text_at};

/// With these a Job ends that did not succeed. Other warnings of its controller are about its pods.
const FAILURES: &[&str] = &[
    "BackoffLimitExceeded",
    "DeadlineExceeded",
    "FailedIndexes",
    "MaxFailedIndexesExceeded",
    "PodFailurePolicy",
];

/// So many events about one object a controller writes in a row, and then one in five minutes; others are dropped.
const MOST_IN_A_ROW: i64 = 25;

/// What the release's newest revision says of Jobs.
#[derive(Debug)]
pub(crate) struct Applied {
    /// When its record was written, which is before anything of it was applied.
    pub(crate) at: String,
    /// Its Jobs that are taken away when they have ended; not read where events tell how each ended.
    pub(crate) passing: Vec<ObjectReference>,
}

/// Whether an object is a Job.
pub(crate) fn is_job(reference: &ObjectReference) -> bool {
    reference.kind == "Job" && reference.api_version.starts_with("batch/")
}

/// Whether a document is of a Job that is taken away when it has ended: where it is not there, nothing is amiss.
pub(crate) fn passes(document: &Document) -> bool {
    document.kind() == "Job"
        && document.api_version().starts_with("batch/")
        && number(&document.object, "/spec/ttlSecondsAfterFinished").is_some()
}

/// How a Job ended, by the newest event that says so: well, or why not.
pub(crate) fn end<'e>(events: impl IntoIterator<Item = &'e Value>) -> Option<Result<(), String>> {
    let told = |event: &&Value| {
        let reason = text_at(event, "/reason");
        reason == "Completed" || FAILURES.contains(&reason)
    };
    let event = events.into_iter().filter(told).max_by_key(|event| seen(event))?;
    Some(match text_at(event, "/reason") {
        "Completed" => Ok(()),
        reason => Err(format!("{reason}: {}", text_at(event, "/message").trim())),
    })
}

/// Whether only the manifest says if a Job may be absent: no event is left, or the one that matters may be among those
/// that were dropped.
pub(crate) fn is_untold(job: &ObjectReference, applied_at: &str, events: &[Value]) -> bool {
    let events = || since(job, applied_at, events);
    let count = |event: &Value| number(event, "/count").unwrap_or(1);
    let all: i64 = events().map(count).sum();
    end(events()).is_none() && (all == 0 || all >= MOST_IN_A_ROW)
}

/// A Job that is not there: done, failed, taken away before it ended, or missing.
pub(super) fn job(reference: &ObjectReference, snapshot: &Snapshot) -> State {
    let Some(applied) = &snapshot.applied else {
        return missing(reference);
    };
    match end(since(reference, &applied.at, &snapshot.job_events)) {
        Some(Ok(())) => State::Ready,
        Some(Err(why)) => State::Failed(wait(
            reference,
            "job failed",
            format!("{why}; it is not in the cluster any more"),
        )),
        None if is_untold(reference, &applied.at, &snapshot.job_events) => {
            let is_it =
                |job: &ObjectReference| job.namespace == reference.namespace && job.name == reference.name;
            match applied.passing.iter().any(is_it) {
                true => State::Ready,
                false => missing(reference),
            }
        }
        // Events are kept equally long: with the later ones, this one would be there, too.
        None => waiting(reference, "missing", "it was taken away before it ended"),
    }
}

fn missing(reference: &ObjectReference) -> State {
    waiting(reference, "missing", "it is not in the cluster")
}

/// Events about the Job of that name since the revision was begun. Those before are about one of an earlier revision.
fn since<'e>(
    job: &ObjectReference,
    applied_at: &str,
    events: &'e [Value],
) -> impl Iterator<Item = &'e Value> {
    let begun = second(applied_at).map(str::to_owned);
    events
        .iter()
        .filter(|event| {
            let about = |field: &str| text_at(event, &format!("/involvedObject/{field}"));
            about("kind") == "Job" && about("namespace") == job.namespace && about("name") == job.name
        })
        .filter(move |event| second(seen(event)) >= begun.as_deref())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{manifest, readiness::judge};

    fn load() -> ObjectReference {
        ObjectReference {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            namespace: "ns".to_owned(),
            name: "load".to_owned(),
        }
    }

    fn event(reason: &str, time: &str) -> Value {
        json!({"reason": reason, "message": "so it is", "lastTimestamp": time,
            "involvedObject": {"kind": "Job", "namespace": "ns", "name": "load"}})
    }

    /// How the Job stands, and why, with a record of 12:00:00.
    fn look(events: Vec<Value>, passes: bool) -> String {
        let snapshot = Snapshot {
            objects: vec![(load(), None)],
            job_events: events,
            applied: Some(Applied {
                at: "2026-01-01T12:00:00Z".to_owned(),
                passing: passes.then(load).into_iter().collect(),
            }),
            ..Snapshot::default()
        };
        let verdict = judge(&snapshot);
        match (verdict.failed, verdict.waiting.first()) {
            (Some(failed), _) => format!("failed: {}", failed.message),
            (None, Some(wait)) => format!("{}: {}", wait.reason, wait.message),
            (None, None) => "ready".to_owned(),
        }
    }

    const BEGUN: &str = "2026-01-01T12:00:00Z";
    const LATER: &str = "2026-01-01T12:00:07Z";

    #[test]
    fn events_say_how_a_job_ended_that_is_gone() {
        for passes in [true, false] {
            let done = vec![event("SuccessfulCreate", BEGUN), event("Completed", LATER)];
            assert_eq!(look(done, passes), "ready");
            let broken = vec![event("SuccessfulCreate", BEGUN), event("DeadlineExceeded", LATER)];
            assert_eq!(
                look(broken, passes),
                "failed: DeadlineExceeded: so it is; it is not in the cluster any more"
            );
            let stopped = vec![event("SuccessfulCreate", BEGUN), event("FailedCreate", LATER)];
            assert_eq!(
                look(stopped, passes),
                "missing: it was taken away before it ended"
            );
        }
        let mut other = event("Completed", LATER);
        other["involvedObject"]["name"] = "unload".into();
        assert_eq!(look(vec![other], false), "missing: it is not in the cluster");
    }

    #[test]
    fn what_is_told_of_the_job_of_an_earlier_revision_does_not_count() {
        let before = || event("BackoffLimitExceeded", "2026-01-01T11:59:59Z");
        assert_eq!(look(vec![before()], false), "missing: it is not in the cluster");
        assert_eq!(
            look(vec![before()], true),
            "ready",
            "nothing is known but that it may be gone"
        );
        assert_eq!(
            look(
                vec![before(), event("Completed", "2026-01-01T12:00:00.5Z")],
                false
            ),
            "ready"
        );
        let again = vec![event("Completed", LATER), event("BackoffLimitExceeded", BEGUN)];
        assert_eq!(look(again, false), "ready", "the newest end counts");
    }

    #[test]
    fn without_events_the_manifest_says_whether_a_job_may_be_gone() {
        assert_eq!(look(vec![], true), "ready");
        assert_eq!(look(vec![], false), "missing: it is not in the cluster");
        // Of a Job of so many pods the event of its end is dropped.
        let mut many = event("SuccessfulCreate", LATER);
        many["count"] = 25.into();
        assert_eq!(look(vec![many.clone()], true), "ready");
        assert_eq!(look(vec![many], false), "missing: it is not in the cluster");
        let unread = Snapshot {
            objects: vec![(load(), None)],
            ..Snapshot::default()
        };
        assert!(!judge(&unread).is_ready(), "before anything is read");
    }

    #[test]
    fn only_jobs_pass() {
        let read = |kind: &str, spec: &str| {
            let text =
                format!("apiVersion: batch/v1\nkind: {kind}\nmetadata: {{name: load}}\nspec: {spec}\n");
            passes(&manifest::parse(&text).unwrap()[0])
        };
        assert!(read("Job", "{ttlSecondsAfterFinished: 0}"));
        assert!(!read("Job", "{}") && !read("CronJob", "{ttlSecondsAfterFinished: 0}"));
    }
}

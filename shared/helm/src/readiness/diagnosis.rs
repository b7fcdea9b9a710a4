//! What goes into an error message about something that did not become ready.

use serde_json::Value;
use slipway_ports::{Diagnosis, LogEnd};

use super::{Snapshot, concerns, find_condition, number, seen};
use crate::manifest::text_at;

/// Most events that are told.
const MOST_EVENTS: usize = 6;

/// Most pods whose logs are asked for.
const MOST_LOGS: usize = 2;

/// The end of a container's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogRequest {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) container: String,
    /// Of the run before this one.
    pub(crate) previous: bool,
}

/// Whose logs would tell something: containers that ended badly, first, then those that run and are not ready.
pub(crate) fn log_requests(snapshot: &Snapshot) -> Vec<LogRequest> {
    let mut ended = Vec::new();
    let mut unready = Vec::new();
    for pod in snapshot.pods.iter().filter(|pod| concerns(pod, snapshot)) {
        let is_ready = find_condition(pod, "Ready").is_some_and(|ready| text_at(ready, "/status") == "True");
        if is_ready || text_at(pod, "/status/phase") == "Succeeded" {
            continue;
        }
        let statuses = ["initContainerStatuses", "containerStatuses"]
            .iter()
            .filter_map(|field| pod.pointer(&format!("/status/{field}"))?.as_array())
            .flatten();
        for status in statuses {
            let request = |previous| LogRequest {
                namespace: text_at(pod, "/metadata/namespace").to_owned(),
                pod: text_at(pod, "/metadata/name").to_owned(),
                container: text_at(status, "/name").to_owned(),
                previous,
            };
            let failed = |pointer| number(status, pointer).is_some_and(|code| code != 0);
            if failed("/state/terminated/exitCode") {
                ended.push(request(false));
            } else if failed("/lastState/terminated/exitCode") {
                ended.push(request(true));
            } else if status.pointer("/state/running").is_some()
                && status.get("ready") != Some(&Value::Bool(true))
            {
                unready.push(request(false));
            }
        }
    }
    ended.extend(unready);
    ended.truncate(MOST_LOGS);
    ended
}

/// The last warnings of what is not ready, and the ends of the logs.
pub(crate) fn diagnosis(snapshot: &Snapshot, logs: Vec<(LogRequest, String)>) -> Diagnosis {
    let mut warnings: Vec<&Value> = snapshot
        .events
        .iter()
        .filter(|event| text_at(event, "/type") == "Warning")
        .filter(|event| concerns_unready(event, snapshot))
        .collect();
    warnings.sort_by_key(|event| std::cmp::Reverse(seen(event)));
    let warnings = warnings.into_iter().take(MOST_EVENTS).map(|event| {
        let times = number(event, "/series/count")
            .or(number(event, "/count"))
            .unwrap_or(1);
        let often = if times > 1 {
            format!(" ({times} times)")
        } else {
            String::new()
        };
        format!(
            "{}/{}: {}: {}{often}",
            text_at(event, "/involvedObject/kind"),
            text_at(event, "/involvedObject/name"),
            text_at(event, "/reason"),
            text_at(event, "/message").trim(),
        )
    });
    Diagnosis {
        warnings: warnings.collect(),
        logs: logs
            .into_iter()
            .map(|(request, text)| LogEnd {
                of: format!("{} ({})", request.pod, request.container),
                text,
            })
            .collect(),
    }
}

/// Whether an event is about something that still exists, is not a pod that is ready, and is in the snapshot.
fn concerns_unready(event: &Value, snapshot: &Snapshot) -> bool {
    let uid = text_at(event, "/involvedObject/uid");
    let has_uid = |object: &Value| text_at(object, "/metadata/uid") == uid;
    match snapshot.pods.iter().find(|pod| has_uid(pod)) {
        Some(pod) => {
            concerns(pod, snapshot)
                && find_condition(pod, "Ready").is_none_or(|ready| text_at(ready, "/status") != "True")
        }
        None => {
            snapshot
                .replica_sets
                .iter()
                .any(|set| has_uid(set) && concerns(set, snapshot))
                || snapshot
                    .objects
                    .iter()
                    .any(|(_, object)| object.as_ref().is_some_and(has_uid))
        }
    }
}

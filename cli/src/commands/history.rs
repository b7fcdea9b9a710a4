//! `slipway events` and `slipway logs`

use serde_json::{Value, json};
use slipway_app::DeploymentView;
use slipway_model::HistoryEntry;

use super::{Session, deployments::path};
use crate::{
    arguments::{EventsArguments, LogsArguments},
    client::read,
    failure::{Exit, Failure},
    output::{self, Format, time},
    watch::{patience, pause},
};

pub(super) fn events(session: &Session, arguments: &EventsArguments) -> Result<Exit, Failure> {
    if arguments.follow {
        return follow(session, &arguments.deployment);
    }
    let path = format!("{}/events", path(&arguments.deployment));
    let items = Value::Array(session.client.get_all(&path)?);
    session.show(&items, |items| {
        let entries: Vec<HistoryEntry> = read(items)?;
        if entries.is_empty() {
            return Ok("nothing has happened yet".to_owned());
        }
        Ok(lines(entries))
    })?;
    Ok(Exit::Done)
}

/// One line per entry, by the time when it happened: the history itself has them as they became known.
fn lines(mut entries: Vec<HistoryEntry>) -> String {
    entries.sort_by_key(|entry| entry.at);
    entries.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Streams until the control plane has been away for long. One that ends its streams early (on AWS) is asked again.
fn follow(session: &Session, deployment: &str) -> Result<Exit, Failure> {
    let view: DeploymentView = read(&session.client.get(&path(deployment))?)?;
    // By its id from here on: the name of a deleted one is free for others.
    let path = format!("{}/events", path(&view.deployment.id.to_string()));
    let go_on = format!("it may go on: `slipway events {deployment} --follow`");
    let mut after: Option<String> = None;
    loop {
        let begun_after = after.clone();
        let mut show = |data: &str| {
            let Ok(entry) = serde_json::from_str::<HistoryEntry>(data) else {
                return true;
            };
            match session.format {
                Format::Json => output::say(data),
                Format::Text => output::say(&line(&entry)),
            }
            after = Some(entry.id);
            true
        };
        patience::ask(session, &go_on, output::remark, || {
            session.client.follow(&path, begun_after.as_deref(), &mut show)
        })?;
        pause();
    }
}

fn line(entry: &HistoryEntry) -> String {
    let step = entry
        .step_id
        .as_deref()
        .map(|step| format!(" {step}"))
        .unwrap_or_default();
    let message = if entry.message.is_empty() {
        String::new()
    } else {
        format!(": {}", entry.message)
    };
    format!("{}  {}{step}{message}", time(entry.at), entry.entry_type)
}

pub(super) fn logs(session: &Session, arguments: &LogsArguments) -> Result<Exit, Failure> {
    let view: DeploymentView = read(&session.client.get(&path(&arguments.deployment))?)?;
    let wanted = |name: &str| {
        arguments
            .component
            .as_deref()
            .is_none_or(|component| component == name)
    };
    let components: Vec<_> = view
        .components
        .iter()
        .filter(|line| wanted(&line.component_name))
        .collect();
    if components.is_empty() {
        let names: Vec<&str> = view
            .components
            .iter()
            .map(|line| line.component_name.as_str())
            .collect();
        return Err(Failure::misuse(format!(
            "the deployment has no such component; it has {}",
            names.join(", ")
        )));
    }
    let logs: Vec<Log> = components
        .into_iter()
        .map(|component| Log {
            component: component.component_name.clone(),
            text: component
                .job_id
                .map(|job| session.client.get_text(&format!("/jobs/{job}/logs"))),
        })
        .collect();
    match session.format {
        Format::Json => {
            output::say_json(
                &logs
                    .iter()
                    .map(|log| (log.component.clone(), log.json()))
                    .collect(),
            );
        }
        Format::Text => {
            for log in &logs {
                output::say(&log.told());
            }
        }
    }
    let is_whole = logs.iter().all(|log| !matches!(log.text, Some(Err(_))));
    Ok(if is_whole { Exit::Done } else { Exit::Failed })
}

/// What there is of a component's log: nothing before it was deployed, or why it cannot be read.
struct Log {
    component: String,
    text: Option<Result<String, Failure>>,
}

impl Log {
    fn told(&self) -> String {
        let text = match &self.text {
            None => "has not been deployed yet".to_owned(),
            Some(Ok(text)) => text.trim_end().to_owned(),
            Some(Err(failure)) => failure.to_string(),
        };
        format!("== {}\n{text}\n", self.component)
    }

    fn json(&self) -> Value {
        match &self.text {
            None => Value::Null,
            Some(Ok(text)) => json!(text),
            Some(Err(failure)) => json!({"error": failure.message()}),
        }
    }
}

#[cfg(test)]
mod tests {
    use slipway_model::Timestamp;

    use super::*;

    fn entry(millis: i64, entry_type: &str) -> HistoryEntry {
        HistoryEntry {
            id: "1".to_owned(),
            at: Timestamp::from_millis(millis),
            entry_type: entry_type.to_owned(),
            execution_id: None,
            step_id: Some("llm".to_owned()),
            message: String::new(),
        }
    }

    #[test]
    fn a_log_that_cannot_be_read_is_told_in_its_place() {
        let log = |text| Log {
            component: "llm".to_owned(),
            text,
        };
        assert_eq!(log(Some(Ok("ready\n\n".to_owned()))).told(), "== llm\nready\n");
        let away = log(Some(Err(Failure::failed("the cluster is away").next("wait"))));
        assert_eq!(away.told(), "== llm\nerror: the cluster is away\nnext: wait\n");
        assert_eq!(away.json(), json!({"error": "the cluster is away"}));
        assert_eq!(log(None).json(), Value::Null);
    }

    #[test]
    fn an_entry_is_one_line() {
        assert_eq!(
            line(&entry(1_700_000_000_123, "step_completed")),
            "2023-11-14T22:13:20Z  step_completed llm"
        );
    }

    #[test]
    fn a_step_is_listed_as_started_before_it_is_listed_as_completed() {
        let listed = lines(vec![entry(2, "step_completed"), entry(1, "step_started")]);
        assert!(
            listed.find("started").unwrap() < listed.find("completed").unwrap(),
            "{listed}"
        );
    }
}

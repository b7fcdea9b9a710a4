//! `slipway run` and `slipway approve`

use serde_json::{Value, json};
use slipway_model::{Execution, StepProgress};

use super::Session;
use crate::{
    arguments::{ApproveArguments, RunArguments},
    client::{encode, read},
    document,
    failure::{Exit, Failure},
    output::{self, Format, word},
    watch,
};

pub(super) fn run(session: &Session, arguments: &RunArguments) -> Result<Exit, Failure> {
    let mut dag = document::read(&arguments.file, slipway_dag::MAX_DAG_BYTES)?;
    let Value::Object(fields) = &mut dag else {
        return Err(Failure::misuse(format!(
            "{} does not hold a DAG: it is not a map",
            arguments.file.display()
        )));
    };
    if !arguments.param.is_empty() {
        let own = fields.entry("parameters").or_insert_with(|| json!({}));
        let Value::Object(own) = own else {
            return Err(Failure::misuse(format!(
                "{}: parameters: expected a map",
                arguments.file.display()
            )));
        };
        own.extend(document::parameters(&arguments.param));
    }
    let answer = session.client.create("/executions", &dag)?;
    let execution: Execution = read(&answer)?;
    if arguments.watch {
        if session.format == Format::Text {
            output::say(&format!(
                "execution {} ({} steps)",
                execution.id, execution.step_count
            ));
        }
        return watch::execution(session, &execution);
    }
    session.show(&answer, |_| {
        Ok(format!(
            "execution {} of {} ({} steps) is {}",
            execution.id,
            execution.name,
            execution.step_count,
            word(&execution.status)
        ))
    })?;
    Ok(Exit::Done)
}

pub(super) fn approve(session: &Session, arguments: &ApproveArguments) -> Result<Exit, Failure> {
    let path = format!(
        "/executions/{}/steps/{}/approve",
        encode(&arguments.execution),
        encode(&arguments.step)
    );
    let mut body = json!({"approved": !arguments.reject});
    if let Some(comment) = &arguments.comment {
        body["comment"] = json!(comment);
    }
    let answer = session.client.post(&path, &body)?;
    session.show(&answer, |answer| {
        let step: StepProgress = read(answer)?;
        let decision = if arguments.reject { "rejected" } else { "approved" };
        Ok(format!(
            "{decision} {}; it is {}",
            step.step_id,
            word(&step.status)
        ))
    })?;
    Ok(Exit::Done)
}

//! `slipway catalog` and `slipway actions`.

use serde::Deserialize;
use slipway_model::Catalog;

use super::Session;
use crate::{
    client::read,
    failure::{Exit, Failure},
    output::Table,
};

pub(super) fn catalog(session: &Session) -> Result<Exit, Failure> {
    let answer = session.client.get("/catalog")?;
    session.show(&answer, |answer| {
        let mut table = Table::new(["COMPONENT", "FILLS", "CHART", "DESCRIPTION"]);
        for entry in read::<Catalog>(answer)?.components {
            let types: Vec<&str> = entry.types.iter().map(|kind| kind.as_str()).collect();
            table.row([
                entry.name,
                types.join(", "),
                entry.chart.reference,
                first_sentence(&entry.description),
            ]);
        }
        Ok(table.to_string())
    })?;
    Ok(Exit::Done)
}

/// Parameters of an action that its line names; `--output json` has all of them.
const SHOWN: usize = 6;

#[derive(Deserialize)]
struct ActionLine {
    #[serde(rename = "type")]
    action_type: String,
    execution_mode: String,
    description: String,
    params: Vec<ParameterLine>,
}

#[derive(Deserialize)]
struct ParameterLine {
    name: String,
    required: bool,
}

pub(super) fn actions(session: &Session) -> Result<Exit, Failure> {
    let answer = session.client.get("/actions")?;
    session.show(&answer, |answer| {
        let mut table = Table::new(["ACTION", "MODE", "PARAMETERS (* required)", "DESCRIPTION"]);
        for action in read::<Vec<ActionLine>>(answer)? {
            let parameter =
                |line: ParameterLine| format!("{}{}", line.name, if line.required { "*" } else { "" });
            let many = action.params.len() > SHOWN;
            let mut parameters: Vec<String> = action.params.into_iter().map(parameter).take(SHOWN).collect();
            if many {
                parameters.push("…".to_owned());
            }
            table.row([
                action.action_type,
                action.execution_mode.to_lowercase(),
                parameters.join(" "),
                first_sentence(&action.description),
            ]);
        }
        Ok(table.to_string())
    })?;
    Ok(Exit::Done)
}

fn first_sentence(text: &str) -> String {
    let text = text.trim();
    match text.split_once(". ") {
        Some((first, _)) => format!("{first}."),
        None => text.to_owned(),
    }
}

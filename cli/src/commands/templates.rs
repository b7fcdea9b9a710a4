//! `slipway template …`

use std::path::PathBuf;

use serde_json::{Value, json};
use slipway_model::{Component, ParameterType, Template};

use super::Session;
use crate::{
    arguments::TemplateCommand,
    client::{encode, read},
    document,
    failure::{Exit, Failure},
    output::{self, Format, Table, or_dash},
};

/// Checks files without a control plane, against the catalog that this program carries.
pub(super) fn validate(files: &[PathBuf], format: Format) -> Result<Exit, Failure> {
    let catalog = document::bundled_catalog();
    let mut exit = Exit::Done;
    let mut results = Vec::new();
    for file in files {
        let value = document::read(file, slipway_dag::MAX_TEMPLATE_BYTES)?;
        let shown = file.display().to_string();
        match (slipway_dag::template::check(value, &catalog), format) {
            (Ok(template), Format::Text) => {
                let count = template.components.len();
                output::say(&format!(
                    "{shown}: ok ({} {}, {count} components)",
                    template.name, template.version
                ));
            }
            (Ok(_), Format::Json) => results.push(json!({"file": shown, "valid": true, "errors": []})),
            (Err(errors), Format::Text) => {
                exit = Exit::Failed;
                let lines = errors
                    .iter()
                    .map(|error| format!("\n  {error}"))
                    .collect::<String>();
                output::say(&format!("{shown}: invalid{lines}"));
            }
            (Err(errors), Format::Json) => {
                exit = Exit::Failed;
                results.push(json!({"file": shown, "valid": false, "errors": errors}));
            }
        }
    }
    if format == Format::Json {
        output::say_json(&Value::Array(results));
    }
    Ok(exit)
}

/// The commands that need a control plane.
pub(super) fn run(session: &Session, command: TemplateCommand) -> Result<Exit, Failure> {
    match command {
        TemplateCommand::Validate { files } => return validate(&files, session.format),
        TemplateCommand::Publish { file } => {
            let document = document::read(&file, slipway_dag::MAX_TEMPLATE_BYTES)?;
            let answer = session.client.create("/templates", &document)?;
            session.show(&answer, |answer| {
                let template: Template = read(answer)?;
                Ok(format!("published {} {}", template.name, template.version))
            })?;
        }
        TemplateCommand::List => {
            let items = Value::Array(session.client.get_all("/templates")?);
            session.show(&items, |items| list(&read::<Vec<Template>>(items)?))?;
        }
        TemplateCommand::Show { template } => {
            let (name, version) = split(&template);
            let path = format!("/templates/{}", encode(name));
            match version {
                Some(version) => {
                    let answer = session
                        .client
                        .get(&format!("{path}/versions/{}", encode(version)))?;
                    session.show(&answer, |answer| Ok(details(&read(answer)?, &[])))?;
                }
                None => {
                    let answer = session.client.get(&path)?;
                    session.show(&answer, |answer| {
                        let versions: Vec<String> = read(&answer["versions"])?;
                        Ok(details(&read(&answer["newest"])?, &versions))
                    })?;
                }
            }
        }
        TemplateCommand::Delete { template } => {
            let (name, version) = split(&template);
            let version = version.map(|version| format!("/versions/{}", encode(version)));
            let path = format!("/templates/{}{}", encode(name), version.unwrap_or_default());
            session.client.delete(&path)?;
            session.show(&json!({"deleted": template}), |_| {
                Ok(format!("deleted {template}"))
            })?;
        }
    }
    Ok(Exit::Done)
}

/// `NAME[@VERSION]`
pub(super) fn split(template: &str) -> (&str, Option<&str>) {
    match template.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (template, None),
    }
}

fn list(templates: &[Template]) -> Result<String, Failure> {
    let mut table = Table::new(["NAME", "VERSION", "CATEGORY", "COMPONENTS", "DESCRIPTION"]);
    for template in templates {
        let names: Vec<&str> = template
            .components
            .iter()
            .map(|component| component.name.as_str())
            .collect();
        table.row([
            template.name.clone(),
            template.version.to_string(),
            or_dash(Some(&template.category)),
            names.join(", "),
            template
                .description
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .chars()
                .take(60)
                .collect(),
        ]);
    }
    if table.is_empty() {
        return Ok("no templates; publish one with `slipway template publish FILE`".to_owned());
    }
    Ok(table.to_string())
}

fn details(template: &Template, versions: &[String]) -> String {
    let mut text = format!("{} {}\n", template.name, template.version);
    let description = template.description.trim();
    if !description.is_empty() {
        text.push_str(&format!("{description}\n"));
    }
    if versions.len() > 1 {
        text.push_str(&format!("versions: {}\n", versions.join(", ")));
    }
    let mut components = Table::new(["COMPONENT", "TYPE", "REQUIRED", "FILLED BY", "AFTER"]);
    for component in &template.components {
        components.row([
            component.name.clone(),
            component.component_type.to_string(),
            if component.required { "yes" } else { "no" }.to_owned(),
            filled_by(component),
            or_dash(Some(&component.depends_on.join(", "))),
        ]);
    }
    text.push_str(&format!("\n{components}"));
    if !template.parameters.is_empty() {
        let mut parameters = Table::new(["PARAMETER", "TYPE", "DEFAULT", "DESCRIPTION"]);
        for (name, parameter) in &template.parameters {
            let kind = match parameter.parameter_type {
                ParameterType::String if parameter.secret => "string (secret)".to_owned(),
                kind => output::word(&kind),
            };
            let default = parameter.default.as_ref().map(ToString::to_string);
            let missing = if parameter.required { "required" } else { "-" };
            parameters.row([
                name.clone(),
                kind,
                default.unwrap_or_else(|| missing.to_owned()),
                or_dash(Some(&parameter.description)),
            ]);
        }
        text.push_str(&format!("\n{parameters}"));
    }
    text
}

fn filled_by(component: &Component) -> String {
    if let Some(chart) = &component.chart {
        return match &chart.version {
            Some(version) => format!("{} {version}", chart.reference),
            None => chart.reference.clone(),
        };
    }
    let others = component
        .compatible_components
        .iter()
        .filter(|name| Some(*name) != component.default_component.as_ref());
    let names: Vec<&str> = component
        .default_component
        .iter()
        .chain(others)
        .map(String::as_str)
        .collect();
    if names.is_empty() {
        "any of its type".to_owned()
    } else {
        names.join(" | ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_stands_after_an_at_sign() {
        assert_eq!(split("agent-rag@1.0.0"), ("agent-rag", Some("1.0.0")));
        assert_eq!(split("agent-rag"), ("agent-rag", None));
    }
}

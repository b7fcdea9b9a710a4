//! The functions that a template declares, with what calls them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::resolve::text_of;
use super::{Template, object};

/// One function.
#[derive(Debug, Clone)]
pub(crate) struct FunctionDefinition {
    /// The name of its program, from where the template finds its code: `plan-dag`.
    pub(crate) program: String,
    /// Its name in AWS: `slipway-dev-plan-dag`.
    pub(crate) name: String,
    /// The variables that the template gives it.
    pub(crate) environment: BTreeMap<String, String>,
    /// Megabytes that it may use.
    pub(crate) memory: u32,
    /// How long an invocation may take.
    pub(crate) timeout: Duration,
    /// Most invocations at once, where it has a reservation.
    pub(crate) concurrency: Option<usize>,
    /// The group of its logs.
    pub(crate) log_group: String,
    /// The queues whose messages it gets.
    pub(crate) queues: Vec<QueueSource>,
    /// The routes that it answers.
    pub(crate) routes: Vec<Route>,
    /// How often it runs by itself.
    pub(crate) schedule: Vec<Duration>,
}

/// A queue whose messages a function gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueSource {
    /// The queue.
    pub(crate) arn: String,
    /// Most messages of one invocation.
    pub(crate) batch: usize,
    /// How long messages are gathered.
    pub(crate) window: Duration,
    /// Whether the function answers which messages failed.
    pub(crate) reports_failures: bool,
    /// Most invocations at once.
    pub(crate) concurrency: Option<usize>,
}

/// A route of the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// `GET`, or `ANY`.
    pub(crate) method: String,
    /// `/api/v1/templates/{proxy+}`
    pub(crate) path: String,
    /// Whether a token is wanted.
    pub(crate) authorized: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    r#type: String,
    #[serde(default)]
    properties: Map<String, Value>,
}

impl Template {
    /// Every function.
    ///
    /// # Errors
    /// When a function has something that is not played on this machine: with its name.
    pub(crate) fn functions(&self) -> Result<Vec<FunctionDefinition>> {
        let globals = self.section("Globals");
        let globals = object(
            self.resolve(globals.get("Function").unwrap_or(&Value::Null))
                .context("Globals.Function cannot be resolved")?,
        )?;
        self.resources("AWS::Serverless::Function")?
            .into_iter()
            .map(|(name, properties)| {
                let reference = self.physical(&name)?.reference.clone();
                definition(reference, &globals, &properties)
                    .with_context(|| format!("the function {name} cannot be played on this machine"))
            })
            .collect()
    }
}

fn definition(
    name: String,
    globals: &Map<String, Value>,
    own: &Map<String, Value>,
) -> Result<FunctionDefinition> {
    let property = |key: &str| own.get(key).or_else(|| globals.get(key));
    let code = property("CodeUri")
        .and_then(Value::as_str)
        .context("it has no CodeUri")?;
    let program = Path::new(code)
        .parent()
        .and_then(Path::file_name)
        .with_context(|| format!("its CodeUri `{code}` is not …/<program>/bootstrap.zip"))?;
    let mut environment = BTreeMap::new();
    for layer in [globals, own] {
        let variables = layer.get("Environment").map(|value| &value["Variables"]);
        for (key, value) in variables.and_then(Value::as_object).into_iter().flatten() {
            environment.insert(
                key.clone(),
                text_of(value).with_context(|| format!("in its {key}"))?,
            );
        }
    }
    let mut definition = FunctionDefinition {
        program: program.to_string_lossy().into_owned(),
        log_group: own
            .get("LoggingConfig")
            .and_then(|logging| logging["LogGroup"].as_str())
            .map_or_else(|| format!("/aws/lambda/{name}"), str::to_owned),
        name,
        environment,
        memory: u32::try_from(number(property("MemorySize"))?.unwrap_or(128))?,
        timeout: Duration::from_secs(number(property("Timeout"))?.unwrap_or(3)),
        concurrency: number(property("ReservedConcurrentExecutions"))?
            .map(usize::try_from)
            .transpose()?,
        queues: Vec::new(),
        routes: Vec::new(),
        schedule: Vec::new(),
    };
    for (event, value) in own.get("Events").and_then(Value::as_object).into_iter().flatten() {
        add_event(&mut definition, value).with_context(|| format!("its event {event} cannot be played"))?;
    }
    Ok(definition)
}

fn add_event(definition: &mut FunctionDefinition, event: &Value) -> Result<()> {
    let event = Event::deserialize(event)?;
    let properties = &event.properties;
    let text = |key: &str| {
        properties
            .get(key)
            .and_then(Value::as_str)
            .with_context(|| format!("it has no {key}"))
    };
    match event.r#type.as_str() {
        "SQS" => definition.queues.push(QueueSource {
            arn: text("Queue")?.to_owned(),
            batch: usize::try_from(number(properties.get("BatchSize"))?.unwrap_or(10))?,
            window: Duration::from_secs(
                number(properties.get("MaximumBatchingWindowInSeconds"))?.unwrap_or(0),
            ),
            reports_failures: properties
                .get("FunctionResponseTypes")
                .and_then(Value::as_array)
                .is_some_and(|types| types.iter().any(|kind| kind == "ReportBatchItemFailures")),
            concurrency: number(
                properties
                    .get("ScalingConfig")
                    .map(|scaling| &scaling["MaximumConcurrency"]),
            )?
            .map(usize::try_from)
            .transpose()?,
        }),
        "HttpApi" => definition.routes.push(Route {
            method: text("Method")?.to_uppercase(),
            path: text("Path")?.to_owned(),
            authorized: properties
                .get("Auth")
                .is_none_or(|auth| auth["Authorizer"] != "NONE"),
        }),
        "Schedule" | "ScheduleV2" => definition.schedule.push(rate(
            properties
                .get("Schedule")
                .or_else(|| properties.get("ScheduleExpression"))
                .and_then(Value::as_str)
                .context("it has no Schedule")?,
        )?),
        other => bail!("events of the type {other} are not played on this machine"),
    }
    Ok(())
}

/// A number, or a text that is one, as parameters are.
fn number(value: Option<&Value>) -> Result<Option<u64>> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let text = text_of(value)?;
            let number = text
                .parse()
                .with_context(|| format!("`{text}` is not a number that is not negative"))?;
            Ok(Some(number))
        }
    }
}

/// `rate(1 minute)`
fn rate(expression: &str) -> Result<Duration> {
    let parts = expression
        .strip_prefix("rate(")
        .and_then(|rest| rest.strip_suffix(')'))
        .and_then(|rest| rest.split_once(' '));
    let seconds = |count: u64| match parts.map(|(_, unit)| unit.trim_end_matches('s')) {
        Some("minute") => Some(count * 60),
        Some("hour") => Some(count * 3600),
        Some("day") => Some(count * 86400),
        _ => None,
    };
    parts
        .and_then(|(count, _)| count.parse().ok())
        .and_then(seconds)
        .map(Duration::from_secs)
        .with_context(|| format!("`{expression}` is no rate such as rate(1 minute)"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::deployed;
    use super::*;

    fn function(program: &str) -> FunctionDefinition {
        let mut template = deployed();
        for name in ["PlanDagQueue", "PlanDagDeadLetters"] {
            let mut physical = template.physical(name).unwrap().clone();
            physical.reference = format!("http://queues/{name}");
            template.set_physical(name, physical);
        }
        let functions = template.functions().unwrap();
        functions
            .into_iter()
            .find(|function| function.program == program)
            .unwrap()
    }

    #[test]
    fn the_deployed_functions_have_their_queue_their_limits_and_their_environment() {
        let plan = function("plan-dag");
        assert_eq!(plan.name, "test-plan-dag");
        assert_eq!(plan.timeout, Duration::from_secs(180));
        let [queue] = plan.queues.as_slice() else {
            panic!("{:?}", plan.queues);
        };
        assert_eq!(queue.arn, "arn:aws:sqs:us-east-1:000000000000:test-plan-dag");
        assert!(queue.reports_failures && queue.batch == 10);
        let queues: Value = serde_json::from_str(&plan.environment["SLIPWAY_QUEUES"]).unwrap();
        assert_eq!(queues["plan-dag"], "http://queues/PlanDagQueue");
        assert_eq!(plan.environment["SLIPWAY_KMS_KEY"], "arn:key-1");
    }

    #[test]
    fn a_functions_own_variables_come_on_top_of_those_of_all() {
        let helm = function("deploy-helm").environment;
        assert_eq!(helm["SLIPWAY_HELM"], "/opt/helm/helm");
        assert!(helm.contains_key("SLIPWAY_TABLE"));
    }

    #[test]
    fn routes_say_whether_they_want_a_token() {
        let routes = function("templates-api").routes;
        let is_open = |path: &str| !routes.iter().find(|route| route.path == path).unwrap().authorized;
        assert!(is_open("/healthz"));
        assert!(!is_open("/api/v1/templates/{proxy+}"));
    }

    #[test]
    fn rates_are_read_and_other_schedules_refused() {
        assert_eq!(function("sync-deployments").schedule, [Duration::from_secs(60)]);
        assert_eq!(rate("rate(2 hours)").unwrap(), Duration::from_secs(7200));
        assert!(rate("cron(0 12 * * ? *)").is_err());
    }
}

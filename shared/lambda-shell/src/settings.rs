//! The environment of a function, parsed once. Everything that is wrong with it is said at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::PathBuf,
    time::Duration,
};

use slipway_app::Role;
use slipway_aws::{AwsConfig, Queues, SetupError};
use slipway_model::{BUDPIPELINE_EVENTS, BUDUSECASES_EVENTS, TenantId};
use slipway_outside::Loopback;
use slipway_policy::HostPolicy;

use crate::{
    failure::ShellError,
    function::{ALL_QUEUES, Function, queue},
};

/// Differs between runs of an embedded control plane only, whose restart voids all claims. Here claims hold until
/// their leases expire, whichever process made them.
const EPOCH: &str = "aws";

/// How long one look at readiness may hold a watch. A function is paid by the millisecond while it waits.
const WATCH_HOLD: Duration = Duration::from_secs(5);

/// Receives after which SQS buries a message: the queues' redrive policies say the same.
const MAX_RECEIVES: u32 = 10;

const RETENTION_DAYS: u64 = 90;

/// The settings of a function.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Region, credentials and endpoints.
    pub(crate) aws: AwsConfig,
    /// `SLIPWAY_TABLE`
    pub(crate) table: String,
    /// `SLIPWAY_BUCKET`
    pub(crate) bucket: String,
    /// `SLIPWAY_QUEUES`
    pub(crate) queues: Queues,
    /// `SLIPWAY_DEAD_LETTER_QUEUES`; empty for functions that do not need them.
    pub(crate) dead_letter_queues: Queues,
    /// `SLIPWAY_SECRETS_PREFIX`
    pub(crate) secrets_prefix: String,
    /// `SLIPWAY_KMS_KEY`
    pub(crate) kms_key: Option<String>,
    /// `SLIPWAY_MAX_RECEIVES`
    pub(crate) max_receives: u32,
    /// What the use cases want to know.
    pub(crate) app: slipway_app::Settings,
    /// Hosts of charts that are asked without TLS.
    /// `SLIPWAY_REACH_LOOPBACK`: whether calls to the outside may go to the machine itself, for local stand-ins.
    pub(crate) loopback: Loopback,
    /// How callers are told from their tokens.
    pub(crate) callers: Callers,
    /// Of functions that run Helm.
    pub(crate) helm: Option<HelmPlaces>,
}

/// How callers are told from what API Gateway checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callers {
    /// `SLIPWAY_TENANT_CLAIM`: the claim that names the tenant.
    pub tenant_claim: String,
    /// `SLIPWAY_ROLE_CLAIM`: the claim that names the role, or a list of groups of which some are roles.
    pub role_claim: String,
    /// What callers are who signed their call with AWS credentials; they are refused if absent.
    pub iam: Option<IamCallers>,
}

/// What callers are who signed their call with AWS credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IamCallers {
    /// `SLIPWAY_IAM_TENANT`
    pub tenant: TenantId,
    /// `SLIPWAY_IAM_ROLE`
    pub role: Role,
}

/// Where Helm is and what comes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelmPlaces {
    /// `SLIPWAY_HELM`: the binary.
    pub binary: PathBuf,
    /// `SLIPWAY_CHARTS`: a folder with a folder per bundled chart.
    pub charts: PathBuf,
}

/// Reads variables and collects what is wrong with them.
struct Reader<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

impl Settings {
    /// Reads the environment of the process.
    ///
    /// # Errors
    /// As [`Settings::from_variables`].
    pub fn from_environment(function: &Function) -> Result<Self, ShellError> {
        Self::from_variables(function, &|name| env::var(name).ok())
    }

    /// Reads the settings that `function` needs.
    ///
    /// # Errors
    /// [`ShellError::Setup`] with every variable that is missing or wrong.
    pub fn from_variables(
        function: &Function,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ShellError> {
        let mut reader = Reader {
            variable,
            problems: Vec::new(),
        };
        let aws = reader.aws();
        reader.need(
            "AWS_LAMBDA_RUNTIME_API",
            "Lambda sets it: start this program as a function, or under `cargo xtask aws-local up`",
        );
        let table = reader.need(
            "SLIPWAY_TABLE",
            "the name of the DynamoDB table that was deployed",
        );
        let bucket = reader.need("SLIPWAY_BUCKET", "the name of the S3 bucket that was deployed");
        let queues = reader.queues("SLIPWAY_QUEUES");
        let dead_letter_queues = if function.dead_letters {
            reader.queues("SLIPWAY_DEAD_LETTER_QUEUES")
        } else {
            Queues::default()
        };
        let secrets_prefix = reader.secrets_prefix();
        let max_receives = reader.number("SLIPWAY_MAX_RECEIVES", u64::from(MAX_RECEIVES), 1..=1000);
        let chart_hosts = reader.chart_hosts();
        let mut app = slipway_app::Settings::new(EPOCH);
        app.use_pipeline_orchestration = reader.flag("USE_PIPELINE_ORCHESTRATION", true);
        app.topics = reader.topics();
        app.chart_hosts = chart_hosts;
        app.invocation = function.time_out;
        app.watch_hold = WATCH_HOLD;
        app.eks = true;
        let days = reader.number("SLIPWAY_RETENTION_DAYS", RETENTION_DAYS, 1..=36_500);
        app.retention = Some(Duration::from_secs(days * 24 * 60 * 60));
        // The runtime API, which hands out everybody's events, listens on the loopback of a function.
        let loopback = if reader.flag("SLIPWAY_REACH_LOOPBACK", false) {
            Loopback::Reachable
        } else {
            Loopback::Refused
        };
        let callers = reader.callers();
        let helm = function.helm.then(|| reader.helm());
        match aws {
            Some(aws) if reader.problems.is_empty() => Ok(Self {
                aws,
                table,
                bucket,
                queues,
                dead_letter_queues,
                secrets_prefix,
                kms_key: reader.text("SLIPWAY_KMS_KEY"),
                max_receives: u32::try_from(max_receives).unwrap_or(MAX_RECEIVES),
                app,
                loopback,
                callers,
                helm,
            }),
            _ => Err(ShellError::Setup {
                problems: reader.problems,
            }),
        }
    }
}

impl Reader<'_> {
    fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.trim().is_empty())
    }

    fn wrong(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// A variable that must be there.
    fn need(&mut self, name: &str, expected: &str) -> String {
        self.text(name).unwrap_or_else(|| {
            self.wrong(format!("{name} is not set: {expected}"));
            String::new()
        })
    }

    fn number(&mut self, name: &str, default: u64, range: std::ops::RangeInclusive<u64>) -> u64 {
        let Some(text) = self.text(name) else {
            return default;
        };
        match text.trim().parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let (least, most) = range.into_inner();
                self.wrong(format!(
                    "{name} is '{text}': expected a number from {least} to {most}"
                ));
                default
            }
        }
    }

    /// The SDK's settings. Its reader stops at the first that is missing, so it is asked again as if that were there.
    fn aws(&mut self) -> Option<AwsConfig> {
        let mut missing = BTreeSet::new();
        loop {
            let read = AwsConfig::from_variables(|name| {
                if missing.contains(name) {
                    return Some("missing".to_owned());
                }
                self.text(name)
            });
            match read {
                Ok(config) => return missing.is_empty().then_some(config),
                Err(error) => {
                    self.wrong(error.to_string());
                    match error {
                        SetupError::Missing { variable, .. } if missing.insert(variable.clone()) => {}
                        _ => return None,
                    }
                }
            }
        }
    }

    fn queues(&mut self, name: &str) -> Queues {
        let json = self.need(
            name,
            "a JSON object of queue names and queue URLs, such as {\"plan-dag\": \"https://sqs…\", …}",
        );
        if json.is_empty() {
            return Queues::default();
        }
        match Queues::parse(name, &json) {
            Ok(queues) => {
                for logical in ALL_QUEUES {
                    if let Err(error) = queues.require(name, &[queue(logical)]) {
                        self.wrong(error.to_string());
                    }
                }
                queues
            }
            Err(error) => {
                self.wrong(error.to_string());
                Queues::default()
            }
        }
    }

    /// Topics that a DAG may name: those that are configured, without those that only the control plane writes to.
    fn topics(&self) -> BTreeSet<String> {
        let json = self.text("SLIPWAY_QUEUES").unwrap_or_default();
        // What is wrong with it was said where it was read.
        let names: BTreeMap<String, String> = serde_json::from_str(&json).unwrap_or_default();
        let internal = |name: &String| {
            name != BUDUSECASES_EVENTS && (name == BUDPIPELINE_EVENTS || ALL_QUEUES.contains(&name.as_str()))
        };
        names.into_keys().filter(|name| !internal(name)).collect()
    }

    fn secrets_prefix(&mut self) -> String {
        let name = "SLIPWAY_SECRETS_PREFIX";
        let prefix = self.need(
            name,
            "what the names of all secrets begin with, such as slipway/dev/",
        );
        if !prefix.is_empty() && !prefix.ends_with('/') {
            self.wrong(format!(
                "{name} is '{prefix}': expected a slash at its end, such as {prefix}/"
            ));
        }
        prefix
    }

    fn flag(&mut self, name: &str, default: bool) -> bool {
        match self
            .text(name)
            .map(|text| text.trim().to_ascii_lowercase())
            .as_deref()
        {
            None => default,
            Some("true" | "1") => true,
            Some("false" | "0") => false,
            Some(other) => {
                self.wrong(format!("{name} is '{other}': expected true or false"));
                default
            }
        }
    }

    fn chart_hosts(&mut self) -> HostPolicy {
        let hosts = self.text("SLIPWAY_CHART_HOSTS").unwrap_or_default();
        let plain = self.text("SLIPWAY_PLAIN_HTTP_HOSTS").unwrap_or_default();
        let marked = entries(&hosts).filter_map(|host| host.strip_prefix("http://"));
        let named = entries(&plain).map(|host| host.strip_prefix("http://").unwrap_or(host));
        let plain: Vec<String> = marked.chain(named).map(str::to_owned).collect();
        let with_scheme: Vec<String> = plain.iter().map(|host| format!("http://{host}")).collect();
        let others = entries(&hosts)
            .filter(|host| !host.starts_with("http://") && !plain.iter().any(|plain| plain == host));
        match HostPolicy::new(others.chain(with_scheme.iter().map(String::as_str))) {
            Ok(policy) => policy,
            Err(error) => {
                self.wrong(format!(
                    "SLIPWAY_CHART_HOSTS or SLIPWAY_PLAIN_HTTP_HOSTS: {error}"
                ));
                HostPolicy::bundled_only()
            }
        }
    }

    fn callers(&mut self) -> Callers {
        let claim = |name: &str, default: &str| self.text(name).unwrap_or_else(|| default.to_owned());
        let tenant_claim = claim("SLIPWAY_TENANT_CLAIM", "custom:tenant");
        let role_claim = claim("SLIPWAY_ROLE_CLAIM", "custom:role");
        let iam = self.text("SLIPWAY_IAM_ROLE").and_then(|text| self.iam(&text));
        Callers {
            tenant_claim,
            role_claim,
            iam,
        }
    }

    fn iam(&mut self, role: &str) -> Option<IamCallers> {
        let Some(role) = role_of(role.trim()) else {
            self.wrong(format!(
                "SLIPWAY_IAM_ROLE is '{role}': expected viewer, deployer or admin"
            ));
            return None;
        };
        let tenant = match self.text("SLIPWAY_IAM_TENANT") {
            None => TenantId::local(),
            Some(text) => match text.parse() {
                Ok(tenant) => tenant,
                Err(error) => {
                    self.wrong(format!("SLIPWAY_IAM_TENANT: {error}"));
                    return None;
                }
            },
        };
        Some(IamCallers { tenant, role })
    }

    fn helm(&mut self) -> HelmPlaces {
        let binary = PathBuf::from(self.need(
            "SLIPWAY_HELM",
            "the path of the Helm binary, such as /opt/helm/helm of the Helm layer",
        ));
        if !binary.as_os_str().is_empty() && !binary.is_file() {
            self.wrong(format!(
                "SLIPWAY_HELM is '{}', where no file is: expected the Helm binary, such as /opt/helm/helm of the Helm layer",
                binary.display()
            ));
        }
        let charts = PathBuf::from(self.need(
            "SLIPWAY_CHARTS",
            "the folder of the bundled charts, such as /opt/charts of the charts layer",
        ));
        if !charts.as_os_str().is_empty() && !charts.is_dir() {
            self.wrong(format!(
                "SLIPWAY_CHARTS is '{}', where no folder is: expected the bundled charts, such as /opt/charts of the charts layer",
                charts.display()
            ));
        }
        HelmPlaces { binary, charts }
    }
}

/// The role of a name.
pub(crate) fn role_of(name: &str) -> Option<Role> {
    match name {
        "viewer" => Some(Role::Viewer),
        "deployer" => Some(Role::Deployer),
        "admin" => Some(Role::Admin),
        _ => None,
    }
}

/// The entries between commas and white space.
fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\t', '\n', '\r'])
        .filter(|entry| !entry.is_empty())
}

#[cfg(test)]
mod tests;

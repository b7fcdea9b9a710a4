//! What the environment says to the embedded control plane.

use std::{collections::BTreeSet, env, path::PathBuf, time::Duration};

use slipway_app::Settings;
use slipway_model::BUDUSECASES_EVENTS;
use slipway_policy::HostPolicy;

use crate::failure::Failure;

/// The variables that `serve` reads.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// `SLIPWAY_HELM`: the Helm binary; the one on `PATH` if absent.
    pub(super) helm: Option<PathBuf>,
    /// `SLIPWAY_CHART_HOSTS`: hosts that charts may come from.
    chart_hosts: String,
    /// `SLIPWAY_PLAIN_HTTP_HOSTS`: those among them that are asked without TLS.
    plain_http_hosts: String,
    /// `SLIPWAY_TOPICS`: topics beside `budusecasesEvents`.
    topics: String,
    /// `USE_PIPELINE_ORCHESTRATION`
    orchestration: Option<String>,
}

impl Environment {
    pub(super) fn read() -> Self {
        let text = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
        Self {
            helm: text("SLIPWAY_HELM").map(PathBuf::from),
            chart_hosts: text("SLIPWAY_CHART_HOSTS").unwrap_or_default(),
            plain_http_hosts: text("SLIPWAY_PLAIN_HTTP_HOSTS").unwrap_or_default(),
            topics: text("SLIPWAY_TOPICS").unwrap_or_default(),
            orchestration: text("USE_PIPELINE_ORCHESTRATION"),
        }
    }

    /// The settings of the control plane.
    pub(super) fn settings(&self, epoch: u64) -> Result<Settings, Failure> {
        let mut settings = Settings::new(epoch.to_string());
        settings.use_pipeline_orchestration = self.orchestrates()?;
        settings.chart_hosts = self.hosts()?;
        settings.topics = self.topics();
        // The folder is locked.
        settings.alone = true;
        // A look costs nothing here, and people watch.
        settings.watch_hold = Duration::from_secs(2);
        Ok(settings)
    }

    fn orchestrates(&self) -> Result<bool, Failure> {
        match self
            .orchestration
            .as_deref()
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(Failure::misuse(format!(
                "USE_PIPELINE_ORCHESTRATION is '{other}': expected true or false"
            ))),
        }
    }

    fn hosts(&self) -> Result<HostPolicy, Failure> {
        let plain: Vec<String> = self.plain_http().map(|host| format!("http://{host}")).collect();
        let plain_hosts: BTreeSet<&str> = self.plain_http().collect();
        let others = list(&self.chart_hosts).filter(|host| !plain_hosts.contains(host));
        HostPolicy::new(others.chain(plain.iter().map(String::as_str)))
            .map_err(|error| Failure::misuse(error.to_string()).next("correct SLIPWAY_CHART_HOSTS"))
    }

    /// Hosts that are asked without TLS, from either variable.
    fn plain_http(&self) -> impl Iterator<Item = &str> {
        let marked = list(&self.chart_hosts).filter_map(|host| host.strip_prefix("http://"));
        let named = list(&self.plain_http_hosts).map(|host| host.strip_prefix("http://").unwrap_or(host));
        marked.chain(named)
    }

    fn topics(&self) -> BTreeSet<String> {
        let always = BUDUSECASES_EVENTS.to_owned();
        list(&self.topics).map(str::to_owned).chain([always]).collect()
    }
}

/// The entries between commas and white space.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\t', '\n', '\r'])
        .filter(|entry| !entry.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_environment_orchestrates_with_bundled_charts_only() {
        let settings = Environment::default().settings(7).unwrap();
        assert!(settings.use_pipeline_orchestration);
        assert_eq!(settings.chart_hosts, HostPolicy::bundled_only());
        assert_eq!(settings.epoch, "7");
    }

    #[test]
    fn what_is_set_is_used_and_what_is_wrong_is_refused() {
        let environment = Environment {
            chart_hosts: "registry.example.com, 127.0.0.1:5000".to_owned(),
            plain_http_hosts: "127.0.0.1:5000".to_owned(),
            topics: "audit".to_owned(),
            orchestration: Some("False".to_owned()),
            ..Environment::default()
        };
        let settings = environment.settings(1).unwrap();
        assert!(!settings.use_pipeline_orchestration);
        assert!(settings.topics.contains("audit") && settings.topics.contains(BUDUSECASES_EVENTS));
        assert_eq!(
            settings.chart_hosts,
            HostPolicy::parse("registry.example.com http://127.0.0.1:5000").unwrap()
        );
        let wrong = Environment {
            orchestration: Some("maybe".to_owned()),
            ..Environment::default()
        };
        assert!(wrong.settings(1).is_err());
    }
}

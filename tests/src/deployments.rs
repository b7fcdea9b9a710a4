//! What tests do with deployments.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{Client, Server, Template};

/// Statuses in which an execution works on a deployment.
const IN_FLIGHT: [&str; 4] = ["DEPLOYING", "UPGRADING", "ROLLING_BACK", "DELETING"];

impl Client {
    /// Publishes a template.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn publish(&self, template: &Template) {
        let _ = self.post("/templates", template.document()).expect(201);
    }

    /// Creates a deployment of the same name as its template on a cluster, and returns it.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    #[must_use]
    pub fn create(&self, template: &str, cluster: &str) -> Value {
        self.create_with(&json!({"name": template, "template": template, "cluster": cluster}))
    }

    /// Creates a deployment and returns it.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    #[must_use]
    pub fn create_with(&self, deployment: &Value) -> Value {
        self.post("/deployments", deployment).expect(201)
    }

    /// Starts a deployment and returns the execution's id.
    ///
    /// # Panics
    /// When it is not accepted.
    #[track_caller]
    pub fn begin(&self, name: &str) -> String {
        let started = self
            .post(&format!("/deployments/{name}/start"), &json!({}))
            .expect(202);
        assert_eq!(started["status"], "DEPLOYING", "{started}");
        started["pipeline_execution_id"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// A deployment with its components.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    #[must_use]
    pub fn deployment(&self, name: &str) -> Value {
        self.get(&format!("/deployments/{name}")).expect(200)
    }

    /// How far a deployment is.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    #[must_use]
    pub fn deployment_progress(&self, name: &str) -> Value {
        self.get(&format!("/deployments/{name}/progress")).expect(200)
    }

    /// Its history, oldest first.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    #[must_use]
    pub fn history(&self, name: &str) -> Vec<Value> {
        let page = self
            .get(&format!("/deployments/{name}/events?limit=200"))
            .expect(200);
        page["items"].as_array().cloned().unwrap()
    }
}

impl Server {
    /// Waits until nothing works on a deployment any more, and returns it.
    ///
    /// # Panics
    /// When that takes longer.
    #[track_caller]
    #[must_use]
    pub fn settled(&self, name: &str, seconds: u64) -> Value {
        self.wait(seconds, &format!("the end of what works on {name}"), |client| {
            let deployment = client.deployment(name);
            (!IN_FLIGHT.contains(&deployment["status"].as_str().unwrap())).then_some(deployment)
        })
    }

    /// Waits until a deployment runs, and returns it.
    ///
    /// # Panics
    /// When it ends otherwise, with its progress.
    #[track_caller]
    #[must_use]
    pub fn running(&self, name: &str, seconds: u64) -> Value {
        let deployment = self.settled(name, seconds);
        assert_eq!(
            deployment["status"],
            "RUNNING",
            "{:#}",
            self.deployment_progress(name)
        );
        deployment
    }

    /// Waits until one of its components has this status.
    ///
    /// # Panics
    /// When it does not get it.
    #[track_caller]
    pub fn wait_for_component(&self, name: &str, component: &str, status: &str, seconds: u64) {
        let what = format!("{component} of {name} is {status}");
        self.wait(seconds, &what, |client| {
            (statuses(&client.deployment(name))[component] == status).then_some(())
        });
    }
}

/// The statuses of a deployment's components, by name.
///
/// # Panics
/// When it is no deployment.
#[must_use]
pub fn statuses(deployment: &Value) -> BTreeMap<String, String> {
    let components = deployment["components"].as_array().unwrap().iter();
    components
        .map(|component| (text(component, "component_name"), text(component, "status")))
        .collect()
}

/// The component of this name.
///
/// # Panics
/// When there is none.
#[must_use]
#[track_caller]
pub fn component<'a>(deployment: &'a Value, name: &str) -> &'a Value {
    let mut components = deployment["components"].as_array().unwrap().iter();
    components
        .find(|component| component["component_name"] == name)
        .unwrap()
}

/// A text field.
///
/// # Panics
/// When it is not there.
#[must_use]
#[track_caller]
pub fn text(object: &Value, field: &str) -> String {
    match object[field].as_str() {
        Some(text) => text.to_owned(),
        None => panic!("there is no text '{field}' in {object:#}"),
    }
}

//! What is deployed: DAGs and templates that the seed decides on.

use serde_json::{Value, json};

use crate::world::World;

/// The releases that DAGs share, so that several executions want the same one.
const RELEASES: [&str; 4] = ["web", "queue", "db", "hooked"];

impl World {
    fn retry(&mut self) -> Option<Value> {
        match self.choices.below(4) {
            0..3 => None,
            _ => Some(json!({
                "max_attempts": 2 + self.choices.below(2),
                "backoff_seconds": 1 + self.choices.below(20),
            })),
        }
    }

    /// A DAG. `serial` makes the addresses that it calls its own.
    pub(crate) fn dag(&mut self, serial: u32) -> Value {
        let size = match self.choices.below(64) {
            0..40 => 1 + self.choices.below(5),
            40..60 => 4 + self.choices.below(10),
            60..63 => 12 + self.choices.below(20),
            _ => 70 + self.choices.below(40),
        };
        let shape = self.choices.below(6);
        let mut steps: Vec<Value> = Vec::new();
        for index in 0..size {
            let before = self.before(shape, index, size);
            steps.push(self.step(serial, index, &before, size > 32));
        }
        let on_failure = self.choices.one_of(&["fail", "continue", "rollback"]);
        let timeout = self.choices.one_of(&[7200_u64, 7200, 1800, 300, 60]);
        let mut outputs = json!({});
        if self.choices.below(3) == 1 && steps[0]["action"] == "pass" {
            outputs = json!({"first": "{{ steps.s0.outputs.value | default('none') }}"});
        }
        json!({
            "name": format!("dag-{serial}"),
            "parameters": {"size": 3, "flag": self.choices.below(2) == 0},
            "settings": {"timeout_seconds": timeout, "on_failure": on_failure},
            "steps": steps,
            "outputs": outputs,
        })
    }

    fn before(&mut self, shape: u32, index: u32, size: u32) -> Vec<u32> {
        if index == 0 {
            return Vec::new();
        }
        match shape {
            // A chain.
            0 => vec![index - 1],
            // All after the first.
            1 => vec![0],
            // The last after all others.
            2 if index + 1 == size => (0..index).collect(),
            2 => Vec::new(),
            // Diamonds.
            3 => match index % 4 {
                0 => vec![index - 1, index - 2],
                1 | 2 => vec![index - index % 4],
                _ => vec![index - 1],
            },
            // Whatever comes.
            _ => {
                let count = self.choices.below(4);
                let mut before: Vec<u32> = (0..count).map(|_| self.choices.below(index)).collect();
                before.sort_unstable();
                before.dedup();
                before
            }
        }
    }

    fn step(&mut self, serial: u32, index: u32, before: &[u32], is_large: bool) -> Value {
        let id = format!("s{index}");
        let before: Vec<String> = before.iter().map(|index| format!("s{index}")).collect();
        let kind = if is_large {
            self.choices.below(16)
        } else {
            self.choices.below(32)
        };
        let (action, params) = match kind {
            0..12 => ("pass", json!({"value": index, "size": "{{ parameters.size }}"})),
            12 | 13 => (
                "wait",
                json!({"seconds": self.choices.one_of(&[1_u32, 5, 40, 400, 1200])}),
            ),
            14 => ("cluster_health", json!({"cluster_id": "dev"})),
            15 | 16 => {
                let bad = if self.choices.below(8) == 7 { "/bad" } else { "" };
                let url = format!("http://hook.example/x{serial}/{id}{bad}/m1");
                (
                    "http_request",
                    json!({"url": url, "method": "POST", "body": "hello"}),
                )
            }
            17 => {
                let url = format!("http://hook.example/x{serial}/{id}/get");
                ("http_request", json!({"url": url, "method": "GET"}))
            }
            18 | 19 => self.notification(serial, &id),
            20 => ("approval", json!({"message": "may it?"})),
            21 if index > 2 => {
                let params = json!({
                    "cluster_id": "dev", "component_name": id, "component_type": "vector_db",
                    "selected_component": self.choices.one_of(&["qdrant", "milvus", "nobody"]),
                    "namespace": "shared", "release_name": format!("slot-{serial}-{id}"), "timeout": 60,
                });
                ("deployment_create", params)
            }
            _ => self.helm(serial, &id),
        };
        let mut step = json!({"id": id, "action": action, "depends_on": before, "params": params});
        if let Some(retry) = self.retry() {
            step["retry"] = retry;
        }
        match self.choices.below(12) {
            10 => step["run"] = json!("always"),
            11 => step["run"] = json!("failure"),
            _ => {}
        }
        if self.choices.below(10) == 9 {
            step["when"] = json!(self.choices.one_of(&[
                "parameters.flag",
                "parameters.size > 3",
                "not parameters.flag"
            ]));
        }
        if self.choices.below(8) == 7 {
            step["timeout_seconds"] = json!(self.choices.one_of(&[120_u32, 30, 5]));
        }
        step
    }

    fn notification(&mut self, serial: u32, id: &str) -> (&'static str, Value) {
        let url = format!("http://hook.example/x{serial}/{id}/webhook");
        let params = match self.choices.below(6) {
            0..3 => json!({"message": "hello", "channel": "webhook", "url": url}),
            3 => {
                json!({"message": "hello", "channel": "slack", "url": format!("{url}/{{{{ secrets.path }}}}")})
            }
            4 => json!({"message": "hello", "channel": "sns", "topic_arn": "arn:aws:sns:eu-central-1:1:t"}),
            _ => json!({"message": "log in with {{ secrets.absent }}", "channel": "webhook", "url": url}),
        };
        ("notification", params)
    }

    fn helm(&mut self, serial: u32, id: &str) -> (&'static str, Value) {
        let release = self.choices.one_of(&RELEASES);
        let own = self.choices.below(3) != 2;
        let release = if own {
            format!("{release}-{serial}-{id}")
        } else {
            release.to_owned()
        };
        let mut params = json!({
            "cluster_id": "dev", "release_name": release, "namespace": "shared",
            "timeout": self.choices.one_of(&[30_u32, 10, 60, 120]),
        });
        let kind = self.choices.below(16);
        if kind < 12 {
            let chart = self.choices.one_of(&["web", "db", "hooked", "nowhere"]);
            let chart = if chart == "nowhere" && self.choices.below(3) < 2 {
                "web"
            } else {
                chart
            };
            params["chart_ref"] = json!(format!("charts/{chart}"));
            params["values"] = json!({"serial": serial, "size": self.choices.below(3)});
            if self.choices.below(4) == 3 {
                params["delete_on_failure"] = json!(false);
            }
            if self.choices.below(6) == 5 {
                params["wait"] = json!(false);
            }
            return ("helm_deploy", params);
        }
        match kind {
            12 | 13 => ("helm_uninstall", params),
            14 => ("helm_rollback", params),
            _ => ("helm_test", params),
        }
    }

    /// A template in some version: two to four components that may come after each other.
    pub(crate) fn template(&mut self, version: u32) -> Value {
        if self.legacy {
            return self.slots(version);
        }
        let names = ["db", "web", "hooked", "runtime"];
        let count = 1 + self.choices.below(4) as usize;
        let mut components = Vec::new();
        for (index, name) in names.iter().take(count).enumerate() {
            let mut values = json!({"version": version, "size": "{{ parameters.size }}"});
            let mut component = json!({"name": name, "type": "helm"});
            if index > 0 && self.choices.below(3) < 2 {
                let before = names[self.choices.below(u32::try_from(index).unwrap_or(1)) as usize];
                values["reads"] = json!(format!(
                    "{{{{ steps.{before}.outputs.endpoint_url | default('none') }}}}"
                ));
                component["depends_on"] = json!([before]);
            }
            if self.choices.below(3) == 1 {
                values["password"] = json!("{{ parameters.password }}");
            }
            component["chart"] =
                json!({"ref": format!("charts/{name}"), "version": "1.2.0", "values": values});
            if self.choices.below(3) == 1 {
                component["timeout_seconds"] = json!(self.choices.one_of(&[60_u32, 20, 120]));
            }
            if let Some(retry) = self.retry() {
                component["retry"] = retry;
            }
            if self.choices.below(5) == 4 {
                component["delete_on_failure"] = json!(false);
            }
            if self.choices.below(4) == 3 {
                component["drift"] = json!({"ignore": [{"kind": "Service"}]});
            }
            if index > 0 && self.choices.below(8) == 7 {
                component["when"] = json!("parameters.size > 2");
            }
            if self.choices.below(8) == 7 {
                component["test"] = json!(true);
            }
            components.push(component);
        }
        if self.choices.below(6) == 5 {
            // In another version they may have each other's, or their own.
            let swapped = self.choices.below(2) as usize;
            for (index, component) in components.iter_mut().take(2).enumerate() {
                component["chart"]["release_name"] = json!(["first", "second"][(index + swapped) % 2]);
            }
        }
        if self.choices.below(3) == 2 {
            components.push(json!({
                "name": "vector", "type": "vector_db", "default_component": "qdrant",
                "compatible_components": ["qdrant", "milvus"], "depends_on": ["db"], "timeout_seconds": 90,
            }));
        }
        let on_failure = self.choices.one_of(&["fail", "continue", "rollback"]);
        json!({
            "name": "stack", "version": format!("1.{version}.0"),
            "settings": {"on_failure": on_failure},
            "parameters": {
                "size": {"type": "integer", "default": 4, "min": 1, "max": 32},
                "password": {"type": "string", "secret": true, "required": true},
            },
            "components": components,
        })
    }
}

impl World {
    /// A template of slots only, which needs no execution.
    fn slots(&mut self, version: u32) -> Value {
        let mut components = vec![json!({
            "name": "db", "type": "vector_db", "default_component": "qdrant",
            "compatible_components": ["qdrant", "milvus"], "timeout_seconds": 60,
        })];
        if self.choices.below(3) > 0 {
            components.push(json!({
                "name": "llm", "type": "model", "default_component": "llama-3-8b", "depends_on": ["db"],
                "timeout_seconds": self.choices.one_of(&[60_u32, 20]),
            }));
        }
        match self.choices.below(6) {
            3 => components[0]["when"] = json!("parameters.size > 2"),
            4 => components.push(json!({
                "name": "own", "type": "helm", "chart": {"ref": "charts/web", "version": "1.2.0", "values": {}},
            })),
            _ => {}
        }
        json!({
            "name": "stack", "version": format!("1.{version}.0"),
            "parameters": {
                "size": {"type": "integer", "default": 4, "min": 1, "max": 32},
                "password": {"type": "string", "secret": true, "required": true},
            },
            "components": components,
        })
    }
}

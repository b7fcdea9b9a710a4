//! What callers ask beside what they have deployed: lists, records, previews, jobs by hand, what operators do, and
//! requests that must be refused.

use serde_json::{Value, json};
use slipway_app::RollbackRequest;

use super::KUBECONFIG;
use crate::{services::SECRET, world::World};

/// Words that are no ids, no names, no cursors and no statuses.
const NONSENSE: [&str; 5] = ["x", "", "zz", "00000000-0000-4000-8000-00000000dead", "Ü/.."];

/// What a caller asks.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// A list, to its end.
    List {
        of: u32,
        limit: usize,
        filter: u32,
    },
    /// A list with a query that must be refused.
    BadList {
        of: u32,
        wrong: u32,
    },
    /// One record, by an id or by nonsense.
    Record {
        of: u32,
        id: String,
    },
    /// A preview of what a start or an upgrade would do.
    Preview {
        id: String,
        upgrade: Option<Value>,
    },
    /// The preview that was asked for last.
    Plan {
        id: String,
    },
    /// A job that is made by hand.
    Job(Value),
    ExecuteJob(String),
    CancelJob(String),
    /// A template that is published, again, otherwise, or not at all.
    Publish {
        template: Value,
        only_checked: bool,
    },
    Withdraw {
        name: String,
        version: Option<String>,
    },
    /// A cluster that is registered beside the first.
    Register(Value),
    Unregister(String),
    /// Other credentials for a cluster.
    Credentials(String),
    /// What operators do with dead letters.
    Redrive {
        queue: u32,
        nth: u32,
        nonsense: bool,
    },
    /// The same creation twice, under one key.
    Twice {
        key: String,
        dag: Value,
        other: bool,
    },
    /// A DAG that must be refused.
    BadDag(Value),
    /// A deployment with more to it, or with something wrong.
    Create(Value),
    Upgrade(String, Value),
    Rollback(String, RollbackRequest),
    /// Something that the caller's role does not cover.
    Forbidden {
        of: u32,
        id: String,
    },
    Decide(String, String, bool),
    /// A look at what runs of a deployment, or is left on a cluster, now.
    Look {
        of: u32,
        id: String,
    },
}

impl World {
    fn nonsense(&mut self) -> String {
        self.choices.one_of(&NONSENSE).to_owned()
    }

    fn some_deployment(&mut self) -> String {
        match self.some(|known| &known.deployments) {
            Some(id) if self.choices.below(8) < 7 => id,
            _ => self.nonsense(),
        }
    }

    fn some_execution(&mut self) -> String {
        match self.some(|known| &known.executions) {
            Some(id) if self.choices.below(8) < 7 => id,
            _ => self.nonsense(),
        }
    }

    fn some_job(&mut self) -> String {
        match self.some(|known| &known.jobs) {
            Some(id) if self.choices.below(8) < 7 => id,
            _ => match self.choices.below(4) {
                0 => self.nonsense(),
                _ => self.some_stored_job().unwrap_or_default(),
            },
        }
    }

    /// What the next caller asks.
    pub(crate) fn next_ask(&mut self) -> Ask {
        let has_templates = self.known.has_templates;
        let kind = self.choices.below(34);
        match kind {
            0..4 => Ask::List {
                of: self.choices.below(8),
                limit: self.choices.one_of(&[50, 1, 2, 200]),
                filter: self.choices.below(8),
            },
            4 => Ask::BadList {
                of: self.choices.below(8),
                wrong: self.choices.below(5),
            },
            5..10 => {
                let of = self.choices.below(12);
                let id = match of {
                    0..5 => self.some_deployment(),
                    5..7 => self.some_execution(),
                    7..9 => self.some_job(),
                    _ => match self.choices.below(4) {
                        0..3 => if of == 9 { "stack" } else { "dev" }.to_owned(),
                        _ => self.nonsense(),
                    },
                };
                Ask::Record { of, id }
            }
            10 | 11 => Ask::Job(self.job_by_hand()),
            12 | 13 => Ask::ExecuteJob(self.some_job()),
            14 => Ask::CancelJob(self.some_job()),
            15 => {
                let version = self.choices.one_of(&[0_u32, 2, 3]);
                let mut template = self.template(version);
                match self.choices.below(6) {
                    0 => template["components"][0]["depends_on"] = json!(["nobody"]),
                    1 => template["components"][0]["chart"] = json!({"ref": "oci://elsewhere.example/x"}),
                    2 => template["version"] = json!("one"),
                    _ => {}
                }
                Ask::Publish {
                    template,
                    only_checked: self.choices.below(4) == 3,
                }
            }
            16 => Ask::Withdraw {
                name: self.choices.one_of(&["stack", "stack", "nobody", "Ü"]).to_owned(),
                version: match self.choices.below(4) {
                    0 => None,
                    1 => Some("1.2.0".to_owned()),
                    2 => Some("1.0.0".to_owned()),
                    _ => Some("one".to_owned()),
                },
            },
            17 => Ask::Register(self.registration()),
            18 => match self.choices.below(4) {
                0 => Ask::Unregister("second".to_owned()),
                1 => Ask::Credentials("dev".to_owned()),
                2 => Ask::Unregister("dev".to_owned()),
                _ => Ask::Credentials("second".to_owned()),
            },
            19..22 => Ask::Redrive {
                queue: self.choices.below(7),
                nth: self.choices.below(3),
                nonsense: self.choices.below(6) == 5,
            },
            22 => {
                self.known.serial += 1;
                let serial = self.known.serial;
                Ask::Twice {
                    key: match self.choices.below(8) {
                        7 => "not visible".to_owned(),
                        _ => format!("key-{}", self.choices.below(3)),
                    },
                    dag: self.dag(serial),
                    other: self.choices.below(4) == 3,
                }
            }
            23 => Ask::BadDag(self.bad_dag()),
            24 => Ask::Forbidden {
                of: self.choices.below(5),
                id: self.some_deployment(),
            },
            25 => Ask::Decide(
                self.some_execution(),
                format!("s{}", self.choices.below(4)),
                self.choices.below(2) == 0,
            ),
            26 | 27 => {
                let of = self.choices.below(4);
                let id = match of {
                    0 | 1 => self.some_deployment(),
                    _ => self
                        .choices
                        .one_of(&["dev", "dev", "second", "nowhere"])
                        .to_owned(),
                };
                Ask::Look { of, id }
            }
            _ if !has_templates => Ask::List {
                of: 0,
                limit: 1,
                filter: 0,
            },
            28 | 29 => {
                let id = self.some_deployment();
                let upgrade = match self.choices.below(5) {
                    0 => None,
                    2 => Some(json!({"template_version": "1.0.0"})),
                    3 => Some(json!({"template_version": "1.1.0", "parameters": {"size": 1}})),
                    1 => Some(json!({"parameters": {"size": 1 + self.choices.below(4)}})),
                    _ => Some(self.upgrade_in_full()),
                };
                Ask::Preview { id, upgrade }
            }
            30 => Ask::Plan {
                id: self.some_deployment(),
            },
            31 => Ask::Create(self.creation_in_full()),
            32 => {
                let id = self.some_deployment();
                Ask::Upgrade(id, self.upgrade_in_full())
            }
            _ => {
                let id = self.some_deployment();
                let request = match self.choices.below(4) {
                    0 => RollbackRequest {
                        execution_id: Some(self.nonsense()),
                        generation: None,
                    },
                    1 => RollbackRequest {
                        execution_id: Some(self.nonsense()),
                        generation: Some(1),
                    },
                    _ => RollbackRequest {
                        execution_id: None,
                        generation: Some(1 + u64::from(self.choices.below(4))),
                    },
                };
                Ask::Rollback(id, request)
            }
        }
    }

    fn job_by_hand(&mut self) -> Value {
        self.known.serial += 1;
        let serial = self.known.serial;
        let chart = self.choices.one_of(&["web", "db", "hooked"]);
        let mut job = json!({
            "name": format!("by-hand-{serial}"), "job_type": "helm_deploy", "cluster_id": "dev",
            "config": {
                "chart_ref": format!("charts/{chart}"), "release_name": format!("hand-{serial}"),
                "namespace": "by-hand", "values": {"serial": serial},
                "timeout": self.choices.one_of(&[30_u32, 10, 120]),
            },
            "timeout_seconds": 600,
        });
        match self.choices.below(12) {
            6 => job["name"] = json!(""),
            7 => job["cluster_id"] = json!("nowhere"),
            8 => job["config"]["chart_ref"] = json!("ftp://x"),
            9 => job["job_type"] = json!("model_deployment"),
            10 => job["timeout_seconds"] = json!(0),
            11 => job["priority"] = json!(101),
            _ => {}
        }
        job
    }

    fn registration(&mut self) -> Value {
        match self.choices.below(7) {
            0 | 2 => json!({"name": "second", "type": "render"}),
            // The cluster that is registered already, under another name.
            1 => json!({"name": "second", "type": "kubeconfig", "kubeconfig": KUBECONFIG}),
            6 => json!({"name": "third", "type": "eks", "eks_name": "!", "region": "!", "external_id": "!"}),
            3 => json!({"name": "second", "type": "kubeconfig", "kubeconfig": "{}", "region": "x"}),
            4 => json!({"name": "second", "type": "eks", "region": "eu-central-1", "ingress_url": "ftp://x"}),
            _ => json!({"name": "Second", "type": "kubeconfig", "context": "x"}),
        }
    }

    fn bad_dag(&mut self) -> Value {
        let step = json!({"id": "a", "action": "pass", "depends_on": [], "params": {}});
        match self.choices.below(7) {
            0 => json!({"name": "bad", "steps": []}),
            1 => json!({"name": "bad", "steps": [{"id": "a", "action": "unheard_of", "params": {}}]}),
            2 => json!({"name": "bad", "steps": [step, step]}),
            3 => {
                json!({"name": "bad", "steps": [{"id": "a", "action": "pass", "depends_on": ["a"], "params": {}}]})
            }
            4 => {
                json!({"name": "bad", "callback_topics": ["nobodys"], "steps": [step]})
            }
            5 => json!({"name": "bad", "steps": [
                {"id": "a", "action": "pass", "params": {"value": "{{ steps.nobody.outputs.x }}"}}]}),
            _ => json!({"name": "bad", "steps": [{"id": "a", "action": "helm_deploy",
                "params": {"cluster_id": "nowhere", "chart_ref": "ftp://x"}}]}),
        }
    }

    fn creation_in_full(&mut self) -> Value {
        self.known.serial += 1;
        let mut new = json!({
            "name": format!("d{}", self.known.serial), "template": "stack", "cluster": "dev",
            "parameters": {"password": SECRET, "size": 2},
            "values": {"db": {"extra": self.choices.below(3)}},
            "callback_topics": ["budusecasesEvents"],
        });
        match self.choices.below(12) {
            4 => new["cluster"] = json!("second"),
            5 => new["template"] = json!("nobody"),
            6 => new["template_version"] = json!("9.9.9"),
            7 => new["parameters"] = json!({"size": 99}),
            8 => new["components"] = json!({"db": "qdrant", "nobody": "qdrant"}),
            9 => new["values"] = json!({"nobody": {}}),
            10 => new["callback_topics"] = json!(["nobodys"]),
            11 => new["name"] = json!("Not A Name"),
            _ => {
                if self.choices.below(4) == 3 {
                    new["name"] = Value::Null;
                }
            }
        }
        new
    }

    fn upgrade_in_full(&mut self) -> Value {
        match self.choices.below(6) {
            0 => json!({"values": {"db": {"extra": 1 + self.choices.below(3)}}}),
            1 => json!({"parameters": {"password": format!("{SECRET}-2")}}),
            2 => json!({"template_version": "9.9.9"}),
            3 => json!({"parameters": {"size": "large", "nobody": 1}}),
            4 => json!({"components": {"vector": "milvus"}}),
            _ => json!({"template_version": "1.1.0", "components": {"vector": "llama-3-8b"}}),
        }
    }
}

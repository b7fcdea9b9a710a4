//! The shape of a DAG.

use crate::shape::{Field, Shape, optional, required};

/// The longest that a step or an execution may be given, in seconds: 30 days, since an approval may take as long.
pub(crate) const LONGEST: u64 = 30 * 86_400;

const TEXTS: Shape = Shape::List(&Shape::Text);
const ANYTHING: Shape = Shape::Map(&Shape::Any);
const SECONDS: Shape = Shape::Integer { min: 1, max: LONGEST };
const OUTPUT_TYPE: Shape = Shape::Choice(&["string", "integer", "number", "boolean", "json"]);

/// Extractors by output name.
pub(crate) const OUTPUTS: Shape = Shape::Map(&Shape::Tagged(
    "from",
    &[
        (
            "service",
            &[
                optional("name", &Shape::Text),
                optional("port", &Shape::Text),
                optional("type", &OUTPUT_TYPE),
            ],
        ),
        (
            "ingress",
            &[optional("name", &Shape::Text), optional("type", &OUTPUT_TYPE)],
        ),
        (
            "status",
            &[
                required("api_version", &Shape::Text),
                required("kind", &Shape::Text),
                required("name", &Shape::Text),
                required("field", &Shape::Text),
                optional("type", &OUTPUT_TYPE),
            ],
        ),
        (
            "config_map",
            &[
                required("name", &Shape::Text),
                required("key", &Shape::Text),
                optional("type", &OUTPUT_TYPE),
            ],
        ),
    ],
));

/// How failed attempts are repeated.
pub(crate) const RETRY: Shape = Shape::Fields(&[
    optional("max_attempts", &Shape::Integer { min: 1, max: 20 }),
    optional("backoff_seconds", &Shape::Integer { min: 0, max: 3600 }),
]);

/// Settings of one run.
pub(crate) const SETTINGS: Shape = Shape::Fields(&[
    optional("timeout_seconds", &SECONDS),
    optional("on_failure", &Shape::Choice(&["fail", "continue", "rollback"])),
]);

const STEP: &[Field] = &[
    required("id", &Shape::Text),
    required("action", &Shape::Text),
    optional("depends_on", &TEXTS),
    optional("params", &ANYTHING),
    optional("run", &Shape::Choice(&["success", "failure", "always"])),
    optional("when", &Shape::Text),
    optional("retry", &RETRY),
    optional("timeout_seconds", &SECONDS),
    optional("outputs", &OUTPUTS),
];

/// A DAG.
pub(crate) const DAG: Shape = Shape::Fields(&[
    required("name", &Shape::Text),
    optional("version", &Shape::Text),
    optional("description", &Shape::Text),
    optional("parameters", &ANYTHING),
    optional("settings", &SETTINGS),
    required("steps", &Shape::List(&Shape::Fields(STEP))),
    optional("outputs", &ANYTHING),
    optional("callback_topics", &TEXTS),
]);

//! The shape of a template.

use crate::{
    dag::schema::{OUTPUTS, RETRY, SETTINGS},
    shape::{Field, Shape, optional, required},
};

const TEXTS: Shape = Shape::List(&Shape::Text);

const CHART: Shape = Shape::Fields(&[
    required("ref", &Shape::Text),
    optional("version", &Shape::Text),
    optional("values", &Shape::Map(&Shape::Any)),
    optional("release_name", &Shape::Text),
]);

const HEALTH_CHECKS: Shape = Shape::List(&Shape::Fields(&[
    required("api_version", &Shape::Text),
    required("kind", &Shape::Text),
    required("current", &Shape::Text),
    optional("in_progress", &Shape::Text),
    optional("failed", &Shape::Text),
]));

const DRIFT: Shape = Shape::Fields(&[optional(
    "ignore",
    &Shape::List(&Shape::Fields(&[
        optional("kind", &Shape::Text),
        optional("name", &Shape::Text),
        optional("paths", &TEXTS),
    ])),
)]);

const COMPONENT: &[Field] = &[
    required("name", &Shape::Text),
    optional("display_name", &Shape::Text),
    optional("description", &Shape::Text),
    required(
        "type",
        &Shape::Choice(&[
            "model",
            "llm",
            "embedder",
            "reranker",
            "vector_db",
            "memory_store",
            "helm",
        ]),
    ),
    optional("required", &Shape::Boolean),
    optional("default_component", &Shape::Text),
    optional("compatible_components", &TEXTS),
    optional("chart", &CHART),
    optional("depends_on", &TEXTS),
    optional("when", &Shape::Text),
    optional("timeout_seconds", &Shape::Integer { min: 1, max: 86_400 }),
    optional("retry", &RETRY),
    optional("outputs", &OUTPUTS),
    optional("health_checks", &HEALTH_CHECKS),
    optional("crds", &Shape::Choice(&["skip", "create", "apply"])),
    optional("immutable", &Shape::Choice(&["stop", "recreate"])),
    optional("adopt", &Shape::Boolean),
    optional("delete_on_failure", &Shape::Boolean),
    optional("test", &Shape::Boolean),
    optional("cluster", &Shape::Text),
    optional("drift", &DRIFT),
];

const PARAMETER: &[Field] = &[
    required(
        "type",
        &Shape::Choice(&["string", "integer", "number", "boolean"]),
    ),
    optional("description", &Shape::Text),
    optional("default", &Shape::Any),
    optional("min", &Shape::Number),
    optional("max", &Shape::Number),
    optional("enum", &Shape::List(&Shape::Any)),
    optional("pattern", &Shape::Text),
    optional("required", &Shape::Boolean),
    optional("secret", &Shape::Boolean),
];

const RESOURCES: Shape = Shape::Fields(&[
    optional("cpu", &Shape::Quantity),
    optional("memory", &Shape::Quantity),
    optional("gpu", &Shape::Quantity),
]);

/// A template.
pub(super) const TEMPLATE: Shape = Shape::Fields(&[
    required("name", &Shape::Text),
    optional("display_name", &Shape::Text),
    required("version", &Shape::Version),
    optional("description", &Shape::Text),
    optional("category", &Shape::Text),
    optional("tags", &TEXTS),
    required("components", &Shape::List(&Shape::Fields(COMPONENT))),
    optional("parameters", &Shape::Map(&Shape::Fields(PARAMETER))),
    optional(
        "resources",
        &Shape::Fields(&[
            optional("minimum", &RESOURCES),
            optional("recommended", &RESOURCES),
        ]),
    ),
    optional("deployment_order", &Shape::List(&Shape::TextOrList)),
    optional("settings", &SETTINGS),
]);

const ENTRY: &[Field] = &[
    required("name", &Shape::Text),
    optional("display_name", &Shape::Text),
    optional("description", &Shape::Text),
    required(
        "types",
        &Shape::List(&Shape::Choice(&[
            "model",
            "llm",
            "embedder",
            "reranker",
            "vector_db",
            "memory_store",
        ])),
    ),
    required("chart", &CHART),
    optional("timeout_seconds", &Shape::Integer { min: 1, max: 86_400 }),
    optional("outputs", &OUTPUTS),
];

/// A catalog.
pub(super) const CATALOG: Shape =
    Shape::Fields(&[required("components", &Shape::List(&Shape::Fields(ENTRY)))]);

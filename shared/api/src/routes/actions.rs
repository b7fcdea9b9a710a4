//! `/actions`.

use axum::Json;
use slipway_model::ActionMetadata;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::Api;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(actions))
}

/// What steps can do, with parameters and outputs
#[utoipa::path(get, path = "/actions", tag = "actions", responses((status = 200, body = [ActionMetadata])))]
async fn actions() -> Json<Vec<&'static ActionMetadata>> {
    Json(
        slipway_actions::all()
            .iter()
            .map(|action| action.metadata())
            .collect(),
    )
}

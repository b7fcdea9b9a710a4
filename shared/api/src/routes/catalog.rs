//! `/catalog` and `/actions`.

use axum::{Json, extract::State};
use slipway_model::{ActionMetadata, Catalog};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::Api;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(catalog))
        .routes(routes!(actions))
}

/// What can fill a template's slots
#[utoipa::path(get, path = "/catalog", tag = "catalog", responses((status = 200, body = Catalog)))]
async fn catalog(State(api): State<Api>) -> Json<Catalog> {
    Json(api.app.catalog.clone())
}

/// What steps can do, with parameters and outputs
#[utoipa::path(get, path = "/actions", tag = "catalog", responses((status = 200, body = [ActionMetadata])))]
async fn actions() -> Json<Vec<&'static ActionMetadata>> {
    Json(
        slipway_actions::all()
            .iter()
            .map(|action| action.metadata())
            .collect(),
    )
}

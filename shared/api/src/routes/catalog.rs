//! `/catalog`.

use axum::{Json, extract::State};
use slipway_model::Catalog;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::Api;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(catalog))
}

/// What can fill a template's slots
#[utoipa::path(get, path = "/catalog", tag = "catalog", responses((status = 200, body = Catalog)))]
async fn catalog(State(api): State<Api>) -> Json<Catalog> {
    Json(api.app.catalog.clone())
}

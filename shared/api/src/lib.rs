//! The HTTP API of Slipway: routes and their OpenAPI description over the use cases.
//!
//! [`router`] is a tower service: the embedded control plane serves all of it, a Lambda function its own resource.
//! Whatever is wrong with a request, the answer is a problem document (RFC 9457).

mod authentication;
mod body;
mod guards;
mod leftover;
mod lists;
mod openapi;
mod problem;
mod routes;
mod stream;

use std::{ops::Deref, sync::Arc};

use axum::{Router, middleware};
use slipway_app::App;
use tokio::sync::watch;

pub use authentication::{Authenticator, BearerToken};
pub use guards::require_loopback_host;
pub use openapi::document;
pub use routes::Resource;

/// Everything that the routes share. Cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

/// What [`Api`] shares.
pub struct Shared {
    /// The use cases.
    pub app: App,
    /// Finds out who calls.
    pub authenticator: Arc<dyn Authenticator>,
    /// How event streams end.
    pub streams: Streams,
}

/// How an event stream ends.
#[derive(Debug, Clone)]
pub enum Streams {
    /// With the last event so far; clients go on with `Last-Event-ID`. For functions, which must end.
    EndWithTheLastEvent,
    /// When this becomes true: the server shuts down.
    FollowUntil(watch::Receiver<bool>),
}

impl Api {
    /// The API over these use cases.
    pub fn new(app: App, authenticator: Arc<dyn Authenticator>, streams: Streams) -> Self {
        Self(Arc::new(Shared {
            app,
            authenticator,
            streams,
        }))
    }
}

impl Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The routes of these resources under `/api/v1`, with `/healthz` and `/api/v1/openapi.json`, which are open to all.
pub fn router(api: &Api, resources: &[Resource]) -> Router {
    let (routes, _) = routes::of(resources).split_for_parts();
    routes
        .route_layer(middleware::from_fn_with_state(api.clone(), guards::authenticate))
        .merge(routes::open())
        .method_not_allowed_fallback(guards::no_such_call)
        .fallback(guards::nothing_here)
        .layer(middleware::from_fn(problem::only_problems))
        .layer(middleware::from_fn(guards::catch_panics))
        .layer(middleware::from_fn(leftover::take_leftover))
        .with_state(api.clone())
}

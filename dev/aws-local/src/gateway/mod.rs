//! API Gateway: an HTTP API whose routes, authorizer and integrations are the template's.

mod event;
mod routes;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Bytes;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::events::complain;
use crate::lambda::{Function, Outcome};
use routes::Routes;
pub(crate) use token::Issuer;

/// How long API Gateway waits for a function.
const INTEGRATION: Duration = Duration::from_secs(30);

/// The largest body that API Gateway takes, in bytes.
const LARGEST_BODY: usize = 10 * 1024 * 1024;

/// The largest event of a synchronous invocation, in bytes.
const LARGEST_EVENT: usize = 6 * 1024 * 1024;

/// The HTTP API.
#[derive(Debug)]
pub(crate) struct Gateway {
    routes: Routes,
    issuer: Arc<Issuer>,
}

impl Gateway {
    pub(crate) fn new(functions: &[Arc<Function>], issuer: Arc<Issuer>) -> Self {
        Self {
            routes: Routes::of(functions),
            issuer,
        }
    }

    /// Serves for as long as this program runs.
    ///
    /// # Errors
    /// When the listener fails.
    pub(crate) async fn serve(self, listener: TcpListener) -> Result<()> {
        let router = Router::new().fallback(answer).with_state(Arc::new(self));
        axum::serve(
            listener,
            router.into_make_service_with_connect_info::<SocketAddr>(),
        )
        .await?;
        Ok(())
    }
}

async fn answer(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    request: Request<Body>,
) -> Response<Body> {
    let Some(found) = gateway
        .routes
        .find(request.method().as_str(), request.uri().path())
    else {
        return refuse(StatusCode::NOT_FOUND, "Not Found");
    };
    let claims = if found.route.authorized {
        let header = request.headers().get(header::AUTHORIZATION);
        let Some(claims) = header
            .and_then(|value| value.to_str().ok())
            .and_then(|value| gateway.issuer.claims(value))
        else {
            let mut refusal = refuse(StatusCode::UNAUTHORIZED, "Unauthorized");
            refusal.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                header::HeaderValue::from_static("Bearer"),
            );
            return refusal;
        };
        Some(claims)
    } else {
        None
    };
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, LARGEST_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
        }
        Err(_) => return refuse(StatusCode::BAD_REQUEST, "Bad Request"),
    };
    let payload = event::request(&parts, &body, caller, &found, claims).to_string();
    if payload.len() > LARGEST_EVENT {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
    }
    // The invocation goes on when the caller, or API Gateway, has stopped waiting.
    let function = Arc::clone(found.function);
    let invocation = tokio::spawn(async move { function.invoke(Bytes::from(payload)).await });
    match timeout(INTEGRATION, invocation).await {
        Ok(Ok(Outcome::Answered(answer))) => event::response(&answer)
            .unwrap_or_else(|| refuse(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")),
        Ok(Ok(Outcome::Failed { kind, message })) => {
            let program = &found.function.definition().program;
            complain(&format!(
                "{program} failed {} {}: {kind}: {message}",
                parts.method, parts.uri
            ));
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
        }
        Ok(Err(_)) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
        Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
    }
}

/// An answer of API Gateway's own.
fn refuse(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{{\"message\":\"{message}\"}}")));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

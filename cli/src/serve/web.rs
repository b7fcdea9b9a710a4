//! The web page, as far as it was built into this program.

use axum::{
    Router,
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};

mod table {
    include!(concat!(env!("OUT_DIR"), "/web.rs"));
}

/// What the page may do: talk to this control plane, and nothing else.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page's routes; the API answers everything else.
pub(super) fn routes() -> Router {
    let names = table::FILES.iter().map(|(name, _)| *name);
    let files = names.fold(Router::new(), |routes, name| {
        routes.route(&format!("/{name}"), get(file))
    });
    if content("index.html").is_none() {
        return files.route(
            "/",
            get(|| async {
                "This program was built without its web page. The API is at /api/v1/openapi.json.\n"
            }),
        );
    }
    // The page's own addresses are answered with the page, which finds out what they mean.
    [
        "/",
        "/templates",
        "/deployments",
        "/executions",
        "/clusters",
        "/jobs",
    ]
    .into_iter()
    .fold(files, |routes, path| {
        let routes = routes.route(path, get(page));
        if path == "/" {
            routes
        } else {
            routes.route(&format!("{path}/{{*rest}}"), get(page))
        }
    })
}

async fn page() -> Response {
    answer("index.html")
}

async fn file(uri: Uri) -> Response {
    answer(uri.path().trim_start_matches('/'))
}

fn answer(name: &str) -> Response {
    let Some(content) = content(name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    // Built files carry a digest in their names; the page itself does not.
    let keep = if name.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type(name))),
        (header::CACHE_CONTROL, HeaderValue::from_static(keep)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (headers, content).into_response()
}

fn content(name: &str) -> Option<&'static [u8]> {
    table::FILES
        .iter()
        .find(|(file, _)| *file == name)
        .map(|(_, content)| *content)
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json" | "map") => "application/json",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

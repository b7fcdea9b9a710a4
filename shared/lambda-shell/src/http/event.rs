//! Events of an HTTP API (payload format 2.0) as requests, and responses as what it wants back.
//!
//! The conversion is our own because that of the runtime's HTTP crate panics on paths that are no URI and on bodies
//! that are no base64, and because here the stage is no part of the path.

use std::{fmt::Write as _, io};

use aws_lambda_events::{
    apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse},
    encodings::Body as EventBody,
};
use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, HeaderValue, Request, Response, Uri, header, request::Parts},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use slipway_model::{Problem, ProblemType};

use super::callers::Checked;

/// Most bytes that Lambda takes as a function's response: the whole JSON document, with the body as text in it.
const LARGEST_RESPONSE: usize = 6_291_556;

/// The request of an event.
pub(super) fn request(event: ApiGatewayV2httpRequest) -> Result<Request<Body>, Problem> {
    let malformed = |detail: &str| Problem::new(ProblemType::Malformed, detail);
    let raw_path = event.raw_path.unwrap_or_default();
    let path = without_stage(&raw_path, event.request_context.stage.as_deref());
    let mut target = encoded(path);
    if let Some(query) = event.raw_query_string.filter(|query| !query.is_empty()) {
        target.push('?');
        target.push_str(&encoded(&query));
    }
    let uri: Uri = target
        .parse()
        .map_err(|_| malformed("the address of the call is no path of a URL, or too long"))?;
    let body = match event.body {
        None => Bytes::new(),
        Some(text) if event.is_base64_encoded => STANDARD
            .decode(text)
            .map_err(|_| malformed("the body did not arrive as it was sent"))?
            .into(),
        Some(text) => text.into(),
    };
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = event.request_context.http.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = event.headers;
    if let Some(checked) = event.request_context.authorizer {
        request.extensions_mut().insert(Checked(checked));
    }
    Ok(request)
}

/// The path below the stage. The stage `$default` does not stand in paths.
fn without_stage<'a>(path: &'a str, stage: Option<&str>) -> &'a str {
    let Some(stage) = stage.filter(|stage| *stage != "$default") else {
        return path;
    };
    match path.strip_prefix('/').and_then(|rest| rest.strip_prefix(stage)) {
        Some("") => "/",
        Some(below) if below.starts_with('/') => below,
        _ => path,
    }
}

/// A path or query as it may stand in a URI. The gateway decodes paths, so that anything may stand in them.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    let bytes = text.as_bytes();
    for (place, &byte) in bytes.iter().enumerate() {
        let is_escape = || {
            bytes
                .get(place + 1..place + 3)
                .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        let stays = match byte {
            b'%' => is_escape(),
            b'"' | b'#' | b'<' | b'>' | b'?' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => false,
            byte => byte.is_ascii_graphic(),
        };
        if stays {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("text can be written to");
        }
    }
    encoded
}

/// The gateway's form of a response.
pub(super) async fn response(response: Response<Body>) -> ApiGatewayV2httpResponse {
    let (parts, body) = response.into_parts();
    if let Ok(bytes) = to_bytes(body, LARGEST_RESPONSE).await {
        let response = of_parts(parts.status.as_u16(), &parts.headers, &bytes);
        if encoded_size(&response) <= LARGEST_RESPONSE {
            return response;
        }
    }
    problem(&Problem::new(
        ProblemType::Internal,
        format!(
            "the answer is larger than the {LARGEST_RESPONSE} bytes that a function can give: ask for a part of it, \
             such as a page with a smaller limit"
        ),
    ))
}

/// Bytes of a response as it is handed to Lambda: quotes in a body are escaped there, and what is no text is base64.
fn encoded_size(response: &ApiGatewayV2httpResponse) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, response).expect("a response is text and numbers");
    count.0
}

/// A problem document.
pub(super) fn problem(problem: &Problem) -> ApiGatewayV2httpResponse {
    let body = serde_json::to_vec(problem).expect("a problem is text and numbers");
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    of_parts(problem.status, &headers, &body)
}

fn of_parts(status: u16, headers: &HeaderMap, body: &[u8]) -> ApiGatewayV2httpResponse {
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = i64::from(status);
    // This format has one value per name; several values of one name are one with commas.
    for name in headers.keys() {
        let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(value) = HeaderValue::from_bytes(&values.join(&b", "[..])) {
            response.headers.insert(name, value);
        }
    }
    if !body.is_empty() {
        response.body = Some(match std::str::from_utf8(body) {
            Ok(text) => EventBody::Text(text.to_owned()),
            Err(_) => {
                response.is_base64_encoded = true;
                EventBody::Text(STANDARD.encode(body))
            }
        });
    }
    response
}

/// What a request is called in the log: never its query or headers.
pub(super) fn shown(parts: &Parts) -> String {
    let path: String = parts.uri.path().chars().take(200).collect();
    format!("{} {path}", parts.method)
}

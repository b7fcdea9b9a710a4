//! What is left of a request's body once it has been answered.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    body::{Body, BodyDataStream, Bytes, HttpBody as _},
    extract::Request,
    http::header,
    middleware::Next,
    response::Response,
};
use futures::{
    Stream,
    stream::{self, StreamExt as _},
};

/// How much is taken of what nobody wanted.
const MOST: usize = 64 * 1024 * 1024;

/// Takes what a route left of the body before the answer goes out. Otherwise the connection is closed with the rest
/// still on its way: the client finds it broken, reads no answer to this call, or has its next call fail.
pub(crate) async fn take_leftover(request: Request, next: Next) -> Response {
    // Who asks first sends nothing before it is asked to.
    if request.headers().contains_key(header::EXPECT) || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let body = Arc::new(Mutex::new(body.into_data_stream()));
    let lent = Body::from_stream(pieces(Arc::clone(&body)));
    let answer = next.run(Request::from_parts(parts, lent)).await;
    let mut rest = pieces(body);
    let mut taken = 0;
    while taken < MOST
        && let Some(Ok(piece)) = rest.next().await
    {
        taken += piece.len();
    }
    answer
}

/// The pieces of a body that others may go on reading.
fn pieces(body: Arc<Mutex<BodyDataStream>>) -> impl Stream<Item = Result<Bytes, axum::Error>> + Unpin {
    stream::poll_fn(move |context| {
        // A route that panicked while it read is answered like any other.
        let mut body = body.lock().unwrap_or_else(PoisonError::into_inner);
        body.poll_next_unpin(context)
    })
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use axum::{Router, http::StatusCode, middleware, routing::post};
    use tower::ServiceExt as _;

    use super::*;

    /// How many pieces of a body of ten are asked for.
    async fn taken(path: &str, expect: bool) -> usize {
        let count = Arc::new(AtomicUsize::new(0));
        let own = Arc::clone(&count);
        let pieces = stream::iter(0..10).map(move |_| {
            own.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Infallible>(Bytes::from_static(b"piece"))
        });
        let mut request = Request::post(path);
        if expect {
            request = request.header(header::EXPECT, "100-continue");
        }
        let router = Router::new()
            .route("/ignores", post(|| async { StatusCode::ACCEPTED }))
            .route(
                "/reads",
                post(|body: Bytes| async move { body.len().to_string() }),
            )
            .layer(middleware::from_fn(take_leftover));
        let answer = router
            .oneshot(request.body(Body::from_stream(pieces)).unwrap())
            .await
            .unwrap();
        assert!(answer.status().is_success());
        count.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn the_whole_body_is_taken_whether_the_route_wants_it_or_not() {
        assert_eq!(taken("/reads", false).await, 10);
        assert_eq!(taken("/ignores", false).await, 10);
    }

    #[tokio::test]
    async fn nobody_is_asked_to_send_what_is_not_wanted() {
        assert_eq!(taken("/ignores", true).await, 0);
    }
}

//! The HTTP API behind API Gateway.

mod callers;
mod event;

use std::{convert::Infallible, sync::Arc};

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use axum::Router;
use lambda_runtime::LambdaEvent;
use slipway_api::{Api, Resource, Streams};
use slipway_app::App;
use slipway_aws::trace;
use slipway_model::{Problem, ProblemType};
use slipway_ports::Clock;
use tokio::time::timeout;
use tower::ServiceExt as _;
use tracing::Instrument as _;

use crate::{
    budget::budget,
    function::Function,
    logging::{SHELL, trace_id},
    settings::Callers,
};

/// Answers the calls of some resources.
pub(crate) struct Gateway {
    function: Function,
    router: Router,
    clock: Arc<dyn Clock>,
}

impl Gateway {
    /// The calls of `resources`, by callers that API Gateway checked.
    pub(crate) fn new(function: Function, app: App, resources: &[Resource], callers: Callers) -> Self {
        let clock = Arc::clone(&app.clock);
        let api = Api::new(
            app,
            Arc::new(callers::GatewayCallers(callers)),
            Streams::EndWithTheLastEvent,
        );
        Self {
            function,
            router: slipway_api::router(&api, resources),
            clock,
        }
    }

    /// Answers a call. One that would outlast the function is answered 503 before.
    pub(crate) async fn answer(
        &self,
        event: LambdaEvent<ApiGatewayV2httpRequest>,
    ) -> Result<ApiGatewayV2httpResponse, Infallible> {
        let LambdaEvent { payload, context } = event;
        let request_id = context.request_id;
        let span = tracing::error_span!(
            target: SHELL,
            "invocation",
            request_id,
            trace_id = context.xray_trace_id.as_deref().map(trace_id),
        );
        let budget = budget(&*self.clock, context.deadline, self.function.time_out);
        let answer = async {
            let request = match event::request(payload) {
                Ok(request) => request,
                Err(problem) => return event::problem(&problem),
            };
            let (parts, body) = request.into_parts();
            let call = event::shown(&parts);
            let request = axum::http::Request::from_parts(parts, body);
            let answered = async {
                let Ok(answer) = self.router.clone().oneshot(request).await;
                event::response(answer).await
            };
            match timeout(budget, answered).await {
                Ok(response) => {
                    tracing::debug!(call, status = response.status_code, "answered");
                    response
                }
                Err(_) => {
                    tracing::error!(call, "a call was not finished before the function's end");
                    event::problem(&Problem::new(
                        ProblemType::Unavailable,
                        "the call was not finished in time; it may still have its effect: look before trying again",
                    ))
                }
            }
        };
        Ok(trace::scope(context.xray_trace_id, answer.instrument(span)).await)
    }
}

#[cfg(test)]
mod tests;

//! Answers of AWS that get lost or say something else.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use aws_sdk_dynamodb::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, http::HttpResponse,
        interceptors::BeforeDeserializationInterceptorContextMut,
    },
    error::BoxError,
};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_types::body::SdkBody;

/// Changes the first answers to an operation, after AWS did what was asked.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    operation: &'static str,
    left: Arc<AtomicU32>,
    change: fn(&mut HttpResponse),
    seen: Arc<Mutex<u32>>,
}

impl Faults {
    /// The first `times` answers to `operation` get lost on the way: a server error comes instead.
    pub(crate) fn lost(operation: &'static str, times: u32) -> Self {
        Self::changed(operation, times, |response| {
            *response = HttpResponse::new(503.try_into().unwrap(), SdkBody::empty());
        })
    }

    /// The first `times` answers to `operation` are changed.
    pub(crate) fn changed(operation: &'static str, times: u32, change: fn(&mut HttpResponse)) -> Self {
        Self {
            operation,
            left: Arc::new(AtomicU32::new(times)),
            change,
            seen: Arc::default(),
        }
    }

    /// Answers to the operation so far.
    pub(crate) fn seen(&self) -> u32 {
        *self.seen.lock().unwrap()
    }
}

/// Gives an answer another body.
pub(crate) fn answer(response: &mut HttpResponse, body: &'static str) {
    *response.body_mut() = SdkBody::from(body);
    response.headers_mut().remove("content-length");
    response.headers_mut().remove("x-amz-crc32");
}

impl Intercept for Faults {
    fn name(&self) -> &'static str {
        "Faults"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let named = bag
            .load::<Metadata>()
            .is_some_and(|call| call.name() == self.operation);
        if named {
            *self.seen.lock().unwrap() += 1;
            let more = |left: u32| left.checked_sub(1);
            if self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
                .is_ok()
            {
                (self.change)(context.response_mut());
            }
        }
        Ok(())
    }
}

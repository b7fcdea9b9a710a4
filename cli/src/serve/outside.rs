//! Calls to the outside. The certificate authorities of the machine are read with the first one.

use std::sync::OnceLock;

use async_trait::async_trait;
use slipway_outside::{HttpOutside, Loopback};
use slipway_ports::{HttpAnswer, HttpCall, Outside, OutsideError};

/// Makes the client when it is first needed.
#[derive(Default)]
pub(super) struct LazyOutside {
    made: OnceLock<HttpOutside>,
}

impl LazyOutside {
    fn client(&self) -> Result<&HttpOutside, OutsideError> {
        match self.made.get() {
            Some(client) => Ok(client),
            None => {
                let client = HttpOutside::new(Loopback::Reachable)?;
                Ok(self.made.get_or_init(|| client))
            }
        }
    }
}

#[async_trait]
impl Outside for LazyOutside {
    async fn http(&self, call: HttpCall) -> Result<HttpAnswer, OutsideError> {
        self.client()?.http(call).await
    }

    async fn publish(&self, topic: &str, subject: &str, message: &str) -> Result<(), OutsideError> {
        self.client()?.publish(topic, subject, message).await
    }
}

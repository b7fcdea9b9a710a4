//! Calls to the outside. The certificate authorities of the machine are read with the first one, not at the start.

use std::sync::OnceLock;

use async_trait::async_trait;
use slipway_outside::{HttpOutside, Loopback};
use slipway_ports::{HttpAnswer, HttpCall, Outside, OutsideError};

/// Makes the client when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct LateHttp {
    made: OnceLock<HttpOutside>,
}

impl LateHttp {
    fn client(&self) -> Result<&HttpOutside, OutsideError> {
        if let Some(client) = self.made.get() {
            return Ok(client);
        }
        // The runtime API, which hands out other tenants' events, listens on the loopback of a function.
        let client = HttpOutside::new(Loopback::Refused)?;
        Ok(self.made.get_or_init(|| client))
    }
}

#[async_trait]
impl Outside for LateHttp {
    async fn http(&self, call: HttpCall) -> Result<HttpAnswer, OutsideError> {
        self.client()?.http(call).await
    }

    async fn publish(&self, topic: &str, subject: &str, message: &str) -> Result<(), OutsideError> {
        self.client()?.publish(topic, subject, message).await
    }
}

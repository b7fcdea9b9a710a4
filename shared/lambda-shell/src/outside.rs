//! Calls to the outside. The certificate authorities of the machine are read with the first one, not at the start.

use std::sync::OnceLock;

use async_trait::async_trait;
use slipway_outside::{HttpOutside, Loopback};
use slipway_ports::{HttpAnswer, HttpCall, Outside, OutsideError};

/// Makes the client when it is first needed.
#[derive(Debug)]
pub(crate) struct LateHttp {
    loopback: Loopback,
    made: OnceLock<HttpOutside>,
}

impl LateHttp {
    pub(crate) fn new(loopback: Loopback) -> Self {
        Self {
            loopback,
            made: OnceLock::new(),
        }
    }

    fn client(&self) -> Result<&HttpOutside, OutsideError> {
        if let Some(client) = self.made.get() {
            return Ok(client);
        }
        let client = HttpOutside::new(self.loopback)?;
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

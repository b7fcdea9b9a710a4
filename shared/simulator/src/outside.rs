//! Webhooks and topics, and what they were told.

use std::collections::BTreeMap;

use async_trait::async_trait;
use slipway_ports::{ExposeSecret, HttpAnswer, HttpCall, Outside, OutsideError};

use crate::{store::broken, tasks::Fate, world::Sim};

/// What was called.
#[derive(Debug, Default)]
pub(crate) struct Internet {
    /// Idempotency key → how often it was used for a call that must not be repeated.
    pub(crate) once: BTreeMap<String, u32>,
    /// URL, which names the intent → the keys that were used for it.
    pub(crate) keys: BTreeMap<String, std::collections::BTreeSet<String>>,
}

pub(crate) struct SimOutside(pub(crate) Sim);

impl SimOutside {
    fn no_answer(&self) -> OutsideError {
        OutsideError::NoAnswer {
            host: "hook.example".to_owned(),
            source: Box::new(broken(&mut self.0.world())),
        }
    }
}

#[async_trait]
impl Outside for SimOutside {
    async fn http(&self, call: HttpCall) -> Result<HttpAnswer, OutsideError> {
        self.0.world().check_effect_of_step("an HTTP call");
        let fate = self.0.call("http").await;
        if fate == Fate::Refused {
            return Err(self.no_answer());
        }
        let status = {
            let mut world = self.0.world();
            let key = call
                .headers
                .get("idempotency-key")
                .map(|key| key.expose_secret().to_owned())
                .unwrap_or_default();
            world.check_call(call.url.expose_secret(), &call.method, &key);
            if call.url.expose_secret().contains("/bad") {
                400
            } else {
                world.choices.one_of(&[200, 200, 200, 200, 200, 503, 404])
            }
        };
        if fate == Fate::Unanswered {
            return Err(self.no_answer());
        }
        self.0.answer().await;
        Ok(HttpAnswer {
            status,
            headers: BTreeMap::new(),
            body: "{\"said\":\"ok\"}".to_owned(),
        })
    }

    async fn publish(&self, topic: &str, _subject: &str, message: &str) -> Result<(), OutsideError> {
        self.0.world().check_effect_of_step("a notice on a topic");
        let fate = self.0.call("publish").await;
        if fate == Fate::Refused {
            return Err(self.no_answer());
        }
        self.0.world().check_body(topic, message);
        match fate {
            Fate::Well => Ok(()),
            _ => Err(self.no_answer()),
        }
    }
}

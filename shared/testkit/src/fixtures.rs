//! The smallest things that ports take.

use slipway_model::{Event, Message};
use slipway_ports::Item;

/// An item of this body, in no index.
pub fn item(body: impl Into<String>) -> Item {
    Item {
        body: body.into(),
        ..Item::default()
    }
}

/// A message that every queue may carry, told apart by `name`.
pub fn message(name: &str) -> Message {
    Message::Event(Event {
        event_type: "test".to_owned(),
        workflow_id: name.to_owned(),
        tenant_id: None,
        payload: Default::default(),
    })
}

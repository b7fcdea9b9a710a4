//! Looking at what others have done to what Slipway deployed: once an hour and whenever somebody asks, a message per
//! component and per cluster.
//! What is found is written down and told; a cluster is never changed for it.

mod asking;
mod components;
mod orphans;
mod records;

pub use asking::LookRequested;
pub(crate) use components::not_compared;
pub use records::{ComponentDrift, DeploymentDrift};

use std::time::Duration;

use slipway_ports::{Guard, Item, Key, Put, Session};

use crate::{App, AppError};

/// How often a deployment and a cluster are looked at.
pub(crate) const PERIOD: Duration = Duration::from_secs(3600);

impl App {
    /// Puts the look that is due at `key` off by an hour. Whether it is this invocation's to send: not if there is none,
    /// or if somebody else has just put it off.
    async fn put_off(&self, session: &mut dyn Session, key: &Key) -> Result<bool, AppError> {
        let Some(stored) = session.get(key).await? else {
            return Ok(false);
        };
        let item = Item {
            body: stored.body,
            ..Item::default()
        };
        let item = item.due_at(Some(self.clock.now().plus(PERIOD)));
        let put = session.put(key, item, Guard::Version(stored.version)).await?;
        Ok(matches!(put, Put::Won(_)))
    }
}

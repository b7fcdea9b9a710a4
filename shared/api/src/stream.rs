//! A deployment's history as server-sent events.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures::stream;
use slipway_app::Caller;
use slipway_model::HistoryEntry;
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{Api, Streams, problem::Failed};

/// How often the history is looked at while nothing happens.
const LOOK: Duration = Duration::from_millis(500);

/// Entries that are read at once.
const BATCH: usize = 200;

/// Most entries of a stream that ends by itself, because its answer is given as a whole: whoever asks again from the
/// last one on gets the rest.
const LONGEST_ANSWER: usize = 1000;

struct Follower {
    api: Api,
    caller: Caller,
    /// Its id: the name of a deleted one is free for others.
    deployment: String,
    after: Option<String>,
    ready: VecDeque<HistoryEntry>,
    pace: Interval,
    given: usize,
}

/// The history after an entry, as a stream that goes on with what is new.
pub(crate) async fn history(
    api: Api,
    caller: Caller,
    deployment: String,
    after: Option<String>,
) -> Result<Response, Failed> {
    let found = api.app.deployment(&caller, &deployment).await?;
    let mut pace = interval(LOOK);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut follower = Follower {
        api,
        caller,
        deployment: found.deployment.id.to_string(),
        after,
        ready: VecDeque::new(),
        pace,
        given: 0,
    };
    // The first look answers with a problem where there is one; later ones end the stream.
    follower.look().await?;
    let events = stream::unfold(follower, |mut follower| async move {
        let entry = follower.next().await?;
        Some((Ok::<_, Infallible>(to_event(&entry)), follower))
    });
    let alive = KeepAlive::new().interval(Duration::from_secs(15));
    Ok(Sse::new(events).keep_alive(alive).into_response())
}

fn to_event(entry: &HistoryEntry) -> Event {
    let data = serde_json::to_string(entry).expect("an entry is text");
    Event::default().id(&entry.id).data(data)
}

impl Follower {
    /// The next entry; none when the stream is over.
    async fn next(&mut self) -> Option<HistoryEntry> {
        loop {
            let is_whole = matches!(self.api.streams, Streams::EndWithTheLastEvent);
            if is_whole && self.given == LONGEST_ANSWER {
                return None;
            }
            if let Some(entry) = self.ready.pop_front() {
                self.given += 1;
                return Some(entry);
            }
            if let Err(Failed(problem)) = self.look().await {
                tracing::warn!(deployment = self.deployment, %problem, "an event stream ends early");
                return None;
            }
            if !self.ready.is_empty() {
                continue;
            }
            match self.api.streams.clone() {
                Streams::EndWithTheLastEvent => return None,
                Streams::FollowUntil(mut closing) => tokio::select! {
                    () = closed(&mut closing) => return None,
                    _ = self.pace.tick() => {}
                },
            }
        }
    }

    async fn look(&mut self) -> Result<(), Failed> {
        let entries = self
            .api
            .app
            .deployment_events(&self.caller, &self.deployment, self.after.as_deref(), BATCH)
            .await?;
        if let Some(last) = entries.last() {
            self.after = Some(last.id.clone());
        }
        self.ready.extend(entries);
        Ok(())
    }
}

async fn closed(closing: &mut watch::Receiver<bool>) {
    // A sender that is gone means a server that is gone.
    let _ = closing.wait_for(|closing| *closing).await;
}

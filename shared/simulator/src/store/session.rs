//! Sessions of both shapes.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use slipway_model::{Message, Queue};
use slipway_ports::{Arrivals, Guard, Item, Key, Put, Session, StoreError, Stored};

use super::unavailable;
use crate::{
    mutants::Mutant,
    queue::Letter,
    tasks::Fate,
    world::{Shape, Sim, millis},
};

const LARGEST_BODY: usize = 350 * 1024;

/// The longest delay that every queue has, in milliseconds.
const LONGEST_DELAY: i64 = 15 * 60 * 1000;

pub(super) struct SimSession {
    sim: Sim,
    shape: Shape,
    /// Failed commits before this session began.
    failures: u64,
    /// The batch that must be durable before this session is settled.
    rests_on: u64,
    sent: Vec<Letter>,
}

impl SimSession {
    pub(super) fn new(sim: &Sim) -> Self {
        let world = sim.world();
        let (shape, failures) = (world.shape, world.tables.failures);
        drop(world);
        Self {
            sim: sim.clone(),
            shape,
            failures,
            rests_on: 0,
            sent: Vec::new(),
        }
    }

    /// The way of a call. On the disk's side of a process calls take no time worth mention, and do not fail by
    /// themselves: but others may come in between.
    async fn go(&self, name: &'static str) -> Result<Fate, StoreError> {
        let fate = match self.shape {
            Shape::Aws => self.sim.call(name).await,
            Shape::Embedded => {
                let others = self.sim.world().choices.below(8) == 7;
                if others {
                    self.sim.pause(1).await;
                }
                let mut world = self.sim.world();
                if world.trace.is_some() {
                    let id = world.current.map_or(0, |task| task.0);
                    world.say(format_args!("  [{id}] {name}"));
                }
                if world.tables.failures == self.failures {
                    Fate::Well
                } else {
                    Fate::Refused
                }
            }
        };
        match fate {
            Fate::Refused => Err(unavailable(&self.sim)),
            fate => Ok(fate),
        }
    }

    async fn back<T>(&self, fate: Fate, value: T) -> Result<T, StoreError> {
        if fate == Fate::Unanswered {
            return Err(unavailable(&self.sim));
        }
        if self.shape == Shape::Aws {
            self.sim.answer().await;
        }
        Ok(value)
    }

    async fn write(&mut self, key: &Key, item: Option<Item>, guard: Guard) -> Result<Put, StoreError> {
        let fate = self.go(if item.is_some() { "put" } else { "delete" }).await?;
        let put = {
            let mut world = self.sim.world();
            let guard = if world.has(Mutant::IgnoreGuards) {
                Guard::Any
            } else {
                guard
            };
            let (newest, batch) = world.tables.newest(key);
            if world.tables.admits(key, guard) {
                let had = newest.is_some();
                let is_delete = item.is_none();
                let writes = !is_delete || had;
                let version = if writes { world.write_row(key, item) } else { 0 };
                if world.shape == Shape::Embedded && writes {
                    self.rests_on = world.tables.open_number();
                }
                Put::Won(version)
            } else {
                let lost = newest.map(|row| row.stored(key));
                self.rests_on = self.rests_on.max(batch);
                Put::Lost(lost)
            }
        };
        self.back(fate, put).await
    }

    /// Messages go out one by one, or not at all.
    async fn send_all(&mut self) -> Result<(), StoreError> {
        let letters = std::mem::take(&mut self.sent);
        if letters.is_empty() {
            return Ok(());
        }
        if self.sim.world().has(Mutant::ForgetSends) {
            let mut world = self.sim.world();
            let kept = letters.len() / 2;
            for letter in letters.into_iter().take(kept) {
                world.post(letter);
            }
            return Ok(());
        }
        let mut failed = false;
        // What is sent together goes out together, as far as it does.
        for batch in letters.chunks(10) {
            let fate = self.sim.call("send").await;
            let mut world = self.sim.world();
            for letter in batch {
                if fate == Fate::Well || world.choices.below(2) == 1 {
                    world.post(letter.clone());
                }
            }
            if fate != Fate::Well {
                failed = true;
                break;
            }
        }
        if failed {
            return Err(unavailable(&self.sim));
        }
        self.sim.answer().await;
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), StoreError> {
        let early = self.sim.world().has(Mutant::EffectBeforeCommit);
        {
            let mut world = self.sim.world();
            if world.tables.failures != self.failures {
                self.sent.clear();
                drop(world);
                return Err(unavailable(&self.sim));
            }
            let sent = std::mem::take(&mut self.sent);
            if world.has(Mutant::PublishBeforeCommit) {
                for letter in sent {
                    world.post(letter);
                }
            } else if !sent.is_empty() {
                world.tables.open.letters.extend(sent);
                self.rests_on = world.tables.open_number();
                world.arrange_commit();
            }
        }
        if early {
            return Ok(());
        }
        let committed = Committed {
            sim: self.sim.clone(),
            failures: self.failures,
            rests_on: self.rests_on,
        };
        if committed.await {
            Ok(())
        } else {
            Err(unavailable(&self.sim))
        }
    }
}

/// A release's owner as it looks to somebody whose leases are short.
fn expired(mut stored: Stored) -> Stored {
    if stored.key.sort == "owner"
        && let Ok(mut owner) = serde_json::from_str::<serde_json::Value>(&stored.body)
    {
        owner["lease_until"] = serde_json::json!("2026-01-01T00:00:00Z");
        stored.body = owner.to_string();
    }
    stored
}

/// Waits until a batch is durable; false if a commit failed.
struct Committed {
    sim: Sim,
    failures: u64,
    rests_on: u64,
}

impl Future for Committed {
    type Output = bool;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<bool> {
        let mut world = self.sim.world();
        if world.tables.durable >= self.rests_on {
            return Poll::Ready(true);
        }
        if world.tables.failures != self.failures {
            return Poll::Ready(false);
        }
        world.arrange_commit();
        let current = world.current;
        world.tables.waiting.extend(current);
        Poll::Pending
    }
}

#[async_trait]
impl Session for SimSession {
    async fn get(&mut self, key: &Key) -> Result<Option<Stored>, StoreError> {
        let fate = self.go("session get").await?;
        let found = {
            let world = self.sim.world();
            let (row, batch) = world.tables.newest(key);
            self.rests_on = self.rests_on.max(batch);
            let found = row.map(|row| row.stored(key));
            if world.has(Mutant::ShortLease) {
                found.map(expired)
            } else {
                found
            }
        };
        self.back(fate, found).await
    }

    async fn put(&mut self, key: &Key, item: Item, guard: Guard) -> Result<Put, StoreError> {
        if item.body.len() > LARGEST_BODY {
            return Err(StoreError::TooLarge {
                key: key.to_string(),
                bytes: item.body.len(),
                limit: LARGEST_BODY,
            });
        }
        self.write(key, Some(item), guard).await
    }

    async fn delete(&mut self, key: &Key, guard: Guard) -> Result<Put, StoreError> {
        self.write(key, None, guard).await
    }

    async fn arrive(&mut self, join: &Key, slot: u8, ok: bool) -> Result<Arrivals, StoreError> {
        assert!(slot < 32, "slot {slot} of join {join}: slots are 0 to 31");
        let fate = self.go("arrive").await?;
        let arrivals = {
            let mut world = self.sim.world();
            let batch = world.tables.arrivals(join).1;
            let before = world.tables.arrivals(join).0;
            let second = world.mutant.and_then(|mutant| mutant.second_slot(slot, before));
            let mut arrivals = world.write_arrival(join, slot, ok);
            if let Some(second) = second {
                arrivals = world.write_arrival(join, second, ok);
            }
            if world.shape == Shape::Embedded {
                let wrote = arrivals != before;
                let rests_on = if wrote { world.tables.open_number() } else { batch };
                self.rests_on = self.rests_on.max(rests_on);
            }
            arrivals
        };
        self.back(fate, arrivals).await
    }

    async fn arrivals(&mut self, join: &Key) -> Result<Arrivals, StoreError> {
        let fate = self.go("arrivals").await?;
        let arrivals = {
            let world = self.sim.world();
            let (arrivals, batch) = world.tables.arrivals(join);
            self.rests_on = self.rests_on.max(batch);
            arrivals
        };
        self.back(fate, arrivals).await
    }

    fn send(&mut self, queue: Queue, message: Message, delay: Duration) {
        let mut world = self.sim.world();
        let delay = millis(delay).min(LONGEST_DELAY);
        let letter = world.letter(queue, message.to_body(), delay);
        drop(world);
        self.sent.push(letter);
    }

    async fn settle(mut self: Box<Self>) -> Result<(), StoreError> {
        match self.shape {
            Shape::Aws => self.send_all().await,
            Shape::Embedded => self.commit().await,
        }
    }
}

impl Drop for SimSession {
    /// On one disk what was written stays, so what was sent goes out with it; elsewhere it is lost.
    fn drop(&mut self) {
        if self.sent.is_empty() || self.shape == Shape::Aws {
            return;
        }
        let mut world = self.sim.world();
        if world.dying || world.tables.failures != self.failures {
            return;
        }
        world.tables.open.letters.append(&mut self.sent);
        world.arrange_commit();
    }
}

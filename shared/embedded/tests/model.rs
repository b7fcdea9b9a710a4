//! SQLite and the store in memory answer alike, call by call, in long random runs.

#![expect(clippy::unwrap_used, reason = "what tests share fails as tests do")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use slipway_embedded::{Embedded, Options};
use slipway_model::{Queue, Timestamp};
use slipway_ports::{DUE_SHARDS, Delivery, Guard, Item, Key, Listing, Receiver, Session, Store};
use slipway_testkit::{ManualClock, START, fixtures::message, memory::SimpleStore};

const QUEUE: Queue = Queue::ExecuteStep;

/// The same numbers for the same seed, on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn key(&mut self) -> Key {
        Key::new(format!("p{}", self.below(2)), format!("s{}", self.below(4)))
    }

    fn guard(&mut self) -> Guard {
        match self.below(4) {
            0 => Guard::Absent,
            1 => Guard::Any,
            _ => Guard::Version(self.below(5)),
        }
    }

    fn item(&mut self) -> Item {
        let mut item = Item {
            body: self.below(1000).to_string(),
            ..Item::default()
        };
        if self.below(2) == 0 {
            item = item.due_at(Some(Timestamp::from_millis(self.below(50).cast_signed())));
        }
        if self.below(2) == 0 {
            item = item.listed(Listing {
                list: format!("l{}", self.below(2)),
                // Unique, as positions should be.
                position: format!("{:04}", self.below(10_000)),
                attributes: BTreeMap::from([("status".to_owned(), self.below(3).to_string())]),
            });
        }
        item
    }
}

/// One of the two under test.
struct Side {
    store: Arc<dyn Store>,
    receiver: Arc<dyn Receiver>,
    sessions: Vec<Box<dyn Session>>,
    /// The last delivery by body.
    received: BTreeMap<String, Delivery>,
    /// Messages sent; never more than one receive gives, so that it need not choose.
    sent: u64,
}

impl Side {
    fn new(store: Arc<dyn Store>, receiver: Arc<dyn Receiver>) -> Self {
        let sessions = (0..3).map(|_| store.session()).collect();
        Self {
            store,
            receiver,
            sessions,
            received: BTreeMap::new(),
            sent: 0,
        }
    }

    /// One random call; what it answered, as text.
    async fn store_call(&mut self, dice: &mut Dice) -> String {
        let which = usize::try_from(dice.below(3)).unwrap();
        let session = &mut self.sessions[which];
        match dice.below(12) {
            0..=4 => format!(
                "{:?}",
                session.put(&dice.key(), dice.item(), dice.guard()).await.unwrap()
            ),
            5 => format!("{:?}", session.delete(&dice.key(), dice.guard()).await.unwrap()),
            6 | 7 => {
                let slot = u8::try_from(dice.below(32)).unwrap();
                let ok = dice.below(2) == 0;
                format!("{:?}", session.arrive(&dice.key(), slot, ok).await.unwrap())
            }
            8 => format!("{:?}", session.arrivals(&dice.key()).await.unwrap()),
            9 => format!("{:?}", session.get(&dice.key()).await.unwrap()),
            _ => {
                let settled = std::mem::replace(session, self.store.session());
                settled.settle().await.unwrap();
                String::new()
            }
        }
    }

    /// Everything that reads show when all is settled.
    async fn content(&mut self) -> String {
        for session in &mut self.sessions {
            let settled = std::mem::replace(session, self.store.session());
            settled.settle().await.unwrap();
        }
        let mut content = String::new();
        for partition in ["p0", "p1"] {
            let page = self.store.query(partition, "s", None, 100).await.unwrap();
            content.push_str(&format!("{page:?}\n"));
        }
        for list in ["l0", "l1"] {
            for filters in [vec![], vec![("status".to_owned(), "1".to_owned())]] {
                let page = self.store.list(list, &filters, None, 100).await.unwrap();
                content.push_str(&format!("{page:?}\n"));
            }
        }
        let mut due = BTreeSet::new();
        for shard in 0..DUE_SHARDS {
            for item in self
                .store
                .due(shard, Timestamp::from_millis(25), 100)
                .await
                .unwrap()
            {
                due.insert((item.at, item.key));
            }
        }
        content.push_str(&format!("{due:?}"));
        content
    }

    /// One random call on the queue; what it answered, as text.
    async fn queue_call(&mut self, dice: &mut Dice) -> String {
        const VISIBILITY: Duration = Duration::from_secs(10);
        let chosen = usize::try_from(dice.below(8)).unwrap();
        let receipt = self
            .received
            .values()
            .nth(chosen)
            .map(|delivery| delivery.receipt.clone());
        let delay = Duration::from_secs(dice.below(3) * 5);
        match (dice.below(8), receipt) {
            (0, _) if self.sent < 9 => {
                self.sent += 1;
                let mut session = self.store.session();
                session.send(QUEUE, message(&self.sent.to_string()), delay);
                session.settle().await.unwrap();
                String::new()
            }
            (1, Some(receipt)) => {
                self.receiver.acknowledge(&QUEUE, &receipt).await.unwrap();
                String::new()
            }
            (2, Some(receipt)) => {
                self.receiver
                    .release(&QUEUE, &receipt, delay, "released")
                    .await
                    .unwrap();
                String::new()
            }
            (3, Some(receipt)) if dice.below(4) == 0 => {
                self.receiver.bury(&QUEUE, &receipt, "buried").await.unwrap();
                String::new()
            }
            (4, _) => {
                let letters = self.receiver.dead_letters(&QUEUE, 100).await.unwrap();
                let mut seen: Vec<(String, Timestamp)> = letters
                    .iter()
                    .map(|letter| (letter.body.clone(), letter.at))
                    .collect();
                seen.sort();
                if dice.below(3) == 0
                    && let Some(letter) = letters.iter().min_by_key(|letter| &letter.body)
                {
                    assert!(self.receiver.redrive(&QUEUE, &letter.id).await.unwrap());
                }
                format!("{seen:?}")
            }
            _ => {
                let deliveries = self
                    .receiver
                    .receive(&QUEUE, 10, Duration::ZERO, VISIBILITY)
                    .await
                    .unwrap();
                let mut seen = BTreeSet::new();
                for delivery in deliveries {
                    seen.insert((delivery.body.clone(), delivery.receive_count));
                    self.received.insert(delivery.body.clone(), delivery);
                }
                format!("{seen:?}")
            }
        }
    }
}

#[tokio::test]
async fn both_stores_answer_alike() {
    for seed in 0..30 {
        let folder = tempfile::tempdir().unwrap();
        let embedded = Embedded::open(folder.path(), Options::default()).unwrap();
        let memory = Arc::new(SimpleStore::new(Arc::new(ManualClock::default()), 5));
        let mut sqlite = Side::new(embedded.store(), embedded.receiver());
        let mut simple = Side::new(memory.clone(), memory);
        let (mut dice, mut same_dice) = (Dice(seed), Dice(seed));
        for call in 0..200 {
            let answers = (
                sqlite.store_call(&mut dice).await,
                simple.store_call(&mut same_dice).await,
            );
            assert_eq!(answers.0, answers.1, "seed {seed}, call {call}");
        }
        assert_eq!(sqlite.content().await, simple.content().await, "seed {seed}");
    }
}

#[tokio::test]
async fn both_queues_answer_alike() {
    for seed in 0..60 {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(START));
        let options = Options {
            clock: clock.clone(),
            steady: false,
            max_receives: 3,
            ..Options::default()
        };
        let embedded = Embedded::open(folder.path(), options).unwrap();
        let memory = Arc::new(SimpleStore::new(clock.clone(), 3));
        let mut sqlite = Side::new(embedded.store(), embedded.receiver());
        let mut simple = Side::new(memory.clone(), memory);
        let (mut dice, mut same_dice) = (Dice(seed), Dice(seed));
        for call in 0..150 {
            let answers = (
                sqlite.queue_call(&mut dice).await,
                simple.queue_call(&mut same_dice).await,
            );
            assert_eq!(answers.0, answers.1, "seed {seed}, call {call}");
            if call % 3 == 0 {
                clock.advance(Duration::from_secs(2));
            }
        }
    }
}

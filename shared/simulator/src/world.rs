//! Everything that a run shares: time, decisions, and what every port stands for.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    fmt::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard},
    task::Waker,
    time::Duration,
};

use slipway_model::Timestamp;
use slipway_ports::{Clock, Ids};
use uuid::{Builder, Uuid};

use crate::{
    callers::Known,
    check::{Checks, Invariant, Violation},
    choice::Choices,
    cluster::Cloud,
    coverage::{Coverage, Fault},
    mutants::Mutant,
    outside::Internet,
    queue::Queues,
    services::{Folder, Vault},
    store::Tables,
    tasks::{Task, TaskId},
};

/// Where simulated time begins: 2026-01-01T00:00:00Z.
pub(crate) const START: i64 = 1_767_225_600_000;

/// What the control plane runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Functions, queues and a table: writes are durable at once, messages go out one by one.
    Aws,
    /// One process on one disk: writes are durable when they are committed, and a crash ends everything.
    Embedded,
}

/// What happens at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Happening {
    /// A task is polled.
    Wake(TaskId),
    /// A message can be received.
    Deliver(u64),
    /// A message is received although somebody works on it.
    Duplicate(u64),
    /// The open batch is taken to the disk.
    BeginCommit,
    /// The batch on its way to the disk is there.
    EndCommit,
    /// A caller does something.
    Call,
    /// A caller asks something beside.
    Ask,
    /// Somebody changes something on the cluster, past Slipway.
    Meddle,
    /// The schedule's turn.
    Sweep,
    /// The process of the embedded shape is killed.
    Kill,
    /// The machine of the embedded shape sleeps, and wakes up an hour later.
    Sleep,
    /// A request to a cluster lands although who sent it is gone.
    Land(usize),
    /// Faults stop.
    Calm,
}

/// How rarely things go wrong, in parts of a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    /// An invocation dies at a point.
    pub(crate) crash: u32,
    /// A call fails.
    pub(crate) fail: u32,
    /// A point takes very long.
    pub(crate) stall: u32,
    /// A message comes twice.
    pub(crate) duplicate: u32,
    /// A request to a cluster fails.
    pub(crate) cluster: u32,
    /// A message fails as often as it is received.
    pub(crate) give_up: u32,
    /// An index is read as it was.
    pub(crate) stale: u32,
}

/// The state of a run.
pub(crate) struct World {
    pub(crate) shape: Shape,
    pub(crate) now: i64,
    /// How long the machine has slept: for what waits on it, that time was none.
    pub(crate) slept: i64,
    pub(crate) choices: Choices,
    pub(crate) heap: BinaryHeap<Reverse<(i64, u64, Happening)>>,
    turn: u64,
    pub(crate) rates: Rates,
    /// Faults that may still happen.
    pub(crate) faults_left: u32,
    /// Whether things still go wrong.
    pub(crate) stormy: bool,
    /// Whether nothing goes wrong in the whole run, and the cluster is there.
    pub(crate) is_fine: bool,
    /// Whether deployments go without executions.
    pub(crate) legacy: bool,
    /// What happens on the cluster once all is at rest, and what was seen of it.
    pub(crate) looks: crate::check::Looks,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) epoch: u32,
    next_id: u32,
    pub(crate) current: Option<TaskId>,
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    /// Tasks to be dropped once the one that runs has paused.
    pub(crate) doomed: Vec<TaskId>,
    /// Tasks to be started once the one that runs has paused.
    pub(crate) born: VecDeque<crate::tasks::Born>,
    /// The process is dying: nothing that is dropped may do anything.
    pub(crate) dying: bool,
    pub(crate) tables: Tables,
    pub(crate) queues: Queues,
    pub(crate) vault: Vault,
    pub(crate) folder: Folder,
    pub(crate) cloud: Cloud,
    pub(crate) internet: Internet,
    pub(crate) checks: Checks,
    pub(crate) known: Known,
    pub(crate) coverage: Coverage,
    pub(crate) violation: Option<Violation>,
    pub(crate) trace: Option<String>,
    /// Sums up everything that happened, so that two runs can be compared without their traces.
    pub(crate) digest: u64,
    pub(crate) steps: u64,
}

impl World {
    pub(crate) fn new(shape: Shape, choices: Choices, mutant: Option<Mutant>, traced: bool) -> Self {
        Self {
            shape,
            now: START,
            slept: 0,
            choices,
            heap: BinaryHeap::new(),
            turn: 0,
            rates: Rates::default(),
            faults_left: 0,
            stormy: false,
            is_fine: false,
            legacy: false,
            looks: crate::check::Looks::default(),
            mutant,
            epoch: 1,
            next_id: 0,
            current: None,
            tasks: BTreeMap::new(),
            doomed: Vec::new(),
            born: VecDeque::new(),
            dying: false,
            tables: Tables::default(),
            queues: Queues::default(),
            vault: Vault::default(),
            folder: Folder::default(),
            cloud: Cloud::default(),
            internet: Internet::default(),
            checks: Checks::default(),
            known: Known::default(),
            coverage: Coverage::default(),
            violation: None,
            trace: traced.then(String::new),
            digest: 0xcbf2_9ce4_8422_2325,
            steps: 0,
        }
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    /// The time by which whatever runs on the machine measures how long it waits: it stands still while the machine sleeps.
    pub(crate) fn awake(&self) -> i64 {
        self.now - self.slept
    }

    /// Has something happen `delay` milliseconds from now, after whatever was arranged for that time before.
    pub(crate) fn after(&mut self, delay: i64, what: Happening) {
        self.turn += 1;
        self.heap
            .push(Reverse((self.now + delay.max(0), self.turn, what)));
    }

    /// Has something happen at that time, or now if that has passed.
    pub(crate) fn at(&mut self, time: i64, what: Happening) {
        self.after(time - self.now, what);
    }

    /// Whether something goes wrong that does in `parts` of a thousand cases.
    pub(crate) fn goes_wrong(&mut self, parts: u32, fault: Fault) -> bool {
        if !self.stormy || self.faults_left == 0 || parts == 0 {
            return false;
        }
        let wrong = self.choices.once_in_a_while(parts);
        if wrong {
            self.faults_left -= 1;
            self.coverage.fault(fault);
            self.say(format_args!("  fault: {fault:?}"));
        }
        wrong
    }

    /// Adds a line to the trace.
    pub(crate) fn say(&mut self, line: fmt::Arguments<'_>) {
        if let Some(trace) = &mut self.trace {
            let time = self.now - START;
            // Writing to a string cannot fail.
            let _ = writeln!(trace, "{:>6}.{:03} {line}", time / 1000, time % 1000);
        }
    }

    /// Adds to the sum of everything that happened.
    pub(crate) fn sum(&mut self, what: u64) {
        self.digest = (self.digest ^ what).wrapping_mul(0x0100_0000_01b3) ^ (self.digest >> 29);
    }

    /// Records that something is not as it has to be. The first one counts.
    pub(crate) fn violated(&mut self, invariant: Invariant, what: impl fmt::Display) {
        let what = what.to_string();
        self.say(format_args!("  VIOLATED {invariant:?}: {what}"));
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, what });
        }
    }

    pub(crate) fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn uuid(&mut self) -> Uuid {
        self.next_id += 1;
        Builder::from_random_bytes((u128::from(self.next_id) << 96).to_be_bytes()).into_uuid()
    }
}

/// The handle that every port holds.
#[derive(Clone)]
pub(crate) struct Sim(Arc<Mutex<World>>);

impl Sim {
    pub(crate) fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    /// The state. Never held over a pause.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        // A panic under the lock is a bug of the simulator, and the run is given up then.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for Sim {
    fn now(&self) -> Timestamp {
        self.world().timestamp()
    }
}

impl Ids for Sim {
    fn uuid(&self) -> Uuid {
        self.world().uuid()
    }
}

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// Nobody needs to be woken: the run polls by time.
pub(crate) fn waker() -> Waker {
    Waker::noop().clone()
}

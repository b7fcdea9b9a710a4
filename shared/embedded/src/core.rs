//! The one place that writes: the pending state, the thread that commits it, and connections to read.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rusqlite::Connection;
use slipway_model::Timestamp;
use slipway_ports::Clock;
use tokio::sync::oneshot;

use crate::{
    batch::{Batch, Receipts},
    error::CommitFailed,
    folder::{self, Lock},
    open::Statistics,
    pending::Pending,
    queues::Queues,
    schema,
};

/// After a commit that failed, what nobody waits for is tried again after this time.
const RETRY: Duration = Duration::from_secs(5);
/// Bytes that must be free on the disk for work to be begun: a chart, manifests and some commits.
const LEAST_ROOM: u64 = 4 << 20;
/// Idle connections that are kept for readers.
const IDLE_READERS: usize = 3;

/// What sessions, readers, receivers and the committer share.
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) queues: Queues,
    pending: Mutex<Pending>,
    wake: Condvar,
    commits: AtomicU64,
    rows_written: AtomicU64,
    reads: AtomicU64,
    /// The last commit failed.
    refused: AtomicBool,
    path: PathBuf,
    readers: Mutex<Vec<Connection>>,
    writer: Arc<Mutex<Connection>>,
    /// What nobody waits for is written after this time at the latest.
    flush_after: Duration,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending
            .lock()
            .expect("nothing panics while it holds the pending writes")
    }

    /// Must be called after every write to the open batch.
    pub(crate) fn touched(&self, pending: &mut Pending) {
        if pending.asleep || pending.wants_commit() {
            pending.asleep = false;
            self.wake.notify_one();
        }
    }

    /// What was asked of SQLite so far.
    pub(crate) fn statistics(&self) -> Statistics {
        Statistics {
            commits: self.commits.load(Ordering::Relaxed),
            rows_written: self.rows_written.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed) + self.pending().reads,
        }
    }

    /// Runs `read` on a connection that sees what is settled.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let idle = self.readers().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => schema::open_reader(&self.path)?,
        };
        let result = read(&connection);
        let mut readers = self.readers();
        if readers.len() < IDLE_READERS {
            readers.push(connection);
        }
        result
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.readers
            .lock()
            .expect("nothing panics while it holds the idle connections")
    }

    /// Waits until everything that was written before this call is durable.
    pub(crate) async fn flush(&self) -> Result<(), CommitFailed> {
        let waiting = {
            let mut pending = self.pending();
            let newest = pending.open.number;
            let batch = if pending.has_work() { newest } else { newest - 1 };
            if batch <= pending.durable {
                return Ok(());
            }
            self.wait_for(&mut pending, batch)
        };
        answer(waiting).await
    }

    /// Drops what expired by `until` and the messages in `receipts` with the next commit, and waits for that.
    pub(crate) async fn sweep(&self, until: Timestamp, receipts: Receipts) -> Result<(), CommitFailed> {
        let waiting = {
            let mut pending = self.pending();
            pending.open.sweep = Some(until);
            pending.open.receipts.add(receipts);
            let batch = pending.open.number;
            self.wait_for(&mut pending, batch)
        };
        answer(waiting).await
    }

    /// Whether there is a disk that takes what is written. When the last commit failed, whatever for, another one is tried:
    /// if only what was in that one was wrong, it succeeds. Also false while there is hardly any room left: what would be
    /// begun then could not be finished.
    pub(crate) async fn can_write(&self) -> bool {
        if !self.has_room() {
            return false;
        }
        !self.refused.load(Ordering::Relaxed)
            || self.sweep(self.clock.now(), Receipts::default()).await.is_ok()
    }

    /// What cannot be asked for counts as room.
    fn has_room(&self) -> bool {
        let folder = self.path.parent().unwrap_or(&self.path);
        folder::room(folder).is_none_or(|room| room >= LEAST_ROOM)
    }

    /// Adds a waiter for a batch that is not durable yet.
    pub(crate) fn wait_for(
        &self,
        pending: &mut Pending,
        batch: u64,
    ) -> oneshot::Receiver<Result<(), CommitFailed>> {
        let (waiter, waiting) = oneshot::channel();
        pending.afterwards(batch).waiters.push(waiter);
        self.touched(pending);
        waiting
    }

    /// Makes a batch durable that was taken off, and does what is to be done afterwards.
    pub(crate) fn commit(&self, batch: &Batch) -> Result<(), CommitFailed> {
        let start = Instant::now();
        let result = {
            let mut writer = self
                .writer
                .lock()
                .expect("nothing panics while it writes to the database");
            let result = batch.commit(&mut writer);
            self.rows_written.store(writer.total_changes(), Ordering::Relaxed);
            result
        };
        // Said before the pending writes are held: whatever a log does must not keep others from them.
        match &result {
            Ok(_) if self.refused.swap(false, Ordering::Relaxed) => {
                tracing::info!("the state store can be written again");
            }
            Ok(_) => {}
            Err(error) => {
                let path = self.path.display();
                tracing::error!(%error, %path, "a commit to the state store failed and was rolled back");
                self.refused.store(true, Ordering::Relaxed);
            }
        }
        let (afterwards, result) = {
            let mut pending = self.pending();
            let (afterwards, result) = match result {
                Ok(swept) => {
                    self.commits.fetch_add(1, Ordering::Relaxed);
                    (pending.landed(batch, &swept), Ok(()))
                }
                Err(error) => {
                    let failed = CommitFailed::RolledBack(Arc::new(error));
                    (pending.crashed(batch), Err(failed))
                }
            };
            pending.last_commit = start.elapsed();
            self.touched(&mut pending);
            (afterwards, result)
        };
        self.queues.publish(afterwards.publish, self.clock.now());
        for waiter in afterwards.waiters {
            // Whoever went away does not need the answer.
            let _ = waiter.send(result.clone());
        }
        result
    }

    /// The committer: writes what somebody waits for at once, and the rest after a while.
    fn run(&self) {
        let mut idle = self.flush_after;
        while let Some((batch, closing)) = self.next_batch(idle) {
            idle = match self.commit(&batch) {
                Ok(()) => self.flush_after,
                // What outlives a failed commit was tried again, and there is no time to wait.
                Err(_) if closing => return,
                Err(_) => RETRY.max(self.flush_after),
            };
        }
    }

    /// Waits until there is something to commit, and tells whether the store is closing. `None` when it is and nothing
    /// is left.
    fn next_batch(&self, idle: Duration) -> Option<(Arc<Batch>, bool)> {
        let poisoned = "nothing panics while it holds the pending writes";
        let mut pending = self.pending();
        loop {
            if pending.wants_commit() {
                return Some((pending.take_off(), pending.closing));
            }
            if pending.closing {
                return None;
            }
            if pending.asleep {
                pending = self.wake.wait(pending).expect(poisoned);
                continue;
            }
            let durable = pending.durable;
            let (guard, waited) = self.wake.wait_timeout(pending, idle).expect(poisoned);
            pending = guard;
            if waited.timed_out() && pending.is_idle() && pending.durable == durable {
                if pending.has_work() {
                    return Some((pending.take_off(), pending.closing));
                }
                pending.asleep = true;
            }
        }
    }
}

/// The answer of the committer.
pub(crate) async fn answer(waiting: oneshot::Receiver<Result<(), CommitFailed>>) -> Result<(), CommitFailed> {
    waiting.await.unwrap_or(Err(CommitFailed::Closed))
}

/// Owns the committer; dropping the last handle writes what is left and gives the folder free.
#[derive(Debug)]
pub(crate) struct Core {
    shared: Arc<Shared>,
    committer: Option<JoinHandle<()>>,
    _lock: Lock,
}

impl Core {
    pub(crate) fn start(
        path: PathBuf,
        writer: Arc<Mutex<Connection>>,
        pending: Pending,
        queues: Queues,
        clock: Arc<dyn Clock>,
        flush_after: Duration,
        lock: Lock,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            clock,
            queues,
            pending: Mutex::new(pending),
            wake: Condvar::new(),
            commits: AtomicU64::new(0),
            rows_written: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            path,
            readers: Mutex::new(Vec::new()),
            writer,
            flush_after,
        });
        let committer = thread::Builder::new().name("committer".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run()
        })?;
        Ok(Self {
            shared,
            committer: Some(committer),
            _lock: lock,
        })
    }
}

impl std::ops::Deref for Core {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.shared.pending().closing = true;
        self.shared.wake.notify_one();
        if let Some(committer) = self.committer.take()
            && committer.join().is_err()
        {
            tracing::error!("the committer of the state store panicked");
        }
    }
}

//! Opening a data folder.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use rusqlite::Connection;
use slipway_model::{Queue, Timestamp};
use slipway_ports::{Blobs, Clock, Receiver, Secrets, Store, StoreError, SystemClock};

use crate::{
    FileBlobs, FileSecrets, OpenError, SqliteReceiver, SqliteStore,
    batch::{MessageId, Receipts, queue_from_text},
    clock::SteadyClock,
    core::Core,
    error::unavailable,
    folder::{self, Lock},
    pending::{Pending, Sent},
    queues::{Queues, Waiting},
    schema,
};

/// How a data folder is used.
#[derive(Clone)]
pub struct Options {
    /// Decides what is delayed, invisible and expired. A control plane takes this clock only as the one that its own,
    /// [`Embedded::clock`], begins with.
    pub clock: Arc<dyn Clock>,
    /// Whether time goes on by itself from there, whatever becomes of the clock that was given; false in tests that move
    /// that clock.
    pub steady: bool,
    /// Times that a message is received before it becomes a dead letter; 5.
    pub max_receives: u32,
    /// The same for single queues.
    pub max_receives_of: BTreeMap<Queue, u32>,
    /// How long a message may stay on its queue before a sweep drops it; 14 days.
    pub message_retention: Duration,
    /// How long what nobody waits for, such as acknowledgements, may stay in memory only; 100 ms.
    pub flush_after: Duration,
}

/// What was asked of SQLite since a folder was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Commits. Each is one fsync of the log; checkpoints come on top, about two for 1,000 written pages.
    pub commits: u64,
    /// Rows that were inserted, changed or deleted.
    pub rows_written: u64,
    /// Statements that read.
    pub reads: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            steady: true,
            max_receives: 5,
            max_receives_of: BTreeMap::new(),
            message_retention: Duration::from_secs(14 * 24 * 3600),
            flush_after: Duration::from_millis(100),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("max_receives", &self.max_receives)
            .field("max_receives_of", &self.max_receives_of)
            .field("message_retention", &self.message_retention)
            .field("flush_after", &self.flush_after)
            .finish_non_exhaustive()
    }
}

/// An open data folder: everything that a control plane keeps, for one process at a time.
///
/// Dropping it, and all that was taken from it, writes what nobody waited for and gives the folder free.
#[derive(Debug, Clone)]
pub struct Embedded {
    core: Arc<Core>,
    epoch: u64,
    message_retention: Duration,
    secrets: FileSecrets,
    blobs: FileBlobs,
}

impl Embedded {
    /// Opens a data folder; makes it when it is not there.
    ///
    /// # Errors
    /// When the folder cannot be written, another process uses it, a newer version wrote it, or the key of the secrets
    /// is missing or can be read by others.
    pub fn open(data: &Path, options: Options) -> Result<Self, OpenError> {
        folder::create_folder(data).map_err(|source| OpenError::Folder {
            path: data.to_owned(),
            operation: "created",
            source,
        })?;
        let lock = Lock::take(data)?;
        let secrets = FileSecrets::open(data)?;
        let path = data.join("slipway.db");
        let refuse = |source| OpenError::of_database(&path, source);
        let (writer, epoch) = schema::open_writer(&path)?;
        let reader = schema::open_reader(&path).map_err(refuse)?;
        let clock: Arc<dyn Clock> = if options.steady {
            let seen = schema::time_seen(&reader).map_err(refuse)?;
            Arc::new(SteadyClock::begin(options.clock.as_ref(), seen))
        } else {
            options.clock
        };
        let queues = Queues::new(options.max_receives, options.max_receives_of);
        queues.publish(messages(&reader).map_err(refuse)?, clock.now());
        let next_message = next_message(&reader).map_err(refuse)?;
        let writer = Arc::new(Mutex::new(writer));
        let pending = Pending::new(Arc::clone(&writer), reader, next_message);
        let core = Core::start(path, writer, pending, queues, clock, options.flush_after, lock).map_err(
            |source| OpenError::Folder {
                path: data.to_owned(),
                operation: "written",
                source,
            },
        )?;
        Ok(Self {
            core: Arc::new(core),
            epoch,
            message_retention: options.message_retention,
            secrets,
            blobs: FileBlobs::new(data),
        })
    }

    /// The state store.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::new(Arc::clone(&self.core)))
    }

    /// The time of this control plane.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.core.clock)
    }

    /// The queues.
    pub fn receiver(&self) -> Arc<dyn Receiver> {
        Arc::new(SqliteReceiver::new(Arc::clone(&self.core), self.epoch))
    }

    /// Times that a message of that queue is received before it becomes a dead letter; at least 1.
    pub fn max_receives(&self, queue: &Queue) -> u32 {
        self.core.queues.allowed(queue)
    }

    /// The secrets.
    pub fn secrets(&self) -> Arc<dyn Secrets> {
        Arc::new(self.secrets.clone())
    }

    /// The blobs.
    pub fn blobs(&self) -> Arc<dyn Blobs> {
        Arc::new(self.blobs.clone())
    }

    /// How often this folder was opened, this time included: whoever held a lease in an earlier epoch is gone.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What was asked of SQLite since the folder was opened.
    pub fn statistics(&self) -> Statistics {
        self.core.statistics()
    }

    /// Waits until everything written so far is durable, also what no session settled.
    ///
    /// # Errors
    /// When the commit fails.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.core.flush().await.map_err(unavailable)
    }

    /// Drops items that have expired and messages that nobody received for too long, and records what the time is. To be
    /// called now and then, such as every minute, and before the end.
    ///
    /// # Errors
    /// When the commit fails.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let now = self.core.clock.now();
        let retention = i64::try_from(self.message_retention.as_millis()).unwrap_or(i64::MAX);
        let sent_before = Timestamp::from_millis(now.as_millis().saturating_sub(retention));
        let receipts: Receipts = self.core.queues.expire(sent_before);
        self.core.sweep(now, receipts).await.map_err(unavailable)
    }
}

/// What is on the queues; the bodies stay in the database.
fn messages(reader: &Connection) -> rusqlite::Result<Vec<Sent>> {
    let mut statement =
        reader.prepare("SELECT id, queue, sent_at, visible_at, receive_count FROM messages ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut messages = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(1)?;
        let Some(queue) = queue_from_text(&name) else {
            tracing::warn!(
                queue = name,
                "a message is on a queue that this version does not have"
            );
            continue;
        };
        messages.push(Sent {
            queue,
            waiting: Waiting {
                id: row.get(0)?,
                body: None,
                sent_at: Timestamp::from_millis(row.get(2)?),
                receive_count: row.get(4)?,
            },
            visible_at: Timestamp::from_millis(row.get(3)?),
            batch: 0,
        });
    }
    Ok(messages)
}

fn next_message(reader: &Connection) -> rusqlite::Result<MessageId> {
    reader.query_row(
        "SELECT 1 + max((SELECT coalesce(max(id), 0) FROM messages), (SELECT coalesce(max(id), 0) FROM dead_letters))",
        [],
        |row| row.get(0),
    )
}

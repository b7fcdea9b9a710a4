//! Plan chunks: how they are stored, and those that were read lately.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use slipway_model::{CHUNK_SIZE, Execution, ExecutionId, Node, PlanChunk, TenantId, Timestamp};
use slipway_ports::{Guard, Item, Session, Stored};

use crate::{App, AppError, keys};

/// Bodies above this go to the blob store, with a margin below what an item can hold.
const INLINE_BYTES: usize = 300 * 1024;

/// Most bytes of JSON that are kept in memory.
const KEPT_BYTES: usize = 2 * 1024 * 1024;

/// Most chunks that are kept in memory: few enough to look through.
const KEPT_CHUNKS: usize = 256;

/// Larger chunks are read whenever they are needed.
const LARGEST_KEPT: usize = 512 * 1024;

/// The chunks that were read lately. A chunk is immutable once its execution's header is written, and handlers read
/// the header first, so that what is here never is out of date.
#[derive(Default)]
pub(crate) struct PlanCache(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// The one that was used last comes first.
    chunks: VecDeque<KeptChunk>,
    bytes: usize,
}

struct KeptChunk {
    tenant: TenantId,
    execution: ExecutionId,
    index: u32,
    bytes: usize,
    chunk: Arc<PlanChunk>,
}

impl PlanCache {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("nothing panics while it holds the chunks")
    }

    fn find(&self, tenant: &TenantId, execution: ExecutionId, index: u32) -> Option<Arc<PlanChunk>> {
        let mut kept = self.kept();
        let place = kept
            .chunks
            .iter()
            .position(|kept| kept.execution == execution && kept.index == index && kept.tenant == *tenant)?;
        let found = kept.chunks.remove(place)?;
        let chunk = Arc::clone(&found.chunk);
        kept.chunks.push_front(found);
        Some(chunk)
    }

    fn keep(&self, new: KeptChunk) {
        if new.bytes > LARGEST_KEPT {
            return;
        }
        let mut kept = self.kept();
        kept.bytes += new.bytes;
        kept.chunks.push_front(new);
        while kept.bytes > KEPT_BYTES || kept.chunks.len() > KEPT_CHUNKS {
            let Some(oldest) = kept.chunks.pop_back() else {
                break;
            };
            kept.bytes -= oldest.bytes;
        }
    }
}

/// A plan chunk, or where it is.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum StoredChunk {
    Blob { blob: String },
    Inline(PlanChunk),
}

impl App {
    /// Writes the chunk that begins with node `first`.
    pub(super) async fn write_chunk(
        &self,
        session: &mut dyn Session,
        header: &Execution,
        first: u32,
        mut item: Item,
    ) -> Result<(), AppError> {
        if item.body.len() > INLINE_BYTES {
            let (tenant, id, plan) = (&header.tenant, header.id, &header.plan);
            let blob = format!("{tenant}/executions/{id}/plan-{plan}-{first}.json");
            self.blobs.put(&blob, item.body.into_bytes()).await?;
            item = Item::of(&StoredChunk::Blob { blob });
        }
        item.expires_at = self.parts_kept_until(header);
        session.put(&keys::plan(header, first), item, Guard::Any).await?;
        Ok(())
    }

    /// The chunk that holds a node of an execution whose header was read; nothing if there is no such node.
    pub(crate) async fn chunk(
        &self,
        header: &Execution,
        ordinal: u32,
    ) -> Result<Option<Arc<PlanChunk>>, AppError> {
        let index = ordinal / CHUNK_SIZE;
        if let Some(chunk) = self.plans().find(&header.tenant, header.id, index) {
            return Ok(Some(chunk));
        }
        let key = keys::plan(header, ordinal);
        let Some(stored) = self.store.get(&key).await? else {
            return Ok(None);
        };
        let (chunk, bytes) = self.read_chunk(stored).await?;
        let chunk = Arc::new(chunk);
        self.plans().keep(KeptChunk {
            tenant: header.tenant.clone(),
            execution: header.id,
            index,
            bytes,
            chunk: Arc::clone(&chunk),
        });
        Ok(Some(chunk))
    }

    /// A node of an execution whose header was read.
    pub(crate) async fn node(&self, header: &Execution, ordinal: u32) -> Result<Option<Node>, AppError> {
        let chunk = self.chunk(header, ordinal).await?;
        Ok(chunk.and_then(|chunk| chunk.nodes.get((ordinal % CHUNK_SIZE) as usize).cloned()))
    }

    async fn read_chunk(&self, stored: Stored) -> Result<(PlanChunk, usize), AppError> {
        let bytes = stored.body.len();
        match stored.read()? {
            StoredChunk::Inline(chunk) => Ok((chunk, bytes)),
            StoredChunk::Blob { blob } => {
                let data = self.blobs.get(&blob).await?.unwrap_or_default();
                let body = String::from_utf8_lossy(&data).into_owned();
                let bytes = body.len();
                Ok((Stored { body, ..stored }.read()?, bytes))
            }
        }
    }

    /// When the parts of an execution, which are written before its end is known, may be dropped: it cannot run for
    /// longer than that.
    pub(crate) fn parts_kept_until(&self, header: &Execution) -> Option<Timestamp> {
        self.kept_until(Some(header.deadline.plus(LONGEST_OVERTIME)))
    }
}

/// How long after its deadline an execution may still have to be ended, by an operator if need be.
const LONGEST_OVERTIME: std::time::Duration = std::time::Duration::from_secs(14 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(index: u32, bytes: usize) -> KeptChunk {
        KeptChunk {
            tenant: TenantId::local(),
            execution: ExecutionId(uuid::Uuid::nil()),
            index,
            bytes,
            chunk: Arc::new(PlanChunk { nodes: Vec::new() }),
        }
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let cache = PlanCache::default();
        let find = |index| cache.find(&TenantId::local(), ExecutionId(uuid::Uuid::nil()), index);
        for index in 0..8 {
            cache.keep(chunk(index, KEPT_BYTES / 8));
        }
        assert!(find(0).is_some());
        cache.keep(chunk(8, KEPT_BYTES / 8));
        assert!(find(0).is_some() && find(8).is_some());
        assert!(find(1).is_none(), "it was used before all others");
        cache.keep(chunk(9, LARGEST_KEPT + 1));
        assert!(find(9).is_none() && find(2).is_some());
        assert!(cache.kept().bytes <= KEPT_BYTES);
        let other: TenantId = "other".parse().unwrap();
        assert!(cache.find(&other, ExecutionId(uuid::Uuid::nil()), 0).is_none());
    }
}

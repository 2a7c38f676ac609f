//! Records in the store which producer reads which partition: `checkpoints/<source>/owners/<partition>.json`.
//!
//! The client library decides who should own a partition and records it here. A claim is a conditional write, so one
//! of two competing claims fails. A claim may be out of date at any time; only the checkpoint's own conditional write
//! keeps a stale owner from doing harm.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::http::Etag;
use azure_core::time::OffsetDateTime;
use azure_messaging_eventhubs::CheckpointStore;
use azure_messaging_eventhubs::models::{self, Ownership};
use serde::{Deserialize, Serialize};
use windrow_common::{EventTime, encode_file_name, encode_segment};
use windrow_store::{Store, StoreError, Version, wait_out};

use windrow_producer::checkpoint::{Checkpoint, Opening};
use windrow_producer::source::Offset;

/// The ownerships of one source's partitions.
#[derive(Debug)]
pub(crate) struct Ownerships {
    store: Store,
    opening: Opening,
    hub: Hub,
    /// This process's last claim of each partition.
    mine: Mutex<HashMap<String, String>>,
    claimed_at: Mutex<Instant>,
    /// Where the partitions with a checkpoint begin, as far as the client has asked.
    begins: Mutex<HashMap<String, Offset>>,
}

/// The names of the hub in the client library.
#[derive(Clone, Debug)]
pub(crate) struct Hub {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) consumer_group: String,
}

/// The contents of an ownership blob.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    /// Absent once the owner has released the partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// A new value for each claim. A renewal must name the value of the claim it replaces.
    claim: String,
}

impl Ownerships {
    pub(crate) fn new(store: &Store, opening: &Opening, hub: Hub) -> Self {
        Self {
            store: store.clone(),
            opening: opening.clone(),
            hub,
            mine: Mutex::default(),
            claimed_at: Mutex::new(Instant::now()),
            begins: Mutex::default(),
        }
    }

    fn mine(&self) -> MutexGuard<'_, HashMap<String, String>> {
        // Nothing panics while it is locked.
        self.mine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self) -> String {
        format!("checkpoints/{}/owners", encode_segment(&self.opening.source_name))
    }

    fn path(&self, partition: &str) -> String {
        format!("{}/{}", self.folder(), encode_file_name(partition, ".json"))
    }

    async fn read(&self, path: &str) -> Result<Option<(Claim, Version)>, StoreError> {
        let read = || self.store.get_versioned(path);
        let read = wait_out("reading an ownership", read).await?;
        // A damaged blob counts as a released claim, so that the next claim overwrites it.
        Ok(read.map(|(bytes, version)| {
            let claim = serde_json::from_slice(&bytes).unwrap_or(Claim {
                owner: None,
                claim: String::new(),
            });
            (claim, version)
        }))
    }

    /// Writes a claim; returns `None` if another producer was first.
    async fn write(
        &self,
        path: &str,
        claim: &Claim,
        version: Option<&Version>,
    ) -> Result<Option<()>, StoreError> {
        let json = serde_json::to_vec(claim).map_err(|error| StoreError::Damaged {
            path: path.to_owned(),
            why: error.to_string(),
        })?;
        let write = || self.store.put_if(path, json.clone(), version);
        match wait_out("claiming a partition", write).await {
            Ok(_) => Ok(Some(())),
            Err(StoreError::Conflict { .. }) => {
                // A write may succeed although its answer is lost. The retry then conflicts with our own claim.
                let found = self.read(path).await?;
                let ours = found.is_some_and(|(found, _)| found == *claim);
                Ok(ours.then_some(()))
            }
            Err(error) => Err(error),
        }
    }

    async fn claim(&self, ownership: &Ownership) -> Result<Option<Ownership>, StoreError> {
        let path = self.path(&ownership.partition_id);
        let current = self.read(&path).await?;
        let known = ownership.etag.as_ref().map(Etag::to_string);
        if let Some((claim, _)) = &current
            && known.as_deref() != Some(&claim.claim)
        {
            return Ok(None);
        }
        let claim = Claim {
            owner: ownership.owner_id.clone(),
            claim: azure_core::Uuid::new_v4().to_string(),
        };
        let version = current.map(|(_, version)| version);
        let claimed = self.write(&path, &claim, version.as_ref()).await?;
        if claimed.is_some() {
            self.mine()
                .insert(ownership.partition_id.clone(), claim.claim.clone());
        }
        Ok(claimed.map(|()| Ownership {
            etag: Some(claim.claim.into()),
            last_modified_time: Some(OffsetDateTime::now_utc()),
            ..ownership.clone()
        }))
    }

    /// Returns every partition that has ever been owned, with its claim and the time of the claim.
    async fn list(&self) -> Result<Vec<(String, Claim, EventTime)>, StoreError> {
        let folder = self.folder();
        let list = || self.store.list(&folder);
        let blobs = wait_out("listing ownerships", list).await?;
        let mut claims = Vec::with_capacity(blobs.len());
        for blob in blobs {
            let name = blob
                .path
                .rsplit('/')
                .next()
                .and_then(|name| name.strip_suffix(".json"));
            let Some(partition) = name else { continue };
            if let Some((claim, _)) = self.read(&blob.path).await? {
                claims.push((partition.to_owned(), claim, blob.modified));
            }
        }
        Ok(claims)
    }

    /// Returns whether this process's claim of a partition still stands.
    pub(crate) async fn owns(&self, partition: &str) -> Result<bool, StoreError> {
        let claimed = self.read(&self.path(partition)).await?;
        let mine = self.mine();
        Ok(claimed.is_some_and(|(claim, _)| mine.get(partition) == Some(&claim.claim)))
    }

    /// Returns whether the client has claimed nothing for `expiry`, although several renewals were due.
    pub(crate) fn stalled(&self, expiry: Duration) -> bool {
        let claimed_at = self.claimed_at.lock().unwrap_or_else(PoisonError::into_inner);
        claimed_at.elapsed() > expiry
    }

    /// Returns the first event that a partition still needs; `None` if the partition was not handed out or has no
    /// checkpoint.
    pub(crate) fn begin(&self, partition: &str) -> Option<Offset> {
        self.begins().get(partition).copied()
    }

    fn begins(&self) -> MutexGuard<'_, HashMap<String, Offset>> {
        // Nothing panics while it is locked.
        self.begins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the partitions that another process claimed less than `expiry` ago.
    pub(crate) async fn of_others(&self, expiry: Duration) -> Result<HashSet<String>, StoreError> {
        let oldest = EventTime::now().saturating_sub(expiry);
        let claims = self.list().await?.into_iter();
        let mine = self.mine();
        let others = claims.filter(|(partition, claim, modified)| {
            *modified > oldest && claim.owner.is_some() && mine.get(partition) != Some(&claim.claim)
        });
        Ok(others.map(|(partition, ..)| partition).collect())
    }

    /// Releases the partitions of this process, so that others need not wait for the claims to expire.
    pub(crate) async fn release(&self) -> Result<(), StoreError> {
        let mine = std::mem::take(&mut *self.mine());
        for (partition, last) in mine {
            let path = self.path(&partition);
            if let Some((claim, version)) = self.read(&path).await?
                && claim.claim == last
            {
                let claim = Claim { owner: None, ..claim };
                self.write(&path, &claim, Some(&version)).await?;
            }
        }
        Ok(())
    }
}

fn failed(error: StoreError) -> azure_core::Error {
    azure_core::Error::new(ErrorKind::Other, error)
}

#[async_trait]
impl CheckpointStore for Ownerships {
    async fn claim_ownership(&self, ownerships: &[Ownership]) -> azure_core::Result<Vec<Ownership>> {
        let mut claimed = Vec::with_capacity(ownerships.len());
        for ownership in ownerships {
            claimed.extend(self.claim(ownership).await.map_err(failed)?);
        }
        *self.claimed_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(claimed)
    }

    async fn list_ownerships(&self, _: &str, _: &str, _: &str) -> azure_core::Result<Vec<Ownership>> {
        let claims = self.list().await.map_err(failed)?;
        let ownerships = claims.into_iter().map(|(partition_id, claim, modified)| {
            let since_epoch = Duration::from_millis(u64::try_from(modified.as_millis()).unwrap_or_default());
            Ownership {
                fully_qualified_namespace: self.hub.namespace.clone(),
                event_hub_name: self.hub.name.clone(),
                consumer_group: self.hub.consumer_group.clone(),
                partition_id,
                owner_id: claim.owner,
                etag: Some(claim.claim.into()),
                last_modified_time: Some((UNIX_EPOCH + since_epoch).into()),
            }
        });
        Ok(ownerships.collect())
    }

    /// Returns where each partition's receiver begins. The library's checkpoint is the last processed event; ours is
    /// the first event still needed.
    async fn list_checkpoints(
        &self,
        _: &str,
        _: &str,
        _: &str,
    ) -> azure_core::Result<Vec<models::Checkpoint>> {
        let resumes = Checkpoint::resumes(&self.store, &self.opening).await;
        let resumes = resumes.map_err(|error| azure_core::Error::new(ErrorKind::Other, error))?;
        let begins = resumes.iter().map(|resume| (resume.partition.clone(), resume.at));
        *self.begins() = begins.collect();
        let positions = resumes.into_iter().map(|resume| models::Checkpoint {
            fully_qualified_namespace: self.hub.namespace.clone(),
            event_hub_name: self.hub.name.clone(),
            consumer_group: self.hub.consumer_group.clone(),
            partition_id: resume.partition,
            offset: None,
            sequence_number: Some(i64::try_from(resume.at.0).unwrap_or(i64::MAX) - 1),
        });
        Ok(positions.collect())
    }

    async fn update_checkpoint(&self, _: models::Checkpoint) -> azure_core::Result<()> {
        // The pipeline saves its own checkpoints, which also hold the dispatched time.
        Ok(())
    }
}

//! Dead letters of the in-memory queue: `dead-letters/<message id>.json`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::{Message, Reason};
use windrow_common::{EventTime, encode_segment};
use windrow_store::{Store, StoreError};

const PREFIX: &str = "dead-letters";

/// A message that could not be scored, in full, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message as it was published.
    pub message: Message,
    /// Why it was set aside, and by whom.
    pub reason: Reason,
    /// When it was set aside.
    pub dead_at: EventTime,
    /// How often it was delivered.
    pub deliveries: u32,
}

/// A dead letter in the store: readable JSON, with the body in base64.
#[derive(Serialize, Deserialize)]
struct Record {
    id: String,
    reason: String,
    detail: String,
    worker: String,
    dead_at: String,
    deliveries: u32,
    kind: String,
    content_type: String,
    enqueued_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    body: String,
}

/// The dead letters of the in-memory queue, in a store.
#[derive(Clone, Debug)]
pub struct StoredDeadLetters {
    store: Store,
}

impl StoredDeadLetters {
    /// Returns the dead letters in `store`.
    pub fn of(store: &Store) -> Self {
        Self { store: store.clone() }
    }

    /// Stores a dead letter. A second one of the same message replaces the first.
    pub async fn put(&self, dead_letter: &DeadLetter) -> Result<(), StoreError> {
        let message = &dead_letter.message;
        let path = blob_path(&message.id);
        let json = serde_json::to_vec_pretty(&Record {
            id: message.id.clone(),
            reason: dead_letter.reason.code.clone(),
            detail: dead_letter.reason.detail.clone(),
            worker: dead_letter.reason.worker.clone(),
            dead_at: dead_letter.dead_at.to_string(),
            deliveries: dead_letter.deliveries,
            kind: message.kind.to_string(),
            content_type: message.content_type.to_string(),
            enqueued_at: message.enqueued_at.to_string(),
            traceparent: message.traceparent.clone(),
            body: BASE64_STANDARD.encode(&message.body),
        });
        let json = json.map_err(|error| damaged(&path, &error))?;
        self.store.put(&path, json).await
    }

    /// Returns all dead letters, ordered by message id.
    pub async fn list(&self) -> Result<Vec<DeadLetter>, StoreError> {
        let mut dead_letters = Vec::new();
        for blob in self.store.list(PREFIX).await? {
            if let Some(bytes) = self.store.get(&blob.path).await? {
                dead_letters.push(read(&blob.path, &bytes)?);
            }
        }
        dead_letters.sort_by(|a, b| a.message.id.cmp(&b.message.id));
        Ok(dead_letters)
    }

    /// Deletes the dead letter of a message.
    pub async fn delete(&self, message_id: &str) -> Result<(), StoreError> {
        self.store.delete(&blob_path(message_id)).await
    }
}

/// Returns the path of a message's dead letter.
///
/// File names are limited to 255 bytes, and an id with two long, percent-encoded names exceeds that. Such an id is cut;
/// a hash of the whole id keeps it distinct.
fn blob_path(message_id: &str) -> String {
    let name = encode_segment(message_id);
    if name.len() <= 200 {
        return format!("{PREFIX}/{name}.json");
    }
    // FNV-1a: stable between versions of the program, unlike the standard library's hasher.
    let hash = message_id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{PREFIX}/{}~{hash:016x}.json", &name[..180])
}

fn read(path: &str, bytes: &[u8]) -> Result<DeadLetter, StoreError> {
    let record: Record = serde_json::from_slice(bytes).map_err(|error| damaged(path, &error))?;
    let time = |text: &str| EventTime::parse(text.as_bytes()).map_err(|error| damaged(path, &error));
    Ok(DeadLetter {
        dead_at: time(&record.dead_at)?,
        deliveries: record.deliveries,
        reason: Reason {
            code: record.reason,
            detail: record.detail,
            worker: record.worker,
        },
        message: Message {
            id: record.id,
            kind: record.kind.into(),
            content_type: record.content_type.into(),
            enqueued_at: time(&record.enqueued_at)?,
            traceparent: record.traceparent,
            body: BASE64_STANDARD
                .decode(&record.body)
                .map_err(|error| damaged(path, &error))?
                .into(),
        },
    })
}

fn damaged(path: &str, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead_letter(id: &str) -> DeadLetter {
        DeadLetter {
            message: Message {
                id: id.to_owned(),
                kind: "k".into(),
                content_type: "c".into(),
                enqueued_at: EventTime::from_millis(1_535_497_205_250),
                traceparent: Some("00-aa-bb-01".into()),
                body: vec![0, 1, 255].into(),
            },
            reason: Reason {
                code: "no-model".into(),
                detail: "none".into(),
                worker: "w".into(),
            },
            dead_at: EventTime::from_millis(5),
            deliveries: 3,
        }
    }

    #[tokio::test]
    async fn a_dead_letter_comes_back_whole_until_it_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path().to_str().unwrap()).unwrap();
        let dead_letters = StoredDeadLetters::of(&store);
        let long = format!("{}/x@1", "%2F".repeat(128));
        for id in ["a/b@2018-08-28T23:00:00Z+1h/1m", long.as_str()] {
            dead_letters.put(&dead_letter(id)).await.unwrap();
            assert_eq!(dead_letters.list().await.unwrap(), [dead_letter(id)]);
            dead_letters.delete(id).await.unwrap();
            assert_eq!(dead_letters.list().await.unwrap(), []);
        }
    }
}

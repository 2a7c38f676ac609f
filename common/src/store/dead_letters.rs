//! Dead letters of the in-memory queue: `dead-letters/<message id>.json`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::queue::{Message, Reason};
use crate::{EventTime, encode_segment};

const PREFIX: &str = "dead-letters";

/// A message that could not be scored, whole, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// As it was published.
    pub message: Message,
    /// Why it was set aside, and by whom.
    pub reason: Reason,
    /// When it was set aside.
    pub dead_at: EventTime,
    /// How often it had been delivered.
    pub deliveries: u32,
}

/// How a letter lies in the store: JSON a person can read, the body in base64.
#[derive(Serialize, Deserialize)]
struct Letter {
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

impl Store {
    /// Keeps a dead letter; a second one of the same message replaces the first.
    pub async fn put_dead_letter(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let path = dead_letter_path(&letter.message.id);
        let json = serde_json::to_vec_pretty(&Letter {
            id: letter.message.id.clone(),
            reason: letter.reason.code.clone(),
            detail: letter.reason.detail.clone(),
            worker: letter.reason.worker.clone(),
            dead_at: letter.dead_at.to_string(),
            deliveries: letter.deliveries,
            kind: letter.message.kind.to_string(),
            content_type: letter.message.content_type.to_string(),
            enqueued_at: letter.message.enqueued_at.to_string(),
            traceparent: letter.message.traceparent.clone(),
            body: BASE64_STANDARD.encode(&letter.message.body),
        });
        let json = json.map_err(|error| damaged(&path, &error))?;
        self.put(&path, json).await
    }

    /// All dead letters, by message id.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>, StoreError> {
        let mut letters = Vec::new();
        for blob in self.list(PREFIX).await? {
            if let Some(bytes) = self.get(&blob.path).await? {
                letters.push(read(&blob.path, &bytes)?);
            }
        }
        letters.sort_by(|a, b| a.message.id.cmp(&b.message.id));
        Ok(letters)
    }

    /// Forgets the dead letter of a message.
    pub async fn delete_dead_letter(&self, message_id: &str) -> Result<(), StoreError> {
        self.delete(&dead_letter_path(message_id)).await
    }
}

/// File names end at 255 bytes, and an id of two long, fully encoded names passes that: such an id is cut, and a
/// hash of the whole keeps it apart from its like.
fn dead_letter_path(message_id: &str) -> String {
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
    let letter: Letter = serde_json::from_slice(bytes).map_err(|error| damaged(path, &error))?;
    let time = |text: &str| EventTime::parse(text.as_bytes()).map_err(|error| damaged(path, &error));
    Ok(DeadLetter {
        dead_at: time(&letter.dead_at)?,
        deliveries: letter.deliveries,
        reason: Reason {
            code: letter.reason,
            detail: letter.detail,
            worker: letter.worker,
        },
        message: Message {
            id: letter.id,
            kind: letter.kind.into(),
            content_type: letter.content_type.into(),
            enqueued_at: time(&letter.enqueued_at)?,
            traceparent: letter.traceparent,
            body: BASE64_STANDARD
                .decode(&letter.body)
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

    fn letter(id: &str) -> DeadLetter {
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
        let long = format!("{}/x@1", "%2F".repeat(128));
        for id in ["a/b@2018-08-28T23:00:00Z+1h/1m", long.as_str()] {
            store.put_dead_letter(&letter(id)).await.unwrap();
            assert_eq!(store.dead_letters().await.unwrap(), [letter(id)]);
            store.delete_dead_letter(id).await.unwrap();
            assert_eq!(store.dead_letters().await.unwrap(), []);
        }
    }
}

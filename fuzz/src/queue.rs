//! Targets for input from a queue: scoring messages, their headers, and dead letters in the store.

use windrow_common::ScoringTask;
use windrow_queue::StoredDeadLetters;
use windrow_queue::testing::headers::{received, sent_and_received};
use windrow_store::Store;

use crate::block_on;

/// A message that decodes encodes to the same bytes, and its id names it.
pub(crate) fn scoring_message(bytes: &[u8]) {
    let Ok(task) = ScoringTask::decode(bytes) else {
        return;
    };
    let (encoded, id) = match &task {
        ScoringTask::Sensor(message) => (message.encode(), message.id()),
        ScoringTask::Group(message) => (message.encode(), message.id()),
    };
    assert_eq!(encoded.unwrap(), bytes);
    assert!(!id.is_empty() && task.sensor().topic().len() <= 255);
    let sensor = task.sensor().to_string();
    assert_eq!(sensor.parse().as_ref(), Ok(task.sensor()), "{sensor}");
}

/// Checks that a forwarded dead letter is unchanged.
pub(crate) fn headers(bytes: &[u8]) {
    let Some((message, _, letter)) = received(bytes) else {
        return;
    };
    assert_eq!(message, letter.message);
    let back = sent_and_received(&letter);
    assert_eq!(back, sent_and_received(&back), "sent twice");
    // A longer detail is cut.
    if letter.reason.detail.len() <= 4_096 {
        assert_eq!(back, letter);
    }
}

/// Checks that a dead letter read from the store and written again is unchanged.
pub(crate) fn stored_dead_letter(bytes: &[u8]) {
    block_on(async {
        let store = Store::create("memory:///").unwrap();
        store.put("dead-letters/x.json", bytes.to_vec()).await.unwrap();
        let letters = StoredDeadLetters::of(&store);
        let Ok(read) = letters.list().await else {
            return;
        };
        assert_eq!(read.len(), 1);
        let again = Store::create("memory:///").unwrap();
        let letters = StoredDeadLetters::of(&again);
        letters.put(&read[0]).await.unwrap();
        assert_eq!(letters.list().await.unwrap(), read);
        letters.delete(&read[0].message.id).await.unwrap();
        assert_eq!(letters.list().await.unwrap(), []);
    });
}

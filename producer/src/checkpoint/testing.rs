//! Checkpoints that anyone may have written, for tests of other crates.

use windrow_common::Length;
use windrow_store::Store;

use super::saved::Saved;
use super::{Checkpoint, CheckpointError, Group, Opening};
use crate::window::{WindowConfig, Windowing};

/// Loads a checkpoint as a producer of its own source does, and returns it as that producer would save it.
pub async fn loaded_and_saved(bytes: &[u8]) -> Result<Vec<u8>, CheckpointError> {
    let store = Store::create("memory:///")?;
    let mut windowing = of_the_default();
    let mut opening = Opening {
        source_name: "s".to_owned(),
        origin: super::Origin::default(),
        restart: false,
    };
    let mut owner = String::new();
    if let Ok(saved) = serde_json::from_slice::<Saved>(bytes) {
        windowing.window = Length::from_millis(saved.window_ms);
        windowing.interval = Length::from_millis(saved.interval_ms);
        (opening.origin, owner) = (saved.origin, saved.owner);
    }
    let group = Group::Whole;
    let path = format!("{}/{}.json", super::folder(&opening.source_name), group.name());
    store.put(&path, bytes.to_vec()).await?;
    let mut checkpoint = Checkpoint::read(&store, &opening, &group, windowing).await?;
    checkpoint.owner = owner;
    checkpoint.sensors()?;
    let names: Vec<String> = checkpoint.known().keys().cloned().collect();
    let position = checkpoint.position(&names);
    checkpoint.save(&names, &position).await?;
    let saved = store.get(&path).await?;
    Ok(saved.map(|bytes| bytes.to_vec()).unwrap_or_default())
}

#[allow(clippy::expect_used, reason = "the default options are valid")]
fn of_the_default() -> Windowing {
    WindowConfig::default()
        .validate()
        .expect("the default options are valid")
}

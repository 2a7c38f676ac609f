//! Saves a grouper's position in the store as `grouping/state.json`, so that the next one need not read everything
//! again.
//!
//! The state does not say which windows were scored; the predictions do. It says from which hour on they have to be
//! checked, and which parts of earlier hours were read, so that late parts are noticed.

use serde::{Deserialize, Serialize};
use windrow_common::EventTime;
use windrow_store::{SeenHour, Store, StoreError};

const PATH: &str = "grouping/state.json";
const FORMAT: u32 = 1;

/// A saved state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    format: u32,
    /// All scorable windows before this time have been requested.
    pub base: EventTime,
    /// Where the first grouper began; nothing before it is looked at.
    pub origin: EventTime,
    /// The parts that were read of the hours before the base, as far back as parts that come late are looked for.
    pub hours: Vec<SeenHour>,
}

impl State {
    pub(crate) fn new(base: EventTime, origin: EventTime, hours: Vec<SeenHour>) -> Self {
        Self {
            format: FORMAT,
            base,
            origin,
            hours,
        }
    }

    /// Reads the state; `None` if there is none yet.
    pub async fn load(store: &Store) -> Result<Option<Self>, StoreError> {
        let Some(bytes) = store.get(PATH).await? else {
            return Ok(None);
        };
        let damaged = |why: String| StoreError::Damaged {
            path: PATH.to_owned(),
            why: format!("{why}; delete it, and the last day is looked at again"),
        };
        let state: Self = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if state.format != FORMAT {
            return Err(damaged(format!(
                "it has format {}, and this program reads format {FORMAT}: update Windrow",
                state.format
            )));
        }
        Ok(Some(state))
    }

    pub(crate) async fn save(&self, store: &Store) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(self).map_err(|source| StoreError::Unencodable {
            path: PATH.to_owned(),
            source: source.into(),
        })?;
        store.put(PATH, bytes).await
    }
}

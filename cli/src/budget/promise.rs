//! The budget that was promised last, in the store.

use serde::{Deserialize, Serialize};
use windrow_common::EventTime;
use windrow_store::{SharedJson, Store, StoreError};

use super::Budget;
use crate::error::CliError;

const DOCUMENT: SharedJson = SharedJson {
    path: "alerting/budget.json",
    without: "no budget is promised",
};

/// What `windrow retrain --budget` has promised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Promise {
    /// The rate of false incidents.
    pub(crate) budget: Budget,
    /// The threshold that the models were given for it.
    pub(crate) threshold: f64,
    /// Since when this rate is promised.
    pub(crate) since: EventTime,
}

impl Promise {
    /// Reads the promise of a store.
    pub(crate) async fn read(store: &Store) -> Result<Option<Self>, StoreError> {
        Ok(DOCUMENT.read(store).await?.0)
    }

    /// Replaces the promise of a store. If the rate is unchanged, its start date stays.
    pub(crate) async fn write(&self, store: &Store) -> Result<(), CliError> {
        let replace = |kept: &mut Option<Self>| {
            let before = kept.take().filter(|before| before.budget == self.budget);
            *kept = Some(Self {
                since: before.map_or(self.since, |before| before.since),
                ..self.clone()
            });
            Ok(())
        };
        DOCUMENT.change(store, replace).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_promise_is_the_one_that_holds() {
        let store = Store::create("memory:///").unwrap();
        assert_eq!(Promise::read(&store).await.unwrap(), None);
        for budget in ["2 per sensor-day", "1 per sensor-month"] {
            let promise = Promise {
                budget: budget.parse().unwrap(),
                threshold: 0.1 + 0.2,
                since: EventTime::from_millis(1),
            };
            promise.write(&store).await.unwrap();
            assert_eq!(Promise::read(&store).await.unwrap(), Some(promise));
        }
        // Every night it is promised again.
        let again = Promise {
            budget: "1 per sensor-month".parse().unwrap(),
            threshold: 0.5,
            since: EventTime::from_millis(2),
        };
        again.write(&store).await.unwrap();
        let read = Promise::read(&store).await.unwrap().unwrap();
        assert_eq!((read.threshold, read.since), (0.5, EventTime::from_millis(1)));
        store.put(DOCUMENT.path, r#"{"budget": "few"}"#).await.unwrap();
        let damaged = Promise::read(&store).await.unwrap_err().to_string();
        assert!(damaged.contains("`few` is not a budget"), "{damaged}");
    }
}

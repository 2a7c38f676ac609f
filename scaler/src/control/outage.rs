//! What a scaler cannot use at the moment, for its readiness.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use windrow_service::Readiness;

use super::stats::{BROKER, FLEET, STORE};

/// The outages of a scaler's dependencies. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Outages(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Outages {
    /// Returns a readiness that names these outages.
    pub fn readiness(&self) -> Readiness {
        let all = [BROKER, FLEET, STORE];
        all.into_iter()
            .fold(Readiness::default(), |readiness, dependency| {
                let outages = self.clone();
                readiness.depend_on(dependency, move || outages.of(dependency))
            })
    }

    fn of(&self, dependency: &str) -> Option<String> {
        let outages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        outages.get(dependency).cloned()
    }

    /// Notes whether a dependency can be used, and says so if that has changed.
    pub(super) fn set(&self, dependency: &'static str, outage: Option<String>) {
        let mut outages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match outage {
            Some(why) => {
                if outages.get(dependency) != Some(&why) {
                    tracing::warn!(dependency, why, "a dependency cannot be used");
                }
                outages.insert(dependency, why);
            }
            None => {
                if outages.remove(dependency).is_some() {
                    tracing::info!(dependency, "works again");
                }
            }
        }
    }
}

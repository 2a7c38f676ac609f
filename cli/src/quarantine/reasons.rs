//! The readings in quarantine by reason, as the audit shows them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use windrow_producer::quarantine::QuarantineReason;

use crate::show;

/// How many readings are in quarantine, by reason.
#[derive(Debug, Default)]
pub(crate) struct Reasons(pub(crate) BTreeMap<QuarantineReason, u64>);

impl Reasons {
    /// Returns the counts as one line.
    pub(crate) fn line(&self) -> String {
        let reasons = self
            .0
            .iter()
            .map(|(reason, count)| format!("{} {reason}", show::count(*count)));
        match self.0.is_empty() {
            true => "nothing quarantined".to_owned(),
            false => format!("quarantined: {}", reasons.collect::<Vec<_>>().join(", ")),
        }
    }

    /// Returns the counts as JSON.
    pub(crate) fn json(&self) -> Value {
        json!(self.0)
    }
}

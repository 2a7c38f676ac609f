//! What a training says: for people, and for scripts.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use windrow_common::SensorId;
use windrow_model::Replaced;
use windrow_models::Release;

use super::Trained;
use crate::error::CliError;
use crate::show;

impl Trained {
    /// Returns the result for a script.
    pub(super) fn json(&self, release: Release) -> Value {
        json!({
            "readings": self.history.readings, "left_out": self.history.left_out,
            "groups": self.groups.map(|groups| json!({
                "models": groups.models, "kept": groups.kept, "single_tags": groups.single,
            })),
            "models": self.models, "failed": self.failed.len(), "kept": self.kept,
            "candidates": match release {
                Release::Candidate => self.models,
                Release::Promote(_) => self.pinned.len() as u64,
            },
            "pinned": self.pinned.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "replaced": self.replaced.iter().map(|(sensor, why)| json!({
                "sensor": sensor.to_string(), "why": why.to_string(),
            })).collect::<Vec<_>>(),
        })
    }

    /// Prints the result for people.
    pub(super) fn say(&self, release: Release) -> Result<(), CliError> {
        let mut line = format!(
            "trained {} models on {} readings ({} left out)",
            show::count(self.models),
            show::count(self.history.readings),
            show::count(self.history.left_out)
        );
        if self.kept > 0 {
            line += &format!("; {} sensors had one", show::count(self.kept));
        }
        if let Some(groups) = &self.groups {
            line += &groups.text();
        }
        if release == Release::Candidate {
            line += "; they are candidates, until `windrow models promote`";
        }
        show::line(&line)?;
        if !self.pinned.is_empty() {
            show::line(&pinned_text(&self.pinned))?;
        }
        if !self.replaced.is_empty() {
            show::line(&replaced_text(&self.replaced))?;
        }
        Ok(())
    }
}

/// Most sensors to name in a text for people.
const MOST_NAMED: usize = 10;

/// Says that the models of pinned sensors wait.
pub(crate) fn pinned_text(pinned: &[SensorId]) -> String {
    let count = show::count(pinned.len() as u64);
    let named: Vec<String> = pinned.iter().take(MOST_NAMED).map(ToString::to_string).collect();
    let more = if pinned.len() > MOST_NAMED { ", …" } else { "" };
    format!(
        "{count} of them are of pinned sensors, and candidates: {}{more}",
        named.join(", ")
    )
}

/// Names the sensors whose models are not plain fits, or do not suit them, with the reasons.
fn replaced_text(replaced: &BTreeMap<SensorId, Replaced>) -> String {
    let count = show::count(replaced.len() as u64);
    let mut lines = vec![format!("{count} of them need a look:")];
    let named = replaced.iter().take(MOST_NAMED);
    lines.extend(named.map(|(sensor, why)| format!("  {sensor}: {why}")));
    if let Some(more @ 1..) = replaced.len().checked_sub(MOST_NAMED) {
        lines.push(format!(
            "  and {} more; --output json names all",
            show::count(more as u64)
        ));
    }
    lines.join("\n")
}

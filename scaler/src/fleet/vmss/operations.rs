//! Follows the operations that take minutes, across the calls
//! (<https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations>).
//!
//! The status of an operation is only logged, and used to retry a failed deletion early. Everything else depends on the
//! resources that exist. So an operation that never ends, or whose answer was lost, blocks nothing.

use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use tokio::time::Instant;

use super::arm::{Answer, Arm, ArmError, words};
use super::ledger::Ledger;
use crate::fleet::FleetError;

/// How long to wait between two questions if ARM does not say.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Number of operations asked about in one call.
const AT_ONCE: usize = 4;
/// Number of operations followed at once. The oldest are dropped beyond it.
const MOST: usize = 32;

/// The operations that were begun and have not ended.
#[derive(Debug, Default)]
pub(super) struct Operations {
    going: Vec<Operation>,
}

#[derive(Debug)]
struct Operation {
    what: &'static str,
    url: Url,
    /// The instances that it deletes.
    ids: Vec<String>,
    began: Instant,
    next: Instant,
}

enum Status {
    Going,
    Ended,
    Failed(String),
}

impl Operations {
    /// Begins to follow the operation that an answer announces, if it does.
    pub(super) fn begin(&mut self, what: &'static str, answer: &Answer, ids: Vec<String>, now: Instant) {
        let Some(url) = answer.operation.clone() else {
            return;
        };
        if self.going.len() >= MOST {
            self.going.remove(0);
        }
        let next = now + answer.wait.unwrap_or_default();
        let began = now;
        self.going.push(Operation {
            what,
            url,
            ids,
            began,
            next,
        });
    }

    /// Asks about the operations that are due. Gives up those that have not ended within `patience`.
    pub(super) async fn follow(&mut self, arm: &mut Arm, ledger: &mut Ledger, patience: Duration) {
        let mut asked = 0;
        let mut nth = 0;
        while nth < self.going.len() {
            let now = Instant::now();
            let operation = &mut self.going[nth];
            let what = operation.what;
            if now - operation.began >= patience {
                tracing::warn!(what, after = ?patience, "an operation of the scale set does not end; what exists decides");
                ledger.delete_failed(&operation.ids);
                self.going.remove(nth);
                continue;
            }
            if now < operation.next || asked == AT_ONCE {
                nth += 1;
                continue;
            }
            asked += 1;
            let url = operation.url.clone();
            let status = match arm
                .send("follow an operation", Method::GET, url, None, None)
                .await
            {
                Ok(answer) => {
                    operation.next = Instant::now() + answer.wait.unwrap_or(ASK_EVERY);
                    status(&answer)
                }
                Err(ArmError::Fleet(FleetError::Refused { why, .. }) | ArmError::Unfit(why)) => {
                    tracing::debug!(what, why, "an operation can no longer be followed");
                    Status::Ended
                }
                // ARM is away or asks to wait: the reading of the scale set says so.
                Err(_) => return,
            };
            match status {
                Status::Going => nth += 1,
                Status::Ended => drop(self.going.remove(nth)),
                Status::Failed(why) => {
                    tracing::warn!(what, why, "an operation of the scale set failed");
                    ledger.delete_failed(&operation.ids);
                    self.going.remove(nth);
                }
            }
        }
    }
}

/// Returns the status in an answer: of the URL `Azure-AsyncOperation`, which has it in its body, or of `Location`.
fn status(answer: &Answer) -> Status {
    match answer.body["status"].as_str() {
        Some("Succeeded") => Status::Ended,
        Some(ended @ ("Failed" | "Canceled")) => {
            let why = words(StatusCode::OK, &answer.body);
            Status::Failed(format!("{ended}: {why}"))
        }
        Some(_) => Status::Going,
        None if answer.accepted => Status::Going,
        None => Status::Ended,
    }
}

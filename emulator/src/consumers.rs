//! The receivers of each partition, and which of them an epoch displaces.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fe2o3_amqp::types::definitions::Error;
use tokio::sync::oneshot;

use crate::conditions;

/// Most receivers without an epoch that may share a partition in one consumer group, as in the service.
const MOST_WITHOUT_EPOCH: usize = 5;

/// A table of the open receivers of every consumer group.
#[derive(Clone, Default)]
pub(crate) struct Consumers {
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    next_id: u64,
    by_place: HashMap<Seat, Vec<OpenReceiver>>,
}

/// A place that receivers compete for: a partition in a consumer group.
type Seat = (String, u16);

struct OpenReceiver {
    id: u64,
    epoch: Option<i64>,
    /// Tells the link's task to detach the link.
    detach: oneshot::Sender<Error>,
}

/// A receiver's claim to a place; dropping it releases the place.
pub(crate) struct Claim {
    consumers: Consumers,
    place: Seat,
    id: u64,
    /// Resolves with an error when the hub wants to detach the link.
    pub(crate) detached: oneshot::Receiver<Error>,
}

impl Consumers {
    /// Claims a place for a receiver. The error is for the refused link.
    ///
    /// A receiver with an epoch displaces all others in its place, unless one of them has a higher epoch.
    pub(crate) fn claim(&self, group: &str, partition: u16, epoch: Option<i64>) -> Result<Claim, Error> {
        let place = (group.to_owned(), partition);
        let mut open = self.lock();
        let id = open.next_id;
        open.next_id += 1;
        let receivers = open.by_place.entry(place.clone()).or_default();
        let highest = receivers.iter().filter_map(|receiver| receiver.epoch).max();
        match (epoch, highest) {
            (Some(epoch), Some(highest)) if epoch < highest => {
                return Err(conditions::stolen(format!(
                    "Receiver 'nil' with a higher epoch of '{highest}' already exists. Receiver 'nil' with epoch '{epoch}' cannot \
                     be created. Make sure you are creating receiver with increasing epoch value to ensure connectivity, or \
                     ensure all old epoch receivers are closed or disconnected."
                )));
            }
            (None, Some(highest)) => {
                return Err(conditions::stolen(format!(
                    "Receiver with epoch '{highest}' exists. A receiver without epoch cannot be created."
                )));
            }
            (Some(epoch), _) => {
                for displaced in receivers.drain(..) {
                    let old = displaced.epoch.unwrap_or_default();
                    let why = format!(
                        "New receiver 'nil' with higher epoch of '{epoch}' is created hence current receiver 'nil' with \
                         epoch '{old}' is getting disconnected. If you are recreating the receiver, make sure a higher epoch \
                         is used."
                    );
                    // An error means that the receiver has ended already.
                    let _ = displaced.detach.send(conditions::stolen(why));
                }
            }
            (None, None) if receivers.len() >= MOST_WITHOUT_EPOCH => {
                return Err(conditions::too_many(format!(
                    "Exceeded the maximum number of allowed receivers per partition in a consumer group which is {MOST_WITHOUT_EPOCH}."
                )));
            }
            (None, None) => {}
        }
        let (detach, detached) = oneshot::channel();
        receivers.push(OpenReceiver { id, epoch, detach });
        Ok(Claim {
            consumers: self.clone(),
            place,
            id,
            detached,
        })
    }

    /// Detaches every receiver with this error.
    pub(crate) fn detach_all(&self, error: &Error) {
        for (_, receivers) in self.lock().by_place.drain() {
            for receiver in receivers {
                let _ = receiver.detach.send(error.clone());
            }
        }
    }

    /// Detaches the receivers of a partition in a group with this error.
    pub(crate) fn detach(&self, group: &str, partition: u16, error: &Error) {
        let place = (group.to_owned(), partition);
        for receiver in self.lock().by_place.remove(&place).unwrap_or_default() {
            let _ = receiver.detach.send(error.clone());
        }
    }

    /// Returns the number of receivers that a partition has in a group.
    pub(crate) fn count(&self, group: &str, partition: u16) -> usize {
        let place = (group.to_owned(), partition);
        self.lock().by_place.get(&place).map_or(0, Vec::len)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // The table is consistent between any two statements, so a panic cannot leave it broken.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut open = self.consumers.lock();
        if let Some(receivers) = open.by_place.get_mut(&self.place) {
            receivers.retain(|receiver| receiver.id != self.id);
            if receivers.is_empty() {
                open.by_place.remove(&self.place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_or_equal_epoch_displaces_and_a_lower_one_is_refused() {
        let consumers = Consumers::default();
        let mut first = consumers.claim("a", 0, Some(1)).unwrap();
        assert!(consumers.claim("a", 0, Some(0)).is_err());
        assert!(consumers.claim("a", 0, None).is_err());
        let mut second = consumers.claim("a", 0, Some(1)).unwrap();
        assert!(first.detached.try_recv().is_ok());
        let _third = consumers.claim("a", 0, Some(2)).unwrap();
        assert!(second.detached.try_recv().is_ok());
        drop((first, second));
        assert_eq!(
            consumers.count("a", 0),
            1,
            "a displaced receiver releases only its own place"
        );
    }

    #[test]
    fn other_groups_and_partitions_do_not_compete() {
        let consumers = Consumers::default();
        let mut first = consumers.claim("a", 0, Some(0)).unwrap();
        let _group = consumers.claim("b", 0, Some(0)).unwrap();
        let _partition = consumers.claim("a", 1, Some(0)).unwrap();
        assert!(first.detached.try_recv().is_err());
    }

    #[test]
    fn five_receivers_without_epoch_share_a_partition() {
        let consumers = Consumers::default();
        let claims: Vec<_> = (0..5).map(|_| consumers.claim("a", 0, None).unwrap()).collect();
        assert!(consumers.claim("a", 0, None).is_err());
        drop(claims);
        assert!(consumers.claim("a", 0, None).is_ok());
    }
}

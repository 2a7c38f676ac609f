//! What the tasks of a hub share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use fe2o3_amqp::types::definitions::Error;

use crate::conditions;
use crate::config::HubConfig;
use crate::connections::Connections;
use crate::consumers::Consumers;
use crate::error::HubError;
use crate::faults::Faults;
use crate::partition::{Partition, now_ms};

/// Largest transfer a sender may make, as in the service's standard tier.
pub(crate) const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// What the tasks of a hub share.
pub(crate) struct State {
    /// Name of the event hub.
    pub(crate) hub: String,
    /// When it came to be, in milliseconds since 1970.
    pub(crate) created_ms: i64,
    /// Its partitions by number.
    partitions: RwLock<Vec<Arc<Partition>>>,
    consumer_groups: Vec<String>,
    retain_bytes: usize,
    first_sequence_number: i64,
    /// Who reads them.
    pub(crate) consumers: Consumers,
    /// Who is connected.
    pub(crate) connections: Connections,
    /// What is to go wrong.
    pub(crate) faults: Faults,
    /// Counts events without a key, which go to the partitions in turn.
    turn: AtomicUsize,
    /// What a client last showed to be let in.
    last_token: Mutex<Option<Token>>,
}

/// What a client shows to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// `jwt` for a token of Microsoft Entra ID, `servicebus.windows.net:sastoken` for one made with a key.
    pub kind: String,
    /// The token.
    pub text: String,
}

impl State {
    /// The state of a hub nothing was sent to.
    pub(crate) fn new(config: &HubConfig) -> Result<Self, HubError> {
        if config.hub.is_empty() || config.hub.contains('/') {
            return Err(HubError::Name(config.hub.clone()));
        }
        if config.partitions == 0 {
            return Err(HubError::NoPartitions);
        }
        let state = Self {
            hub: config.hub.clone(),
            created_ms: now_ms(),
            partitions: RwLock::default(),
            consumer_groups: config.consumer_groups.clone(),
            retain_bytes: config.retain_bytes,
            first_sequence_number: config.first_sequence_number,
            consumers: Consumers::default(),
            connections: Connections::default(),
            faults: Faults::default(),
            turn: AtomicUsize::new(0),
            last_token: Mutex::new(None),
        };
        for _ in 0..config.partitions {
            state.add_partition();
        }
        Ok(state)
    }

    /// One more partition, as the service's larger tiers let a hub grow.
    pub(crate) fn add_partition(&self) {
        let partition = Partition::new(self.retain_bytes, self.first_sequence_number);
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        partitions.push(Arc::new(partition));
    }

    /// How many partitions there are.
    pub(crate) fn partitions(&self) -> usize {
        self.partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Keeps a token, unread.
    pub(crate) fn set_last_token(&self, token: Option<Token>) {
        *self.last_token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// The token that was kept last.
    pub(crate) fn last_token(&self) -> Option<Token> {
        self.last_token
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A partition by number.
    pub(crate) fn partition(&self, number: u16) -> Option<Arc<Partition>> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.get(usize::from(number)).map(Arc::clone)
    }

    /// The number of the partition a client means, or the error to tell it.
    pub(crate) fn find(&self, hub: &str, partition: &str) -> Result<u16, Error> {
        self.check_name(hub)?;
        let number = partition.parse().ok();
        number
            .filter(|&number| self.partition(number).is_some())
            .ok_or_else(|| {
                conditions::not_found(format!("The event hub '{hub}' has no partition '{partition}'."))
            })
    }

    /// Refuses any event hub but this one.
    pub(crate) fn check_name(&self, hub: &str) -> Result<(), Error> {
        // The service takes names in any case.
        if hub.eq_ignore_ascii_case(&self.hub) {
            Ok(())
        } else {
            Err(conditions::not_found(format!(
                "The messaging entity '{hub}' could not be found."
            )))
        }
    }

    /// Refuses a consumer group that is not there.
    pub(crate) fn check_group(&self, group: &str) -> Result<(), Error> {
        let known = |it: &String| it.eq_ignore_ascii_case(group);
        if self.consumer_groups.is_empty() || self.consumer_groups.iter().any(known) {
            Ok(())
        } else {
            Err(conditions::not_found(format!(
                "The messaging entity '{}/ConsumerGroups/{group}' could not be found.",
                self.hub
            )))
        }
    }

    /// The partition for an event with this key, or the next in turn for one without.
    pub(crate) fn route(&self, key: Option<&str>) -> Arc<Partition> {
        let number = match key {
            Some(key) => usize::try_from(hash(key)).unwrap_or(0),
            None => self.turn.fetch_add(1, Ordering::Relaxed),
        };
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&partitions[number % partitions.len()])
    }
}

/// FNV-1a folded to 32 bits: the same in every process and on every platform.
fn hash(key: &str) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // Both halves, each of which fits.
    (hash >> 32) as u32 ^ hash as u32
}

//! The state that the tasks of a hub share.

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

/// The state that the tasks of a hub share.
pub(crate) struct State {
    /// Name of the event hub.
    pub(crate) hub: String,
    /// When the hub was created, in milliseconds since 1970.
    pub(crate) created_ms: i64,
    /// Its partitions by number.
    partitions: RwLock<Vec<Arc<Partition>>>,
    consumer_groups: Vec<String>,
    retain_bytes: usize,
    first_sequence_number: i64,
    clock_ahead_ms: i64,
    /// The receivers of the partitions.
    pub(crate) consumers: Consumers,
    /// The open connections.
    pub(crate) connections: Connections,
    /// The faults that a test asks for.
    pub(crate) faults: Faults,
    /// Counts events without a key, which go to the partitions in turn.
    turn: AtomicUsize,
    /// The token that a client last presented.
    last_token: Mutex<Option<Token>>,
}

/// A token that a client presents to authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// `jwt` for a token of Microsoft Entra ID, `servicebus.windows.net:sastoken` for one signed with a key.
    pub kind: String,
    /// The token.
    pub text: String,
}

impl State {
    /// Creates the state of a new hub.
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
            clock_ahead_ms: config.clock_ahead_ms,
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

    /// Adds a partition, as the service's larger tiers allow.
    pub(crate) fn add_partition(&self) {
        let partition = Partition::new(self.retain_bytes, self.first_sequence_number, self.clock_ahead_ms);
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        partitions.push(Arc::new(partition));
    }

    /// Returns the number of partitions.
    pub(crate) fn partitions(&self) -> usize {
        self.partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Stores a token without checking it.
    pub(crate) fn set_last_token(&self, token: Option<Token>) {
        *self.last_token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// Returns the token that was stored last.
    pub(crate) fn last_token(&self) -> Option<Token> {
        self.last_token
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns a partition by number.
    pub(crate) fn partition(&self, number: u16) -> Option<Arc<Partition>> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.get(usize::from(number)).map(Arc::clone)
    }

    /// Returns the number of the partition that a client names, or the error for the client.
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
        // The service ignores the case of names.
        if hub.eq_ignore_ascii_case(&self.hub) {
            Ok(())
        } else {
            Err(conditions::not_found(format!(
                "The messaging entity '{hub}' could not be found."
            )))
        }
    }

    /// Refuses a consumer group that does not exist.
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

    /// Returns the partition for an event with this key, or the next partition in turn for one without.
    pub(crate) fn route(&self, key: Option<&str>) -> Arc<Partition> {
        let number = match key {
            Some(key) => usize::try_from(hash(key)).unwrap_or(0),
            None => self.turn.fetch_add(1, Ordering::Relaxed),
        };
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&partitions[number % partitions.len()])
    }
}

/// Returns FNV-1a folded to 32 bits, which is the same in every process and on every platform.
fn hash(key: &str) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // Both halves; each fits in 32 bits.
    (hash >> 32) as u32 ^ hash as u32
}

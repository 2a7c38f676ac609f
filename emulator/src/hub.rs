//! The hub's interface for tests.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use fe2o3_amqp::types::definitions::Error;
use fe2o3_amqp::types::messaging::ApplicationProperties;
use fe2o3_amqp::types::primitives::SimpleValue;
use tokio::runtime::Runtime;

use crate::conditions;
use crate::config::HubConfig;
use crate::consumers::Claim;
use crate::error::HubError;
use crate::event::{self, AnyMessage, EventBody};
use crate::partition::Partition;
use crate::server;
use crate::state::{State, Token};

/// Threads that serve connections: one for each direction of a test.
const THREADS: usize = 2;

/// Name of the hub's threads, so that a benchmark can leave out their share of the CPU.
pub const HUB_THREADS: &str = "test-hub";

/// A running event hub that stops when dropped.
///
/// It has its own threads, so that tests can use it with or without a runtime. No method blocks.
pub struct Hub {
    state: Arc<State>,
    address: SocketAddr,
    /// `Some` until the hub is dropped.
    runtime: Option<Runtime>,
}

impl Hub {
    /// Starts a hub; it already listens when this returns.
    pub fn start(config: &HubConfig) -> Result<Self, HubError> {
        let state = Arc::new(State::new(config)?);
        let refused = |source| HubError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name(HUB_THREADS)
            .enable_all()
            .build()
            .map_err(HubError::Runtime)?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(refused)?
        };
        runtime.spawn(server::serve(Arc::clone(&state), listener));
        Ok(Self {
            state,
            address,
            runtime: Some(runtime),
        })
    }

    /// Returns the address that the hub listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the custom endpoint for Rust's client, such as `amqp://127.0.0.1:5672`.
    pub fn endpoint(&self) -> String {
        format!("amqp://{}", self.reachable_address())
    }

    /// Returns the connection string for Rust's client; the hub accepts any key.
    pub fn connection_string(&self) -> String {
        self.connection_string_with("localhost")
    }

    /// Returns the connection string for Microsoft's clients of other languages, which need no custom endpoint: it makes
    /// them connect to this address without TLS, as to Microsoft's own emulator.
    pub fn development_connection_string(&self) -> String {
        let address = self.reachable_address().to_string();
        self.connection_string_with(&address) + ";UseDevelopmentEmulator=true"
    }

    fn connection_string_with(&self, host: &str) -> String {
        format!(
            "Endpoint=sb://{host}/;SharedAccessKeyName=windrow;SharedAccessKey=d2luZHJvdw==;EntityPath={}",
            self.state.hub
        )
    }

    fn reachable_address(&self) -> SocketAddr {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            // A client cannot connect to the unspecified address, but reaches such a hub on loopback.
            address.set_ip([127, 0, 0, 1].into());
        }
        address
    }

    /// Stores an event as if a client had sent it to this partition, and returns its sequence number.
    pub fn append(
        &self,
        partition: u16,
        body: Vec<u8>,
        properties: impl IntoIterator<Item = (String, SimpleValue)>,
    ) -> Result<i64, HubError> {
        self.append_body(partition, EventBody::Data(vec![body]), properties)
    }

    /// Like [`Hub::append`], for a body of any kind.
    pub fn append_body(
        &self,
        partition: u16,
        body: EventBody,
        properties: impl IntoIterator<Item = (String, SimpleValue)>,
    ) -> Result<i64, HubError> {
        let properties = ApplicationProperties(properties.into_iter().collect());
        let message = AnyMessage {
            header: None,
            delivery_annotations: None,
            message_annotations: None,
            properties: None,
            application_properties: Some(properties).filter(|properties| !properties.0.is_empty()),
            body: body.into(),
            footer: None,
        };
        let encoded = Bytes::from(event::encode(&message)?);
        Ok(self.partition(partition)?.append([encoded]))
    }

    /// Returns the sequence number of a partition's newest event, or `None` if the partition never stored one.
    pub fn last_sequence_number(&self, partition: u16) -> Option<i64> {
        let end = self.state.partition(partition)?.bounds().end;
        (end > 0).then_some(end - 1)
    }

    /// Returns the sequence number of the oldest event that a partition keeps.
    pub fn begin_sequence_number(&self, partition: u16) -> Option<i64> {
        Some(self.state.partition(partition)?.bounds().begin)
    }

    /// Evicts all events of a partition, as the service does at the end of their retention.
    pub fn expire(&self, partition: u16) -> Result<(), HubError> {
        self.partition(partition)?.expire();
        Ok(())
    }

    /// Adds a partition to the hub.
    pub fn add_partition(&self) {
        self.state.add_partition();
    }

    /// Returns how many events a partition has delivered, counting every delivery to every receiver.
    pub fn delivered(&self, partition: u16) -> u64 {
        let partition = self.state.partition(partition);
        partition.map_or(0, |partition| partition.delivered.load(Ordering::Relaxed))
    }

    /// Returns the number of receivers that a partition has in a consumer group.
    pub fn open_receivers(&self, group: &str, partition: u16) -> usize {
        self.state.consumers.count(group, partition)
    }

    /// Accepts only tokens signed with the key of this name, from now on, as after a rotation of keys. Signatures are not
    /// checked.
    pub fn accept_only_key(&self, name: &str) {
        self.state.faults.accept_only(name);
    }

    /// Returns the token that a client last presented.
    pub fn last_token(&self) -> Option<Token> {
        self.state.last_token()
    }

    /// Returns the number of open connections.
    pub fn connections(&self) -> usize {
        self.state.connections.count()
    }

    /// Cuts every connection now, without an AMQP close; clients may reconnect at once.
    pub fn drop_connections(&self) {
        self.state.connections.cut_all();
    }

    /// Detaches every receiver now with this error condition, such as `amqp:link:detach-forced`.
    pub fn detach_receivers(&self, condition: &str) {
        self.state.consumers.detach_all(&detached(condition));
    }

    /// Detaches the receivers of one partition in a consumer group now with this error condition.
    pub fn detach_partition(&self, group: &str, partition: u16, condition: &str) {
        self.state
            .consumers
            .detach(group, partition, &detached(condition));
    }

    /// Claims a partition in a consumer group for a foreign reader with this epoch, until the returned value is
    /// dropped. Fails if a reader with a higher epoch has the partition.
    pub fn read_elsewhere(&self, group: &str, partition: u16, epoch: i64) -> Result<Elsewhere, HubError> {
        self.partition(partition)?;
        let claimed = self.state.consumers.claim(group, partition, Some(epoch));
        claimed
            .map(Elsewhere)
            .map_err(|_| HubError::HigherEpoch(partition))
    }

    /// Makes a partition deliver its events without sequence numbers from now on, or with them, as every service does.
    pub fn deliver_unnumbered(&self, partition: u16, unnumbered: bool) -> Result<(), HubError> {
        let partition = self.partition(partition)?;
        partition.unnumbered.store(unnumbered, Ordering::Relaxed);
        Ok(())
    }

    /// Refuses events and new links with `com.microsoft:server-busy` for this long; zero ends it.
    ///
    /// Attached links stay attached.
    pub fn throttle(&self, duration: Duration) {
        self.state.faults.throttle(duration);
    }

    /// Holds back every burst of up to 256 events for this long, from now on; zero ends it.
    pub fn delay_deliveries(&self, delay: Duration) {
        self.state.faults.set_delay(delay);
    }

    /// Holds back every answer about the hub and its partitions for this long, from now on; zero ends it.
    ///
    /// An answer describes the hub at the time of the request.
    pub fn delay_answers(&self, delay: Duration) {
        self.state.faults.set_answer_delay(delay);
    }

    fn partition(&self, number: u16) -> Result<Arc<Partition>, HubError> {
        self.state
            .partition(number)
            .ok_or(HubError::NoSuchPartition(number))
    }
}

/// A reader that takes a partition's place and reads nothing.
#[must_use = "dropping it frees the place"]
pub struct Elsewhere(#[allow(dead_code)] Claim);

fn detached(condition: &str) -> Error {
    conditions::error(condition, "The test hub detached the link.")
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for its threads here would panic in a test that has its own runtime, and `shutdown_background` detaches
            // them while they end, which has crashed in glibc.
            std::thread::spawn(move || drop(runtime));
        }
        self.state.connections.cut_all();
    }
}

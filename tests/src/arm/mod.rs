//! Emulates Azure Resource Manager, as far as one scale set needs it, with the faults of a bad day.
//!
//! Written from the public reference: [scale sets](https://learn.microsoft.com/rest/api/compute/virtual-machine-scale-sets),
//! [their instances](https://learn.microsoft.com/rest/api/compute/virtual-machine-scale-set-vms),
//! [virtual machines](https://learn.microsoft.com/rest/api/compute/virtual-machines/list) and
//! [asynchronous operations](https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations).
//! Microsoft's Python client drives it too (`tests/tests/vmss/cross_check.py`).

mod agent;
mod cut;
mod faults;
mod routes;
mod set;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use self::cut::{Cuttable, Scissors};

use crate::entra::{EntraId, Issued};

pub use faults::{Ending, Faults};
pub use set::{InstanceView, Log, ScaleSet};

/// The scale set's subscription.
pub const SUBSCRIPTION: &str = "00000000-1111-2222-3333-444444444444";
/// The scale set's resource group.
pub const RESOURCE_GROUP: &str = "plant";
/// The scale set's name.
pub const SCALE_SET: &str = "fleet";

/// ARM, with one scale set, until it is dropped.
#[derive(Debug)]
pub struct Arm {
    url: String,
    port: u16,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

/// What the scale set is like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its orchestration mode.
    pub mode: Mode,
    /// Its capacity at first.
    pub capacity: u32,
    /// How long an instance takes to become ready.
    pub boot: Duration,
    /// Workers of each instance.
    pub workers: u32,
    /// How long draining takes; `None` if it lasts until the test empties an instance.
    pub drains_in: Option<Duration>,
    /// Number of entries on a page of a list.
    pub page: usize,
    /// Whether a deletion lowers the capacity when it ends, and not when it is accepted.
    pub capacity_falls_late: bool,
    /// Decides what the faults hit.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Uniform,
            capacity: 0,
            boot: set::default_boot(),
            workers: 1,
            drains_in: Some(Duration::ZERO),
            page: 3,
            capacity_falls_late: false,
            seed: 1,
        }
    }
}

/// How a scale set manages its instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Instances are part of the scale set.
    Uniform,
    /// Instances are virtual machines of their own.
    Flexible,
}

#[derive(Debug)]
struct Shared {
    set: Mutex<ScaleSet>,
    /// Tokens that are accepted.
    tokens: Mutex<HashSet<String>>,
    entra: Mutex<Option<Issued>>,
    url: String,
}

impl Shared {
    fn accepts(&self, token: &str) -> bool {
        let entra = self.entra.lock().unwrap().clone();
        let is_issued = |issued: Issued| {
            issued
                .lock()
                .unwrap()
                .get("https://management.azure.com")
                .is_some_and(|one| one == token)
        };
        self.tokens.lock().unwrap().contains(token) || entra.is_some_and(is_issued)
    }
}

impl Arm {
    /// Starts ARM on a free port.
    pub fn start(settings: Settings) -> Self {
        /// Each ARM has addresses of its own for its agents.
        static SUBNET: AtomicU8 = AtomicU8::new(1);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}");
        let subnet = [SUBNET.fetch_add(1, Ordering::SeqCst), 0];
        let set = ScaleSet::new(settings, runtime.handle().clone(), port, subnet);
        let shared = Arc::new(Shared {
            set: Mutex::new(set),
            tokens: Mutex::default(),
            entra: Mutex::default(),
            url: url.clone(),
        });
        let routes = routes::all(Arc::clone(&shared)).into_make_service_with_connect_info::<Scissors>();
        runtime.spawn(async move { axum::serve(Cuttable(listener), routes).await });
        Self {
            url,
            port,
            shared,
            _runtime: runtime,
        }
    }

    /// Returns the base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the port on which every instance's agent listens.
    pub fn agent_port(&self) -> u16 {
        self.port
    }

    /// Accepts a token that somebody else issued.
    pub fn accept(&self, token: &str) {
        self.shared.tokens.lock().unwrap().insert(token.to_owned());
    }

    /// Accepts the tokens that an identity provider issues for ARM.
    pub fn trust(&self, entra: &EntraId) {
        *self.shared.entra.lock().unwrap() = Some(entra.tokens());
    }

    /// Looks at the scale set now, or changes it.
    pub fn set<T>(&self, change: impl FnOnce(&mut ScaleSet) -> T) -> T {
        let mut set = self.shared.set.lock().unwrap();
        set.tick();
        change(&mut set)
    }
}

//! Scales a VM scale set against an Azure Resource Manager that has bad days. Needs no server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cross_check;
mod faults;
mod identity;
mod promises;
mod storm;

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::{Error, ErrorKind};
use windrow_scaler::fleet::vmss::{Patience, Vmss, VmssOptions};
use windrow_scaler::fleet::{Capacity, Fleet, FleetError};
use windrow_tests::arm::{Arm, RESOURCE_GROUP, SCALE_SET, SUBSCRIPTION, ScaleSet, Settings};

/// Most workers, which are as many instances unless a test says otherwise.
const MAX: u32 = 12;
const PATIENCE: Patience = Patience {
    boot: Duration::from_millis(500),
    silence: Duration::from_millis(250),
    operation: Duration::from_millis(500),
    arm: Duration::from_secs(2),
    agent: Duration::from_secs(1),
    step: Duration::from_secs(4),
};
const WITHIN: Duration = Duration::from_secs(20);

/// A scale set and the scaler that resizes it.
struct Scaling {
    arm: Arm,
    vmss: Vmss,
    options: VmssOptions,
    runtime: tokio::runtime::Runtime,
}

impl Scaling {
    fn new(settings: Settings) -> Self {
        Self::with(settings, |_| {})
    }

    fn with(settings: Settings, change: impl FnOnce(&mut VmssOptions)) -> Self {
        let workers_per_instance = settings.workers;
        let arm = Arm::start(settings);
        let mut options = VmssOptions {
            subscription: SUBSCRIPTION.to_owned(),
            resource_group: RESOURCE_GROUP.to_owned(),
            scale_set: SCALE_SET.to_owned(),
            workers_per_instance,
            max_workers: MAX,
            agent_port: arm.agent_port(),
            endpoint: arm.url().to_owned(),
            patience: PATIENCE,
        };
        change(&mut options);
        let vmss = Vmss::new(options.clone(), Imds::of(&arm)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            arm,
            vmss,
            options,
            runtime,
        }
    }

    /// Begins anew with a scaler that remembers nothing.
    fn restart(&mut self) {
        self.vmss = Vmss::new(self.options.clone(), Imds::of(&self.arm)).unwrap();
    }

    fn look(&mut self) -> Result<Capacity, FleetError> {
        self.runtime.block_on(self.vmss.look(None))
    }

    fn resize(&mut self, wanted: u32) -> Result<(), FleetError> {
        self.runtime.block_on(self.vmss.resize(wanted))
    }

    /// Takes one step, as the scaler does.
    fn step(&mut self, wanted: u32) -> Result<Capacity, FleetError> {
        let capacity = self.look();
        let resized = self.resize(wanted);
        self.check();
        resized.and(capacity)
    }

    /// Takes steps towards `wanted` until the scale set is as it should be.
    fn until(&mut self, what: &str, wanted: u32, mut done: impl FnMut(&mut ScaleSet) -> bool) {
        let deadline = Instant::now() + WITHIN;
        let mut last = String::new();
        while !self.arm.set(&mut done) {
            if let Err(error) = self.step(wanted) {
                last = error.to_string();
            }
            assert!(
                Instant::now() < deadline,
                "not within {WITHIN:?}: {what}; last error: {last}; {:?}; capacity {}",
                self.arm.set(|set| set.instances()),
                self.arm.set(|set| set.capacity())
            );
            sleep(Duration::from_millis(2));
        }
    }

    /// Takes steps towards `wanted` for a time.
    fn during(&mut self, time: Duration, wanted: u32) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            _ = self.step(wanted);
            sleep(Duration::from_millis(2));
        }
    }

    /// Takes steps until exactly `wanted` instances exist and work, and the scaler says so.
    fn converges(&mut self, wanted: u32) {
        let what = format!("{wanted} instances at work");
        self.until(&what, wanted, |set| {
            let instances = set.instances();
            let at_work = instances.iter().filter(|one| one.is_at_work).count();
            // What never came may still be part of the capacity.
            at_work == wanted as usize && instances.len() == at_work && set.capacity() >= wanted
        });
        let deadline = Instant::now() + WITHIN;
        loop {
            let seen = self.step(wanted);
            let each = self.options.workers_per_instance;
            let expected = Capacity {
                requested: wanted * each,
                ready: wanted * each,
                ..Capacity::default()
            };
            if seen.as_ref().is_ok_and(|seen| *seen == expected) {
                return;
            }
            assert!(Instant::now() < deadline, "{seen:?}");
        }
    }

    /// Checks what holds at any time.
    fn check(&self) {
        let most = self.options.max_workers / self.options.workers_per_instance;
        self.arm.set(|set| {
            let log = set.log();
            assert_eq!(log.violations, Vec::<String>::new());
            assert_eq!(log.chosen_by_platform, 0, "the platform chose what to delete");
            assert_eq!(log.asked_too_early, 0, "ARM was asked while it asked to wait");
            assert!(
                log.most_at_work <= most,
                "{} at work, {most} allowed",
                log.most_at_work
            );
        });
    }
}

/// Gets tokens from the machine's identity endpoint.
#[derive(Debug)]
struct Imds {
    url: String,
    client: reqwest::Client,
}

impl Imds {
    fn of(arm: &Arm) -> Arc<Self> {
        let url = format!(
            "{}/metadata/identity/oauth2/token?api-version=2018-02-01&resource=",
            arm.url()
        );
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Arc::new(Self { url, client })
    }
}

#[async_trait]
impl TokenCredential for Imds {
    async fn get_token(
        &self,
        scopes: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let resource = scopes[0].strip_suffix("/.default").unwrap();
        let request = self.client.get(format!("{}{resource}", self.url));
        let failed = |error: reqwest::Error| Error::with_message(ErrorKind::Credential, error.to_string());
        let response = request.header("Metadata", "true").send().await.map_err(failed)?;
        let answer: serde_json::Value = response.json().await.map_err(failed)?;
        let token = answer["access_token"].as_str().unwrap().to_owned();
        let expires = SystemTime::now() + Duration::from_secs(3599);
        Ok(AccessToken::new(token, expires.into()))
    }
}

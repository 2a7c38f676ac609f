//! The scale set as the platform keeps it, and what a test sees and changes of it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use windrow_common::EventTime;

use super::agent::Agent;
use super::faults::{Dice, Ending, Faults};
use super::{Mode, Settings};

/// A scale set. Time passes in it when it is looked at.
#[derive(Debug)]
pub struct ScaleSet {
    /// What goes wrong.
    pub faults: Faults,
    pub(super) settings: Settings,
    pub(super) capacity: u32,
    pub(super) etag: u64,
    /// Capacity and ETag before the last change.
    pub(super) before: (u32, u64),
    pub(super) machines: BTreeMap<u64, Machine>,
    pub(super) operations: BTreeMap<u64, Operation>,
    pub(super) dice: Dice,
    /// When a throttled client may ask again.
    pub(super) wait_until: Option<Instant>,
    /// When each instance that the capacity promises will be created.
    due: Vec<Instant>,
    next: u64,
    next_operation: u64,
    log: Log,
    runtime: Handle,
    port: u16,
    subnet: [u8; 2],
}

/// What a test may want to know of the past.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Violations by a client of rules that must always hold.
    pub violations: Vec<String>,
    /// Number of instances that the platform chose and deleted to lower the capacity.
    pub chosen_by_platform: u32,
    /// Number of requests that came while the client was asked to wait.
    pub asked_too_early: u32,
    /// Number of requests to change the capacity that were carried out.
    pub capacity_writes: u32,
    /// Number of requests refused because the ETag was stale.
    pub stale_etags: u32,
    /// Number of requests that protect an instance.
    pub protections: u32,
    /// Number of instances created.
    pub created: u64,
    /// Largest number of instances that took messages or could come to.
    pub most_at_work: u32,
    /// Number of requests.
    pub requests: u64,
}

/// An instance, as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceView {
    /// Its id, or its name in a Flexible scale set.
    pub id: String,
    /// Whether its agent is there and its workers take messages.
    pub is_at_work: bool,
    /// Whether it was asked to drain.
    pub is_draining: bool,
    /// Whether it is being deleted.
    pub is_deleting: bool,
    /// Number of messages that its workers hold.
    pub in_hand: u64,
    /// Whether it is protected from scale-in.
    pub is_protected: bool,
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) key: String,
    pub(super) created: EventTime,
    pub(super) running: Instant,
    pub(super) is_failed: bool,
    pub(super) deleting: Option<Instant>,
    pub(super) is_deallocated: bool,
    pub(super) is_protected: bool,
    pub(super) agent: Agent,
}

#[derive(Debug)]
pub(super) struct Operation {
    pub(super) ends: Option<Instant>,
    pub(super) fails: bool,
}

impl ScaleSet {
    pub(super) fn new(settings: Settings, runtime: Handle, port: u16, subnet: [u8; 2]) -> Self {
        let mut set = Self {
            faults: Faults::default(),
            capacity: 0,
            etag: 1,
            before: (0, 0),
            machines: BTreeMap::new(),
            operations: BTreeMap::new(),
            dice: Dice::new(settings.seed),
            wait_until: None,
            due: Vec::new(),
            next: 0,
            next_operation: 0,
            log: Log::default(),
            runtime,
            port,
            subnet,
            settings,
        };
        if set.settings.capacity > 0 {
            set.write_capacity(set.settings.capacity);
            set.log = Log::default();
        }
        set
    }

    /// Returns what has happened.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Returns the capacity.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Returns the instances.
    pub fn instances(&self) -> Vec<InstanceView> {
        let view = |machine: &Machine| InstanceView {
            id: machine.key.clone(),
            is_at_work: machine.is_at_work(),
            is_draining: machine.agent.is_draining(),
            is_deleting: machine.deleting.is_some(),
            in_hand: machine.agent.in_hand(),
            is_protected: machine.is_protected,
        };
        self.machines.values().map(view).collect()
    }

    /// Sets the number of messages that an instance's workers hold.
    pub fn set_in_hand(&mut self, id: &str, in_hand: u64) {
        self.machine(id).agent.set_in_hand(in_hand);
    }

    /// Sets whether an instance's agent leaves questions unanswered.
    pub fn set_mute(&mut self, id: &str, is_mute: bool) {
        self.machine(id).agent.set_mute(is_mute);
    }

    /// Evicts a Spot instance, which is deleted.
    pub fn evict(&mut self, id: &str) {
        let number = self.number(id).unwrap();
        self.machines.remove(&number);
        self.change(self.capacity.saturating_sub(1));
    }

    /// Evicts a Spot instance, which stays, deallocated.
    pub fn deallocate(&mut self, id: &str) {
        let machine = self.machine(id);
        machine.is_deallocated = true;
        machine.agent.kill();
    }

    /// Changes the scale set as a person would, so that the ETag changes.
    pub fn touch(&mut self) {
        self.change(self.capacity);
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self) {
        let now = Instant::now();
        let ended: Vec<u64> = self
            .machines
            .iter()
            .filter(|(_, machine)| machine.deleting.is_some_and(|end| end <= now))
            .map(|(number, _)| *number)
            .collect();
        for number in ended {
            self.machines.remove(&number);
            if self.settings.capacity_falls_late {
                self.change(self.capacity.saturating_sub(1));
            }
        }
        let due = self.due.iter().filter(|due| **due <= now).count();
        self.due.retain(|due| *due > now);
        for _ in 0..due {
            self.create(now);
        }
        let at_work = self.machines.values().filter(|machine| {
            machine.deleting.is_none() && !machine.agent.is_draining() && !machine.is_failed
        });
        let at_work = at_work.count() + self.due.len();
        self.log.most_at_work = self.log.most_at_work.max(at_work as u32);
    }

    /// Changes the capacity on a client's wish, and returns the operation.
    pub(super) fn write_capacity(&mut self, capacity: u32) -> u64 {
        self.log.capacity_writes += 1;
        let now = Instant::now();
        let keep = |machine: &&mut Machine| machine.deleting.is_none();
        // As long as the capacity counts the instances that are being deleted, so does what it is compared with.
        let counts = |machine: &&Machine| machine.deleting.is_none() || self.settings.capacity_falls_late;
        let existing = self.machines.values().filter(counts).count() as u32;
        self.change(capacity);
        let coming = self.due.len() as u32;
        if capacity >= existing + coming {
            let due = now + self.settings.boot / 4;
            let more = capacity - existing - coming;
            self.due.extend((0..more).map(|_| due));
        } else {
            // What has not been created yet is cancelled; then the platform chooses the newest.
            let surplus = (existing + coming - capacity) as usize;
            let cancelled = surplus.min(self.due.len());
            self.due.truncate(self.due.len() - cancelled);
            for machine in self
                .machines
                .values_mut()
                .rev()
                .filter(keep)
                .take(surplus - cancelled)
            {
                machine.deleting = Some(now + self.settings.boot / 4);
                self.log.chosen_by_platform += 1;
            }
        }
        self.begin()
    }

    /// Deletes the instances that a client names, and returns the operation, or the name that is unknown.
    pub(super) fn delete(&mut self, ids: &[String]) -> Result<u64, String> {
        let now = Instant::now();
        let mut numbers = Vec::new();
        for id in ids {
            numbers.push(self.number(id).ok_or_else(|| id.clone())?);
        }
        for number in numbers {
            let machine = self.machines.get_mut(&number).unwrap();
            if machine.deleting.is_some() {
                continue;
            }
            let in_hand = machine.agent.in_hand();
            if machine.is_at_work() || in_hand > 0 {
                let what = format!("{} was deleted with {in_hand} in hand", machine.key);
                self.log.violations.push(what);
            }
            if self.faults.operations == Ending::Failure {
                continue;
            }
            machine.deleting = Some(now + self.settings.boot / 4);
            machine.agent.kill();
            if !self.settings.capacity_falls_late {
                self.change(self.capacity.saturating_sub(1));
            }
        }
        Ok(self.begin())
    }

    pub(super) fn protect(&mut self, id: &str, is_protected: bool) -> bool {
        let Some(number) = self.number(id) else {
            return false;
        };
        self.log.protections += 1;
        self.machines.get_mut(&number).unwrap().is_protected = is_protected;
        true
    }

    pub(super) fn violation(&mut self, what: &str) {
        self.log.violations.push(what.to_owned());
    }

    pub(super) fn count_request(&mut self) {
        self.log.requests += 1;
        if self.wait_until.is_some_and(|until| Instant::now() < until) {
            self.log.asked_too_early += 1;
        }
    }

    pub(super) fn count_stale_etag(&mut self) {
        self.log.stale_etags += 1;
    }

    pub(super) fn number(&self, id: &str) -> Option<u64> {
        let mut found = self.machines.iter().filter(|(_, machine)| machine.key == id);
        found.next().map(|(number, _)| *number)
    }

    fn machine(&mut self, id: &str) -> &mut Machine {
        let number = self.number(id).unwrap();
        self.machines.get_mut(&number).unwrap()
    }

    fn change(&mut self, capacity: u32) {
        self.before = (self.capacity, self.etag);
        self.capacity = capacity;
        self.etag += 1;
    }

    fn create(&mut self, now: Instant) {
        if self
            .faults
            .room
            .is_some_and(|room| self.machines.len() as u32 >= room)
        {
            return;
        }
        let number = self.next;
        self.next += 1;
        self.log.created += 1;
        let key = match self.settings.mode {
            Mode::Uniform => number.to_string(),
            Mode::Flexible => format!("fleet_{number:08x}"),
        };
        let running = now + self.settings.boot / 4;
        let is_failed = self.faults.operations == Ending::Failure;
        let never = is_failed || self.dice.falls(self.faults.never_boot);
        let [first, second] = self.subnet;
        // No address of a subnet's ends, and none that was used before.
        let address = Ipv4Addr::new(
            127,
            first,
            second.wrapping_add((number / 250) as u8),
            (number % 250 + 2) as u8,
        );
        let agent = Agent::start(
            &self.runtime,
            address,
            self.port,
            self.settings.workers,
            (!never).then_some(now + self.settings.boot / 2),
            self.settings.drains_in,
        );
        let machine = Machine {
            key,
            created: EventTime::now(),
            running,
            is_failed,
            deleting: None,
            is_deallocated: false,
            is_protected: false,
            agent,
        };
        self.machines.insert(number, machine);
    }

    fn begin(&mut self) -> u64 {
        let ends = match self.faults.operations {
            Ending::Never => None,
            _ => Some(Instant::now() + self.settings.boot / 2),
        };
        let fails = self.faults.operations == Ending::Failure;
        self.next_operation += 1;
        self.operations
            .insert(self.next_operation, Operation { ends, fails });
        self.next_operation
    }
}

impl Machine {
    fn is_at_work(&self) -> bool {
        self.deleting.is_none() && self.agent.is_at_work()
    }

    /// Returns the state of its provisioning and of its power.
    pub(super) fn states(&self) -> (&'static str, Option<&'static str>) {
        if self.deleting.is_some() {
            return ("Deleting", Some("PowerState/stopping"));
        }
        if self.is_failed {
            return ("Failed", None);
        }
        if self.is_deallocated {
            return ("Succeeded", Some("PowerState/deallocated"));
        }
        match self.running <= Instant::now() {
            true => ("Succeeded", Some("PowerState/running")),
            false => ("Creating", None),
        }
    }
}

/// Returns the time after which an unattended test gives up.
pub(super) const fn default_boot() -> Duration {
    Duration::from_millis(40)
}

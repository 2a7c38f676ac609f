//! Decides which instances of a scale set drain, which are deleted, and how many are added. Nothing here asks anyone.

mod judge;
#[cfg(test)]
mod tests;

pub(super) use judge::{AgentReport, Deadlines, Facts, Platform, judge};

/// An instance of the scale set, as far as a decision needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    /// What the delete action calls it.
    pub(super) id: String,
    /// When it was created, as the platform writes it.
    pub(super) created: String,
    pub(super) state: State,
    /// Whether its deletion was asked for and no answer came: the capacity may already be without it.
    pub(super) may_be_deleted: bool,
}

/// The state of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It does not work yet.
    Booting,
    /// It takes messages.
    Ready {
        /// Number of messages that it holds.
        in_hand: u64,
    },
    /// It takes no further messages.
    Draining {
        /// Number of messages that it still holds.
        in_hand: u64,
    },
    /// Its agent does not answer, though it has worked or may have: it counts as busy.
    Silent {
        /// Whether its agent has ever answered.
        has_worked: bool,
        /// Whether it was asked to drain. It may not have received the request.
        drain_asked: bool,
    },
    /// It holds no message and never will.
    Dead(Dead),
    /// The platform is deleting it.
    Deleting,
}

/// Why an instance can be deleted though it did not drain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Dead {
    #[error("Azure could not create it")]
    Failed,
    #[error("it was not ready within the boot deadline")]
    NeverReady,
    #[error("its agent does not answer, and Azure reports {0}")]
    Stopped(String),
}

/// The scale set and its instances.
#[derive(Clone, Debug)]
pub(super) struct Scene<'a> {
    pub(super) instances: &'a [Instance],
    /// The capacity that was last requested. Instances that are being deleted are not part of it.
    pub(super) capacity: u32,
    /// Whether the capacity has differed from the instances for so long that no pending change can explain it.
    pub(super) mismatch_lasts: bool,
}

/// What to do. Each part is safe without the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Instances to drain.
    pub(super) drain: Vec<String>,
    /// Instances to delete.
    pub(super) delete: Vec<String>,
    /// The capacity to write, if any.
    pub(super) capacity: Option<u32>,
}

/// How many instances there are, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) booting: u32,
    pub(super) ready: u32,
    pub(super) silent: u32,
    pub(super) draining: u32,
    pub(super) dead: u32,
    /// Silent ones that were asked to drain; part of `silent`.
    maybe_draining: u32,
    /// Silent ones that have worked; part of `silent`.
    has_worked: u32,
    may_be_deleted: u32,
    deleting: u32,
    /// Instances that the capacity promises and that do not exist yet.
    pub(super) to_come: u32,
}

impl Count {
    pub(super) fn of(scene: &Scene<'_>) -> Self {
        let mut count = Self::default();
        for instance in scene.instances {
            match &instance.state {
                State::Booting => count.booting += 1,
                State::Ready { .. } => count.ready += 1,
                State::Draining { .. } => count.draining += 1,
                State::Dead(_) => count.dead += 1,
                State::Silent {
                    has_worked,
                    drain_asked,
                } => {
                    count.silent += 1;
                    count.has_worked += u32::from(*has_worked);
                    count.maybe_draining += u32::from(*drain_asked);
                }
                State::Deleting => {
                    count.deleting += 1;
                    continue;
                }
            }
            count.may_be_deleted += u32::from(instance.may_be_deleted);
        }
        count.to_come = scene.capacity.saturating_sub(count.all() - count.may_be_deleted);
        count
    }

    /// Instances that exist and are not being deleted.
    fn all(&self) -> u32 {
        self.booting + self.ready + self.silent + self.draining + self.dead
    }

    /// Whether the capacity does not fit the instances, and deletions that have not ended do not explain it.
    pub(super) fn does_not_fit(&self, capacity: u32) -> bool {
        capacity < self.all() || self.to_come > self.deleting
    }

    /// Instances that may be at work, or may come to be.
    fn at_most(&self) -> u32 {
        self.all() - self.draining
    }

    /// Instances that surely stay if nobody does anything.
    fn at_least(&self) -> u32 {
        self.booting + self.ready + self.silent - self.maybe_draining
    }

    /// Silent instances that work as far as anyone knows.
    pub(super) fn silent_at_work(&self) -> u32 {
        self.has_worked
    }
}

/// Decides how the scale set gets closer to `wanted` instances.
///
/// Whatever the scene, the plan
/// - deletes only drained and dead instances,
/// - never lets more than `wanted` instances take messages: instances that may be working or may still be created count
///   in full, and an instance is replaced only after its deletion has been seen,
/// - never writes a capacity below the number of instances: the platform would choose which to delete.
pub(super) fn plan(wanted: u32, scene: &Scene<'_>) -> Plan {
    let count = Count::of(scene);
    let delete = scene
        .instances
        .iter()
        .filter(|instance| matches!(instance.state, State::Draining { in_hand: 0 } | State::Dead(_)));
    Plan {
        drain: chosen(count.at_least().saturating_sub(wanted), scene.instances),
        delete: delete.map(|instance| instance.id.clone()).collect(),
        capacity: capacity(wanted, scene, &count),
    }
}

/// Chooses the instances to drain: booting ones, the newest first, then those with the least in hand. A silent
/// agent cannot be asked to drain.
fn chosen(excess: u32, instances: &[Instance]) -> Vec<String> {
    let mut candidates: Vec<(Option<u64>, &Instance)> = instances
        .iter()
        .filter_map(|instance| match instance.state {
            State::Booting => Some((None, instance)),
            State::Ready { in_hand } => Some((Some(in_hand), instance)),
            _ => None,
        })
        .collect();
    candidates.sort_by(|(in_hand, left), (other, right)| {
        let newest_first = (&right.created, &right.id).cmp(&(&left.created, &left.id));
        in_hand.cmp(other).then(newest_first)
    });
    candidates
        .into_iter()
        .take(excess as usize)
        .map(|(_, instance)| instance.id.clone())
        .collect()
}

/// Returns the capacity to write. It is never below the number of instances, and only lower than before if there are
/// none.
fn capacity(wanted: u32, scene: &Scene<'_>, count: &Count) -> Option<u32> {
    let missing = wanted.saturating_sub(count.at_most());
    if scene.capacity < count.all() && (!scene.mismatch_lasts || count.may_be_deleted > 0) {
        // Somebody is deleting instances, and the list does not show yet which ones.
        return None;
    }
    let more = missing.saturating_sub(count.to_come);
    if more > 0 {
        return Some(scene.capacity.max(count.all()) + more);
    }
    let never_came = scene.mismatch_lasts && count.to_come > 0;
    let nothing_exists = count.all() == 0 && wanted < scene.capacity;
    match never_came {
        true if missing > 0 => Some(scene.capacity),
        true if nothing_exists => Some(wanted),
        _ => None,
    }
}

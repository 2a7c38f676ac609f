//! Judges the state of one instance from what its agent and the platform say of it.

use std::time::Duration;

use super::{Dead, State};

/// What is known of an instance.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) platform: Platform,
    /// What its agent answered just now.
    pub(crate) agent: Option<AgentReport>,
    /// Whether its agent has been asked since the instance was first seen.
    pub(crate) was_asked: bool,
    /// Whether its agent has ever answered.
    pub(crate) has_answered: bool,
    /// Whether the instance existed before this process: it may be at work though its agent never answered us.
    pub(crate) is_older_than_us: bool,
    /// Time since its agent last answered, or since it was first seen.
    pub(crate) silent_for: Duration,
    /// Time since it was first seen.
    pub(crate) seen_for: Duration,
    pub(crate) drain_asked: bool,
    /// Whether the platform accepted its deletion.
    pub(crate) delete_accepted: bool,
}

/// What the agent of an instance says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct AgentReport {
    /// Number of worker processes.
    pub(crate) workers: u32,
    /// Number of messages that they hold.
    pub(crate) in_hand: u64,
    /// Whether they take no further messages.
    pub(crate) draining: bool,
}

/// What the platform says of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Platform {
    Creating,
    Running,
    /// It is stopped, deallocated or unhealthy; the status code says which.
    Down(String),
    Failed,
    Deleting,
}

/// How long to wait before an instance is given up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    pub(crate) boot: Duration,
    pub(crate) silence: Duration,
}

/// Judges an instance. In case of doubt, it counts as working.
pub(crate) fn judge(facts: &Facts, deadlines: Deadlines) -> State {
    if facts.delete_accepted || facts.platform == Platform::Deleting {
        return State::Deleting;
    }
    if let Some(AgentReport {
        in_hand, draining, ..
    }) = facts.agent
    {
        return match draining {
            true => State::Draining { in_hand },
            false => State::Ready { in_hand },
        };
    }
    let down = match &facts.platform {
        Platform::Down(code) => Some(code.clone()),
        Platform::Failed => Some("that its provisioning failed".to_owned()),
        _ => None,
    };
    if let Some(down) = down
        && facts.silent_for >= deadlines.silence
    {
        return State::Dead(Dead::Stopped(down));
    }
    if facts.has_answered || facts.is_older_than_us {
        return State::Silent {
            has_worked: facts.has_answered,
            drain_asked: facts.drain_asked,
        };
    }
    if facts.platform == Platform::Failed {
        return State::Dead(Dead::Failed);
    }
    // If an agent had no address and could not be asked, its silence proves nothing about a running instance.
    let could_answer = facts.was_asked || facts.platform != Platform::Running;
    if facts.seen_for >= deadlines.boot && could_answer {
        return State::Dead(Dead::NeverReady);
    }
    State::Booting
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINES: Deadlines = Deadlines {
        boot: Duration::from_secs(600),
        silence: Duration::from_secs(900),
    };
    const LONG: Duration = Duration::from_secs(100_000);

    /// An instance that this process saw appear just now.
    fn new() -> Facts {
        Facts {
            platform: Platform::Running,
            agent: None,
            was_asked: true,
            has_answered: false,
            is_older_than_us: false,
            silent_for: Duration::ZERO,
            seen_for: Duration::ZERO,
            drain_asked: false,
            delete_accepted: false,
        }
    }

    fn aged(facts: Facts) -> Facts {
        Facts {
            silent_for: LONG,
            seen_for: LONG,
            ..facts
        }
    }

    fn is_dead(facts: &Facts) -> bool {
        matches!(judge(facts, DEADLINES), State::Dead(_))
    }

    #[test]
    fn an_agent_that_answers_decides_alone_whether_its_instance_is_busy() {
        for platform in [Platform::Failed, Platform::Down("x".into()), Platform::Running] {
            let report = AgentReport {
                workers: 4,
                in_hand: 7,
                draining: false,
            };
            let facts = aged(Facts {
                platform,
                agent: Some(report),
                ..new()
            });
            assert_eq!(judge(&facts, DEADLINES), State::Ready { in_hand: 7 });
        }
    }

    #[test]
    fn a_silent_instance_is_busy_until_the_platform_says_that_it_does_not_run() {
        let has_worked = Facts {
            has_answered: true,
            ..new()
        };
        assert!(!is_dead(&aged(has_worked.clone())));
        let down = Facts {
            platform: Platform::Down("PowerState/deallocated".into()),
            ..has_worked
        };
        assert!(!is_dead(&down), "not before the deadline");
        assert!(is_dead(&aged(down)));
    }

    #[test]
    fn an_instance_that_never_became_ready_is_given_up_after_the_boot_deadline() {
        assert_eq!(judge(&new(), DEADLINES), State::Booting);
        assert!(is_dead(&aged(new())));
        let failed = Facts {
            platform: Platform::Failed,
            ..new()
        };
        assert!(is_dead(&failed));
    }

    #[test]
    fn a_scaler_that_was_restarted_and_reaches_no_agent_takes_no_running_instance_for_dead() {
        let older = Facts {
            is_older_than_us: true,
            ..new()
        };
        assert!(!is_dead(&aged(older)));
    }

    #[test]
    fn an_instance_that_runs_and_could_not_be_asked_is_not_given_up() {
        let without_address = Facts {
            was_asked: false,
            ..new()
        };
        assert!(!is_dead(&aged(without_address.clone())));
        let not_created = Facts {
            platform: Platform::Creating,
            ..without_address
        };
        assert!(is_dead(&aged(not_created)));
    }
}

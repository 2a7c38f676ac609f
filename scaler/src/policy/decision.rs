//! What the policy decides, and why, in words and numbers.

use std::fmt;

use serde::Serialize;

/// How many workers there should be, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// The number of workers.
    pub wanted: u32,
    /// Why.
    #[serde(flatten)]
    pub reason: DecisionReason,
}

/// Why a fleet should have the size that it should have.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum DecisionReason {
    /// The backlog is to be done in time.
    Drain {
        /// Messages that are ready or unacked.
        backlog: u64,
        /// When the most urgent of them are due, in seconds from now; negative if they are late.
        due_seconds: f64,
        /// Messages that a worker scores in a second.
        rate: f64,
    },
    /// The next batch is near.
    Batch {
        /// How far away it is, in seconds.
        in_seconds: f64,
        /// How many messages it is expected to have.
        messages: u64,
    },
    /// The workers that there are have work.
    Busy {
        /// Messages that are ready or unacked.
        backlog: u64,
    },
    /// Fewer workers are enough for what arrives.
    Flow {
        /// Messages that arrive in a second.
        arrivals: f64,
        /// Messages that a worker scores in a second.
        rate: f64,
    },
    /// There is no work, and more may come before it is worth while to end workers.
    Linger {
        /// For how long there was no work, in seconds.
        idle_seconds: f64,
        /// After how long without work workers are ended.
        until_seconds: f64,
    },
    /// There is no work.
    Idle,
    /// Something could not be observed; nothing changes.
    Hold {
        /// What could not be observed.
        unseen: &'static str,
    },
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", plural(self.wanted.into(), "worker"), self.reason)
    }
}

impl fmt::Display for DecisionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drain {
                backlog,
                due_seconds,
                rate,
            } => {
                let due = match due_seconds {
                    late if *late < 0.0 => format!("are {:.0} s late", -late),
                    left => format!("are due in {left:.0} s"),
                };
                let waiting = plural(*backlog, "message");
                write!(
                    f,
                    "{waiting} in the queue; the most urgent {due}, and a worker scores {rate:.0} a second"
                )
            }
            Self::Batch { in_seconds, messages } => {
                let messages = plural(*messages, "message");
                match in_seconds {
                    late if *late < 0.0 => write!(f, "a batch of about {messages} is {:.0} s late", -late),
                    left => write!(f, "a batch of about {messages} is due in {left:.0} s"),
                }
            }
            Self::Busy { backlog } => write!(
                f,
                "{} in the queue, and every worker has work",
                plural(*backlog, "message")
            ),
            Self::Flow { arrivals, rate } => {
                write!(
                    f,
                    "{arrivals:.0} messages arrive each second, and a worker scores {rate:.0}"
                )
            }
            Self::Linger {
                idle_seconds,
                until_seconds,
            } => write!(
                f,
                "no message for {idle_seconds:.0} s; workers are kept for {until_seconds:.0} s, because starting others \
                 costs as much"
            ),
            Self::Idle => f.write_str("nothing is ready or unacked"),
            Self::Hold { unseen } => write!(f, "{unseen} cannot be observed, so the size is held"),
        }
    }
}

fn plural(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}

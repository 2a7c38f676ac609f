//! How many messages a consumer may be sent, so that their bodies fit into memory.
//!
//! RabbitMQ counts a prefetch in messages only: quorum queues know no limit in bytes. So the consumer watches the sizes of
//! what arrives, and subscribes with another prefetch when they have changed.

use crate::Prefetch;
use windrow_common::MAX_BODY_BYTES;

/// Weight of the newest size in the average: about the last hundred messages count.
const NEWEST: f64 = 1.0 / 64.0;
/// How many times larger the next window may be: the sizes of a few messages say little about the next thousand.
const GROWTH: u16 = 8;

/// The window of a consumer: the number of unsettled messages that the broker may send it.
#[derive(Debug)]
pub(super) struct PrefetchWindow {
    limit: Prefetch,
    /// Average size of a body, in bytes. At first every message may be as large as a scoring message can be.
    average: f64,
    /// Whether a size is known.
    is_known: bool,
}

/// How many deliveries a consumer holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Those of the current subscription.
    pub(super) here: usize,
    /// Those of earlier subscriptions that are being worked on.
    pub(super) retiring: usize,
    /// Those of earlier subscriptions that only wait until their dead letters are durable, which may take forever.
    pub(super) waiting: usize,
}

impl PrefetchWindow {
    pub(super) fn new(limit: Prefetch) -> Self {
        Self {
            limit,
            average: MAX_BODY_BYTES as f64,
            is_known: false,
        }
    }

    /// Notes the size of a body that has arrived.
    pub(super) fn note(&mut self, bytes: usize) {
        let bytes = bytes as f64;
        match self.is_known {
            true => self.average += (bytes - self.average) * NEWEST,
            false => self.average = bytes,
        }
        self.is_known = true;
    }

    /// Returns the number of messages to begin with, as far as sizes are known.
    pub(super) fn fitting(&self) -> u16 {
        self.fitting_beside(0)
    }

    /// Returns the number of messages that fit beside some others.
    fn fitting_beside(&self, others: usize) -> u16 {
        u16::try_from(self.room_for().saturating_sub(others))
            .unwrap_or(u16::MAX)
            .clamp(1, self.limit.messages.get())
    }

    /// Returns the window to change to.
    ///
    /// Grows only a window that is full. Keeps one that is up to twice too large or too small, because each change has
    /// a cost, except that it always grows to the largest window allowed.
    pub(super) fn wanted(&self, current: u16, held: Held) -> Option<u16> {
        let most = self.limit.messages.get();
        let fitting = self.fitting_beside(held.waiting);
        if fitting <= current / 2 {
            return (held.retiring == 0).then_some(fitting);
        }
        let others = held.here + held.retiring + held.waiting;
        let room = self.room_for().saturating_sub(others);
        let grown = most
            .min(current.saturating_mul(GROWTH))
            .min(u16::try_from(room).unwrap_or(u16::MAX));
        let is_worth_it = grown / 2 >= current || (grown == most && grown > current);
        (is_worth_it && held.here >= usize::from(current)).then_some(grown)
    }

    /// Returns the number of messages whose bodies fit.
    fn room_for(&self) -> usize {
        // A cast of a float saturates.
        (self.limit.bytes.get() as f64 / self.average.max(1.0)) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter::repeat_n;
    use std::num::{NonZeroU16, NonZeroUsize};

    fn window(messages: u16) -> PrefetchWindow {
        PrefetchWindow::new(Prefetch {
            messages: NonZeroU16::new(messages).unwrap(),
            bytes: NonZeroUsize::new(128 << 20).unwrap(),
        })
    }

    fn held(here: usize, retiring: usize) -> Held {
        Held {
            here,
            retiring,
            waiting: 0,
        }
    }

    /// Returns the windows that a consumer goes through while messages of these sizes fill each of them.
    fn windows(
        window: &mut PrefetchWindow,
        mut current: u16,
        sizes: impl IntoIterator<Item = usize>,
    ) -> Vec<u16> {
        let mut windows = vec![current];
        let (mut unsettled, mut retiring) = (0, 0);
        for bytes in sizes {
            window.note(bytes);
            // The oldest half is acked when the window is full and does not grow.
            unsettled = if unsettled < usize::from(current) {
                unsettled + 1
            } else {
                unsettled / 2 + 1
            };
            if let Some(wanted) = window.wanted(current, held(unsettled, retiring)) {
                current = wanted;
                (unsettled, retiring) = (0, unsettled);
                windows.push(current);
            } else if unsettled < usize::from(current) / 2 {
                retiring = 0;
            }
        }
        windows
    }

    #[test]
    fn a_window_grows_in_steps_to_all_that_is_allowed_or_fits() {
        let mut small = window(10_000);
        let first = small.fitting();
        assert_eq!(
            windows(&mut small, first, repeat_n(150, 30_000)),
            [24, 192, 1_536, 10_000]
        );
        assert_eq!(windows(&mut window(40), first, repeat_n(150, 100)), [24, 40]);
        let mut large = window(10_000);
        let windows = windows(&mut large, first, repeat_n(92_000, 30_000));
        let last = *windows.last().unwrap();
        assert!((700..=1_458).contains(&last), "{windows:?}");
    }

    #[test]
    fn a_window_shrinks_once_messages_are_larger() {
        let mut window = window(10_000);
        windows(&mut window, 24, repeat_n(150, 30_000));
        let windows = windows(&mut window, 10_000, repeat_n(1 << 20, 1_000));
        let last = *windows.last().unwrap();
        assert!((60..=256).contains(&last), "{windows:?}");
    }

    #[test]
    fn a_window_shrinks_while_dead_letters_wait_and_leaves_room_for_them() {
        let mut window = window(10_000);
        windows(&mut window, 10_000, repeat_n(1 << 20, 1_000));
        let busy = Held {
            here: 0,
            retiring: 1,
            waiting: 3,
        };
        assert_eq!(window.wanted(10_000, busy), None);
        let idle = Held { retiring: 0, ..busy };
        let fitting = usize::from(window.fitting());
        assert_eq!(window.wanted(10_000, idle).map(usize::from), Some(fitting - 3));
        let full = Held {
            waiting: 2 * fitting,
            ..idle
        };
        assert_eq!(window.wanted(10_000, full), Some(1));
        assert_eq!(window.wanted(1, full), None);
    }

    #[test]
    fn a_window_that_is_not_used_up_stays_and_no_growth_exceeds_the_budget() {
        let mut window = window(10_000);
        window.note(150);
        assert_eq!(window.wanted(24, held(23, 0)), None);
        assert_eq!(window.wanted(24, held(24, 0)), Some(192));
        window.note(1 << 20);
        let average = window.average as usize;
        let room = (128 << 20) / average;
        let wanted = usize::from(window.wanted(24, held(24, 100)).unwrap());
        assert!(wanted + 124 <= room.max(192 + 124), "{wanted} of {room}");
        assert_eq!(window.wanted(24, held(24, room)), None);
    }
}

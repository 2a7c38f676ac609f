//! Which readings belong in no window.

use windrow_common::EventTime;

use super::{MAX_ABS_VALUE, Windowing};
use crate::quarantine::QuarantineReason;
use crate::source::Reading;

/// Returns why a reading belongs in no window, or `None` if it belongs in one.
#[inline]
pub(super) fn reject(
    windowing: &Windowing,
    reading: &Reading,
    late_before: EventTime,
) -> Option<QuarantineReason> {
    if let Some(reason) = unusable(reading.value) {
        Some(reason)
    } else if reading.time > reading.arrival.saturating_add(windowing.max_skew) {
        Some(QuarantineReason::FarFuture)
    } else if reading.time < late_before {
        Some(QuarantineReason::Late)
    } else {
        None
    }
}

/// Returns why a value cannot be aggregated, or `None` if it can.
#[inline]
pub(super) fn unusable(value: f64) -> Option<QuarantineReason> {
    if !value.is_finite() {
        Some(QuarantineReason::NonFinite)
    } else if value.abs() > MAX_ABS_VALUE {
        Some(QuarantineReason::OutOfRange)
    } else {
        None
    }
}

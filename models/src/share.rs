//! A share of the sensors, for a promotion in stages.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use windrow_common::SensorId;

/// A share of all sensors, such as `10%`.
///
/// A hash of the sensor's name decides whether it is part of a share, so every command chooses the same sensors, and a larger
/// share holds all sensors of a smaller one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(f64);

/// A text that is no [`Share`].
#[derive(Debug, thiserror::Error)]
#[error("expected a percentage above 0% and up to 100%, such as 10%")]
pub struct ShareError;

impl Share {
    /// All sensors.
    pub const ALL: Self = Self(100.0);

    /// Returns whether the sensor is part of the share.
    pub fn holds(self, sensor: &SensorId) -> bool {
        let digest = Sha256::digest(sensor.to_string());
        let mut first = [0; 4];
        first.copy_from_slice(&digest[..4]);
        f64::from(u32::from_be_bytes(first)) / 4_294_967_296.0 * 100.0 < self.0
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        // Without its sign, 1 could mean all or one of a hundred.
        let number = text.strip_suffix('%').ok_or(ShareError)?.trim();
        match number.parse::<f64>() {
            Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self(percent)),
            _ => Err(ShareError),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_share_holds_the_sensors_of_a_smaller_one() {
        let sensors: Vec<SensorId> = (0..10_000)
            .map(|at| SensorId::new(&format!("d{}", at / 10), &format!("t{}", at % 10)).unwrap())
            .collect();
        let mut before: Vec<&SensorId> = Vec::new();
        for percent in ["1%", "10 %", "33.3%", "99%", "100%"] {
            let share: Share = percent.parse().unwrap();
            let held: Vec<&SensorId> = sensors.iter().filter(|sensor| share.holds(sensor)).collect();
            assert!(before.iter().all(|sensor| held.contains(sensor)), "{share}");
            #[allow(clippy::cast_precision_loss)]
            let part = held.len() as f64 / 100.0;
            assert!((part - share.0).abs() < 2.0, "{share}: {part} %");
            before = held;
        }
        assert_eq!(before.len(), sensors.len());
        for wrong in ["0%", "101%", "10", "0.1", "x%", "NaN%", "-1%", ""] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }
}

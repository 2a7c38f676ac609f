//! The features that a model reads from an aggregate.

use std::fmt;
use std::str::FromStr;

use windrow_common::Aggregate;

/// A number of an aggregate that a model can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// Number of readings.
    Count,
    /// Arithmetic mean.
    Mean,
    /// Population standard deviation.
    Std,
    /// Smallest value.
    Min,
    /// Largest value.
    Max,
    /// Earliest value.
    First,
    /// Latest value.
    Last,
    /// Sample standard deviation, which divides by count − 1; 0 for one reading.
    StdSample,
    /// Root mean square.
    Rms,
    /// Largest value minus smallest value.
    Range,
}

/// A list of the features that a model reads, in its order: at least one, none twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Features(Box<[Feature]>);

/// An error in a feature list.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FeatureError {
    /// A name is not a feature's.
    #[error("`{0}` is not a feature: use count, mean, std, min, max, first, last, std_sample, rms or range")]
    Unknown(String),
    /// A feature is named more than once.
    #[error("the feature `{0}` is named twice")]
    Twice(Feature),
    /// The list is empty.
    #[error("no feature is named: name at least one, such as mean or mean,std,min,max")]
    None,
}

impl Feature {
    /// All features. A feature's index in this list is its code in model files, so new ones go at the end.
    pub const ALL: [Self; 10] = [
        Self::Count,
        Self::Mean,
        Self::Std,
        Self::Min,
        Self::Max,
        Self::First,
        Self::Last,
        Self::StdSample,
        Self::Rms,
        Self::Range,
    ];

    /// Returns the feature's value in `aggregate`.
    #[inline]
    pub fn of(self, aggregate: &Aggregate) -> f64 {
        match self {
            // Exact up to 2^53 readings in one window.
            #[allow(clippy::cast_precision_loss)]
            Self::Count => aggregate.count as f64,
            Self::Mean => aggregate.mean,
            Self::Std => aggregate.std,
            Self::Min => aggregate.min,
            Self::Max => aggregate.max,
            Self::First => aggregate.first,
            Self::Last => aggregate.last,
            Self::StdSample => sample_std(aggregate),
            // The mean of the squares is the square of the mean and the variance.
            Self::Rms => aggregate.mean.hypot(aggregate.std),
            Self::Range => aggregate.max - aggregate.min,
        }
    }

    /// Returns whether the feature moves with the sensor's level: a shift of all readings shifts it by as much.
    pub fn is_level(self) -> bool {
        match self {
            Self::Mean | Self::Min | Self::Max | Self::First | Self::Last => true,
            Self::Count | Self::Std | Self::StdSample | Self::Rms | Self::Range => false,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Mean => "mean",
            Self::Std => "std",
            Self::Min => "min",
            Self::Max => "max",
            Self::First => "first",
            Self::Last => "last",
            Self::StdSample => "std_sample",
            Self::Rms => "rms",
            Self::Range => "range",
        }
    }
}

/// Returns the standard deviation that pandas computes by default.
///
/// pandas has none for one reading. A NaN could not be scored, so this is 0, as `std().fillna(0)`.
fn sample_std(aggregate: &Aggregate) -> f64 {
    if aggregate.count < 2 {
        return 0.0;
    }
    // Exact up to 2^53 readings in one window.
    #[allow(clippy::cast_precision_loss)]
    let count = aggregate.count as f64;
    aggregate.std * (count / (count - 1.0)).sqrt()
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Feature {
    type Err = FeatureError;

    fn from_str(text: &str) -> Result<Self, FeatureError> {
        Self::ALL
            .into_iter()
            .find(|feature| feature.name() == text)
            .ok_or_else(|| FeatureError::Unknown(text.to_owned()))
    }
}

impl Features {
    /// Creates a list of features.
    pub fn new(features: &[Feature]) -> Result<Self, FeatureError> {
        if features.is_empty() {
            return Err(FeatureError::None);
        }
        for (at, feature) in features.iter().enumerate() {
            if features[..at].contains(feature) {
                return Err(FeatureError::Twice(*feature));
            }
        }
        Ok(Self(features.into()))
    }

    /// Returns the features, in order.
    pub fn as_slice(&self) -> &[Feature] {
        &self.0
    }

    /// Returns the number of features, which is the length of a row.
    #[allow(clippy::len_without_is_empty)] // A list is never empty.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Appends one row to `rows` for each aggregate.
    pub fn extract(&self, aggregates: &[Aggregate], rows: &mut Vec<f64>) {
        if let [feature] = *self.0 {
            rows.extend(aggregates.iter().map(|aggregate| feature.of(aggregate)));
            return;
        }
        rows.reserve(aggregates.len() * self.len());
        for aggregate in aggregates {
            rows.extend(self.0.iter().map(|feature| feature.of(aggregate)));
        }
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, feature) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{feature}")?;
        }
        Ok(())
    }
}

impl FromStr for Features {
    type Err = FeatureError;

    fn from_str(text: &str) -> Result<Self, FeatureError> {
        if text.trim().is_empty() {
            return Err(FeatureError::None);
        }
        let features: Result<Vec<_>, _> = text.split(',').map(|name| name.trim().parse()).collect();
        Self::new(&features?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_common::EventTime;

    #[test]
    fn rows_hold_the_features_in_the_models_order() {
        let aggregate = Aggregate {
            window_start: EventTime::from_millis(0),
            count: 3,
            mean: 1.5,
            std: 0.25,
            min: -4.0,
            max: 8.0,
            first: 16.0,
            last: 32.0,
        };
        let mut rows = vec![7.0];
        let features: Features = "last,count,mean".parse().unwrap();
        features.extract(&[aggregate, aggregate], &mut rows);
        assert_eq!(rows, [7.0, 32.0, 3.0, 1.5, 32.0, 3.0, 1.5]);
        let all = Features::new(&Feature::ALL).unwrap();
        rows.clear();
        all.extract(&[aggregate], &mut rows);
        let (sample, rms) = (0.25 * 1.5_f64.sqrt(), 2.3125_f64.sqrt());
        assert_eq!(rows, [3.0, 1.5, 0.25, -4.0, 8.0, 16.0, 32.0, sample, rms, 12.0]);
    }

    #[test]
    fn derived_features_are_those_of_pandas() {
        // pandas.Series([69.993, 71.046, 70.742]): std(ddof=0), std(), (x**2).mean()**.5, max() - min().
        let aggregate = Aggregate {
            window_start: EventTime::from_millis(0),
            count: 3,
            mean: 70.59366666666666,
            std: 0.44249620211804813,
            min: 69.993,
            max: 71.046,
            first: 69.993,
            last: 70.742,
        };
        for (feature, right) in [
            (Feature::StdSample, 0.541_944_954_154_331),
            (Feature::Rms, 70.595_053_483_465_35),
            (Feature::Range, 1.053),
        ] {
            let value = feature.of(&aggregate);
            assert!(
                (value - right).abs() <= 1e-13 * right,
                "{feature}: {value} is not {right}"
            );
        }
        let one = Aggregate {
            count: 1,
            std: 0.0,
            ..aggregate
        };
        assert_eq!(Feature::StdSample.of(&one), 0.0);
    }

    #[test]
    fn a_list_reads_back_from_its_own_text() {
        let all = Features::new(&Feature::ALL).unwrap();
        assert_eq!(
            all.to_string(),
            "count,mean,std,min,max,first,last,std_sample,rms,range"
        );
        assert_eq!(all.to_string().parse(), Ok(all));
        assert_eq!(" mean , std".parse::<Features>().unwrap().to_string(), "mean,std");
    }

    #[test]
    fn what_names_no_features_is_refused() {
        assert_eq!("".parse::<Features>(), Err(FeatureError::None));
        assert_eq!(
            "mean,".parse::<Features>(),
            Err(FeatureError::Unknown(String::new()))
        );
        assert_eq!(
            "median".parse::<Features>(),
            Err(FeatureError::Unknown("median".into()))
        );
        assert_eq!(
            "mean,std,mean".parse::<Features>(),
            Err(FeatureError::Twice(Feature::Mean))
        );
    }
}

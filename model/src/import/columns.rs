//! The columns of the table that a model was fitted on, as features.

use super::{ImportError, shown};
use crate::{Feature, Features};

/// The features of a model, and what was guessed about them.
#[derive(Debug, PartialEq)]
pub(super) struct Columns {
    pub(super) features: Features,
    pub(super) note: Option<String>,
}

/// Returns the features that a model of `dimension` columns reads, in its order.
///
/// The names of the columns decide the order if they name features. Otherwise `given` does, and the columns must be
/// plain positions (`x0`, `x1`) or one column: other names say that the model knows something else than an aggregate.
pub(super) fn features(
    columns: Option<&[String]>,
    dimension: usize,
    given: Option<&Features>,
) -> Result<Columns, ImportError> {
    let by_position = |note| {
        let mean = [Feature::Mean];
        let features = given.cloned().map_or_else(|| Features::new(&mean), Ok);
        features
            .map(|features| Columns { features, note })
            .map_err(ImportError::Features)
    };
    let Some(columns) = columns.filter(|columns| columns.len() == dimension && !are_positions(columns))
    else {
        return by_position(None);
    };
    match named(columns, given) {
        Some(fitted) if given.is_none_or(|given| same_set(&fitted, given)) => {
            let note = note(columns, &fitted, given);
            Ok(Columns {
                features: fitted,
                note,
            })
        }
        Some(fitted) => Err(ImportError::Columns {
            fitted,
            columns: list(columns),
            given: given.cloned(),
        }),
        // The name of a single column is often that of the sensor.
        None if columns.len() == 1 => by_position(Some(format!(
            "its column `{}` is taken as the only feature",
            list(columns)
        ))),
        None => Err(ImportError::ColumnNames(list(columns))),
    }
}

/// Returns the features that the columns name: each another one, all of the same thing.
fn named(columns: &[String], given: Option<&Features>) -> Option<Features> {
    let read: Option<Vec<(Feature, String)>> = columns.iter().map(|column| feature(column)).collect();
    let read = read?;
    let (_, of) = read.first()?;
    if !read.iter().all(|(_, other)| other == of) {
        return None;
    }
    // pandas calls its sample deviation `std` too; only the caller knows which it is.
    let sample = given.is_some_and(|given| {
        let given = given.as_slice();
        given.contains(&Feature::StdSample) && !given.contains(&Feature::Std)
    });
    let features: Vec<Feature> = read.iter().map(|(feature, _)| *feature).collect();
    let has_sample = features.contains(&Feature::StdSample);
    let features: Vec<Feature> = features
        .into_iter()
        .map(|feature| match feature {
            Feature::Std if sample && !has_sample => Feature::StdSample,
            feature => feature,
        })
        .collect();
    Features::new(&features).ok()
}

/// Returns the feature that a column's name holds, and the rest of the name.
fn feature(column: &str) -> Option<(Feature, String)> {
    let mut found = None;
    let (mut rest, mut sample) = (Vec::new(), false);
    for word in words(column) {
        let feature = match word.as_str() {
            "mean" | "avg" | "average" => Feature::Mean,
            "std" | "stdev" | "stddev" | "sd" => Feature::Std,
            "min" | "minimum" | "amin" => Feature::Min,
            "max" | "maximum" | "amax" => Feature::Max,
            "count" | "cnt" => Feature::Count,
            "first" => Feature::First,
            "last" => Feature::Last,
            "rms" => Feature::Rms,
            "range" | "ptp" => Feature::Range,
            "sample" => {
                sample = true;
                continue;
            }
            // `std_dev`, `standard_deviation`.
            "dev" | "deviation" if found == Some(Feature::Std) => continue,
            "standard" => Feature::Std,
            _ => {
                rest.push(word);
                continue;
            }
        };
        // `mean_max` names two.
        if found.replace(feature).is_some() {
            return None;
        }
    }
    match (found?, sample) {
        (Feature::Std, true) => Some((Feature::StdSample, rest.join("_"))),
        (_, true) => None,
        (feature, false) => Some((feature, rest.join("_"))),
    }
}

/// Splits a name into its words, in lower case: at what is neither letter nor digit, and before capitals (`valueMean`).
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower_before = false;
    for character in name.chars() {
        let boundary = !character.is_alphanumeric();
        if boundary || (character.is_uppercase() && lower_before) {
            words.push(String::new());
        }
        if !boundary && let Some(word) = words.last_mut() {
            word.extend(character.to_lowercase());
        }
        lower_before = character.is_lowercase() || character.is_numeric();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Returns whether the names only count the columns: `x0`, `x1` or `feature_1`, `feature_2` or `0`, `1`.
fn are_positions(columns: &[String]) -> bool {
    let numbered = |first: usize| {
        let prefix = columns[0].strip_suffix(&first.to_string());
        prefix.is_some_and(|prefix| {
            let mut names = columns.iter().zip(first..);
            names.all(|(column, at)| column.strip_prefix(prefix) == Some(&at.to_string()))
        })
    };
    !columns.is_empty() && (numbered(0) || numbered(1))
}

fn same_set(fitted: &Features, given: &Features) -> bool {
    fitted.len() == given.len()
        && fitted
            .as_slice()
            .iter()
            .all(|feature| given.as_slice().contains(feature))
}

/// Tells what was guessed: the order, and which deviation `std` is.
fn note(columns: &[String], fitted: &Features, given: Option<&Features>) -> Option<String> {
    if given == Some(fitted) {
        return None;
    }
    let mut note = format!("its columns {} are read as {fitted}", list(columns));
    if given.is_none() && fitted.as_slice().contains(&Feature::Std) {
        note += "; std is the population's, and if pandas' std() made the column, name std_sample with --features";
    }
    Some(note)
}

fn list(columns: &[String]) -> String {
    shown(&columns.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(columns: &[&str], given: Option<&str>) -> Result<String, ImportError> {
        let columns: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
        let given = given.map(|given| given.parse::<Features>().unwrap());
        features(Some(&columns), columns.len(), given.as_ref()).map(|columns| columns.features.to_string())
    }

    #[test]
    fn columns_that_name_features_decide_the_order() {
        for columns in [
            ["value_max", "value_mean", "value_min", "value_std"],
            ["max", "mean", "min", "std"],
            ["Max", "Mean", "Min", "Std"],
            ["MAX", "AVG", "MIN", "STDDEV"],
            ["x.maximum", "x.average", "x.minimum", "x.stdev"],
            ["tempMax", "tempMean", "tempMin", "tempStd"],
            ["max(temp)", "mean(temp)", "min(temp)", "std(temp)"],
            ["amax", "mean", "amin", "std_dev"],
            ["max", "mean", "min", "standard_deviation"],
        ] {
            for given in [None, Some("mean,std,min,max"), Some("max,mean,min,std")] {
                assert_eq!(
                    read(&columns, given),
                    Ok("max,mean,min,std".into()),
                    "{columns:?} {given:?}"
                );
            }
            let sample = read(&columns, Some("mean,std_sample,min,max"));
            assert_eq!(sample, Ok("max,mean,min,std_sample".into()), "{columns:?}");
            let other = read(&columns, Some("mean,std,min,last")).unwrap_err();
            assert!(matches!(other, ImportError::Columns { .. }), "{other}");
        }
        assert_eq!(
            read(&["v_sample_std", "v_std", "v_ptp"], None),
            Ok("std_sample,std,range".into())
        );
    }

    #[test]
    fn positions_and_a_single_column_take_the_given_features() {
        for columns in [["x0", "x1"], ["0", "1"], ["feature_1", "feature_2"]] {
            assert_eq!(read(&columns, Some("min,max")), Ok("min,max".into()));
        }
        assert_eq!(read(&["temperature"], None), Ok("mean".into()));
        assert_eq!(read(&["temperature"], Some("max")), Ok("max".into()));
        assert_eq!(read(&["temp_max"], None), Ok("max".into()));
        assert!(read(&["temp_max"], Some("mean")).is_err());
    }

    #[test]
    fn other_columns_are_refused() {
        for columns in [
            &["temp", "press", "vib", "flow"][..],
            &["temp_mean", "press_mean"],
            &["temp_mean", "press_max"],
            &["mean", "mean_max"],
            &["mean", "median"],
            &["x0", "x2"],
        ] {
            let error = read(columns, Some("mean,std,min,max")).unwrap_err();
            assert!(
                matches!(&error, ImportError::ColumnNames(names) if *names == columns.join(",")),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_guessed_is_told() {
        let columns = ["value_std".to_owned(), "value_mean".to_owned()];
        let told = features(Some(&columns), 2, None).unwrap().note.unwrap();
        assert!(
            told.contains("value_std,value_mean are read as std,mean"),
            "{told}"
        );
        assert!(told.contains("std_sample"), "{told}");
        let given: Features = "std,mean".parse().unwrap();
        assert_eq!(features(Some(&columns), 2, Some(&given)).unwrap().note, None);
    }
}

//! What is tried: detectors, kernels and features.

use std::fmt;

use windrow_model::{Feature, Features, Gamma, ProfileChoice, TrainDetector, TrainKernel, TrainOptions};

/// The lists of features that are tried beside those of the present model: the level alone, what is in a window besides, and its
/// spread alone, for a level that never comes back (a counter's).
const FEATURES: [&[Feature]; 3] = [
    &[Feature::Mean],
    &[Feature::Mean, Feature::Std, Feature::Min, Feature::Max],
    &[Feature::Std, Feature::Range],
];

/// Gammas of the SVM per feature: a wide kernel and a narrow one.
const GAMMAS: [f64; 2] = [0.3, 3.0];

/// A larger nu for the SVM, for histories with more anomalies than usual.
const LARGER_NU: f64 = 0.02;

/// A way to train a sensor's model.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// What it reads of a window.
    pub features: Features,
    /// How it is trained.
    pub options: TrainOptions,
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { features, options } = self;
        write!(f, "{}", options.detector)?;
        if options.detector == TrainDetector::Svm {
            match options.kernel {
                TrainKernel::Rbf => write!(f, " {}", options.gamma)?,
                TrainKernel::Linear => f.write_str(" linear")?,
                TrainKernel::Polynomial { degree, .. } => write!(f, " poly {degree}")?,
            }
        }
        write!(f, ", nu {}, {features}", options.nu)?;
        match options.profile {
            ProfileChoice::Never => f.write_str(", no profile"),
            ProfileChoice::IfWorthIt(_) => Ok(()),
        }
    }
}

impl Recipe {
    /// Returns the maximum number of windows that it is trained on: the newest ones, as in retraining.
    pub fn most_windows(&self) -> usize {
        self.options.max_rows.min(self.options.most_rows())
    }

    /// Returns the same without a seasonal profile.
    pub(crate) fn without_profile(&self) -> Self {
        Self {
            features: self.features.clone(),
            options: TrainOptions {
                profile: ProfileChoice::Never,
                ..self.options.clone()
            },
        }
    }
}

/// Returns the recipes for a sensor, the present one first; none twice.
///
/// Where a recipe gets a seasonal profile, [`tune`](crate::tune) tries the same without it.
pub fn recipes(present: &Recipe) -> Vec<Recipe> {
    let mut all = vec![present.clone()];
    let mut add = |features: &Features, change: &dyn Fn(&mut TrainOptions)| {
        let mut options = TrainOptions {
            nu: present.options.nu,
            profile: present.options.profile.clone(),
            max_rows: present.options.max_rows,
            ..TrainOptions::default()
        };
        change(&mut options);
        let recipe = Recipe {
            features: features.clone(),
            options,
        };
        if !all.contains(&recipe) {
            all.push(recipe);
        }
    };
    let lists = FEATURES.iter().filter_map(|list| Features::new(list).ok());
    for features in std::iter::once(present.features.clone()).chain(lists) {
        for gamma in GAMMAS {
            add(&features, &|options| options.gamma = Gamma::PerFeature(gamma));
        }
        add(&features, &|options| {
            options.gamma = Gamma::for_features(&features);
            options.nu = options.nu.max(LARGER_NU);
        });
        for detector in &TrainDetector::ALL[1..] {
            // With one feature, T² is the square of z, and Q is 0.
            if *detector != TrainDetector::PrincipalComponents || features.len() > 1 {
                add(&features, &|options| options.detector = *detector);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_is_valid_and_there_once_and_the_present_one_is_first() {
        for (list, gamma) in [("mean", 3.0), ("mean,std,min,max", 0.3), ("rms,count", 1.5)] {
            let present = Recipe {
                features: list.parse().unwrap(),
                options: TrainOptions {
                    gamma: Gamma::PerFeature(gamma),
                    ..TrainOptions::default()
                },
            };
            let all = recipes(&present);
            assert_eq!(all[0], present);
            for (at, recipe) in all.iter().enumerate() {
                assert!(recipe.options.check().is_ok());
                assert!(!all[..at].contains(recipe), "{recipe}");
            }
            assert!((15..=26).contains(&all.len()), "{}", all.len());
        }
    }

    #[test]
    fn recipes_are_named_by_what_tells_them_apart() {
        let present = Recipe {
            features: "mean".parse().unwrap(),
            options: TrainOptions::default(),
        };
        let names: Vec<String> = recipes(&present).iter().map(ToString::to_string).collect();
        assert_eq!(
            names[..4],
            [
                "svm 3/d, nu 0.005, mean",
                "svm 0.3/d, nu 0.005, mean",
                "svm 3/d, nu 0.02, mean",
                "robust-z, nu 0.005, mean",
            ]
        );
        assert!(names.contains(&"pca, nu 0.005, std,range".to_owned()));
        let without = present.without_profile().to_string();
        assert_eq!(without, "svm 3/d, nu 0.005, mean, no profile");
    }
}

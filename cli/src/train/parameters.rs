//! The options of a training as they are stored beside a model: by their names on the command line.

use std::collections::BTreeMap;

use super::groups::GroupPlan;
use windrow_model::{ProfileChoice, TrainDetector, TrainKernel, TrainOptions};

/// Returns the options by name; those that the detector or the kernel does not use are left out.
pub(super) fn parameters(options: &TrainOptions) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    let mut add = |name: &str, value: String| _ = parameters.insert(name.to_owned(), value);
    add("detector", options.detector.to_string());
    add("nu", options.nu.to_string());
    if options.detector != TrainDetector::RobustZ {
        add("scaler", options.standardise.to_string());
    }
    add("max_rows", options.max_rows.to_string());
    match &options.profile {
        ProfileChoice::Never => add("profile", "none".to_owned()),
        ProfileChoice::IfWorthIt(zone) => {
            add("profile", "auto".to_owned());
            add("timezone", zone.iana_name().unwrap_or("UTC").to_owned());
        }
    }
    if options.detector != TrainDetector::Svm {
        return parameters;
    }
    match options.kernel {
        TrainKernel::Linear => add("kernel", "linear".to_owned()),
        TrainKernel::Rbf => add("kernel", "rbf".to_owned()),
        TrainKernel::Polynomial { coef0, degree } => {
            add("kernel", "poly".to_owned());
            add("coef0", coef0.to_string());
            add("degree", degree.to_string());
        }
    }
    if options.kernel != TrainKernel::Linear {
        add("gamma", options.gamma.to_string());
    }
    parameters
}

/// Returns the options of a model of several tags by name.
pub(super) fn group_parameters(plan: &GroupPlan) -> BTreeMap<String, String> {
    [
        ("group", "device".to_owned()),
        ("smoothing", plan.smoothing.to_string()),
        ("nu", plan.options.nu.to_string()),
        ("gamma", plan.options.gamma.to_string()),
        ("max_rows", plan.options.max_rows.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Returns the options that [`parameters`] were made of. What is not among them has its default.
pub(crate) fn options_of(parameters: &BTreeMap<String, String>) -> Result<TrainOptions, String> {
    let mut options = TrainOptions::default();
    let text = |name: &str| parameters.get(name).map(String::as_str);
    let wrong = |name: &str| format!("its parameter {name} cannot be read");
    let number = |name: &str| text(name).map(|text| text.parse::<f64>().map_err(|_| wrong(name)));
    if let Some(detector) = text("detector") {
        options.detector = detector.parse().map_err(|_| wrong("detector"))?;
    }
    if let Some(nu) = number("nu").transpose()? {
        options.nu = nu;
    }
    if let Some(standardise) = text("scaler") {
        options.standardise = standardise.parse().map_err(|_| wrong("scaler"))?;
    }
    if let Some(gamma) = text("gamma") {
        options.gamma = gamma.parse().map_err(|_| wrong("gamma"))?;
    }
    if let Some(max_rows) = text("max_rows") {
        options.max_rows = max_rows.parse().map_err(|_| wrong("max_rows"))?;
    }
    options.kernel = match text("kernel") {
        None | Some("rbf") => TrainKernel::Rbf,
        Some("linear") => TrainKernel::Linear,
        Some("poly") => TrainKernel::Polynomial {
            coef0: number("coef0").transpose()?.unwrap_or(1.0),
            degree: match text("degree") {
                Some(degree) => degree.parse().map_err(|_| wrong("degree"))?,
                None => 3,
            },
        },
        Some(_) => return Err(wrong("kernel")),
    };
    options.profile = match text("profile") {
        Some("none") => ProfileChoice::Never,
        _ => ProfileChoice::by_hours_of(text("timezone").unwrap_or("UTC")).map_err(|_| wrong("timezone"))?,
    };
    options.check().map_err(|error| error.to_string())?;
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_model::Gamma;

    #[test]
    fn options_read_back_from_their_parameters() {
        let poly = TrainKernel::Polynomial {
            coef0: 0.5,
            degree: 2,
        };
        for (kernel, gamma, profile) in [
            (
                TrainKernel::Rbf,
                Gamma::PerFeature(3.0),
                ProfileChoice::by_hours_of("Europe/Berlin").unwrap(),
            ),
            (TrainKernel::Rbf, Gamma::Value(0.25), ProfileChoice::Never),
            (poly, Gamma::Auto, ProfileChoice::by_hours_of("UTC").unwrap()),
        ] {
            let options = TrainOptions {
                nu: 0.0123,
                kernel,
                gamma,
                standardise: false,
                max_rows: 777,
                profile,
                ..TrainOptions::default()
            };
            assert_eq!(options_of(&parameters(&options)), Ok(options));
        }
        for detector in TrainDetector::ALL {
            let options = TrainOptions {
                detector,
                nu: 0.02,
                standardise: detector == TrainDetector::RobustZ,
                ..TrainOptions::default()
            };
            let parameters = parameters(&options);
            assert_eq!(parameters["detector"], detector.name());
            assert_eq!(options_of(&parameters), Ok(options));
        }
        // Of older versions, which had no profiles and no other detectors.
        assert_eq!(options_of(&BTreeMap::new()), Ok(TrainOptions::default()));
        let odd = BTreeMap::from([("kernel".to_owned(), "magic".to_owned())]);
        assert_eq!(
            options_of(&odd),
            Err("its parameter kernel cannot be read".to_owned())
        );
    }
}

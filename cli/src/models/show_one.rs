//! `windrow models show`: one model of a sensor.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use serde_json::{Value, json};
use windrow_common::SensorId;
use windrow_model::{Band, Detector, Feature, Model, Profile, Step};
use windrow_models::{Metadata, ModelRepository, SensorModels, Shadows};
use windrow_store::StoreArg;

use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::show;

/// Most promotions to show to people; JSON has all that are recorded.
const MOST_PROMOTIONS: usize = 10;

#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Sensor, as DEVICE/TAG; write a slash inside a name as %2F
    sensor: SensorId,
    /// The version to show: current, candidate, shadow, previous, or the version itself
    #[arg(long, value_name = "VERSION", default_value_t = Named::Current, env = "WINDROW_VERSION")]
    version: Named,
    #[command(flatten)]
    output: OutputArg,
}

/// A version, by what it is to its sensor or by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Current,
    Candidate,
    Shadow,
    /// What a rollback goes back to.
    Previous,
    Version(String),
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "current" => Self::Current,
            "candidate" => Self::Candidate,
            "shadow" => Self::Shadow,
            "previous" => Self::Previous,
            version if version.len() == 16 && version.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Self::Version(version.to_ascii_lowercase())
            }
            _ => {
                return Err(
                    "expected current, candidate, shadow, previous, or a version of 16 hexadecimal digits"
                        .to_owned(),
                );
            }
        })
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Current => "current",
            Self::Candidate => "candidate",
            Self::Shadow => "shadow",
            Self::Previous => "previous",
            Self::Version(version) => version,
        })
    }
}

impl Named {
    /// Returns the version.
    pub(crate) fn of(&self, models: &SensorModels, shadows: &Shadows) -> Result<String, CliError> {
        let version = match self {
            Self::Current => models.current.clone(),
            Self::Candidate => models.registry.candidate.clone(),
            Self::Shadow => shadows.get(&models.sensor).map(ToString::to_string),
            Self::Previous => models.registry.previous().map(str::to_owned),
            Self::Version(version) => Some(version.clone()),
        };
        version.ok_or_else(|| {
            CliError::Usage(format!(
                "{} has no {self} version; `windrow models list` shows what it has",
                models.sensor
            ))
        })
    }
}

/// A version that was read.
pub(super) struct Read {
    pub(super) version: String,
    pub(super) model: Model,
    pub(super) metadata: Option<Metadata>,
}

impl Read {
    pub(super) async fn new(
        repository: &ModelRepository,
        sensor: &SensorId,
        version: String,
    ) -> Result<Self, CliError> {
        Ok(Self {
            model: repository.load(sensor, &version).await?,
            metadata: repository.metadata(sensor, &version).await?,
            version,
        })
    }

    /// Returns what is known of it, for people.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("version", self.version.clone()),
            ("features", self.model.features().to_string()),
            ("detector", self.model.detector().name().to_owned()),
        ];
        if let Some(group) = self.model.group() {
            facts.push(("tags", group.tags().join(", ")));
            facts.push(("smoothed over", format!("{} windows", group.smoothing())));
        }
        facts.extend(detector_facts(&self.model));
        facts.extend(
            self.model
                .profile()
                .map(|profile| ("profile", profile_text(profile))),
        );
        facts.extend(bands_text(&self.model).map(|bands| ("normal", bands)));
        facts.push(("provenance", self.model.provenance().to_owned()));
        let Some(metadata) = &self.metadata else {
            return facts;
        };
        facts.push(("stored", metadata.created.to_string()));
        if let Some(training) = &metadata.training {
            let parameters = training.parameters.iter();
            let parameters: Vec<String> = parameters
                .map(|(name, value)| format!("{name} {value}"))
                .collect();
            let count = show::count;
            facts.extend([
                ("trained on", format!("{} to {}", training.from, training.to)),
                (
                    "windows",
                    format!(
                        "{}; trained on {} of them",
                        count(training.windows),
                        count(training.rows)
                    ),
                ),
                ("rows' sha256", training.rows_sha256.clone()),
                ("parameters", parameters.join(", ")),
            ]);
        }
        if !metadata.files.is_empty() {
            let files = metadata.files.iter();
            let files: Vec<String> = files
                .map(|file| format!("{} (sha256 {})", file.path, file.sha256))
                .collect();
            facts.push(("files", files.join(", ")));
        }
        facts
    }

    pub(super) fn json(&self) -> Value {
        let model = &self.model;
        let mut shown = json!({
            "version": self.version, "features": model.features().to_string(), "detector": model.detector().name(),
            "steps": model.steps().iter().map(step_name).collect::<Vec<_>>(),
            "tags": model.group().map(|group| group.tags().iter().map(|tag| &**tag).collect::<Vec<_>>()),
            "smoothing": model.group().map(|group| group.smoothing()),
            "provenance": model.provenance(), "metadata": self.metadata, "threshold": model.threshold(),
            "profile": model.profile().map(|profile| json!({
                "season": profile.season().to_string(), "timezone": profile.zone(), "levels": profile.levels(),
            })),
            "normal": model.bands().iter().map(|band| [band.low, band.high]).collect::<Vec<_>>(),
        });
        if let Some(svm) = model.svm() {
            shown["kernel"] = json!(format!("{:?}", svm.kernel()));
            shown["support_vectors"] = json!(svm.coefficients().len());
            shown["intercept"] = json!(svm.intercept());
            shown["scaler_mean"] = json!(model.scaler().map(|scaler| scaler.mean()));
            shown["scaler_scale"] = json!(model.scaler().map(|scaler| scaler.scale()));
        }
        shown
    }
}

/// Reads what is known of a sensor that has models.
pub(super) async fn models_of(
    repository: &ModelRepository,
    sensor: &SensorId,
) -> Result<SensorModels, CliError> {
    let models = repository.sensor(sensor).await?;
    models.ok_or_else(|| {
        CliError::Usage(format!(
            "{sensor} has no model in this store; `windrow models list` shows the sensors that have one"
        ))
    })
}

impl ShowArgs {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let repository = ModelRepository::new(self.store.open()?);
        let models = models_of(&repository, &self.sensor).await?;
        let shadows = repository.shadows().await?;
        let version = self.version.of(&models, &shadows)?;
        let read = Read::new(&repository, &self.sensor, version).await?;
        let registry = &models.registry;
        let shadow = shadows.get(&self.sensor).map(|shadow| &**shadow);
        if self.output.output == OutputFormat::Json {
            let mut shown = read.json();
            shown["sensor"] = json!(self.sensor.to_string());
            let versions = models.models.iter();
            shown["versions"] = json!(versions.map(|entry| &entry.version).collect::<Vec<_>>());
            shown["current"] = json!(models.current);
            shown["candidate"] = json!(registry.candidate);
            shown["shadow"] = json!(shadow);
            shown["pinned_since"] = json!(registry.pinned.map(|since| since.to_string()));
            shown["history"] = json!(registry.history);
            return show::json(&shown);
        }
        let mut facts = vec![("sensor", self.sensor.to_string())];
        facts.extend(read.facts());
        if self.version != Named::Current {
            facts.extend(models.current.map(|current| ("current", current)));
        }
        facts.extend(
            registry
                .candidate
                .clone()
                .map(|candidate| ("candidate", candidate)),
        );
        facts.extend(shadow.map(|shadow| ("shadow", shadow.to_owned())));
        facts.extend(registry.pinned.map(|since| ("pinned since", since.to_string())));
        for promotion in registry.history.iter().rev().take(MOST_PROMOTIONS) {
            let replaced = promotion.replaced.as_deref();
            let replaced = replaced.map_or_else(String::new, |replaced| format!(" instead of {replaced}"));
            let by = promotion.by.name();
            facts.push((
                "history",
                format!("{} {}{replaced} ({by})", promotion.at, promotion.version),
            ));
        }
        show::facts(&facts)
    }
}

/// Says by which hours a profile goes, and between which levels.
fn profile_text(profile: &Profile) -> String {
    let levels = || profile.levels().iter().copied();
    let (least, most) = (
        levels().fold(f64::INFINITY, f64::min),
        levels().fold(f64::NEG_INFINITY, f64::max),
    );
    format!(
        "by {} ({}), levels {least:.4} to {most:.4}",
        profile.season(),
        profile.zone()
    )
}

/// Says between which values nearly all of each feature lay in training.
fn bands_text(model: &Model) -> Option<String> {
    let relative = |feature: &Feature| match model.profile().filter(|_| feature.is_level()) {
        Some(_) => " from the profile",
        None => "",
    };
    let texts: Vec<String> = (model.bands().iter().enumerate())
        .map(|(at, band)| {
            let (tag, feature) = model.column(at);
            let tag = tag.map(|tag| format!("{tag}.")).unwrap_or_default();
            let Band { low, high } = band;
            format!("{tag}{feature} {low:.4} to {high:.4}{}", relative(&feature))
        })
        .collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

fn step_name(step: &Step) -> &'static str {
    match step {
        Step::Scale(_) => "scale",
        Step::Stretch(_) => "stretch",
        Step::Project(_) => "project",
        Step::Clip(_) => "clip",
    }
}

/// Returns what people ask about a model of its kind.
fn detector_facts(model: &Model) -> Vec<(&'static str, String)> {
    let count = |count: usize| show::count(count as u64);
    let mut facts = match model.detector() {
        Detector::OneClassSvm(svm) => vec![
            ("kernel", format!("{:?}", svm.kernel())),
            ("support vectors", count(svm.coefficients().len())),
        ],
        Detector::IsolationForest(forest) => vec![("trees", count(forest.trees().len()))],
        Detector::EllipticEnvelope(envelope) => vec![("centre", format!("{:?}", envelope.location()))],
        Detector::LocalOutlierFactor(factor) => vec![
            ("neighbours", count(factor.neighbours())),
            ("training rows", count(factor.densities().len())),
        ],
        Detector::PrincipalComponents(components) => vec![
            (
                "components",
                format!(
                    "{} of {} kept",
                    components.variances().len(),
                    components.dimension()
                ),
            ),
            (
                "limits",
                format!("T² {:.4}, Q {:.4}", components.t2_limit(), components.q_limit()),
            ),
        ],
        Detector::RobustZ(robust) => {
            let limits = robust
                .centre()
                .iter()
                .zip(robust.scale().iter().zip(robust.limits()));
            let limits = (model.features().as_slice().iter().zip(limits)).map(
                |(feature, (centre, (scale, limit)))| format!("{feature} {centre:.4} ± {:.4}", scale * limit),
            );
            vec![("limits", limits.collect::<Vec<_>>().join(", "))]
        }
        Detector::NearestNeighbours(nearest) => vec![
            ("neighbours", count(nearest.neighbours())),
            ("training rows", count(nearest.rows().len() / nearest.dimension())),
            ("limit", format!("{:.4}", nearest.limit())),
        ],
    };
    let steps: Vec<&str> = model.steps().iter().map(step_name).collect();
    let scaler = match model.scaler() {
        Some(_) => "yes".to_owned(),
        None if steps.is_empty() => "no".to_owned(),
        None => steps.join(", "),
    };
    facts.push(("scaler", scaler));
    facts
}

//! `windrow models train`: trains a model per sensor on the windows of the past.

mod fleet;
mod groups;
mod outcome;
mod parameters;
mod sample;

use clap::{Args, ValueEnum};
use windrow_model::{Features, Gamma, ProfileChoice, TrainDetector, TrainError, TrainKernel, TrainOptions};
use windrow_models::{ModelRepository, Pins, Release};
use windrow_producer::args::{SourceArgs, WindowArgs};
use windrow_producer::source::Until;
use windrow_store::StoreArg;

use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::show;

use groups::GroupArgs;

pub(crate) use fleet::{Plan, Trained, metadata, train_fleet};
pub(crate) use groups::{GroupPlan, GroupSample};
pub(crate) use outcome::pinned_text;
pub(crate) use parameters::options_of;
pub(crate) use sample::Sample;

#[derive(Args, Debug)]
#[command(after_help = "\
Example: train a model per sensor on a folder of history, with four features of each one-minute window
  windrow models train --source history/ --store ./store --window 1m --features mean,std,min,max

Example: train on what is there of sensors that have been recorded for a few hours only
  windrow models train --source history/ --store ./store --detector robust-z

Example: also train a model of all tags of each device together, on the mean of each
  windrow models train --source history/ --store ./store --group device

Example: train new models, and let the present ones score until `windrow models promote`
  windrow models train --source history/ --store ./store --candidate")]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    windows: WindowArgs,
    /// Features of a window that the models use, separated by commas: mean, std, min, max, first, last, count,
    /// std_sample (pandas' std), rms, range
    #[arg(
        long,
        value_name = "LIST",
        default_value = "mean,std,min,max",
        env = "WINDROW_FEATURES"
    )]
    features: Features,
    /// What to train: svm (a one-class SVM), pca (principal components, for several features: T² and Q), robust-z (distance of
    /// each feature from its median, for few windows) or neighbours (distance to the nearest window of the history)
    #[arg(long, value_name = "DETECTOR", default_value_t, env = "WINDROW_DETECTOR")]
    detector: TrainDetector,
    /// Approximate share of the history that is anomalous, between 0 and 1 (nu of the one-class SVM)
    #[arg(long, value_name = "SHARE", default_value_t = 0.005, env = "WINDROW_NU")]
    nu: f64,
    /// Kernel of the one-class SVM; other detectors have none
    #[arg(long, value_enum, default_value = "rbf", env = "WINDROW_KERNEL")]
    kernel: KernelArg,
    /// Gamma of the rbf and poly kernels: scale or auto (as in scikit-learn), a number above 0, or such a number per
    /// feature, as in 3/d; a larger gamma draws a tighter boundary [default: 3/d with one feature, 0.3/d with several;
    /// scale for poly]
    #[arg(long, env = "WINDROW_GAMMA")]
    gamma: Option<Gamma>,
    /// Constant term (coef0) of the poly kernel
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0, env = "WINDROW_COEF0")]
    coef0: f64,
    /// Degree of the poly kernel, 1 to 64
    #[arg(long, value_name = "N", default_value_t = 3, env = "WINDROW_DEGREE")]
    degree: u32,
    /// Train without seasonal profiles. By default a sensor gets one if the hour of the day, or of the week, predicts its level
    /// well; the hours are those of --timezone
    #[arg(long, env = "WINDROW_NO_PROFILE")]
    no_profile: bool,
    /// Train on the raw features, without centring and scaling them first; not with robust-z
    #[arg(long, env = "WINDROW_NO_SCALER")]
    no_scaler: bool,
    /// Maximum number of windows per sensor to train on, spread evenly over the history: up to 20,000, and 5,000 with
    /// other kernels than rbf; training time grows with its square [default: 5000, and 2000 with other kernels]
    #[arg(long, value_name = "N", env = "WINDROW_MAX_ROWS")]
    max_rows: Option<usize>,
    /// Train only sensors without a model, to resume after an interruption or to add new sensors
    #[arg(long, env = "WINDROW_MISSING")]
    missing: bool,
    #[command(flatten)]
    groups: GroupArgs,
    #[command(flatten)]
    release: ReleaseArgs,
    #[command(flatten)]
    output: OutputArg,
}

/// What becomes of new models.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ReleaseArgs {
    /// Store the models as candidates, which do not score until `windrow models promote`
    #[arg(long, env = "WINDROW_CANDIDATE")]
    candidate: bool,
    /// Replace the models of pinned sensors too
    #[arg(long, conflicts_with = "candidate", env = "WINDROW_FORCE")]
    force: bool,
}

impl ReleaseArgs {
    pub(crate) fn release(self) -> Release {
        match self {
            Self { candidate: true, .. } => Release::Candidate,
            Self { force: true, .. } => Release::Promote(Pins::Override),
            Self { .. } => Release::Promote(Pins::Respect),
        }
    }
}

/// The sensors to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Every sensor in the source.
    All,
    /// Only sensors without a model.
    Missing,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KernelArg {
    Rbf,
    Linear,
    Poly,
}

impl TrainArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        self.refuse_unused()?;
        let options = self.options()?;
        let groups = self.groups.plan(&options)?;
        let windowing = self.windows.windowing()?;
        let source = self.source.open(Until::CaughtUp)?;
        let repository = ModelRepository::new(self.store.create().await?);
        let whose = match self.missing {
            true => Whose::Missing,
            false => Whose::All,
        };
        let release = self.release.release();
        let trained = train_fleet(
            source,
            windowing,
            &repository,
            Plan {
                features: &self.features,
                options: &options,
                groups: groups.as_ref(),
                whose,
                release,
            },
        )
        .await?;
        for (sensor, why) in &trained.failed {
            eprintln!("windrow: {sensor}: {why}");
        }
        match self.output.output {
            OutputFormat::Json => show::json(&trained.json(release))?,
            OutputFormat::Table => trained.say(release)?,
        }
        match trained.failed.len() {
            0 if trained.models + trained.kept == 0 => Err(CliError::Partial(
                "the source holds no readings to train on".to_owned(),
            )),
            0 => Ok(()),
            failed => Err(CliError::Partial(format!("{failed} sensors have no new model"))),
        }
    }
}

impl TrainArgs {
    /// Returns how models of single sensors are trained.
    fn options(&self) -> Result<TrainOptions, CliError> {
        let options = TrainOptions {
            nu: self.nu,
            detector: self.detector,
            kernel: match self.kernel {
                KernelArg::Rbf => TrainKernel::Rbf,
                KernelArg::Linear => TrainKernel::Linear,
                KernelArg::Poly => TrainKernel::Polynomial {
                    coef0: self.coef0,
                    degree: self.degree,
                },
            },
            gamma: self.gamma.unwrap_or_else(|| match self.kernel {
                KernelArg::Rbf => Gamma::for_features(&self.features),
                KernelArg::Linear | KernelArg::Poly => Gamma::Scale,
            }),
            standardise: !self.no_scaler,
            max_rows: self.max_rows.unwrap_or(match self.kernel {
                KernelArg::Rbf => TrainOptions::default().max_rows,
                // Their solver holds a matrix of rows × rows.
                KernelArg::Linear | KernelArg::Poly => 2_000,
            }),
            profile: self.profile()?,
            ..TrainOptions::default()
        };
        options.check().map_err(usage)?;
        Ok(options)
    }

    /// Refuses options that the detector has no use for.
    fn refuse_unused(&self) -> Result<(), CliError> {
        let svm = self.detector == TrainDetector::Svm;
        let kernel = !matches!(self.kernel, KernelArg::Rbf);
        let robust = self.detector == TrainDetector::RobustZ;
        for (unused, option) in [
            (!svm && kernel, "--kernel"),
            (!svm && self.gamma.is_some(), "--gamma"),
            (robust && self.no_scaler, "--no-scaler"),
        ] {
            if unused {
                return Err(CliError::Usage(format!(
                    "{option} is no option of --detector {}: leave it out",
                    self.detector
                )));
            }
        }
        Ok(())
    }

    /// Returns whether models get profiles, and by which hours.
    fn profile(&self) -> Result<ProfileChoice, CliError> {
        if self.no_profile {
            return Ok(ProfileChoice::Never);
        }
        let zone = self.source.mapping().timezone;
        ProfileChoice::by_hours_of(zone.as_deref().unwrap_or("UTC")).map_err(usage)
    }
}

#[allow(clippy::needless_pass_by_value)] // `map_err` passes the error by value.
fn usage(error: TrainError) -> CliError {
    CliError::Usage(error.to_string())
}

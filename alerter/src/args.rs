//! The options of incidents and receivers, which `windrow-alerter` and `windrow run` share.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use windrow_common::parse_duration;

use crate::{Ranges, RangesError};
use windrow_incidents::{Rules, RulesError};

/// When anomalous windows become an incident: the only rules that matter to commands that compare models.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Incidents")]
pub struct AnomalyArgs {
    /// A window with a score above this is anomalous, unless its model has a threshold of its own; 0 is the boundary of the model
    #[arg(
        long,
        value_name = "SCORE",
        default_value_t = Rules::default().threshold,
        env = "WINDROW_THRESHOLD",
        allow_negative_numbers = true
    )]
    threshold: f64,
    /// Open an incident when N of the last M windows are anomalous, as N/M
    #[arg(long, value_name = "N/M", default_value = "1/1", env = "WINDROW_OPEN_AFTER")]
    open_after: Votes,
    /// How many windows in a row have to be normal for an incident to close
    #[arg(long, value_name = "WINDOWS", default_value_t = 60, env = "WINDROW_QUIET")]
    quiet: u32,
}

/// When windows become an incident.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Incidents")]
pub struct RulesArgs {
    #[command(flatten)]
    anomalies: AnomalyArgs,
    /// An incident with a score above this is critical
    #[arg(
        long,
        value_name = "SCORE",
        default_value_t = Rules::default().critical,
        env = "WINDROW_CRITICAL",
        allow_negative_numbers = true
    )]
    critical: f64,
    /// Shortest time without windows after which a sensor is silent, while others go on; a sensor that sometimes pauses
    /// longer gets three times its longest recent pause. 0s turns it off
    #[arg(long, value_name = "DURATION", default_value = "30m", env = "WINDROW_SILENT_AFTER", value_parser = parse_duration_or_zero)]
    silent_after: Duration,
    /// A sensor that used to vary is stuck once this many windows in a row repeat one value, or a sixth as many if it
    /// repeated nothing lately. 0 turns this off
    #[arg(
        long,
        value_name = "WINDOWS",
        default_value_t = 60,
        env = "WINDROW_STUCK_AFTER"
    )]
    stuck_after: u32,
    /// A sensor with a steady rate has lost it once this many windows in a row have fewer than a third of its typical
    /// number of readings. 0 turns this off
    #[arg(
        long,
        value_name = "WINDOWS",
        default_value_t = 15,
        env = "WINDROW_RATE_AFTER"
    )]
    rate_after: u32,
    /// CSV file with the physical ranges of sensors, with the columns device,tag,low,high. In a name, * stands for any
    /// text. An empty value means no limit. The first line that matches a sensor applies
    #[arg(long, value_name = "FILE", env = "WINDROW_RANGES")]
    ranges: Option<PathBuf>,
    /// Events older than this, by event time, are stored and not sent; those that a receiver has not taken in this time
    /// are no longer sent to it
    #[arg(long, value_name = "DURATION", default_value = "1d", env = "WINDROW_TELL_WITHIN", value_parser = parse_duration)]
    pub tell_within: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Votes {
    open_after: u32,
    of: u32,
}

impl FromStr for Votes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (open_after, of) = text.split_once('/').unwrap_or((text, text));
        let number = |text: &str| text.trim().parse::<u32>();
        match (number(open_after), number(of)) {
            (Ok(open_after), Ok(of)) => Ok(Self { open_after, of }),
            _ => Err("write it as 2/3: 2 of the last 3 windows".to_owned()),
        }
    }
}

impl AnomalyArgs {
    /// Returns the rules for anomalies alone, if they make sense.
    pub fn rules(&self) -> Result<Rules, RulesError> {
        let rules = Rules {
            threshold: self.threshold,
            open_after: self.open_after.open_after,
            of: self.open_after.of,
            quiet: self.quiet,
            ..Rules::default().for_anomalies_alone()
        };
        rules.check()?;
        Ok(rules)
    }
}

impl RulesArgs {
    /// Returns the rules, if they make sense.
    pub fn rules(&self) -> Result<Rules, RulesError> {
        let rules = Rules {
            critical: self.critical,
            silent_after: self.silent_after,
            stuck_after: self.stuck_after,
            rate_after: self.rate_after,
            ..self.anomalies.rules()?
        };
        rules.check()?;
        Ok(rules)
    }

    /// Reads the physical ranges of sensors, if a file is named.
    pub fn ranges(&self) -> Result<Arc<Ranges>, RangesError> {
        self.ranges
            .as_ref()
            .map_or_else(|| Ok(Arc::default()), |file| Ranges::read(file).map(Arc::new))
    }
}

fn parse_duration_or_zero(text: &str) -> Result<Duration, String> {
    match text {
        "0" | "0s" => Ok(Duration::ZERO),
        _ => parse_duration(text).map_err(|error| error.to_string()),
    }
}

/// An address that may hold a password or a token.
#[cfg(feature = "deliver")]
#[derive(Clone)]
struct Address(String);

#[cfg(feature = "deliver")]
impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Address(…)")
    }
}

#[cfg(feature = "deliver")]
impl FromStr for Address {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// Where events of incidents are sent.
#[cfg(feature = "deliver")]
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Receivers")]
pub struct ReceiverArgs {
    /// Alertmanager that raises, routes and silences alerts, such as http://alertmanager:9093
    #[arg(
        long,
        value_name = "URL",
        env = "WINDROW_ALERTMANAGER",
        hide_env_values = true
    )]
    alertmanager: Option<Address>,
    /// File that holds the bearer token for Alertmanager
    #[arg(
        long,
        value_name = "FILE",
        env = "WINDROW_ALERTMANAGER_TOKEN_FILE",
        requires = "alertmanager"
    )]
    alertmanager_token_file: Option<std::path::PathBuf>,
    /// How often Alertmanager is reminded of open incidents; an alert ends by itself after four times this
    #[arg(long, value_name = "DURATION", default_value = "1m", env = "WINDROW_REMIND_EVERY", value_parser = parse_duration)]
    remind_every: Duration,
    /// Webhook that gets each event as a POST of JSON
    #[arg(long, value_name = "URL", env = "WINDROW_WEBHOOK", hide_env_values = true)]
    webhook: Option<Address>,
    /// File that holds the key by which events are signed (HMAC-SHA256)
    #[arg(
        long,
        value_name = "FILE",
        env = "WINDROW_WEBHOOK_SECRET_FILE",
        requires = "webhook"
    )]
    webhook_secret_file: Option<std::path::PathBuf>,
}

#[cfg(feature = "deliver")]
impl ReceiverArgs {
    /// Returns the receivers, if their addresses can be used and their secrets be read.
    pub fn receivers(
        &self,
    ) -> Result<Vec<Box<dyn crate::deliver::Receiver>>, Box<dyn std::error::Error + Send + Sync>> {
        use crate::deliver::{Alertmanager, Receiver, Webhook};
        use windrow_store::SecretFile;
        let secret = |option, path: &Option<std::path::PathBuf>| {
            let file = path.as_ref().map(|path| SecretFile::new(option, path));
            file.map(|file| file.read().map(|_| file)).transpose()
        };
        let mut receivers: Vec<Box<dyn Receiver>> = Vec::new();
        if let Some(Address(url)) = &self.alertmanager {
            let token = secret("--alertmanager-token-file", &self.alertmanager_token_file)?;
            receivers.push(Box::new(Alertmanager::new(url, token, self.remind_every)?));
        }
        if let Some(Address(url)) = &self.webhook {
            let key = secret("--webhook-secret-file", &self.webhook_secret_file)?;
            receivers.push(Box::new(Webhook::new(url, key)?));
        }
        Ok(receivers)
    }
}

//! Command-line options for an Event Hub: how to reach it and how to read it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use windrow_common::{EventTime, parse_duration};
use windrow_identity::{EntraLogin, IdentityKind};
use windrow_store::SecretFile;

use crate::{EventHub, EventHubError, EventHubSource, Login, Start};
use windrow_producer::source::Until;
use windrow_producer::source::decode::ColumnMapping;

/// Options that say how to reach a hub.
#[derive(Args, Clone)]
#[command(next_help_heading = "Event Hubs")]
pub struct HubArgs {
    /// Connection string with a shared access key [default: Microsoft Entra ID]
    #[arg(
        long,
        value_name = "STRING",
        env = "WINDROW_EVENTHUBS_CONNECTION_STRING",
        hide_env_values = true
    )]
    eventhubs_connection_string: Option<String>,
    /// File with the connection string; keeps its key out of the environment and the process list
    #[arg(long, value_name = "FILE", env = "WINDROW_EVENTHUBS_CONNECTION_STRING_FILE")]
    eventhubs_connection_string_file: Option<PathBuf>,
    /// Entra ID identity to use without a connection string [default: workload-identity if
    /// AZURE_FEDERATED_TOKEN_FILE is set, as on AKS, otherwise managed-identity]
    #[arg(long, value_enum, value_name = "KIND", env = "WINDROW_EVENTHUBS_IDENTITY")]
    eventhubs_identity: Option<IdentityKind>,
    /// Endpoint to connect to instead of the namespace, such as amqp://host:5672 for an emulator
    #[arg(long, value_name = "URL", env = "WINDROW_EVENTHUBS_ENDPOINT")]
    eventhubs_endpoint: Option<String>,
}

/// Options that say how to read a hub.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Event Hubs")]
pub struct ReadHubArgs {
    #[command(flatten)]
    hub: HubArgs,
    /// Consumer group
    #[arg(
        long,
        value_name = "NAME",
        default_value = "$Default",
        env = "WINDROW_CONSUMER_GROUP"
    )]
    consumer_group: String,
    /// Where to start in a partition without a checkpoint: earliest, latest, or an enqueued time such as
    /// 2026-01-31T00:00:00Z
    #[arg(long, value_name = "WHERE", default_value = "earliest", env = "WINDROW_START", value_parser = start)]
    start: Start,
    /// Most events to prefetch per partition; fewer if they are so large that they would not fit into
    /// --eventhubs-prefetch-mib
    #[arg(long, value_name = "N", default_value = "300", env = "WINDROW_EVENTHUBS_PREFETCH", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    eventhubs_prefetch: u32,
    /// Memory for the events prefetched from all partitions that this producer reads, in MiB. It is an estimate from
    /// the sizes of the last thousand events of each partition: when a larger event arrives, the producer prefetches
    /// less of that partition, but up to --eventhubs-prefetch events may already have arrived. Another 64 MiB hold
    /// events that wait to be decoded
    #[arg(long, value_name = "MIB", default_value = "128", env = "WINDROW_EVENTHUBS_PREFETCH_MIB", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    eventhubs_prefetch_mib: u32,
    /// How long a producer may be silent before the others take over its partitions; it renews its claims every third
    /// of that time
    #[arg(long, value_name = "DURATION", default_value = "30s", env = "WINDROW_OWNERSHIP_EXPIRY", value_parser = ownership_expiry)]
    ownership_expiry: Duration,
}

impl std::fmt::Debug for HubArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubArgs")
            .field("eventhubs_endpoint", &self.eventhubs_endpoint)
            .finish_non_exhaustive()
    }
}

impl HubArgs {
    /// Returns the hub named by a URL `eventhubs://HOST/HUB`.
    pub fn hub(&self, url: &str) -> Result<EventHub, EventHubError> {
        EventHub::new(url, self.login(url)?, self.eventhubs_endpoint.clone())
    }

    fn login(&self, url: &str) -> Result<Login, EventHubError> {
        let path = self.eventhubs_connection_string_file.as_ref();
        if let Some(string) = &self.eventhubs_connection_string {
            if path.is_some() {
                let why = "give a connection string or a file with one, not both".to_owned();
                return Err(EventHubError::Config(url.to_owned(), why));
            }
            return Ok(Login::ConnectionString(string.clone()));
        }
        if let Some(path) = path {
            let file = SecretFile::new("--eventhubs-connection-string-file", path);
            return Ok(Login::ConnectionStringFile(file));
        }
        Ok(Login::Entra(EntraLogin::of(self.eventhubs_identity)))
    }
}

impl ReadHubArgs {
    /// Returns the source named by a URL `eventhubs://HOST/HUB`.
    pub fn source(
        &self,
        url: &str,
        mapping: ColumnMapping,
        until: Until,
    ) -> Result<EventHubSource, EventHubError> {
        Ok(EventHubSource {
            hub: self.hub.hub(url)?,
            consumer_group: self.consumer_group.clone(),
            start: self.start,
            prefetch: self.eventhubs_prefetch,
            prefetch_bytes: (self.eventhubs_prefetch_mib as usize) << 20,
            ownership_expiry: self.ownership_expiry,
            mapping,
            until,
        })
    }
}

fn start(text: &str) -> Result<Start, String> {
    let past = |time: EventTime| match time <= EventTime::now() {
        true => Ok(Start::At(time)),
        false => Err("the time is in the future".to_owned()),
    };
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        time => EventTime::parse(time.as_bytes())
            .map_err(|error| format!("write earliest, latest or a time: {error}"))
            .and_then(past),
    }
}

fn ownership_expiry(text: &str) -> Result<Duration, String> {
    let expiry = parse_duration(text).map_err(|error| error.to_string())?;
    if expiry < Duration::from_secs(3) {
        return Err("use at least 3s; with less, a short delay costs a producer its partitions".to_owned());
    }
    Ok(expiry)
}

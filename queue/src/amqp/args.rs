//! Options that name a broker and its queues.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::{
    Access, AccessSources, Amqp, AmqpConfig, AmqpError, Management, ManagementError, QueueNames, Reconnect,
    UrlSource,
};
use windrow_common::{HasRemedy, Remedy};
use windrow_store::SecretFile;

/// Options that name a RabbitMQ broker and its queues.
#[derive(Args, Clone)]
#[command(next_help_heading = "RabbitMQ")]
pub struct AmqpArgs {
    /// URL of the broker: amqp://user:password@host:5672/vhost, or amqps://…; several hosts of a cluster are separated by
    /// commas; ?auth_mechanism=external logs in with a certificate
    #[arg(long, value_name = "URL", env = "WINDROW_AMQP_URL", hide_env_values = true)]
    pub amqp_url: Option<String>,
    /// File that holds the URL, which keeps its password out of the environment and the process list
    #[arg(
        long,
        value_name = "FILE",
        env = "WINDROW_AMQP_URL_FILE",
        conflicts_with = "amqp_url"
    )]
    pub amqp_url_file: Option<PathBuf>,
    /// File that holds the user's name, if the URL names no user
    #[arg(
        long,
        value_name = "FILE",
        env = "WINDROW_AMQP_USER_FILE",
        requires = "amqp_password_file"
    )]
    pub amqp_user_file: Option<PathBuf>,
    /// File that holds the user's password
    #[arg(
        long,
        value_name = "FILE",
        env = "WINDROW_AMQP_PASSWORD_FILE",
        requires = "amqp_user_file"
    )]
    pub amqp_password_file: Option<PathBuf>,
    /// Certificate (PEM) of the authority that signed the broker's certificate [default: the authorities that the
    /// system trusts]
    #[arg(long, value_name = "FILE", env = "WINDROW_AMQP_CA")]
    pub amqp_ca: Option<PathBuf>,
    /// Client certificate (PEM)
    #[arg(long, value_name = "FILE", env = "WINDROW_AMQP_CERT", requires = "amqp_key")]
    pub amqp_cert: Option<PathBuf>,
    /// Key of the client certificate (PEM, PKCS #8)
    #[arg(long, value_name = "FILE", env = "WINDROW_AMQP_KEY", requires = "amqp_cert")]
    pub amqp_key: Option<PathBuf>,
    /// URL of RabbitMQ's management API: http://host:15672, or https://user:password@host:15671 for another user than that of
    /// the AMQP URL; the user needs the tag monitoring. Without it, windrow-scaler asks over AMQP [default: port 15672 of the
    /// broker's hosts; 15671 with amqps]
    #[arg(
        long,
        value_name = "URL",
        env = "WINDROW_MANAGEMENT_URL",
        hide_env_values = true
    )]
    pub management_url: Option<String>,
    /// Prefix of the names: the queues are PREFIX.score and PREFIX.dead, the exchange is PREFIX.anomalies
    #[arg(long, value_name = "PREFIX", default_value = "windrow", env = "WINDROW_QUEUE_PREFIX", value_parser = prefix)]
    pub queue_prefix: String,
    /// Name of the scoring queue [default: PREFIX.score]
    #[arg(long, value_name = "NAME", env = "WINDROW_QUEUE_SCORE", value_parser = prefix)]
    pub queue_score: Option<String>,
    /// Name of the dead-letter queue [default: PREFIX.dead]
    #[arg(long, value_name = "NAME", env = "WINDROW_QUEUE_DEAD", value_parser = prefix)]
    pub queue_dead: Option<String>,
    /// Name of the exchange for anomalies [default: PREFIX.anomalies]
    #[arg(long, value_name = "NAME", env = "WINDROW_EXCHANGE_ANOMALIES", value_parser = prefix)]
    pub exchange_anomalies: Option<String>,
    /// How often a message is delivered again after a worker died while holding it, before it becomes a dead letter.
    /// Set at least 12, to tell a message that kills workers from the other messages that those workers held
    #[arg(long, value_name = "N", default_value_t = 20, env = "WINDROW_DELIVERY_LIMIT",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub delivery_limit: u32,
    /// Maximum number of published messages that the broker has not confirmed yet
    #[arg(
        long,
        value_name = "N",
        default_value = "1000",
        env = "WINDROW_CONFIRM_WINDOW"
    )]
    pub confirm_window: NonZeroUsize,
}

/// What is wrong with [`AmqpArgs`].
#[derive(Debug, thiserror::Error)]
pub enum AmqpArgsError {
    /// Neither a URL nor a file is given.
    #[error("no broker is named: set --amqp-url, --amqp-url-file, WINDROW_AMQP_URL or WINDROW_AMQP_URL_FILE")]
    NoUrl,
    /// The URL or a certificate cannot be used.
    #[error(transparent)]
    Access(#[from] AmqpError),
    /// The management API cannot be asked.
    #[error(transparent)]
    Management(#[from] ManagementError),
}

impl HasRemedy for AmqpArgsError {
    fn remedy(&self) -> Remedy {
        Remedy::FixConfig
    }
}

impl fmt::Debug for AmqpArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Both URLs may name a password.
        f.debug_struct("AmqpArgs")
            .field("queue_prefix", &self.queue_prefix)
            .finish_non_exhaustive()
    }
}

impl AmqpArgs {
    /// Returns whether a broker is named.
    pub fn is_given(&self) -> bool {
        self.amqp_url.is_some() || self.amqp_url_file.is_some()
    }

    /// Returns how to reach the broker.
    pub fn access(&self) -> Result<Access, AmqpArgsError> {
        let url = match (&self.amqp_url, &self.amqp_url_file) {
            (Some(url), _) => UrlSource::Given(url.parse()?),
            (None, Some(path)) => UrlSource::File(SecretFile::new("--amqp-url-file", path)),
            (None, None) => return Err(AmqpArgsError::NoUrl),
        };
        let certificate = file("--amqp-cert", self.amqp_cert.as_deref());
        let key = file("--amqp-key", self.amqp_key.as_deref());
        let user = file("--amqp-user-file", self.amqp_user_file.as_deref());
        let password = file("--amqp-password-file", self.amqp_password_file.as_deref());
        Ok(Access::new(AccessSources {
            url,
            user: user.zip(password),
            authority: file("--amqp-ca", self.amqp_ca.as_deref()),
            identity: certificate.zip(key),
        })?)
    }

    /// Returns the address of the management API, if it is given.
    pub fn management_url(&self) -> Option<&str> {
        // Compose files set unused variables to the empty string.
        self.management_url.as_deref().filter(|url| !url.is_empty())
    }

    /// Returns a client of the broker's management API.
    pub fn management(&self) -> Result<Management, AmqpArgsError> {
        Ok(Management::new(self.access()?, self.management_url())?)
    }

    /// Creates the queue without connecting. The broker shows `client` in its list of connections.
    pub fn queue(&self, client: &str, reconnect: Reconnect) -> Result<Amqp, AmqpArgsError> {
        let mut names = QueueNames::under(&self.queue_prefix);
        let replace = |name: &mut String, with: &Option<String>| {
            if let Some(with) = with {
                name.clone_from(with);
            }
        };
        replace(&mut names.score, &self.queue_score);
        replace(&mut names.dead, &self.queue_dead);
        replace(&mut names.anomalies, &self.exchange_anomalies);
        Ok(Amqp::new(AmqpConfig {
            access: self.access()?,
            names,
            delivery_limit: self.delivery_limit,
            confirm_window: self.confirm_window.get(),
            reconnect,
            management_url: self.management_url().map(str::to_owned),
            client: client.to_owned(),
        }))
    }
}

/// Returns the file that an option names. Compose files set unused variables to the empty string.
fn file(option: &'static str, path: Option<&Path>) -> Option<SecretFile> {
    let path = path.filter(|path| !path.as_os_str().is_empty())?;
    Some(SecretFile::new(option, path))
}

/// Parses a name that RabbitMQ accepts: up to 200 bytes, so that a suffix fits.
fn prefix(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("the name is empty".to_owned()),
        1..=200 if !text.starts_with("amq.") => Ok(text.to_owned()),
        1..=200 => Err("names that begin with amq. are reserved for RabbitMQ".to_owned()),
        bytes => Err(format!("the name has {bytes} bytes; at most 200 are allowed")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        broker: AmqpArgs,
    }

    fn parse(options: &[&str]) -> AmqpArgs {
        Program::parse_from([&["program"], options].concat()).broker
    }

    #[test]
    fn the_user_of_a_url_without_one_comes_from_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (user, password) = (file("username", "ada\n"), file("password", "p@ss/word "));
        let files = ["--amqp-user-file", &user, "--amqp-password-file", &password];
        let access = |url, files: &[&str]| parse(&[&["--amqp-url", url], files].concat()).access();

        let access_of_ada = access("amqps://broker:5671/fleet", &files).unwrap();
        let found = &access_of_ada.latest().url;
        assert_eq!((found.user(), found.password()), ("ada", "p@ss/word "));
        assert_eq!(found.endpoint(), "broker:5671 (vhost `fleet`)");

        for named in ["amqp://ada:secret@broker", "amqp://ada@broker/"] {
            let error = access(named, &files).unwrap_err().to_string();
            assert!(error.contains("and so does --amqp-user-file"), "{error}");
        }
        let empty = file("empty", "\n");
        let error = access(
            "amqp://broker",
            &["--amqp-user-file", &user, "--amqp-password-file", &empty],
        );
        let error = error.unwrap_err();
        assert!(error.to_string().starts_with("--amqp-password-file: "), "{error}");
        // One without the other is a mistake.
        assert!(Program::try_parse_from(["program", "--amqp-user-file", &user]).is_err());
    }
}

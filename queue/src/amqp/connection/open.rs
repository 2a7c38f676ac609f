//! Opens a connection: each host in turn, again and again with waits between.

use std::sync::Once;
use std::time::{Duration, Instant};

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use windrow_common::{HasRemedy, Remedy, Reminder};

use super::super::{AmqpError, Login, Reconnect};
use super::{Link, backoff};

/// A broker that accepts a connection and then stays silent for this long counts as unavailable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Warns once that `heartbeat=0` is ignored.
static TOLD_OF_HEARTBEAT: Once = Once::new();

impl Link {
    pub(super) async fn open_until_it_works(&self) -> Result<(Connection, String), AmqpError> {
        let mut backoff = backoff();
        let mut reminder = Reminder::default();
        loop {
            let error = match self.open().await {
                Ok((connection, endpoint)) => {
                    if backoff.attempts() > 0 {
                        let tries = backoff.attempts() + 1;
                        tracing::info!(role = self.role, endpoint, tries, "connected to RabbitMQ again");
                    }
                    self.config.access.works();
                    return Ok((connection, endpoint));
                }
                Err(error) if self.waits_out(&error) => error,
                Err(error) => return Err(error),
            };
            let why = error.to_string();
            if reminder.is_due_for(&why, Instant::now()) {
                let tries = backoff.attempts() + 1;
                tracing::warn!(role = self.role, %error, tries, "trying again until it works");
            }
            *self.opening() = Some(format!("; the last attempt failed: {why}"));
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    /// Connects to the first host that accepts, and returns the connection and that host.
    async fn open(&self) -> Result<(Connection, String), AmqpError> {
        let login = self.config.access.renew()?;
        let url = &login.url;
        if url.is_without_heartbeat() {
            TOLD_OF_HEARTBEAT.call_once(|| {
                tracing::warn!(
                    "heartbeat=0 in the AMQP URL is ignored: a connection that is cut would never be noticed, and the messages \
                     on it never delivered to another consumer. Remove it, or set the seconds, as in heartbeat=30"
                );
            });
        }
        let hosts = url.in_turn();
        let within = CONNECT_TIMEOUT / u32::try_from(hosts.len()).unwrap_or(u32::MAX);
        let mut failed = Vec::with_capacity(hosts.len());
        for (endpoint, uri) in hosts {
            match self.open_at(&login, &endpoint, uri, within).await {
                Ok(connection) => return Ok((connection, endpoint)),
                Err(error) if error.remedy() == Remedy::Wait => failed.push(error),
                Err(error) => return Err(error),
            }
        }
        match failed.pop() {
            Some(error) if failed.is_empty() => Err(error),
            last => Err(AmqpError::NoHost {
                failed: failed.into_iter().chain(last).collect(),
            }),
        }
    }

    async fn open_at(
        &self,
        Login { url, tls }: &Login,
        endpoint: &str,
        uri: AMQPUri,
        within: Duration,
    ) -> Result<Connection, AmqpError> {
        let open = async {
            let properties = ConnectionProperties::default()
                .with_connection_name(format!("{} {}", self.config.client, self.role).into());
            let tls = OwnedTLSConfig {
                cert_chain: tls.authority.clone(),
                identity: tls
                    .identity
                    .as_ref()
                    .map(|(certificate, key)| OwnedIdentity::PKCS8 {
                        pem: certificate.clone().into_bytes(),
                        key: key.clone().into_bytes(),
                    }),
            };
            let runtime = lapin::runtime::default_runtime()?;
            Connection::connect_uri_with_config(uri, properties, tls, runtime).await
        };
        let opened = tokio::time::timeout(within, open)
            .await
            .map_err(|_| AmqpError::Away {
                endpoint: endpoint.to_owned(),
                why: format!("no answer within {within:?}"),
            })?;
        let connection =
            opened.map_err(|error| AmqpError::from_lapin(endpoint.to_owned(), url.user(), &error))?;
        if self.config.reconnect == Reconnect::Forever {
            self.declare(&connection, endpoint).await?;
        }
        Ok(connection)
    }
}

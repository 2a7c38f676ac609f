//! The URL of a broker: one host or several, and the user who connects.

use std::fmt;
use std::str::FromStr;

use lapin::uri::{AMQPScheme, AMQPUri};
use windrow_common::random;

use super::AmqpError;

/// Seconds between heartbeats if the URL sets none. A peer that disappears silently is noticed within half a minute.
const HEARTBEAT_SECONDS: u16 = 15;

/// Stands for the hosts where the client library parses the rest of the URL.
const ANY_HOST: &str = "host";

/// A URL such as `amqp://user:password@host:5672/vhost`, `amqp://user:password@a,b:5673,[::1]/vhost` or `amqps://…`,
/// whose `Debug` output hides the password.
#[derive(Clone)]
pub struct AmqpUrl {
    /// The URL without its hosts.
    uri: AMQPUri,
    /// At least one.
    hosts: Vec<Host>,
    /// Whether the URL names a user. Without one, the client library uses `guest`.
    names_user: bool,
}

/// A host and its port.
#[derive(Clone, PartialEq, Eq)]
struct Host {
    /// A name or an address; one of IPv6 without its brackets.
    name: String,
    port: u16,
}

impl AmqpUrl {
    /// Returns each host's address for errors and its URL for the client library, in the order to try them in. The
    /// first is random, so that a fleet spreads over the hosts.
    pub(super) fn in_turn(&self) -> Vec<(String, AMQPUri)> {
        let mut hosts: Vec<_> = self.hosts.iter().collect();
        let first = random() % hosts.len() as u64;
        hosts.rotate_left(usize::try_from(first).unwrap_or(0));
        let with_uri = hosts.into_iter().map(|host| {
            let mut uri = self.uri.clone();
            uri.authority.host.clone_from(&host.name);
            uri.authority.port = host.port;
            // Zero would leave it to the broker whether a connection that is cut is ever noticed.
            uri.query.heartbeat = uri.query.heartbeat.filter(|seconds| *seconds > 0);
            uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
            (self.at(&host.to_string()), uri)
        });
        with_uri.collect()
    }

    /// Returns whether it asks for a connection without heartbeats (`heartbeat=0`), which is ignored.
    pub(super) fn is_without_heartbeat(&self) -> bool {
        self.uri.query.heartbeat == Some(0)
    }

    /// Returns `host:port` of each host, followed by the virtual host unless that is `/`.
    pub fn endpoint(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(Host::to_string).collect();
        self.at(&hosts.join(", "))
    }

    fn at(&self, hosts: &str) -> String {
        match self.vhost() {
            "/" => hosts.to_owned(),
            vhost => format!("{hosts} (vhost `{vhost}`)"),
        }
    }

    /// Returns the hosts, each as a URL names it: with brackets if it is an address of IPv6.
    pub fn hosts(&self) -> impl Iterator<Item = String> {
        self.hosts.iter().map(Host::bracketed)
    }

    /// Returns the user who connects.
    pub fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }

    /// Returns the user's password, for the management API.
    pub fn password(&self) -> &str {
        &self.uri.authority.userinfo.password
    }

    /// Returns whether the URL itself names the user who connects.
    pub(super) fn names_user(&self) -> bool {
        self.names_user
    }

    /// Returns the URL for another user.
    pub(super) fn with_user(mut self, user: String, password: String) -> Self {
        self.uri.authority.userinfo.username = user;
        self.uri.authority.userinfo.password = password;
        self
    }

    /// Returns the virtual host.
    pub fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// Returns whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }
}

impl Host {
    fn bracketed(&self) -> String {
        match self.name.contains(':') {
            true => format!("[{}]", self.name),
            false => self.name.clone(),
        }
    }

    fn parse(text: &str, default_port: u16) -> Result<Self, &'static str> {
        const NO_PORT: &str = "a port is not a number from 1 to 65535";
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']').ok_or("a bracket is not closed")?;
                if address.parse::<std::net::Ipv6Addr>().is_err() {
                    return Err("only an IPv6 address stands in brackets");
                }
                (address, port)
            }
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) if port.contains(':') => {
                return Err("an IPv6 address needs brackets, as in [::1]:5672");
            }
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(NO_PORT)?,
            None if port.is_empty() => default_port,
            None => return Err(NO_PORT),
        };
        match name.trim() {
            "" => Err("it names no host"),
            name => Ok(Self {
                name: name.to_owned(),
                port,
            }),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.bracketed(), self.port)
    }
}

impl FromStr for AmqpUrl {
    type Err = AmqpError;

    fn from_str(text: &str) -> Result<Self, AmqpError> {
        // An error does not repeat the text, because that may contain a password.
        let wrong = |why: &str| AmqpError::Url { why: why.to_owned() };
        let text = text.trim();
        let (scheme, rest) = text
            .split_once("://")
            .filter(|(scheme, _)| matches!(*scheme, "amqp" | "amqps"))
            .ok_or_else(|| wrong("it begins with neither amqp:// nor amqps://"))?;
        if rest.contains("://") {
            return Err(wrong(
                "it names the user more than once; separate the hosts alone with commas, as in \
                 amqp://user:password@a:5672,b:5672/vhost",
            ));
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // Such a password would end the host: what is left of it would be looked up, and logged, as a host.
        if path.contains(['#', '@']) {
            return Err(wrong(
                "a user, password or virtual host with # / ? @ or % has to be percent-encoded: write # as %23, / as %2F, ? \
                 as %3F, @ as %40 and % as %25",
            ));
        }
        let (user, hosts) = authority
            .rsplit_once('@')
            .map_or((None, authority), |(user, hosts)| (Some(user), hosts));
        let names_user = user.is_some();
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        let mut uri: AMQPUri = format!("{scheme}://{user}{ANY_HOST}{path}")
            .parse()
            .map_err(|why: String| wrong(&why))?;
        if uri.vhost.is_empty() {
            // A trailing slash. Nobody names a virtual host "".
            "/".clone_into(&mut uri.vhost);
        }
        let port = uri.scheme.default_port();
        let hosts = hosts
            .split(',')
            .map(|host| Host::parse(host, port))
            .collect::<Result<_, _>>();
        let hosts = hosts.map_err(wrong)?;
        Ok(Self {
            uri,
            hosts,
            names_user,
        })
    }
}

impl fmt::Debug for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.endpoint())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::AmqpConfig;

    fn parsed(text: &str) -> AmqpUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_url_is_understood_and_its_password_never_shown() {
        let url = parsed("amqp://ada:s3cret@broker:5673/fleet");
        assert_eq!(url.endpoint(), "broker:5673 (vhost `fleet`)");
        assert_eq!((url.user(), url.password()), ("ada", "s3cret"));
        for plain in [
            "amqp://broker",
            "amqp://broker/",
            "amqp://broker:5672/%2f",
            "amqp://broker?heartbeat=9",
        ] {
            assert_eq!(parsed(plain).endpoint(), "broker:5672");
        }
        let shown = AmqpConfig {
            management_url: Some("https://monitor:s3cret@broker:15671".to_owned()),
            ..AmqpConfig::new(url)
        };
        let shown = format!("{shown:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
        for bad in [
            "http://ada:s3cret@broker",
            "amqp://ada:s3cret@broker:port/",
            "amqp://ada:s3cret@broker:5672x",
            "amqp://ada:s3cret@broker:0",
            "amqp://ada:s3cret@",
            "amqp://ada:s3cret@a,,b",
            "amqp://ada:s3cret@::1",
            "amqp://ada:s3cret@[::1",
            "amqp://ada:s3cret@[broker]:5672",
            "amqp://ada:s3cret@a:5672,amqp://ada:s3cret@b:5672",
            "amqp://ada:s3cret@broker?heartbeat=often",
            "amqp:s3cret",
        ] {
            let error = bad.parse::<AmqpUrl>().unwrap_err().to_string();
            assert!(
                !error.contains("s3cret") && error.contains("amqp://"),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn several_hosts_and_addresses_of_ipv6_are_tried_in_turn_from_a_host_that_is_drawn() {
        let url = parsed("amqp://ada:pw@a:5673,b,[::1],[fe80::2]:5674/fleet?heartbeat=7");
        assert_eq!(
            url.endpoint(),
            "a:5673, b:5672, [::1]:5672, [fe80::2]:5674 (vhost `fleet`)"
        );
        assert_eq!(url.hosts().collect::<Vec<_>>(), ["a", "b", "[::1]", "[fe80::2]"]);
        let mut firsts = BTreeSet::new();
        for _ in 0..200 {
            let turn = url.in_turn();
            let endpoints: BTreeSet<_> = turn.iter().map(|(endpoint, _)| endpoint.clone()).collect();
            assert_eq!(endpoints.len(), 4, "{endpoints:?}");
            let (endpoint, uri) = &turn[0];
            if endpoint == "[::1]:5672 (vhost `fleet`)" {
                assert_eq!((uri.authority.host.as_str(), uri.authority.port), ("::1", 5672));
            }
            assert_eq!((uri.vhost.as_str(), uri.query.heartbeat), ("fleet", Some(7)));
            firsts.insert(endpoint.clone());
        }
        assert_eq!(firsts.len(), 4, "{firsts:?}");
        assert_eq!(parsed("amqps://a,b:1").endpoint(), "a:5671, b:1");
    }

    #[test]
    fn a_raw_sign_in_a_password_is_told_how_to_be_written() {
        for bad in [
            "amqp://ada:p#s3cret@broker:5672",
            "amqp://ada:p/s3cret@broker",
            "amqp://ada:7/s3cret@broker",
            "amqp://ada:p?s3cret@broker",
            "amqp://ada:p@x#s3cret@broker",
            "amqp://ada:p@s3cret/x@broker",
            "amqp://ada:s3cret@broker/fleet#1",
        ] {
            let error = bad.parse::<AmqpUrl>().unwrap_err().to_string();
            assert!(
                error.contains("# as %23") && error.contains("@ as %40") && !error.contains("s3cret"),
                "{bad}: {error}"
            );
        }
        // Unambiguous: the host begins after the last one.
        let url = parsed("amqp://ada:p@ss,w@broker");
        assert_eq!(
            (url.password(), url.endpoint().as_str()),
            ("p@ss,w", "broker:5672")
        );
        let url = parsed("amqp://ada:p%23%2f%3f%40%25@broker/a%40b");
        assert_eq!((url.password(), url.vhost()), ("p#/?@%", "a@b"));
    }

    #[test]
    fn nobody_gets_a_connection_without_heartbeats() {
        let heartbeat = |url: &str| parsed(url).in_turn()[0].1.query.heartbeat;
        assert_eq!(heartbeat("amqp://broker"), Some(15));
        assert_eq!(heartbeat("amqp://broker?heartbeat=3"), Some(3));
        assert_eq!(heartbeat("amqp://broker?heartbeat=0"), Some(15));
        assert!(parsed("amqp://broker?heartbeat=0").is_without_heartbeat());
        assert!(!parsed("amqp://broker").is_without_heartbeat());
    }
}

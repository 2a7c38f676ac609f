//! RabbitMQ's management API, for numbers that AMQP itself does not provide.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;

use super::queue_state::{Answer, QueueState};
use super::{Access, AmqpError, Login};
use windrow_common::{HasRemedy, Remedy};
use windrow_store::choose_tls;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A client of a broker's management API.
#[derive(Clone)]
pub struct Management {
    /// Reads the files again for each request, because passwords are rotated.
    access: Access,
    /// The address that was given, with the user that it names.
    given: Option<(String, Option<(String, String)>)>,
    client: Arc<Mutex<Client>>,
}

/// An HTTP client, and the certificate of the only authority that it trusts.
struct Client {
    client: reqwest::Client,
    authority: Option<String>,
}

/// The client, addresses and credentials for a query.
struct Asked {
    client: reqwest::Client,
    /// The base URL of each of the broker's hosts, such as `http://host:15672`.
    bases: Vec<String>,
    user: String,
    password: String,
    vhost: String,
}

/// An error of the management API.
#[derive(Debug, thiserror::Error)]
pub enum ManagementError {
    /// The broker's URL or a certificate cannot be read.
    #[error(transparent)]
    Access(#[from] AmqpError),
    /// The API cannot be queried.
    #[error("cannot query the management API at {base}: {why}; --management-url sets its address")]
    Away {
        /// The API's address.
        base: String,
        /// What happened.
        why: String,
    },
    /// The address cannot be used.
    #[error("--management-url: {0}; write http://host:15672, or https://user:password@host:15671")]
    Address(String),
    /// The certificate of the authority cannot be used.
    #[error("--amqp-ca holds no certificate of an authority in PEM: {0}")]
    Authority(String),
    /// The API refuses the user.
    #[error(
        "the management API at {base} refuses user `{user}`: its password is wrong, or it lacks the tag `monitoring`"
    )]
    Refused {
        /// The API's address.
        base: String,
        /// The user.
        user: String,
    },
    /// The queue does not exist.
    #[error("RabbitMQ has no queue `{queue}` in vhost `{vhost}`: no producer or worker has connected yet")]
    NoQueue {
        /// The queue.
        queue: String,
        /// The virtual host.
        vhost: String,
    },
}

impl HasRemedy for ManagementError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Away { .. } => Remedy::Wait,
            Self::Authority(_) | Self::Address(_) => Remedy::FixConfig,
            Self::Access(error) => error.remedy(),
            Self::Refused { .. } => Remedy::GrantAccess,
            Self::NoQueue { .. } => Remedy::GiveUp,
        }
    }
}

/// RabbitMQ's answer for an object that does not exist.
#[derive(Deserialize)]
struct NotFound {
    error: String,
}

impl Management {
    /// Creates a client of the management API of a broker, at `base` or at the default port of each of its hosts:
    /// 15672, or 15671 if the connection is encrypted. The user is the one that `base` names, or else the broker's. If an authority is
    /// named, it is the only one to trust; otherwise the system's are.
    pub fn new(access: Access, base: Option<&str>) -> Result<Self, ManagementError> {
        choose_tls();
        let authority = access.latest().tls.authority.clone();
        Ok(Self {
            given: base.map(address).transpose()?,
            client: Arc::new(Mutex::new(Client::new(authority)?)),
            access,
        })
    }

    fn asked(&self) -> Result<Asked, ManagementError> {
        let Login { url, tls } = &*self.access.renew()?;
        let default = |host: String| match url.is_encrypted() {
            true => format!("https://{host}:15671"),
            false => format!("http://{host}:15672"),
        };
        let (bases, login) = match &self.given {
            Some((base, login)) => (vec![base.clone()], login.clone()),
            None => (url.hosts().map(default).collect(), None),
        };
        let (user, password) = login.unwrap_or_else(|| (url.user().to_owned(), url.password().to_owned()));
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.authority != tls.authority {
            *client = Client::new(tls.authority.clone())?;
        }
        Ok(Asked {
            client: client.client.clone(),
            bases,
            user,
            password,
            vhost: url.vhost().to_owned(),
        })
    }

    /// Returns the state of a queue.
    pub async fn queue(&self, queue: &str) -> Result<QueueState, ManagementError> {
        self.asked()?.queue(queue).await
    }
}

impl Client {
    fn new(authority: Option<String>) -> Result<Self, ManagementError> {
        let wrong = |error: reqwest::Error| ManagementError::Authority(windrow_common::sentence(&error));
        let mut client = reqwest::Client::builder().timeout(TIMEOUT);
        if let Some(authority) = &authority {
            let authorities = reqwest::Certificate::from_pem_bundle(authority.as_bytes()).map_err(wrong)?;
            if authorities.is_empty() {
                return Err(ManagementError::Authority("it has none".to_owned()));
            }
            client = client.tls_certs_only(authorities);
        }
        Ok(Self {
            client: client.build().map_err(wrong)?,
            authority,
        })
    }
}

impl Asked {
    /// Returns the state of a queue, from the first host that answers.
    async fn queue(&self, queue: &str) -> Result<QueueState, ManagementError> {
        let mut failed = Vec::with_capacity(self.bases.len());
        for base in &self.bases {
            match self.queue_at(base, queue).await {
                Err(ManagementError::Away { base, why }) => failed.push((base, why)),
                answered => return answered,
            }
        }
        let (bases, whys): (Vec<_>, Vec<_>) = failed.into_iter().unzip();
        Err(ManagementError::Away {
            base: bases.join(", "),
            why: whys.join("; "),
        })
    }

    async fn queue_at(&self, base: &str, queue: &str) -> Result<QueueState, ManagementError> {
        let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let url = format!("{base}/api/queues/{}/{}", encode(&self.vhost), encode(queue));
        let request = self.client.get(url).basic_auth(&self.user, Some(&self.password));
        let failed = |error: reqwest::Error| away(base, &error.without_url());
        let response = request.send().await.map_err(failed)?;
        match response.status().as_u16() {
            401 | 403 => {
                return Err(ManagementError::Refused {
                    base: base.to_owned(),
                    user: self.user.clone(),
                });
            }
            404 => return Err(self.not_found(base, queue, response).await),
            _ => {}
        }
        let answer = response.error_for_status().map_err(failed)?.json();
        // While a node of a cluster is away, RabbitMQ (3.10) may name a field twice, such as `online`. Of two, the last counts,
        // as in browsers.
        let answer: serde_json::Value = answer.await.map_err(failed)?;
        let answer = serde_json::from_value::<Answer>(answer).map_err(|error| ManagementError::Away {
            base: base.to_owned(),
            why: error.to_string(),
        })?;
        Ok(answer.into())
    }
}

impl Asked {
    /// Returns what a 404 means. RabbitMQ's own is JSON; that of a proxy or of another server says nothing about the queue.
    async fn not_found(&self, base: &str, queue: &str, response: reqwest::Response) -> ManagementError {
        let answer = response.json::<NotFound>().await;
        match answer.is_ok_and(|answer| answer.error == "Object Not Found") {
            true => ManagementError::NoQueue {
                queue: queue.to_owned(),
                vhost: self.vhost.clone(),
            },
            false => ManagementError::Away {
                base: base.to_owned(),
                why: "it answers 404, but not in RabbitMQ's format".to_owned(),
            },
        }
    }
}

/// Splits an address into the part that may be shown, and the user and password that it names.
fn address(text: &str) -> Result<(String, Option<(String, String)>), ManagementError> {
    // An invalid address may contain a password anywhere, so errors do not repeat it.
    let wrong = |why: &str| ManagementError::Address(why.to_owned());
    let mut url = reqwest::Url::parse(text.trim()).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong("it is not the address of a web server"));
    }
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let login = url
        .password()
        .map(|password| (decode(url.username()), decode(password)));
    // Neither fails for an address with a host.
    _ = url.set_username("");
    _ = url.set_password(None);
    Ok((url.as_str().trim_end_matches('/').to_owned(), login))
}

fn away(base: &str, error: &reqwest::Error) -> ManagementError {
    ManagementError::Away {
        base: base.to_owned(),
        why: windrow_common::sentence(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_asked_at_each_host_of_the_broker() {
        let bases = |url: &str| {
            let url: crate::AmqpUrl = url.parse().unwrap();
            Management::new(url.into(), None).unwrap().asked().unwrap().bases
        };
        assert_eq!(
            bases("amqp://a:1,[::1]"),
            ["http://a:15672", "http://[::1]:15672"]
        );
        assert_eq!(bases("amqps://a"), ["https://a:15671"]);
    }

    #[tokio::test]
    async fn the_first_host_that_answers_is_enough() {
        use std::io::{Read, Write};
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let bases = [&closed, &open].map(|listener| format!("http://{}", listener.local_addr().unwrap()));
        drop(closed);
        std::thread::spawn(move || {
            let (mut client, _) = open.accept().unwrap();
            _ = client.read(&mut [0; 4_096]);
            let answer =
                r#"{"messages_ready": 7, "messages_unacknowledged": 1, "online": [], "online": ["a"]}"#;
            write!(
                client,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}",
                answer.len()
            )
        });
        let url: crate::AmqpUrl = "amqp://a,b".parse().unwrap();
        let mut management = Management::new(url.into(), None).unwrap().asked().unwrap();
        management.bases = bases.to_vec();
        let queue = management.queue("q").await.unwrap();
        // A field may be there twice.
        assert_eq!((queue.ready, queue.online), (7, vec!["a".to_owned()]));
        // Now nobody answers, and both are named.
        let error = management.queue("q").await.unwrap_err().to_string();
        assert!(bases.iter().all(|base| error.contains(base)), "{error}");
    }

    #[test]
    fn an_address_may_name_a_user_whose_password_is_never_shown() {
        let (base, login) = address("https://monitor:p%40ss@broker:15671/").unwrap();
        assert_eq!(base, "https://broker:15671");
        assert_eq!(login, Some(("monitor".to_owned(), "p@ss".to_owned())));
        assert_eq!(
            address("http://broker:15672").unwrap(),
            ("http://broker:15672".to_owned(), None)
        );
        for wrong in [
            "broker",
            "ftp://monitor:secret@broker",
            "monitor:secret@broker",
            "http://",
        ] {
            let error = address(wrong).unwrap_err();
            assert_eq!(error.remedy(), Remedy::FixConfig);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}

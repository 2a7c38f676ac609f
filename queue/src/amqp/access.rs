//! How a process reaches the broker and logs in, which may change while it runs.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use windrow_store::{SecretFile, SecretFileError};

use super::{AmqpError, AmqpUrl, Tls};

/// The broker's URL, as given or in a file.
#[derive(Clone)]
pub enum UrlSource {
    /// The URL itself.
    Given(AmqpUrl),
    /// A file that holds it.
    File(SecretFile),
}

/// Where the URL and the certificates come from.
#[derive(Clone)]
pub struct AccessSources {
    /// The broker's URL.
    pub url: UrlSource,
    /// The user's name and password, if the URL names no user.
    pub user: Option<(SecretFile, SecretFile)>,
    /// The authority that signed the broker's certificate (PEM).
    pub authority: Option<SecretFile>,
    /// This client's certificate and its key (PEM).
    pub identity: Option<(SecretFile, SecretFile)>,
}

/// The URL and the certificates of one connection.
#[derive(Clone, Debug)]
pub struct Login {
    /// The broker's address and the user.
    pub url: AmqpUrl,
    /// Certificates for `amqps:` connections.
    pub tls: Tls,
}

/// How to reach the broker. Files are read again for each connection, because passwords and certificates are rotated
/// while services run. Clones share what was read last.
#[derive(Clone)]
pub struct Access {
    sources: AccessSources,
    latest: Arc<Mutex<Arc<Login>>>,
    has_worked: Arc<AtomicBool>,
}

impl From<AmqpUrl> for Access {
    fn from(url: AmqpUrl) -> Self {
        let tls = Tls::default();
        let sources = AccessSources {
            url: UrlSource::Given(url.clone()),
            user: None,
            authority: None,
            identity: None,
        };
        Self::of(sources, Login { url, tls })
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.latest().fmt(f)
    }
}

impl Access {
    /// Reads the files for the first time, so that a mistake shows at once.
    pub fn new(sources: AccessSources) -> Result<Self, AmqpError> {
        let login = sources.read()?;
        Ok(Self::of(sources, login))
    }

    fn of(sources: AccessSources, login: Login) -> Self {
        Self {
            sources,
            latest: Arc::new(Mutex::new(Arc::new(login))),
            has_worked: Arc::default(),
        }
    }

    /// Returns the URL and the certificates that were read last.
    pub fn latest(&self) -> Arc<Login> {
        Arc::clone(&self.latest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again.
    pub fn renew(&self) -> Result<Arc<Login>, AmqpError> {
        let login = Arc::new(self.sources.read()?);
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&login);
        Ok(login)
    }

    /// Returns whether the broker has accepted a login. A refusal after that may pass, such as during a rotation.
    pub(super) fn has_worked(&self) -> bool {
        self.has_worked.load(Relaxed)
    }

    /// Notes that the broker has accepted a login and declared the queues.
    pub(super) fn works(&self) {
        self.has_worked.store(true, Relaxed);
    }
}

impl AccessSources {
    fn read(&self) -> Result<Login, AmqpError> {
        let mut url: AmqpUrl = match &self.url {
            UrlSource::Given(url) => url.clone(),
            UrlSource::File(file) => file.read()?.parse()?,
        };
        if let Some((user, password)) = &self.user {
            if url.names_user() {
                return Err(AmqpError::TwoUsers);
            }
            url = url.with_user(user.read()?, password.read()?);
        }
        let read = |file: &SecretFile| file.read();
        let identity = |(certificate, key): &(SecretFile, SecretFile)| -> Result<_, SecretFileError> {
            Ok((certificate.read()?, key.read()?))
        };
        Ok(Login {
            url,
            tls: Tls {
                authority: self.authority.as_ref().map(read).transpose()?,
                identity: self.identity.as_ref().map(identity).transpose()?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotated_file_is_read_again_and_a_damaged_one_does_not_replace_what_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        std::fs::write(&path, "amqp://ada:first@broker").unwrap();
        let access = Access::new(AccessSources {
            url: UrlSource::File(SecretFile::new("--amqp-url-file", &path)),
            user: None,
            authority: None,
            identity: None,
        })
        .unwrap();
        std::fs::write(&path, "amqp://ada:second@other\n").unwrap();
        assert_eq!(access.latest().url.password(), "first");
        assert_eq!(access.renew().unwrap().url.password(), "second");
        assert_eq!(access.latest().url.endpoint(), "other:5672");
        for damaged in ["", "amqp://ada:third"] {
            std::fs::write(&path, damaged).unwrap();
            _ = access.renew();
        }
        std::fs::remove_file(&path).unwrap();
        let error = access.renew().unwrap_err().to_string();
        assert!(error.starts_with("--amqp-url-file: cannot read "), "{error}");
        assert!(!format!("{access:?}").contains("second"));
    }
}

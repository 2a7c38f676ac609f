//! Opens a store from its URL.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};
use url::Url;

use super::azure::Container;
use super::folder::lock_file;
use super::health::Health;
use super::{Backend, Store, StoreError};
use crate::choose_tls;

/// How often, and for how long, a client retries on its own before it reports a failure. [`wait_out`] waits for the end
/// of an outage and logs it.
///
/// [`wait_out`]: crate::wait_out
const CLIENT_RETRIES: usize = 3;
const CLIENT_RETRIES_WITHIN: Duration = Duration::from_secs(10);

/// The kind of store that a URL names.
enum Named {
    Memory,
    Folder(PathBuf),
    Cloud(Url),
}

impl Store {
    /// Opens an existing store: a folder path, `file:///folder`, `az://container/prefix`, `s3://bucket/prefix`,
    /// `gs://bucket/prefix` or `memory:///`. A cloud store is not contacted before its first use. Its credentials come
    /// from the provider's own environment variables (`AZURE_STORAGE_ACCOUNT_NAME`, `AWS_REGION`, …).
    pub fn open(url: &str) -> Result<Self, StoreError> {
        match named(url)? {
            Named::Folder(folder) if !folder.is_dir() => Err(StoreError::Missing(folder)),
            Named::Folder(folder) => Self::at_folder(url, &folder),
            Named::Memory => Ok(Self::in_memory(url)),
            Named::Cloud(parsed) => Self::in_cloud(url, &parsed),
        }
    }

    /// Opens a store for writing. Creates a folder if necessary and checks that it is writable; for a container, see
    /// [`Store::create_container`].
    pub fn create(url: &str) -> Result<Self, StoreError> {
        let folder = match named(url)? {
            Named::Folder(folder) => folder,
            Named::Memory => return Ok(Self::in_memory(url)),
            Named::Cloud(parsed) => return Self::in_cloud(url, &parsed),
        };
        let unwritable = |source| StoreError::Unwritable {
            folder: folder.clone(),
            source,
        };
        std::fs::create_dir_all(&folder).map_err(unwritable)?;
        lock_file(&folder).map_err(unwritable)?;
        Self::at_folder(url, &folder)
    }

    /// Creates a store over any `object_store` implementation, for tests that inject faults. `url` is its name in
    /// messages.
    pub fn from_objects(objects: Arc<dyn ObjectStore>, url: &str) -> Self {
        Self::at(Backend::Elsewhere, objects, Health::default(), url)
    }

    fn at(backend: Backend, objects: Arc<dyn ObjectStore>, health: Health, url: &str) -> Self {
        Self {
            objects,
            url: url.to_owned(),
            backend,
            turn: Arc::default(),
            health: Arc::new(health),
        }
    }

    fn in_memory(url: &str) -> Self {
        Self::from_objects(Arc::new(InMemory::new()), url)
    }

    fn at_folder(url: &str, folder: &FsPath) -> Result<Self, StoreError> {
        let folder = folder.canonicalize().map_err(|error| wrong(url, &error))?;
        // A message is acked once its predictions are durable, so the folder store syncs what it writes.
        let objects = LocalFileSystem::new_with_prefix(&folder).map_err(|error| wrong(url, &error))?;
        let objects = Arc::new(objects.with_fsync(true));
        let health = Health::of_folder(&folder);
        Ok(Self::at(Backend::Folder(folder), objects, health, url))
    }

    fn in_cloud(url: &str, parsed: &Url) -> Result<Self, StoreError> {
        choose_tls();
        let retry = RetryConfig {
            max_retries: CLIENT_RETRIES,
            retry_timeout: CLIENT_RETRIES_WITHIN,
            ..RetryConfig::default()
        };
        let (bucket, container) = match parsed.scheme() {
            "az" => azure(url, parsed, retry)?,
            "s3" => (s3(url, retry)?, None),
            _ => (gcs(url, retry)?, None),
        };
        let prefix = Path::from_url_path(parsed.path()).map_err(|error| wrong(url, &error))?;
        let objects = match prefix.as_ref() {
            "" => bucket,
            _ => Arc::new(PrefixStore::new(bucket, prefix)),
        };
        let backend = Backend::Cloud(container.map(Arc::new));
        Ok(Self::at(backend, objects, Health::default(), url))
    }
}

type Bucket = Arc<dyn ObjectStore>;

fn azure(url: &str, parsed: &Url, retry: RetryConfig) -> Result<(Bucket, Option<Container>), StoreError> {
    let mut builder = MicrosoftAzureBuilder::from_env().with_url(url).with_retry(retry);
    if let Some(host) = builder.get_config_value(&AzureConfigKey::AuthorityHost) {
        // AKS sets it with a slash at its end, and the client would add another one.
        builder = builder.with_authority_host(host.trim_end_matches('/'));
    }
    let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint);
    let allowed = builder.get_config_value(&AzureConfigKey::Client(ClientConfigKey::AllowHttp));
    may_be_plain(url, "AZURE", endpoint.as_deref(), allowed.as_deref())?;
    let built = builder.clone().build().map_err(|error| wrong(url, &error))?;
    let built = Arc::new(built);
    let container = Container::of(&builder, Arc::clone(&built), parsed);
    Ok((built, container))
}

fn s3(url: &str, retry: RetryConfig) -> Result<Bucket, StoreError> {
    let builder = AmazonS3Builder::from_env().with_url(url).with_retry(retry);
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    let allowed = builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
    may_be_plain(url, "AWS", endpoint.as_deref(), allowed.as_deref())?;
    let built = builder.build().map_err(|error| wrong(url, &error))?;
    Ok(Arc::new(built))
}

fn gcs(url: &str, retry: RetryConfig) -> Result<Bucket, StoreError> {
    let builder = GoogleCloudStorageBuilder::from_env()
        .with_url(url)
        .with_retry(retry);
    let built = builder.build().map_err(|error| wrong(url, &error))?;
    Ok(Arc::new(built))
}

/// Refuses an endpoint without TLS unless it is allowed. The client would refuse it too, but only on its first use.
fn may_be_plain(
    url: &str,
    provider: &str,
    endpoint: Option<&str>,
    allowed: Option<&str>,
) -> Result<(), StoreError> {
    match endpoint {
        Some(endpoint) if endpoint.starts_with("http://") && allowed != Some("true") => {
            let why = format!("{endpoint} is not encrypted; {provider}_ALLOW_HTTP=true allows that");
            Err(wrong(url, &why))
        }
        _ => Ok(()),
    }
}

fn wrong(url: &str, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Url {
        url: url.to_owned(),
        why: why.to_string(),
    }
}

fn named(url: &str) -> Result<Named, StoreError> {
    if url.is_empty() {
        return Err(wrong(url, &"it is empty"));
    }
    if !url.contains("://") {
        return Ok(Named::Folder(PathBuf::from(url)));
    }
    let parsed = Url::parse(url).map_err(|error| wrong(url, &error))?;
    match parsed.scheme() {
        "file" => match parsed.to_file_path() {
            Ok(folder) => Ok(Named::Folder(folder)),
            Err(()) => Err(wrong(url, &"it names no local folder")),
        },
        "memory" => Ok(Named::Memory),
        "az" | "s3" | "gs" if parsed.host_str().is_none_or(str::is_empty) => {
            Err(wrong(url, &"it names no container or bucket"))
        }
        "az" | "s3" | "gs" => Ok(Named::Cloud(parsed)),
        scheme => Err(wrong(url, &format!("there is no store for `{scheme}://`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_common::{HasRemedy, Remedy};

    #[test]
    fn what_is_no_store_is_refused_in_one_sentence() {
        for url in ["", "ftp://host/x", "s3://", "az:///x", "file://host/x/y"] {
            let error = Store::open(url).unwrap_err();
            assert!(
                error.remedy() != Remedy::Wait && error.to_string().contains("is not a store"),
                "{error}"
            );
        }
        assert!(matches!(
            Store::open("/no/such/folder"),
            Err(StoreError::Missing(_))
        ));
        assert!(matches!(
            Store::create("/proc/windrow"),
            Err(StoreError::Unwritable { .. })
        ));
    }

    #[test]
    fn a_cloud_store_needs_no_network_to_be_named() {
        assert_eq!(Store::open("gs://bucket/a/b").unwrap().url(), "gs://bucket/a/b");
        assert_eq!(Store::open("s3://bucket").unwrap().folder(), None);
    }
}

//! Stores in clouds: one client for each provider.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};
use url::Url;

pub(super) use super::azure::Container;
use super::cloud_keys;
use super::health::Health;
use super::open::wrong;
use super::{Backend, Store, StoreError};
use crate::choose_tls;

/// How often, and for how long, a client retries on its own before it reports a failure. [`wait_out`] waits for the end
/// of an outage and logs it.
///
/// [`wait_out`]: crate::wait_out
const CLIENT_RETRIES: usize = 3;
/// Maximum length of a store's prefix in its bucket, in bytes: keys may have 1,024, and our part of a key takes up to
/// 541 (docs/formats.md).
const LONGEST_PREFIX: usize = 480;
const CLIENT_RETRIES_WITHIN: Duration = Duration::from_secs(10);

/// Opens the store that an `az:`, `s3:` or `gs:` URL names.
pub(super) fn open(url: &str, parsed: &Url) -> Result<Store, StoreError> {
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
    let bytes = prefix.as_ref().len();
    if bytes > LONGEST_PREFIX {
        let why = format!(
            "its prefix has {bytes} bytes; at most {LONGEST_PREFIX} leave room for the names of blobs"
        );
        return Err(wrong(url, &why));
    }
    let objects = match prefix.as_ref() {
        "" => bucket,
        _ => Arc::new(PrefixStore::new(bucket, prefix)),
    };
    let backend = Backend::Cloud(container.map(Arc::new));
    Ok(Store::at(backend, objects, Health::default(), url))
}

type Bucket = Arc<dyn ObjectStore>;

fn azure(url: &str, parsed: &Url, retry: RetryConfig) -> Result<(Bucket, Option<Container>), StoreError> {
    let builder = MicrosoftAzureBuilder::from_env().with_url(url).with_retry(retry);
    let mut builder = cloud_keys::of_azure(url, builder)?;
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
    let builder = cloud_keys::of_aws(url, builder)?;
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

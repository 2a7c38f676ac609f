//! What `object_store` cannot do in Azure Blob Storage: create a container
//! (<https://learn.microsoft.com/rest/api/storageservices/create-container>), and look at the lease on a blob
//! (<https://learn.microsoft.com/rest/api/storageservices/get-blob-properties>).

use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::{Method, Request, StatusCode};
use object_store::azure::{AzureAuthorizer, AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::client::{ClientOptions, HttpConnector, HttpRequestBody, HttpResponse, ReqwestConnector};
use object_store::path::Path;
use url::Url;

use super::BlobLease;

/// A container, which may not exist yet.
pub(super) struct Container {
    azure: Arc<MicrosoftAzure>,
    account: String,
    /// The container's URL, such as `https://account.blob.core.windows.net/container`.
    url: Url,
    name: String,
    /// The store's place in it.
    prefix: Path,
}

impl Container {
    /// Returns the container of `az://container/prefix`, or `None` if the account is implied instead of named, as with
    /// the emulator's option.
    pub(super) fn of(
        builder: &MicrosoftAzureBuilder,
        azure: Arc<MicrosoftAzure>,
        named: &Url,
    ) -> Option<Self> {
        let account = builder.get_config_value(&AzureConfigKey::AccountName)?;
        let endpoint = builder
            .get_config_value(&AzureConfigKey::Endpoint)
            .unwrap_or_else(|| format!("https://{account}.blob.core.windows.net"));
        let name = named.host_str()?.to_owned();
        let url = Url::parse(&format!("{}/{name}", endpoint.trim_end_matches('/'))).ok()?;
        let prefix = Path::from_url_path(named.path()).ok()?;
        Some(Self {
            azure,
            account,
            url,
            name,
            prefix,
        })
    }

    /// Creates the container, unless it exists already.
    pub(super) async fn make(&self) -> object_store::Result<()> {
        let answer = self.ask(Method::PUT, format!("{}?restype=container", self.url));
        let answer = answer.await?;
        match answer.status() {
            StatusCode::CREATED => Ok(()),
            // Any other conflict means that the container is being deleted.
            StatusCode::CONFLICT if header(&answer, "x-ms-error-code") == "ContainerAlreadyExists" => Ok(()),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Err(object_store::Error::PermissionDenied {
                path: self.url.to_string(),
                source: "this identity may not create a container".into(),
            }),
            status => {
                let code = header(&answer, "x-ms-error-code");
                Err(failed(
                    format!("the container was not created: {status} {code}").into(),
                ))
            }
        }
    }

    /// Returns what Azure tells about the lease on a blob. Azure does not say who holds it, or since when.
    pub(super) async fn lease(&self, path: &str) -> BlobLease {
        let blob = match self.prefix.as_ref() {
            "" => path.to_owned(),
            prefix => format!("{prefix}/{path}"),
        };
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(blob.split('/'));
        }
        let answer = self.ask(Method::HEAD, url.to_string()).await.ok();
        let duration = answer
            .as_ref()
            .map(|answer| header(answer, "x-ms-lease-duration"));
        BlobLease {
            ends: match duration {
                Some("fixed") => Some(true),
                Some("infinite") => Some(false),
                _ => None,
            },
            broken_by: Some(format!(
                "az storage blob lease break --account-name {} --container-name {} --blob-name '{blob}'",
                self.account, self.name
            )),
        }
    }

    /// Sends a request that `object_store` does not support.
    async fn ask(&self, method: Method, url: String) -> object_store::Result<HttpResponse> {
        let request = Request::builder().method(method).uri(url);
        let mut request = request
            // Azure answers 411 without this header, and the client omits it if there is no body.
            .header(CONTENT_LENGTH, "0")
            .body(HttpRequestBody::empty())
            .map_err(|error| failed(error.into()))?;
        let credential = self.azure.credentials().get_credential().await?;
        AzureAuthorizer::new(&credential, &self.account).try_authorize(&mut request)?;
        // Opening the store has already checked whether plain HTTP is allowed.
        let options = ClientOptions::new().with_allow_http(true);
        let client = ReqwestConnector::default().connect(&options)?;
        client
            .execute(request)
            .await
            .map_err(|error| failed(error.into()))
    }
}

fn failed(source: Box<dyn std::error::Error + Send + Sync>) -> object_store::Error {
    object_store::Error::Generic {
        store: "MicrosoftAzure",
        source,
    }
}

fn header<'a>(answer: &'a HttpResponse, name: &str) -> &'a str {
    let value = answer.headers().get(name);
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

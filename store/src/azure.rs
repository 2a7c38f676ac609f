//! Creates a container in Azure Blob Storage, which `object_store` cannot do
//! (<https://learn.microsoft.com/rest/api/storageservices/create-container>).

use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::{Request, StatusCode};
use object_store::azure::{AzureAuthorizer, AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::client::{ClientOptions, HttpConnector, HttpRequestBody, HttpResponse, ReqwestConnector};
use url::Url;

/// A container, which may not exist yet.
pub(super) struct Container {
    azure: Arc<MicrosoftAzure>,
    account: String,
    /// The container's URL, such as `https://account.blob.core.windows.net/container`.
    url: String,
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
        let url = format!("{}/{}", endpoint.trim_end_matches('/'), named.host_str()?);
        Some(Self { azure, account, url })
    }

    /// Creates the container, unless it exists already.
    pub(super) async fn make(&self) -> object_store::Result<()> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic {
            store: "MicrosoftAzure",
            source,
        };
        let request = Request::put(format!("{}?restype=container", self.url));
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
        let answer = client
            .execute(request)
            .await
            .map_err(|error| failed(error.into()))?;
        match answer.status() {
            StatusCode::CREATED => Ok(()),
            // Any other conflict means that the container is being deleted.
            StatusCode::CONFLICT if error_code(&answer) == "ContainerAlreadyExists" => Ok(()),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Err(object_store::Error::PermissionDenied {
                path: self.url.clone(),
                source: "this identity may not create a container".into(),
            }),
            status => {
                let why = format!("the container was not created: {status} {}", error_code(&answer));
                Err(failed(why.into()))
            }
        }
    }
}

fn error_code(answer: &HttpResponse) -> &str {
    let code = answer.headers().get("x-ms-error-code");
    code.and_then(|code| code.to_str().ok()).unwrap_or_default()
}

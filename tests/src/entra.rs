//! Emulates Microsoft Entra ID and the managed identity endpoint of a machine: issues tokens on loopback.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::serve::Listener;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use url::form_urlencoded;

use crate::Encryption;

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const CLIENT: &str = "66666666-7777-8888-9999-aaaaaaaaaaaa";
/// The service account token that Kubernetes writes into a pod; Entra ID exchanges it for an access token.
const FEDERATED_TOKEN: &str = "federated";
const IDENTITY_HEADER: &str = "let-me-in";
const LIFETIME: Duration = Duration::from_secs(3600);

/// A TLS server that issues tokens to one identity until it is dropped.
#[derive(Debug)]
pub struct EntraId {
    address: SocketAddr,
    folder: tempfile::TempDir,
    issued: Issued,
    authority: String,
    _runtime: tokio::runtime::Runtime,
}

/// The last token issued for each resource.
pub(crate) type Issued = Arc<Mutex<HashMap<String, String>>>;

impl EntraId {
    /// Starts the server as `localhost` on a free port.
    pub fn start(encryption: &Encryption) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), FEDERATED_TOKEN).unwrap();
        let issued = Issued::default();
        let routes = Router::new()
            .route(&format!("/{TENANT}/oauth2/v2.0/token"), post(exchange))
            .route("/msi/token", get(of_machine))
            .with_state(Arc::clone(&issued));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server_config(encryption)));
        runtime.spawn(async move { axum::serve(Encrypted { listener, acceptor }, routes).await });
        Self {
            address,
            folder,
            issued,
            authority: encryption.path("ca.pem"),
            _runtime: runtime,
        }
    }

    /// Returns the variables that AKS sets in a pod with workload identity, trailing slash of the URL included.
    pub fn workload_identity(&self) -> Vec<(&'static str, String)> {
        let token = self.folder.path().join("token");
        vec![
            ("AZURE_CLIENT_ID", CLIENT.to_owned()),
            ("AZURE_TENANT_ID", TENANT.to_owned()),
            ("AZURE_FEDERATED_TOKEN_FILE", token.to_str().unwrap().to_owned()),
            (
                "AZURE_AUTHORITY_HOST",
                format!("https://localhost:{}/", self.address.port()),
            ),
            ("SSL_CERT_FILE", self.authority.clone()),
        ]
    }

    /// Returns the variables of a machine with a user-assigned managed identity.
    pub fn managed_identity(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AZURE_CLIENT_ID", CLIENT.to_owned()),
            (
                "IDENTITY_ENDPOINT",
                format!("https://localhost:{}/msi/token", self.address.port()),
            ),
            ("IDENTITY_HEADER", IDENTITY_HEADER.to_owned()),
            ("SSL_CERT_FILE", self.authority.clone()),
        ]
    }

    pub(crate) fn tokens(&self) -> Issued {
        Arc::clone(&self.issued)
    }

    /// Returns the last token issued for a resource such as `https://storage.azure.com`.
    pub fn issued(&self, resource: &str) -> Option<String> {
        self.issued.lock().unwrap().get(resource).cloned()
    }
}

/// Exchanges a federated credential for a token.
///
/// See <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>.
async fn exchange(State(issued): State<Issued>, body: Bytes) -> (StatusCode, String) {
    let form: HashMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
    let is = |name: &str, value: &str| form.get(name).is_some_and(|given| given == value);
    let known = is("client_id", CLIENT)
        && is("client_assertion", FEDERATED_TOKEN)
        && is("grant_type", "client_credentials");
    let resource = form
        .get("scope")
        .and_then(|scope| scope.strip_suffix("/.default"));
    match resource {
        Some(resource) if known => {
            let seconds = LIFETIME.as_secs();
            let answer = json!({
                "token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds,
                "access_token": issue(&issued, resource),
            });
            (StatusCode::OK, answer.to_string())
        }
        _ => refused(),
    }
}

/// Issues a token to a machine's managed identity.
///
/// See <https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference>.
async fn of_machine(
    State(issued): State<Issued>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> (StatusCode, String) {
    let known = headers
        .get("x-identity-header")
        .is_some_and(|header| header == IDENTITY_HEADER)
        && query.get("client_id").is_some_and(|id| id == CLIENT);
    match query.get("resource") {
        Some(resource) if known => {
            let answer = json!({
                "token_type": "Bearer", "expires_on": (now() + LIFETIME.as_secs()).to_string(),
                "resource": resource, "access_token": issue(&issued, resource),
            });
            (StatusCode::OK, answer.to_string())
        }
        _ => refused(),
    }
}

fn refused() -> (StatusCode, String) {
    let why = json!({ "error": "invalid_client", "error_description": "who is that?" });
    (StatusCode::UNAUTHORIZED, why.to_string())
}

/// Issues a token with the claims that Azurite reads; nobody checks the signature.
fn issue(issued: &Issued, resource: &str) -> String {
    let resource = resource.trim_end_matches('/');
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "aud": resource, "iss": format!("https://sts.windows.net/{TENANT}/"), "sub": CLIENT,
        "iat": now() - 60, "nbf": now() - 60, "exp": now() + LIFETIME.as_secs(),
    });
    let header = json!({ "typ": "JWT", "alg": "RS256" });
    let token = format!("{}.{}.c2lnbmVk", part(header), part(claims));
    issued.lock().unwrap().insert(resource.to_owned(), token.clone());
    token
}

fn now() -> u64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_epoch.unwrap().as_secs()
}

fn server_config(encryption: &Encryption) -> ServerConfig {
    let certificates = CertificateDer::pem_file_iter(encryption.path("server.pem"))
        .unwrap()
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_file(encryption.path("server.key")).unwrap();
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap()
}

struct Encrypted {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else {
                continue;
            };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

//! Starts Azurite, Microsoft's Azure Storage emulator, as a process private to one test.

use std::path::{Path, PathBuf};
use std::process::Command;

use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{ClientOptions, HttpConnector, HttpRequestBody, ReqwestConnector};
use tempfile::TempDir;
use url::Url;

use crate::server::{ServerProcess, accepts};
use crate::{Encryption, free_port};

const OPTIONS: [&str; 3] = ["--silent", "--disableTelemetry", "--skipApiVersionCheck"];
/// The account and key that Microsoft publishes for Azurite.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A running Azurite that keeps its blobs between [`Azurite::stop`] and [`Azurite::restart`].
#[derive(Debug)]
pub struct Azurite {
    process: ServerProcess,
    folder: TempDir,
    port: u16,
    encrypted: bool,
    words: Vec<String>,
}

impl Azurite {
    /// Starts Azurite with shared-key login over HTTP.
    pub fn start() -> Self {
        Self::start_with(&OPTIONS.map(str::to_owned))
    }

    /// Starts Azurite with TLS only; it also accepts Microsoft Entra ID tokens.
    pub fn encrypted(encryption: &Encryption) -> Self {
        let (certificate, key) = (encryption.path("server.pem"), encryption.path("server.key"));
        let more = ["--oauth", "basic", "--cert", &certificate, "--key", &key];
        Self::start_with(
            &OPTIONS
                .iter()
                .chain(&more)
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    /// Starts Azurite with these options, on free ports and in a temporary folder.
    pub fn start_with(words: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let azurite = Self {
            process: ServerProcess::new("Azurite", folder.path()),
            folder,
            port: free_port(),
            encrypted: words.iter().any(|word| word == "--cert"),
            words: words.to_vec(),
        };
        azurite.restart();
        azurite
    }

    /// Restarts Azurite after [`Azurite::stop`] and waits until it accepts connections.
    pub fn restart(&self) {
        let mut command = Command::new(program());
        command
            .args(&self.words)
            .arg("--location")
            .arg(self.folder.path().join("data"))
            .args(["--blobPort", &self.port.to_string()])
            .args(["--queuePort", &free_port().to_string()])
            .args(["--tablePort", &free_port().to_string()]);
        self.process.start(&mut command, || accepts(self.port));
    }

    /// Stops Azurite with SIGTERM.
    ///
    /// A kill would lose confirmed blobs: Azurite writes its index only every five seconds.
    pub fn stop(&self) {
        self.process.stop();
    }

    /// Creates a container.
    pub fn create_container(&self, name: &str) {
        self.put(name, "restype=container", &[]);
    }

    /// Moves a blob of a container to another tier, such as `Archive` or `Hot`.
    pub fn set_tier(&self, blob: &str, tier: &str) {
        self.put(blob, "comp=tier", &[("x-ms-access-tier", tier)]);
    }

    /// Takes a lease on a blob of a container. It ends after these seconds, or never without them.
    pub fn lease(&self, blob: &str, seconds: Option<u32>) {
        let duration = seconds.map_or("-1".to_owned(), |seconds| seconds.to_string());
        let headers = [
            ("x-ms-lease-action", "acquire"),
            ("x-ms-lease-duration", &duration),
        ];
        self.put(blob, "comp=lease", &headers);
    }

    /// Breaks the lease on a blob of a container at once.
    pub fn break_lease(&self, blob: &str) {
        let headers = [("x-ms-lease-action", "break"), ("x-ms-lease-break-period", "0")];
        self.put(blob, "comp=lease", &headers);
    }

    /// Sends an operation on a blob that `object_store` does not know, and expects it to succeed. The blob's path begins
    /// with the container.
    fn put(&self, blob: &str, query: &str, headers: &[(&str, &str)]) {
        windrow_store::choose_tls();
        let mut url = Url::parse(&format!("http://127.0.0.1:{}", self.port)).unwrap();
        // Encodes the percent signs that blobs of encoded names have.
        url.path_segments_mut()
            .unwrap()
            .push(ACCOUNT)
            .extend(blob.split('/'));
        url.set_query(Some(query));
        let mut request = http::Request::put(url.as_str()).header("content-length", "0");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(HttpRequestBody::empty()).unwrap();
        let key = AzureCredential::AccessKey(AzureAccessKey::try_new(KEY).unwrap());
        AzureAuthorizer::new(&key, ACCOUNT)
            .try_authorize(&mut request)
            .unwrap();
        let options = ClientOptions::new().with_allow_http(true);
        let client = ReqwestConnector::default().connect(&options).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let answer = runtime.block_on(client.execute(request)).unwrap();
        assert!(answer.status().is_success(), "{blob} {query}: {answer:?}");
    }

    /// Returns the port of the blob service.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the connection string for Microsoft's clients.
    pub fn connection_string(&self) -> String {
        let [_, _, (_, endpoint), _] = self.variables();
        format!(
            "DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint};"
        )
    }

    /// Returns the environment variables that point Windrow at this Azurite.
    pub fn variables(&self) -> [(&'static str, String); 4] {
        // The certificate is issued for `localhost`, not for an address.
        let (scheme, host) = match self.encrypted {
            true => ("https", "localhost"),
            false => ("http", "127.0.0.1"),
        };
        [
            ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT.to_owned()),
            ("AZURE_STORAGE_ACCOUNT_KEY", KEY.to_owned()),
            (
                "AZURE_STORAGE_ENDPOINT",
                format!("{scheme}://{host}:{}/{ACCOUNT}", self.port),
            ),
            ("AZURE_ALLOW_HTTP", (!self.encrypted).to_string()),
        ]
    }
}

/// Returns the path where `make test` installs Azurite.
fn program() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let program = workspace.join("target/azurite/node_modules/.bin/azurite");
    assert!(
        program.exists(),
        "Azurite is not installed: run `make test`, or `make target/azurite/package.json`"
    );
    program
}

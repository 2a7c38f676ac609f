//! Azurite, Microsoft's local Azure Storage, as a process of a test's own.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use tempfile::TempDir;

use crate::broker::signal;
use crate::{Encryption, eventually, free_port};

/// Node.js on two busy cores.
const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);
const OPTIONS: [&str; 3] = ["--silent", "--disableTelemetry", "--skipApiVersionCheck"];
/// The account and key that Microsoft publishes for it.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A running Azurite, which keeps what it is given between [`Azurite::stop`] and [`Azurite::restart`].
#[derive(Debug)]
pub struct Azurite {
    folder: TempDir,
    port: u16,
    encrypted: bool,
    words: Vec<String>,
    process: Mutex<Option<Child>>,
}

impl Azurite {
    /// Starts it.
    pub fn start() -> Self {
        Self::start_with(&OPTIONS.map(str::to_owned))
    }

    /// Starts one that speaks TLS only, and also takes tokens of Microsoft Entra ID.
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

    /// Starts it with these options, and with ports and a folder of its own.
    pub fn start_with(words: &[String]) -> Self {
        let azurite = Self {
            folder: tempfile::tempdir().unwrap(),
            port: free_port(),
            encrypted: words.iter().any(|word| word == "--cert"),
            words: words.to_vec(),
            process: Mutex::new(None),
        };
        azurite.restart();
        azurite
    }

    /// Starts it again after [`Azurite::stop`], and waits until it accepts connections.
    pub fn restart(&self) {
        let log = fs::File::create(self.folder.path().join("output.log")).unwrap();
        let child = Command::new(program())
            .args(&self.words)
            .arg("--location")
            .arg(self.folder.path().join("data"))
            .args(["--blobPort", &self.port.to_string()])
            .args(["--queuePort", &free_port().to_string()])
            .args(["--tablePort", &free_port().to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut process = self.process.lock().unwrap();
        assert!(process.replace(child).is_none(), "Azurite runs already");
        let process = process.as_mut().unwrap();
        eventually(START_WITHIN, "Azurite accepts connections", || {
            if let Some(status) = process.try_wait().unwrap() {
                let said = fs::read_to_string(self.folder.path().join("output.log"));
                panic!("Azurite ended with {status}: {}", said.unwrap_or_default());
            }
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
    }

    /// Stops it as an operator does. (Killed, it would forget blobs that it has confirmed: it writes its index every five
    /// seconds.)
    pub fn stop(&self) {
        let mut process = self.process.lock().unwrap().take().unwrap();
        signal(&process, "TERM");
        eventually(STOP_WITHIN, "Azurite stops", || process.try_wait().unwrap());
    }

    /// Where blobs are served.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The environment variables that lead to it.
    pub fn variables(&self) -> [(&'static str, String); 4] {
        // The certificate is for a name.
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

impl Drop for Azurite {
    fn drop(&mut self) {
        if let Ok(process) = self.process.get_mut()
            && let Some(mut process) = process.take()
        {
            _ = process.kill();
            _ = process.wait();
        }
    }
}

/// Where `make test` has npm install it.
fn program() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let program = workspace.join("target/azurite/node_modules/.bin/azurite");
    assert!(
        program.exists(),
        "Azurite is not installed: `make test` installs it, or: make target/azurite/package.json"
    );
    program
}

//! Starts moto, a stand-in for Amazon S3, as a process private to one test.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::free_port;
use crate::server::{ServerProcess, accepts};

/// A running S3 server, empty at first; stopped when it is dropped.
#[derive(Debug)]
pub struct S3Server {
    port: u16,
    /// Stops the server when it is dropped, before its folder goes.
    _process: ServerProcess,
    _folder: TempDir,
}

impl S3Server {
    /// Starts a server and waits until it accepts connections.
    pub fn start() -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/moto/bin/moto_server");
        assert!(
            program.exists(),
            "moto is not installed: run `make target/moto/.installed`"
        );
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let process = ServerProcess::new("moto", folder.path());
        let mut command = Command::new(program);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        process.start(&mut command, || accepts(port));
        Self {
            port,
            _process: process,
            _folder: folder,
        }
    }

    /// Returns the endpoint's URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Creates a bucket and returns its name.
    pub fn create_bucket<'a>(&self, name: &'a str) -> &'a str {
        windrow_store::choose_tls();
        let create = reqwest::Client::new()
            .put(format!("{}/{name}", self.url()))
            .send();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(create).unwrap().error_for_status().unwrap();
        name
    }
}

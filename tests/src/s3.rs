//! Starts moto, a stand-in for Amazon S3, as a process private to one test.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{eventually, free_port};

/// Long enough for Python to start on two busy cores.
const START_WITHIN: Duration = Duration::from_secs(60);

/// A running S3 server, empty at first; stopped when it is dropped.
#[derive(Debug)]
pub struct S3Server {
    port: u16,
    process: Child,
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
        let process = Command::new(program)
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { port, process };
        eventually(START_WITHIN, "the S3 server accepts connections", || {
            TcpStream::connect(("127.0.0.1", server.port)).ok()
        });
        server
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

impl Drop for S3Server {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

//! A server that others wrote, as a process private to one test.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::{eventually, signal};

/// Long enough for an interpreter to start on two busy cores.
const START_WITHIN: Duration = Duration::from_secs(90);
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// A process that can be stopped and started again; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    name: &'static str,
    log: PathBuf,
    process: Mutex<Option<Child>>,
}

impl ServerProcess {
    /// Describes a server that has not started yet and writes what it says to `output.log` in `folder`.
    pub(crate) fn new(name: &'static str, folder: &Path) -> Self {
        Self {
            name,
            log: folder.join("output.log"),
            process: Mutex::new(None),
        }
    }

    /// Starts the server and waits until it answers. Panics with what it said if it ends before.
    pub(crate) fn start(&self, command: &mut Command, mut answers: impl FnMut() -> bool) {
        let is_running = self.process.lock().unwrap().is_some();
        assert!(!is_running, "{} is already running", self.name);
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{} does not start ({error}): `make test` installs it", self.name)
            });
        *self.process.lock().unwrap() = Some(child);
        eventually(START_WITHIN, &format!("{} answers", self.name), || {
            self.expect_alive();
            answers().then_some(())
        });
    }

    /// Panics with what the server said if it has ended.
    fn expect_alive(&self) {
        let ended = self.process.lock().unwrap().as_mut().unwrap().try_wait().unwrap();
        if let Some(status) = ended {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            panic!("{} ended with {status}: {said}", self.name);
        }
    }

    /// Stops the server with SIGTERM.
    pub(crate) fn stop(&self) {
        let mut process = self.process.lock().unwrap().take().unwrap();
        signal(&process, "TERM");
        eventually(STOP_WITHIN, &format!("{} stops", self.name), || {
            process.try_wait().unwrap()
        });
    }

    /// Kills the server with SIGKILL, if it runs.
    pub(crate) fn kill(&self) {
        // A test that fails while it holds the lock must not leave the server behind.
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut process) = process.take() {
            // It may have ended by itself.
            _ = process.kill();
            _ = process.wait();
        }
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.process.lock().unwrap().as_ref().unwrap(), name);
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Tells whether a server accepts connections at this port of this machine.
pub(crate) fn accepts(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

//! Starts Alertmanager as a process private to one test.

use std::fs;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::free_port;
use crate::server::ServerProcess;

/// Notifies nobody, at once.
const CONFIGURATION: &str = "\
route:
  receiver: nobody
  group_by: ['...']
  group_wait: 0s
receivers:
  - name: nobody
";

/// A running Alertmanager that keeps its state between [`Alertmanager::stop`] and [`Alertmanager::restart`].
#[derive(Debug)]
pub struct Alertmanager {
    process: ServerProcess,
    folder: TempDir,
    port: u16,
}

impl Default for Alertmanager {
    fn default() -> Self {
        Self::start()
    }
}

impl Alertmanager {
    /// Starts Alertmanager on a free port.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let manager = Self {
            process: ServerProcess::new("prometheus-alertmanager", folder.path()),
            folder,
            port: free_port(),
        };
        fs::write(manager.folder.path().join("alertmanager.yml"), CONFIGURATION).unwrap();
        manager.restart();
        manager
    }

    /// Starts it again after [`Alertmanager::stop`], and waits until it answers.
    pub fn restart(&self) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let mut command = Command::new("prometheus-alertmanager");
        command
            .arg(format!("--config.file={}", path("alertmanager.yml")))
            .arg(format!("--storage.path={}", path("data")))
            .arg(format!("--web.listen-address=127.0.0.1:{}", self.port))
            .arg("--cluster.listen-address=");
        self.process.start(&mut command, || self.get().is_some());
    }

    /// Stops it, as for an update.
    pub fn stop(&self) {
        self.process.stop();
    }

    /// Returns its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns the alerts that are raised and not resolved.
    pub fn alerts(&self) -> Vec<Value> {
        self.get().unwrap()
    }

    fn get(&self) -> Option<Vec<Value>> {
        let url = format!("{}/api/v2/alerts?active=true", self.url());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let text = runtime.block_on(async { reqwest::Client::new().get(url).send().await?.text().await });
        serde_json::from_str(&text.ok()?).ok()
    }
}

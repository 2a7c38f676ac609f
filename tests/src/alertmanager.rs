//! Starts Alertmanager as a process private to one test.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{eventually, free_port};

const START_WITHIN: Duration = Duration::from_secs(60);

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
    folder: TempDir,
    port: u16,
    process: Mutex<Option<Child>>,
}

impl Default for Alertmanager {
    fn default() -> Self {
        Self::start()
    }
}

impl Alertmanager {
    /// Starts Alertmanager on a free port.
    pub fn start() -> Self {
        let manager = Self {
            folder: tempfile::tempdir().unwrap(),
            port: free_port(),
            process: Mutex::new(None),
        };
        fs::write(manager.folder.path().join("alertmanager.yml"), CONFIGURATION).unwrap();
        manager.restart();
        manager
    }

    /// Starts it again after [`Alertmanager::stop`], and waits until it answers.
    pub fn restart(&self) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(path("output.log"))
            .unwrap();
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", path("alertmanager.yml")))
            .arg(format!("--storage.path={}", path("data")))
            .arg(format!("--web.listen-address=127.0.0.1:{}", self.port))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("prometheus-alertmanager starts: `make test` installs it");
        let mut process = self.process.lock().unwrap();
        assert!(
            process.replace(child).is_none(),
            "Alertmanager is already running"
        );
        drop(process);
        eventually(START_WITHIN, "Alertmanager answers", || self.get().map(|_| ()));
    }

    /// Stops it, as for an update.
    pub fn stop(&self) {
        let mut process = self.process.lock().unwrap().take().unwrap();
        crate::signal(&process, "TERM");
        process.wait().unwrap();
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

impl Drop for Alertmanager {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

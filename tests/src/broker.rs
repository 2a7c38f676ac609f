//! Starts a private RabbitMQ node on free ports in a temporary folder; tests can stop, kill and restart it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use crate::free_port;
use crate::server::{ServerProcess, accepts};

/// Debian's package installs the real scripts here; the wrappers on the PATH switch to another user.
const COMMANDS: &str = "/usr/lib/rabbitmq/bin";
/// The folder of another version's `rabbitmq-server` and `rabbitmqctl`, such as tests/versions/install writes.
const OTHER_COMMANDS: &str = "WINDROW_TEST_RABBITMQ";

/// A RabbitMQ node that is killed when it is dropped.
#[derive(Debug)]
pub struct Broker {
    process: ServerProcess,
    folder: TempDir,
    port: u16,
    tls_port: u16,
    management_port: u16,
    distribution_port: u16,
    names_port: u16,
}

/// What the nodes of a cluster have in common.
#[derive(Debug)]
pub(crate) struct Membership {
    /// The port of Erlang's name server.
    pub(crate) names_port: u16,
    /// Each node's port for plain AMQP, which is in its name.
    pub(crate) ports: Vec<u16>,
}

/// Certificate files issued by a throwaway certificate authority.
#[derive(Debug)]
pub struct Encryption {
    folder: TempDir,
}

impl Encryption {
    /// Creates an authority and its certificates for `localhost` and for a client named `windrow`.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        write("ca.pem", authority.pem());
        for (file, name) in [("server", "localhost"), ("client", "windrow")] {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &authority).unwrap();
            write(&format!("{file}.pem"), certificate.pem());
            write(&format!("{file}.key"), key.serialize_pem());
        }
        Self { folder }
    }

    /// Returns the path of `ca.pem`, `server.pem`, `server.key`, `client.pem` or `client.key`.
    pub fn path(&self, file: &str) -> String {
        self.folder.path().join(file).to_str().unwrap().to_owned()
    }
}

impl Default for Encryption {
    fn default() -> Self {
        Self::new()
    }
}

impl Broker {
    /// Starts a node for one test, which may stop or kill it.
    pub fn start() -> Self {
        Self::configured(None)
    }

    /// Starts a node that also listens on a TLS port, where clients have to present a certificate.
    pub fn encrypted(encryption: &Encryption) -> Self {
        Self::configured(Some(encryption))
    }

    /// Returns the node shared by tests that do not disturb it, and starts it on first use; it ends with its last user.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap();
        shared.upgrade().unwrap_or_else(|| {
            let broker = Arc::new(Self::start());
            *shared = Arc::downgrade(&broker);
            broker
        })
    }

    fn configured(encryption: Option<&Encryption>) -> Self {
        let broker = Self::new(free_port(), free_port());
        broker.configure(encryption, None);
        broker.restart();
        broker
    }

    /// Creates a node of a cluster, which starts with [`Broker::restart`], at the same time as the others.
    pub(crate) fn member(port: u16, membership: &Membership) -> Self {
        let broker = Self::new(port, membership.names_port);
        broker.configure(None, Some(membership));
        broker
    }

    fn new(port: u16, names_port: u16) -> Self {
        let server = command("rabbitmq-server");
        assert!(
            server.exists(),
            "{} does not exist: run `make test`, or `apt-get install rabbitmq-server`",
            server.display()
        );
        let folder = tempfile::tempdir().unwrap();
        Self {
            process: ServerProcess::new("RabbitMQ", folder.path()),
            folder,
            port,
            tls_port: free_port(),
            management_port: free_port(),
            distribution_port: free_port(),
            names_port,
        }
    }

    fn configure(&self, encryption: Option<&Encryption>, membership: Option<&Membership>) {
        let broker = self;
        let mut config = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\n\
             management.tcp.ip = 127.0.0.1\n\
             management.tcp.port = {}\n\
             disk_free_limit.absolute = 50MB\n\
             log.console = false\n\
             log.file.level = warning\n",
            broker.port, broker.management_port
        );
        if let Some(encryption) = encryption {
            config += &format!(
                "listeners.ssl.1 = 127.0.0.1:{}\n\
                 ssl_options.cacertfile = {}\n\
                 ssl_options.certfile = {}\n\
                 ssl_options.keyfile = {}\n\
                 ssl_options.verify = verify_peer\n\
                 ssl_options.fail_if_no_peer_cert = true\n",
                broker.tls_port,
                encryption.path("ca.pem"),
                encryption.path("server.pem"),
                encryption.path("server.key"),
            );
        }
        if let Some(Membership { ports, .. }) = membership {
            config += "cluster_formation.peer_discovery_backend = classic_config\n";
            for (number, port) in ports.iter().enumerate() {
                let name = node_name(*port);
                config += &format!("cluster_formation.classic_config.nodes.{} = {name}\n", number + 1);
            }
            // The nodes have homes of their own, and with them cookies of their own.
            let cookie = self.folder.path().join(".erlang.cookie");
            fs::write(&cookie, "WINDROW").unwrap();
            fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400)).unwrap();
        }
        fs::write(broker.folder.path().join("rabbitmq.conf"), config).unwrap();
        fs::write(broker.folder.path().join("plugins"), "[rabbitmq_management].\n").unwrap();
    }

    /// Restarts the node after [`Broker::stop`] or [`Broker::kill`] and waits until it accepts connections.
    pub fn restart(&self) {
        let folder = self.folder.path();
        let path = |name: &str| folder.join(name);
        let mut server = Command::new(command("rabbitmq-server"));
        server
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", folder)
            .env("RABBITMQ_NODENAME", self.name())
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", path("data"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
            .env("ERL_EPMD_PORT", self.names_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            // Makes the script exec the server, so that a kill reaches the server and not a shell.
            .env("RUNNING_UNDER_SYSTEMD", "1");
        self.process.start(&mut server, || accepts(self.port));
    }

    /// Stops the node with SIGTERM.
    pub fn stop(&self) {
        self.process.stop();
    }

    /// Kills the node with SIGKILL.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Freezes the node: it keeps its connections and answers nothing.
    pub fn freeze(&self) {
        self.process.signal("STOP");
    }

    /// Ends [`Broker::freeze`].
    pub fn thaw(&self) {
        self.process.signal("CONT");
    }

    /// Sets the node's `max_message_size`, for channels that are opened from now on.
    pub fn set_max_message_size(&self, bytes: usize) {
        // RabbitMQ 4 reads the second setting, which it copies from the first on startup.
        let set = format!(
            "application:set_env(rabbit, max_message_size, {bytes}), persistent_term:put(max_message_size, {bytes})."
        );
        self.control(&["eval", &set]);
    }

    /// Runs `rabbitmqctl` on the node.
    pub fn control(&self, words: &[&str]) {
        let output = Command::new(command("rabbitmqctl"))
            .env("HOME", self.folder.path())
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("ERL_EPMD_PORT", self.names_port.to_string())
            .args(["--node", &self.name()])
            .args(words)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "rabbitmqctl {words:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Returns everything the node has logged.
    pub fn log(&self) -> String {
        let logs = fs::read_dir(self.folder.path().join("log")).into_iter().flatten();
        logs.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok())
            .collect()
    }

    /// Returns the name that the node has in its cluster.
    pub fn name(&self) -> String {
        node_name(self.port)
    }

    /// Returns the port for plain AMQP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URL for plain AMQP.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port)
    }

    /// Returns the URL for AMQP over TLS.
    pub fn tls_url(&self) -> String {
        format!("amqps://guest:guest@localhost:{}", self.tls_port)
    }

    /// Returns the URL of the management API.
    pub fn management_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.management_port)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the broker's log: {}", self.log());
        }
        self.process.kill();
        // The node started epmd, Erlang's name server, which outlives the node.
        _ = Command::new("epmd")
            .env("ERL_EPMD_PORT", self.names_port.to_string())
            .arg("-kill")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// Returns the path of one of RabbitMQ's commands.
fn command(name: &str) -> PathBuf {
    let folder = std::env::var_os(OTHER_COMMANDS).unwrap_or_else(|| COMMANDS.into());
    Path::new(&folder).join(name)
}

fn node_name(port: u16) -> String {
    format!("windrow{port}@localhost")
}

/// Sends a signal by its name.
pub fn signal(process: &Child, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &process.id().to_string()])
        .status();
    assert!(sent.unwrap().success(), "kill -s {name}");
}

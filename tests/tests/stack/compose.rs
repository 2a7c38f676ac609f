//! Tests `docker compose up` without Docker: starts exactly the processes of `docker-compose.yml` on loopback.
//!
//! Debian's RabbitMQ and npm's Azurite replace their images.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use windrow_tests::{Azurite, Broker, Compose, Container, built, eventually, free_port, signal};

/// The README promises predictions this soon after the first container starts.
const PREDICTIONS_WITHIN: Duration = Duration::from_secs(120);
/// Shorter than the default of a day, on which a debug build would train for minutes.
const HISTORY: &str = "1h";
const STEP_WITHIN: Duration = Duration::from_secs(60);
/// As in `docker compose up --scale worker=2`.
const WORKERS: usize = 2;

struct Stack {
    compose: Compose,
    folder: TempDir,
    broker: Broker,
    azurite: Azurite,
    hub_port: u16,
    running: BTreeMap<String, Running>,
}

struct Running {
    container: Container,
    process: Child,
}

impl Stack {
    fn new() -> Self {
        let compose = Compose::read(&[("DEMO_HISTORY", HISTORY)]);
        let folder = tempfile::tempdir().unwrap();
        for name in ["secrets", "logs", "root"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let azurite = compose.container("azurite").words;
        let azurite: Vec<String> = azurite
            .into_iter()
            .skip(1)
            // The test chooses its own address, ports and folder.
            .filter(|word| !["--location", "/data"].contains(&word.as_str()))
            .map(|word| word.replace("0.0.0.0", "127.0.0.1"))
            .collect();
        Self {
            compose,
            folder,
            broker: Broker::start(),
            azurite: Azurite::start_with(&azurite),
            hub_port: free_port(),
            running: BTreeMap::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the hosts, ports and volume of the stack with those of this machine.
    fn local(&self, text: &str, health_port: u16) -> String {
        let host = |port: u16| format!("127.0.0.1:{port}");
        let secrets = self.path("secrets");
        [
            ("rabbitmq:5672", host(self.broker.port())),
            ("azurite:10000", host(self.azurite.port())),
            ("connect(10000,", format!("connect({},", self.azurite.port())),
            ("0.0.0.0:5672", host(self.hub_port)),
            ("hub:5672", host(self.hub_port)),
            ("0.0.0.0:8080", host(health_port)),
            ("/run/windrow", secrets.to_str().unwrap().to_owned()),
        ]
        .iter()
        .fold(text.to_owned(), |text, (there, here)| text.replace(there, here))
    }

    /// Returns a service's process with hosts, ports and paths of this machine.
    fn container(&self, service: &str) -> Container {
        let port = free_port();
        let Container {
            words,
            environment,
            healthcheck,
        } = self.compose.container(service);
        let local = |words: Vec<String>| words.iter().map(|word| self.local(word, port)).collect();
        Container {
            words: local(words),
            environment: (environment.iter())
                .map(|(name, value)| (name.clone(), self.local(value, port)))
                .collect(),
            healthcheck: local(healthcheck),
        }
    }

    /// Creates a command that runs as in a container: only with its own variables, in a folder that must stay empty.
    fn command(&self, words: &[String], environment: &BTreeMap<String, String>) -> Command {
        let (program, options) = words.split_first().expect("a program");
        let ours = built("windrow");
        let path = std::env::var("PATH").unwrap();
        let mut command = match program.starts_with("windrow") {
            true => Command::new(built(program)),
            false => Command::new(program),
        };
        command
            .args(options)
            .env_clear()
            .env("PATH", format!("{}:{path}", ours.parent().unwrap().display()))
            .envs(environment)
            .current_dir(self.path("root"))
            .stdin(Stdio::null());
        command
    }

    /// Starts all services, each once its `depends_on` conditions hold.
    fn up(&mut self) {
        let order: Vec<String> = self.compose.order().into_iter().map(str::to_owned).collect();
        for service in order {
            for (other, dependency) in self.compose.service(&service).depends_on.clone() {
                self.wait_for(&other, &dependency.condition);
            }
            match service.as_str() {
                "rabbitmq" => self.let_the_user_in(),
                // `Stack::new` has already started it.
                "azurite" => {}
                "worker" => {
                    for number in 1..=WORKERS {
                        self.start(&service, &format!("worker-{number}"));
                    }
                }
                _ => self.start(&service, &service),
            }
        }
    }

    /// Creates the user whose name and password the service's command passes to RabbitMQ's image.
    fn let_the_user_in(&self) {
        let images_own = self.path("bin/docker-entrypoint.sh");
        fs::create_dir(images_own.parent().unwrap()).unwrap();
        let tell = "#!/bin/sh\ntest \"$1\" = rabbitmq-server\n\
                    echo \"$RABBITMQ_DEFAULT_USER $RABBITMQ_DEFAULT_PASS\"\n";
        fs::write(&images_own, tell).unwrap();
        fs::set_permissions(&images_own, PermissionsExt::from_mode(0o755)).unwrap();
        let Container {
            words,
            mut environment,
            ..
        } = self.container("rabbitmq");
        let path = format!("{}:/usr/bin:/bin", images_own.parent().unwrap().display());
        environment.insert("PATH".to_owned(), path);
        let output = self.command(&words, &environment).output().unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        let (user, password) = output.trim().split_once(' ').expect("a user and a password");
        assert!(password.len() > 20, "{output}");
        // A random password may begin with a hyphen.
        self.broker.control(&["add_user", "--", user, password]);
        self.broker.control(&["set_permissions", user, ".*", ".*", ".*"]);
    }

    fn start(&mut self, service: &str, name: &str) {
        let container = self.container(service);
        let log = fs::File::create(self.path("logs").join(name)).unwrap();
        let process = self
            .command(&container.words, &container.environment)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.running
            .insert(name.to_owned(), Running { container, process });
    }

    fn wait_for(&mut self, service: &str, condition: &str) {
        match (service, condition) {
            // Its health check expects the node name of the image; `Broker::start` has already waited for this node.
            ("rabbitmq", _) => {}
            ("azurite", "service_healthy") => {
                let Container {
                    environment,
                    healthcheck,
                    ..
                } = self.container("azurite");
                self.healthy(service, &healthcheck, &environment);
            }
            (_, "service_healthy") => {
                let Container {
                    environment,
                    healthcheck,
                    ..
                } = self.running[service].container.clone();
                self.healthy(service, &healthcheck, &environment);
            }
            (_, "service_completed_successfully") => {
                let code = self.exit_code(service);
                assert_eq!(code, Some(0), "{service}: {}", self.log(service));
            }
            _ => panic!("{service}: unknown condition {condition} in depends_on"),
        }
    }

    fn healthy(&self, name: &str, healthcheck: &[String], environment: &BTreeMap<String, String>) {
        eventually(STEP_WITHIN, &format!("{name} is healthy"), || {
            let output = self.command(healthcheck, environment).output().unwrap();
            output.status.success().then_some(())
        });
    }

    /// Returns the containers of Windrow's that have a health check.
    fn checked(&self) -> Vec<String> {
        let all = self.running.iter();
        all.filter(|(_, running)| !running.container.healthcheck.is_empty())
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn exit_code(&mut self, name: &str) -> Option<i32> {
        let process = &mut self.running.get_mut(name).unwrap().process;
        eventually(STEP_WITHIN, &format!("{name} ends"), || {
            process.try_wait().unwrap()
        })
        .code()
    }

    /// Stops one container as `docker compose stop` does.
    fn stop(&mut self, name: &str) {
        signal(&self.running[name].process, "TERM");
        let code = self.exit_code(name);
        assert_eq!(code, Some(0), "{name}: {}", self.log(name));
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path("logs").join(name)).unwrap_or_default()
    }

    /// Runs `docker compose run --rm cli …` and returns the exit code and the standard output.
    fn cli(&self, words: &[&str]) -> (Option<i32>, String) {
        let container = self.container("cli");
        let mut all = container.words;
        all.extend(words.iter().map(|word| (*word).to_owned()));
        let output = self.command(&all, &container.environment).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    /// Runs the audit and returns its exit code and totals.
    fn audit(&self) -> (Option<i32>, serde_json::Value) {
        let (code, output) = self.cli(&["audit", "--output", "json"]);
        let audit: serde_json::Value = serde_json::from_str(&output).unwrap_or_default();
        (code, audit["all"].clone())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for (name, Running { process, .. }) in &mut self.running {
            _ = process.kill();
            _ = process.wait();
            if std::thread::panicking() {
                let log = fs::read_to_string(self.folder.path().join("logs").join(name));
                println!("--- {name}\n{}", log.unwrap_or_default());
            }
        }
    }
}

#[test]
fn the_compose_file_starts_a_stack_in_which_predictions_arrive_and_the_audit_agrees() {
    built("windrow");
    let mut stack = Stack::new();
    let started = Instant::now();
    stack.up();
    let up = started.elapsed();
    eventually(
        PREDICTIONS_WITHIN.saturating_sub(up),
        "predictions arrive",
        || (stack.audit().1["predicted"].as_u64()? > 0).then_some(()),
    );
    println!("up after {up:.1?}, predictions after {:.1?}", started.elapsed());
    for name in stack.checked() {
        stack.wait_for(&name, "service_healthy");
    }
    eventually(STEP_WITHIN, "there is an anomaly", || {
        let (code, anomalies) = stack.cli(&["predictions", "export", "--anomalies"]);
        (code == Some(0) && anomalies.lines().count() > 1).then_some(())
    });

    // `up` a second time does not train again.
    stack.start("train", "train-again");
    assert_eq!(stack.exit_code("train-again"), Some(0));
    assert!(
        stack.log("train-again").contains("trained 0 models")
            && stack.log("train-again").contains("100 sensors had one"),
        "{}",
        stack.log("train-again")
    );

    stack.stop("simulator");
    stack.stop("producer");
    eventually(STEP_WITHIN, "nothing is in flight", || {
        let (code, all) = stack.audit();
        (code == Some(0) && all["dispatched"] == all["predicted"]).then_some(())
    });
    for name in ["worker-1", "worker-2"] {
        stack.stop(name);
    }
    let (code, all) = stack.audit();
    println!("{all}");
    assert_eq!(code, Some(0), "{all}");
    // A window of each sensor, except those silenced by a simulated episode.
    assert!(all["predicted"].as_u64() >= Some(90), "{all}");
    assert_eq!(all["lost"], 0);
    let written = fs::read_dir(stack.path("root")).unwrap().count();
    assert_eq!(written, 0, "a container's file system is read-only");
}

//! Runs `windrow-producer` and `windrow-worker` as real processes.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::broker::signal;
use crate::program::{built, without_settings};
use crate::{eventually, free_port};

/// A running service that is killed when it is dropped.
#[derive(Debug)]
pub struct Service {
    program: String,
    process: Child,
    port: u16,
    log: PathBuf,
}

impl Service {
    /// Starts `program` with these arguments and appends its log to `log`.
    pub fn start(program: &str, words: &[&str], log: &str) -> Self {
        Self::start_with(program, words, log, &[])
    }

    /// Starts `program` as [`Service::start`] does, with these environment variables.
    pub fn start_with(program: &str, words: &[&str], log: &str, variables: &[(&str, &str)]) -> Self {
        let port = free_port();
        let output = fs::File::options().create(true).append(true).open(log).unwrap();
        let process = without_settings(Command::new(built(program)))
            .args(words)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .unwrap();
        Self {
            program: program.to_owned(),
            process,
            port,
            log: log.into(),
        }
    }

    /// Runs the same program with `--check-health` and returns its exit code and output.
    pub fn check_health(&self) -> (i32, String) {
        Self::check_health_at(&self.program, self.port)
    }

    /// Runs `program` with `--check-health` against a port and returns its exit code and output.
    pub fn check_health_at(program: &str, port: u16) -> (i32, String) {
        let output = without_settings(Command::new(built(program)))
            .args(["--check-health", "--listen", &format!("0.0.0.0:{port}")])
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8(said).unwrap(),
        )
    }

    /// Returns the port of health checks and metrics.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        signal(&self.process, name);
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the exit code if it has ended, or 128 + the number of the signal that ended it.
    pub fn ended(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        let status = self.process.try_wait().unwrap()?;
        Some(
            status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        )
    }

    /// Waits for its end and returns the exit code.
    pub fn wait(&mut self, within: Duration) -> i32 {
        let deadline = Instant::now() + within;
        loop {
            if let Some(code) = self.ended() {
                return code;
            }
            assert!(
                Instant::now() < deadline,
                "not ended within {within:?}: {:?} {:?} {}",
                self.get("/readyz"),
                self.get("/metrics"),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns the whole log, entries of other services with the same log file included.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Prints readiness, metrics and the end of the log, to explain a failed test.
    fn show(&self) {
        const LINES: usize = 40;
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
        let ready = self.get("/readyz");
        let (_, metrics) = self.get("/metrics").unwrap_or_default();
        let values: String = metrics
            .lines()
            .filter(|line| !line.starts_with('#') && !line.contains("_bucket"))
            .map(|line| format!("{line}\n"))
            .collect();
        eprintln!("{}: {ready:?}\n{values}{last}", self.log.display());
    }

    /// Fetches a path and returns the status code and body; `None` while it does not answer.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        self.ask("GET", path)
    }

    /// Posts nothing to a path and returns the status code and body; `None` while it does not answer.
    pub fn post(&self, path: &str) -> Option<(u16, String)> {
        self.ask("POST", path)
    }

    fn ask(&self, method: &str, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let code = head.split(' ').nth(1)?.parse().ok()?;
        Some((code, body.to_owned()))
    }

    /// Waits until `/readyz` returns 200.
    pub fn ready(&mut self) {
        eventually(Duration::from_secs(60), "the service is ready", || {
            assert_eq!(self.ended(), None, "it has ended: {}", self.log());
            self.get("/readyz").filter(|(code, _)| *code == 200)
        });
    }

    /// Returns the sum of a metric over its labels; `None` while the service does not answer.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, body) = self.get("/metrics")?;
        let values = body.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = match rest.as_bytes().first()? {
                b' ' => rest,
                b'{' => rest.split_once('}')?.1,
                _ => return None,
            };
            value.trim().parse::<f64>().ok()
        });
        Some(values.sum())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show();
        }
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

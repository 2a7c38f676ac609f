//! Builds the workspace's programs and runs the `windrow` command line.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// Prefixes of the variables that Cargo sets for tests.
const CARGOS_OWN: [&str; 4] = [
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_CRATE_NAME",
    "CARGO_PRIMARY_PACKAGE",
];

/// Returns the path of a program of the workspace, built with the profile of this test.
pub fn built(program: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--workspace", "--bins"]);
        if cfg!(debug_assertions) {
            // Including the tests keeps the features of `cargo test --workspace`; otherwise dependencies are rebuilt.
            cargo.arg("--tests");
        } else {
            cargo.arg("--release");
        }
        // Cargo sets variables with the package of this process. Build scripts that track them (ring's) would see a
        // change and rebuild everything, now and again at the next call from outside.
        for (name, _) in env::vars_os() {
            if CARGOS_OWN
                .iter()
                .any(|own| name.to_string_lossy().starts_with(own))
            {
                cargo.env_remove(name);
            }
        }
        assert!(cargo.status().unwrap().success(), "the programs do not build");
        // This test is target/<profile>/deps/<test>.
        let test = env::current_exe().unwrap();
        test.ancestors().nth(2).unwrap().to_owned()
    });
    folder.join(program)
}

/// Removes this process's `WINDROW_…` variables from the environment of `command`.
pub(crate) fn without_settings(mut command: Command) -> Command {
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("WINDROW_")) {
        command.env_remove(name);
    }
    command
}

/// A `windrow` command line, ready to run.
#[derive(Debug)]
pub struct Program(Command);

/// Creates a `windrow` command line with these arguments.
pub fn windrow(words: &[&str]) -> Program {
    let mut command = without_settings(Command::new(built("windrow")));
    command.args(words);
    Program(command)
}

impl Program {
    /// Adds environment variables.
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.0.envs(variables);
        self
    }

    /// Runs it and returns its exit code, standard output and standard error.
    pub fn end(mut self) -> (i32, String, String) {
        let output = self.0.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap_or(-1),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// Runs it, expects success and returns its standard output.
    pub fn output(self) -> String {
        let what = format!("{:?}", self.0);
        let (code, output, error) = self.end();
        assert!(code == 0, "{what}\nended with {code}: {error}\n{output}");
        output
    }

    /// Runs it with `--output json`, expects success and returns the parsed output.
    pub fn json(mut self) -> serde_json::Value {
        self.0.args(["--output", "json"]);
        serde_json::from_str(&self.output()).unwrap()
    }

    /// Starts it and returns without waiting for its end.
    pub fn start(mut self) -> Child {
        self.0.stdout(Stdio::null()).spawn().unwrap()
    }
}

/// Trains models for the sensors in `source`, with one-minute windows, into `store`.
pub fn models_for(source: &str, store: &str) {
    let train = [
        "models",
        "train",
        "--source",
        source,
        "--store",
        store,
        "--max-rows",
        "100",
        "--nu",
        "0.1",
    ];
    windrow(&train).output();
}

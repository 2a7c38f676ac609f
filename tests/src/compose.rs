//! Reads from `docker-compose.yml` and `Dockerfile` which processes Docker would start.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

/// A compose file with its variables substituted.
#[derive(Debug, Deserialize)]
pub struct Compose {
    services: BTreeMap<String, ComposeService>,
}

/// A service of the compose file.
#[derive(Clone, Debug, Deserialize)]
pub struct ComposeService {
    /// The image, for instance `windrow/worker:dev`.
    pub image: String,
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    command: Vec<String>,
    /// The environment variables, without those of the image.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The services it waits for, and until when.
    #[serde(default)]
    pub depends_on: BTreeMap<String, Dependency>,
    healthcheck: Option<HealthCheck>,
    /// The profiles; `up` starts a service only when it has none.
    #[serde(default)]
    pub profiles: Vec<String>,
}

/// The condition under which a service may start after another.
#[derive(Clone, Debug, Deserialize)]
pub struct Dependency {
    /// `service_healthy` or `service_completed_successfully`.
    pub condition: String,
}

#[derive(Clone, Debug, Deserialize)]
struct HealthCheck {
    test: Vec<String>,
}

/// One target of `Dockerfile`.
#[derive(Debug, Default)]
struct Image {
    entrypoint: Vec<String>,
    environment: BTreeMap<String, String>,
    healthcheck: Vec<String>,
}

/// A process as Docker would start it.
#[derive(Clone, Debug)]
pub struct Container {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// All environment variables.
    pub environment: BTreeMap<String, String>,
    /// The health check command; empty if there is none.
    pub healthcheck: Vec<String>,
}

impl Compose {
    /// Reads the workspace's `docker-compose.yml` with these settings; all others keep their defaults.
    pub fn read(settings: &[(&str, &str)]) -> Self {
        let text = workspace_file("docker-compose.yml");
        let mut compose: Self =
            serde_saphyr::from_str(&text).expect("docker-compose.yml has the expected structure");
        for service in compose.services.values_mut() {
            service.image = filled_in(&service.image, settings);
            let words = service.entrypoint.iter_mut().flatten();
            let check = service.healthcheck.iter_mut().flat_map(|check| &mut check.test);
            for text in words
                .chain(&mut service.command)
                .chain(service.environment.values_mut())
                .chain(check)
            {
                *text = filled_in(text, settings);
            }
        }
        compose
    }

    /// Returns a service by name.
    pub fn service(&self, name: &str) -> &ComposeService {
        (self.services.get(name)).unwrap_or_else(|| panic!("docker-compose.yml has no service {name}"))
    }

    /// Returns the services that `up` starts, each after those it depends on.
    pub fn order(&self) -> Vec<&str> {
        let mut order: Vec<&str> = Vec::new();
        let wanted = || (self.services.iter()).filter(|(_, service)| service.profiles.is_empty());
        while order.len() < wanted().count() {
            let (next, _) = wanted()
                .find(|(name, service)| {
                    !order.contains(&name.as_str())
                        && service
                            .depends_on
                            .keys()
                            .all(|other| order.contains(&other.as_str()))
                })
                .expect("no service depends on itself or on one that `up` does not start");
            order.push(next);
        }
        order
    }

    /// Returns the process of a service.
    pub fn container(&self, name: &str) -> Container {
        let service = self.service(name);
        let image = Image::of(&service.image);
        let entrypoint = service.entrypoint.clone().unwrap_or(image.entrypoint);
        let mut environment = image.environment;
        environment.extend(service.environment.clone());
        let healthcheck = match &service.healthcheck {
            Some(HealthCheck { test }) => test[1..].to_vec(),
            None => image.healthcheck,
        };
        Container {
            words: [entrypoint, service.command.clone()].concat(),
            environment,
            healthcheck,
        }
    }
}

impl Image {
    /// Reads `windrow/TARGET:TAG` from `Dockerfile`; returns an empty `Image` for images that are not Windrow's.
    fn of(image: &str) -> Self {
        let mut found = Self::default();
        let Some(target) = image
            .strip_prefix("windrow/")
            .and_then(|rest| rest.split(':').next())
        else {
            return found;
        };
        let text = workspace_file("Dockerfile");
        let (_, rest) = text
            .split_once(&format!("\nFROM runtime AS {target}\n"))
            .unwrap_or_else(|| panic!("Dockerfile has no target {target}"));
        let stage = rest.split("\nFROM ").next().unwrap_or_default();
        let list =
            |text: &str| -> Vec<String> { serde_json::from_str(text).expect("a JSON list of strings") };
        for line in stage.lines() {
            match line.split_once(' ') {
                Some(("ENTRYPOINT", words)) => found.entrypoint = list(words),
                Some(("ENV", setting)) => {
                    let (name, value) = setting.split_once('=').expect("ENV NAME=VALUE");
                    found.environment.insert(name.to_owned(), value.to_owned());
                }
                Some(("HEALTHCHECK", check)) if check != "NONE" => {
                    let (_, words) = check.split_once(" CMD ").expect("HEALTHCHECK … CMD […]");
                    found.healthcheck = list(words);
                }
                _ => {}
            }
        }
        found
    }
}

fn workspace_file(name: &str) -> String {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::read_to_string(workspace.join(name)).unwrap()
}

/// Replaces each `${NAME:-default}` and `${NAME-default}` with the setting or its default, and `$$` with `$`.
fn filled_in(text: &str, settings: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        filled += before;
        rest = if let Some(escaped) = after.strip_prefix('$') {
            filled.push('$');
            escaped
        } else {
            let (setting, after) = after
                .strip_prefix('{')
                .and_then(|after| after.split_once('}'))
                .unwrap_or_else(|| panic!("a $ that does not begin ${{NAME:-default}} in {text}"));
            let (name, default) = setting.split_once('-').expect("every setting has a default");
            let set = settings
                .iter()
                .find(|(set, _)| *set == name.trim_end_matches(':'));
            filled += set.map_or(default, |(_, value)| value);
            after
        };
    }
    filled + rest
}

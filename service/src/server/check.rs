//! `--check-health`: the health check of a container, without a shell or curl.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser};

use super::tls::choose_tls;
use crate::parse_options;

const FLAG: &str = "--check-health";
/// How long the service may take to answer. Docker's own limit in our images is three seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Options for the health endpoints.
#[derive(Args, Clone, Debug)]
pub(super) struct HealthArgs {
    /// Address that serves /healthz, /readyz and /metrics; use 0.0.0.0:8080 in a container
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080",
        env = "WINDROW_LISTEN"
    )]
    pub(super) listen: SocketAddr,
    /// Ask the service that runs with this --listen whether it is alive, print what it waits for, and exit with 0 if it
    /// is alive or 1 if it does not answer. Needs no other option
    #[arg(long)]
    check_health: bool,
}

/// The options that a health check parses.
#[derive(Parser, Debug)]
struct Check {
    #[command(flatten)]
    health: HealthArgs,
}

/// Runs the health check if `--check-health` is given, and returns its exit code; otherwise returns `None`.
///
/// Call it before parsing the options, because a health check does not need the options that a service requires.
pub fn check_health() -> Option<ExitCode> {
    if !std::env::args_os().any(|word| word == FLAG) {
        return None;
    }
    let address = reachable(parse_options::<Check>().health.listen);
    Some(match ask(address) {
        Ok(answer) => {
            // The exit code is valid even if nobody reads the answer.
            _ = std::io::stdout().write_all(answer.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("no service answers at {address}: {error}");
            ExitCode::FAILURE
        }
    })
}

/// Returns the address at which a service that listens at `listen` is reached from the same machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Returns the text of `/readyz`, if `/healthz` succeeds.
fn ask(address: SocketAddr) -> Result<String, Box<dyn std::error::Error>> {
    choose_tls();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER_WITHIN)
            .build()?;
        let get = |path| client.get(format!("http://{address}/{path}")).send();
        get("healthz").await?.error_for_status()?;
        Ok(get("readyz").await?.text().await?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_on_every_address_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:81", "[::1]:81"),
            ("10.1.2.3:82", "10.1.2.3:82"),
        ] {
            assert_eq!(
                reachable(listen.parse().unwrap()),
                asked.parse::<SocketAddr>().unwrap()
            );
        }
    }
}

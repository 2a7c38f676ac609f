//! `--check-health`: a container asks the service in it how it is, without a shell or curl.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser};

use crate::tls::choose_tls;

const FLAG: &str = "--check-health";
/// Docker's own limit in our images is three seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Where a service says how it is.
#[derive(Args, Clone, Debug)]
pub(super) struct HealthArgs {
    /// Where /healthz, /readyz and /metrics are served; 0.0.0.0:8080 in a container
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080",
        env = "WINDROW_LISTEN"
    )]
    pub(super) listen: SocketAddr,
    /// Ask the service that runs with this --listen whether it lives, print what it waits for, and exit: 0 it lives, 1 it
    /// does not answer. Needs no other option
    #[arg(long)]
    check_health: bool,
}

/// What is left of a service's options when it is only asked.
#[derive(Parser, Debug)]
struct Check {
    #[command(flatten)]
    health: HealthArgs,
}

/// Does what `--check-health` asks for, and gives the exit code; `None` without that flag. To be called before options are
/// parsed, since those that a service needs are not needed here.
pub fn check_health() -> Option<ExitCode> {
    if !std::env::args_os().any(|word| word == FLAG) {
        return None;
    }
    let address = reachable(Check::parse().health.listen);
    Some(match ask(address) {
        Ok(answer) => {
            // Who does not want to read it still gets the exit code.
            _ = std::io::stdout().write_all(answer.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("nothing lives at {address}: {error}");
            ExitCode::FAILURE
        }
    })
}

/// Where a service that listens at `listen` is found on the same machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// What `/readyz` says of a service whose `/healthz` is well.
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

//! `windrow-test-hub`: a local Azure Event Hub as a program.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval_at};
use tracing_subscriber::EnvFilter;
use windrow_test_hub::{Hub, HubConfig};

/// The protocol header that requests AMQP with SASL.
const SASL_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";
/// Longest time a hub may take to answer a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// A local Azure Event Hub, in memory: for tests, and for people without Azure.
#[derive(Parser, Debug)]
#[command(
    version,
    max_term_width = 110,
    after_help = "\
Exit codes: 0 stopped by a signal, or the check passed; 1 failed; 2 the configuration is wrong.
Every option can also be set with the environment variable that its text names in brackets.
RUST_LOG sets the log filter.
Example:
  windrow-test-hub --hub readings --partitions 4 --detach-every 30s"
)]
struct Cli {
    /// Address to listen on
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:5672",
        env = "WINDROW_TEST_HUB_LISTEN"
    )]
    listen: SocketAddr,
    /// Name of the event hub
    #[arg(
        long,
        value_name = "NAME",
        default_value = "readings",
        env = "WINDROW_TEST_HUB_HUB"
    )]
    hub: String,
    /// Number of partitions
    #[arg(
        long,
        value_name = "N",
        default_value = "8",
        env = "WINDROW_TEST_HUB_PARTITIONS"
    )]
    partitions: u16,
    /// Memory for the events of each partition, in MiB; the oldest events are evicted first
    #[arg(
        long,
        value_name = "MIB",
        default_value = "256",
        env = "WINDROW_TEST_HUB_RETAIN_MIB"
    )]
    retain_mib: usize,
    /// Check that a running hub answers at --listen, and exit
    #[arg(long, env = "WINDROW_TEST_HUB_CHECK")]
    check: bool,
    #[command(flatten)]
    faults: FaultArgs,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Faults")]
struct FaultArgs {
    /// Cut every connection at this interval [default: never]
    #[arg(long, value_name = "DURATION", env = "WINDROW_TEST_HUB_DROP_EVERY", value_parser = parse_duration)]
    drop_every: Option<Duration>,
    /// Detach every receiver at this interval [default: never]
    #[arg(long, value_name = "DURATION", env = "WINDROW_TEST_HUB_DETACH_EVERY", value_parser = parse_duration)]
    detach_every: Option<Duration>,
    /// Error condition to detach receivers with
    #[arg(
        long,
        value_name = "CONDITION",
        default_value = "amqp:link:detach-forced",
        env = "WINDROW_TEST_HUB_DETACH_CONDITION"
    )]
    detach_condition: String,
    /// At this interval, refuse events and new links for --throttle-for [default: never]
    #[arg(long, value_name = "DURATION", env = "WINDROW_TEST_HUB_THROTTLE_EVERY", value_parser = parse_duration)]
    throttle_every: Option<Duration>,
    /// How long to refuse events and new links
    #[arg(long, value_name = "DURATION", default_value = "4s", env = "WINDROW_TEST_HUB_THROTTLE_FOR", value_parser = parse_duration)]
    throttle_for: Duration,
    /// Hold back every burst of up to 256 events for this long
    #[arg(long, value_name = "DURATION", default_value = "0s", env = "WINDROW_TEST_HUB_DELAY", value_parser = parse_delay)]
    delay: Duration,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.check {
        return match check(cli.listen) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("no hub at {}: {error}", cli.listen);
                ExitCode::FAILURE
            }
        };
    }
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("windrow_test_hub=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("windrow-test-hub: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the current time in microseconds since 1970.
fn now_us() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(0)
}

fn run(cli: Cli) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // Listen for signals first: a process that reads the hub's address may stop it at once.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let hub = Hub::start(&HubConfig {
            listen: cli.listen,
            hub: cli.hub,
            partitions: cli.partitions,
            consumer_groups: Vec::new(),
            retain_bytes: cli.retain_mib << 20,
            // Higher than the numbers of any earlier hub, unless that one received a million events a second.
            first_sequence_number: now_us(),
            clock_ahead_ms: 0,
        })?;
        hub.delay_deliveries(cli.faults.delay);
        println!("connection string: {}", hub.connection_string());
        println!("custom endpoint: {}", hub.endpoint());
        println!(
            "connection string for Python and Node: {}",
            hub.development_connection_string()
        );
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = cause_faults(&hub, &cli.faults) => {}
        }
        Ok(())
    })
}

/// Causes each fault at its interval, and never returns.
async fn cause_faults(hub: &Hub, faults: &FaultArgs) {
    let mut drop = every(faults.drop_every);
    let mut detach = every(faults.detach_every);
    let mut throttle = every(faults.throttle_every);
    loop {
        tokio::select! {
            () = tick(&mut drop) => hub.drop_connections(),
            () = tick(&mut detach) => hub.detach_receivers(&faults.detach_condition),
            () = tick(&mut throttle) => hub.throttle(faults.throttle_for),
        }
    }
}

fn every(period: Option<Duration>) -> Option<Interval> {
    let period = period?;
    let mut interval = interval_at(tokio::time::Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(interval)
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// Exchanges protocol headers with a running hub.
fn check(mut address: SocketAddr) -> std::io::Result<()> {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let mut socket = TcpStream::connect_timeout(&address, CHECK_TIMEOUT)?;
    socket.set_read_timeout(Some(CHECK_TIMEOUT))?;
    socket.set_write_timeout(Some(CHECK_TIMEOUT))?;
    socket.write_all(&SASL_HEADER)?;
    let mut answer = [0; SASL_HEADER.len()];
    socket.read_exact(&mut answer)?;
    if answer == SASL_HEADER {
        Ok(())
    } else {
        Err(std::io::Error::other("the answer is not AMQP"))
    }
}

/// Reads a duration such as `250ms`, `5s`, `2m` or `1h`, and refuses zero.
fn parse_duration(text: &str) -> Result<Duration, String> {
    parse_delay(text).and_then(|duration| {
        if duration.is_zero() {
            Err("it must not be zero".to_owned())
        } else {
            Ok(duration)
        }
    })
}

/// Reads a duration such as `250ms`, `5s`, `2m` or `1h`.
fn parse_delay(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("expected a number and a unit: ms, s, m or h".to_owned()),
    };
    let number: u32 = number
        .parse()
        .map_err(|_| "expected a whole number below 2^32 before the unit".to_owned())?;
    Ok(Duration::from_millis(u64::from(number) * unit_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_delay("0s"), Ok(Duration::ZERO));
        for wrong in ["", "5", "s", "0s", "-1s", "1 s", "99999999999h"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}

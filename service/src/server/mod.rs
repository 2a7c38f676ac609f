//! The service itself: its options, health and metrics, and the two steps of its end.

mod check;
mod http;
mod readiness;
mod scheduled_events;
mod tls;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use prometheus_client::registry::Registry;
use windrow_common::parse_duration;

use crate::signals::stop_on_eof;
use crate::{Failure, LogFormat, Shutdown, ShutdownTrigger, abandon, init_logs, stop_on_signals};
use check::HealthArgs;
use scheduled_events::ScheduledEvents;

pub use check::check_health;
pub use readiness::Readiness;

/// Options of every service.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Service")]
pub struct ServiceArgs {
    #[command(flatten)]
    health: HealthArgs,
    /// How long a stop may take before unfinished work is left to others
    #[arg(long, value_name = "DURATION", default_value = "25s", env = "WINDROW_DRAIN_TIMEOUT", value_parser = parse_duration)]
    pub drain_timeout: Duration,
    /// Watch the metadata service of an Azure VM at this URL, and drain on Terminate and Preempt; on a scale set, use
    /// http://169.254.169.254 [default: off]
    #[arg(long, value_name = "URL", env = "WINDROW_SCHEDULED_EVENTS")]
    pub scheduled_events: Option<String>,
    /// Stop when standard input ends, as it does once the program that started this one has exited
    #[arg(long, env = "WINDROW_STOP_ON_EOF")]
    pub stop_on_eof: bool,
    /// Log level on standard error: error, warn, info, debug or trace; or a filter such as info,windrow_worker=debug.
    /// Client libraries log less unless the filter names them, as in info,lapin=debug
    #[arg(long, value_name = "FILTER", default_value = "info", env = "WINDROW_LOG")]
    pub log: String,
    /// Format of the log lines
    #[arg(long, value_enum, default_value = "json", env = "WINDROW_LOG_FORMAT")]
    pub log_format: LogFormat,
}

/// Threads per core for work that blocks: one to compute and one to wait for a disk. Tokio's default of 512 lets a busy
/// worker's memory grow for hours, because the C library keeps an arena for each thread that has allocated.
const BLOCKING_THREADS_PER_CORE: usize = 2;

/// What a service serves over HTTP, beside `/healthz`.
#[derive(Default)]
pub struct Endpoints {
    /// Served at `/metrics`.
    pub registry: Registry,
    /// Served at `/readyz`.
    pub readiness: Readiness,
    /// Routes of its own.
    pub routes: axum::Router,
}

/// Runs a service to its end and returns the exit code: 0 done or drained, 1 failed, 2 the configuration is wrong, 4
/// the drain timed out, 5 stopped before it was caught up, 6 access is refused.
///
/// `work` ends intake when its [`Shutdown`] says so, and then finishes the work in flight.
pub fn run_service<F: Future<Output = Result<(), Failure>>>(
    name: &str,
    args: &ServiceArgs,
    endpoints: Endpoints,
    work: impl FnOnce(Shutdown) -> F,
) -> ExitCode {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let ended = init_logs(&args.log, args.log_format)
        .and_then(|()| {
            tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .max_blocking_threads(BLOCKING_THREADS_PER_CORE * cores)
                .build()
                .map_err(Failure::failed)
        })
        .and_then(|runtime| {
            let ended = runtime.block_on(serve(args, endpoints, work));
            abandon(runtime);
            ended
        });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.end(name),
    }
}

async fn serve<F: Future<Output = Result<(), Failure>>>(
    args: &ServiceArgs,
    endpoints: Endpoints,
    work: impl FnOnce(Shutdown) -> F,
) -> Result<(), Failure> {
    let (trigger, mut shutdown) = Shutdown::new();
    let trigger = Arc::new(trigger);
    let mut asked = asked_to_stop(args, &trigger).map_err(Failure::failed)?;
    let events = args
        .scheduled_events
        .as_deref()
        .map(|url| ScheduledEvents::watch(url, trigger))
        .transpose()?;
    http::serve(args.health.listen, endpoints, shutdown.clone()).await?;
    let work = work(shutdown.clone());
    let overdue = async {
        shutdown.stopping().await;
        tracing::info!(drain_timeout = ?args.drain_timeout, "stopping: finishing the work in flight");
        tokio::time::sleep(args.drain_timeout).await;
    };
    let ended = tokio::select! {
        ended = work => ended,
        () = overdue => Err(Failure::DrainTimeout(args.drain_timeout)),
    };
    if let Some(events) = events
        && events.acknowledge().await
    {
        // A supervisor would start the program again, which would take in work on a machine that is about to end.
        tracing::info!("waiting for the end of this machine");
        tokio::select! {
            () = asked.stopping() => {}
            () = events.until_it_is_called_off() => tracing::warn!("this machine has not ended"),
        }
    }
    if ended.is_ok() {
        tracing::info!("done");
    }
    ended
}

/// Stops the service on a signal, and at the end of standard input if that is wanted. The returned [`Shutdown`]
/// triggers only for these two reasons, not when something else stops the service.
fn asked_to_stop(args: &ServiceArgs, trigger: &Arc<ShutdownTrigger>) -> std::io::Result<Shutdown> {
    let (ask, asked) = Shutdown::new();
    let ask = Arc::new(ask);
    stop_on_signals(Arc::clone(&ask))?;
    if args.stop_on_eof {
        stop_on_eof(ask)?;
    }
    let (trigger, mut first) = (Arc::clone(trigger), asked.clone());
    tokio::spawn(async move {
        first.stopping().await;
        trigger.stop();
    });
    Ok(asked)
}

//! `windrow models gc`: deletes versions that nobody needs.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use windrow_common::{format_duration, parse_duration};
use windrow_models::{Keep, ModelRepository};
use windrow_store::StoreArg;

use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::show;

/// A worker reads `current` and then the version that it names. Nothing that was named a moment ago may be deleted.
const SHORTEST: Duration = Duration::from_secs(3_600);

#[derive(Args, Debug)]
#[command(after_help = "\
Example: see what would be deleted
  windrow models gc --store ./store --dry-run")]
pub(crate) struct GcArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Number of versions to keep for each sensor, of those that were current last, including the current one. Current
    /// versions, candidates, shadows and rollback targets are always kept
    #[arg(long, value_name = "N", default_value_t = 3, env = "WINDROW_KEEP")]
    keep: usize,
    /// Delete only versions that were neither stored nor current within this time; at least 1h
    #[arg(long, value_name = "DURATION", default_value = "7d", env = "WINDROW_OLDER_THAN", value_parser = parse_duration)]
    older_than: Duration,
    /// Only count what would be deleted
    #[arg(long, env = "WINDROW_DRY_RUN")]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArg,
}

impl GcArgs {
    pub(super) async fn run(self) -> Result<(), CliError> {
        if self.older_than < SHORTEST {
            return Err(CliError::Usage(format!(
                "--older-than {} is invalid: workers may still load a version that was current lately; give at least {}",
                format_duration(self.older_than),
                format_duration(SHORTEST)
            )));
        }
        let repository = ModelRepository::new(self.store.open()?);
        let keep = Keep {
            last: self.keep,
            newer_than: self.older_than,
        };
        let collected = repository.collect(keep, self.dry_run).await?;
        if self.output.output == OutputFormat::Json {
            return show::json(&json!({
                "sensors": collected.sensors, "deleted": collected.versions, "kept": collected.kept,
                "bytes": collected.bytes, "restored": collected.restored, "dry_run": self.dry_run,
            }));
        }
        let verb = match self.dry_run {
            true => "would delete",
            false => "deleted",
        };
        show::line(&format!(
            "{verb} {} versions of {} sensors ({} bytes); {} are kept",
            show::count(collected.versions),
            show::count(collected.sensors),
            show::count(collected.bytes),
            show::count(collected.kept)
        ))?;
        if collected.restored > 0 {
            show::line(&format!(
                "restored {} of them, which were promoted at the same time",
                show::count(collected.restored)
            ))?;
        }
        Ok(())
    }
}

//! `windrow queue`: shows the depth and the message rates of the scoring queue.

use clap::Args;
use serde_json::json;
use windrow_queue::{AmqpArgs, QueueState, Reconnect};

use crate::broker::BrokerError;
use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::show;

#[derive(Args, Debug)]
#[command(after_help = "\
The figures come from RabbitMQ's management API, which samples every five seconds.
Example:
  windrow queue --amqp-url amqp://windrow:…@broker")]
pub(crate) struct QueueArgs {
    #[command(flatten)]
    amqp: AmqpArgs,
    /// URL of the broker's management API [default: port 15672 of the broker's host; 15671 with amqps]
    #[arg(long, value_name = "URL", env = "WINDROW_MANAGEMENT_URL")]
    management_url: Option<String>,
    #[command(flatten)]
    output: OutputArg,
}

impl QueueArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let amqp = self
            .amqp
            .queue("windrow queue", Reconnect::Never)
            .map_err(BrokerError::from)?;
        let (score, dead) = (&amqp.names().score, &amqp.names().dead);
        let (state, dead_letters) = self.look(score, dead).await?;
        if self.output.output == OutputFormat::Json {
            return show::json(&json!({
                "queue": score,
                "ready": state.ready,
                "unacked": state.unacked,
                "consumers": state.consumers,
                "published_per_second": state.published_per_second,
                "delivered_per_second": state.delivered_per_second,
                "acked_per_second": state.acked_per_second,
                "redelivered": state.redelivered,
                "dead_letters": dead_letters,
            }));
        }
        let rate = |rate: f64| format!("{rate:.0} messages/s");
        show::facts(&[
            ("queue", score.clone()),
            ("ready", show::count(state.ready)),
            ("unacked", show::count(state.unacked)),
            ("consumers", show::count(state.consumers)),
            ("published", rate(state.published_per_second)),
            ("delivered", rate(state.delivered_per_second)),
            ("acked", rate(state.acked_per_second)),
            ("redelivered", show::count(state.redelivered)),
            ("dead letters", show::count(dead_letters)),
        ])
    }

    /// The state of the scoring queue, and the number of dead letters.
    async fn look(&self, score: &str, dead: &str) -> Result<(QueueState, u64), BrokerError> {
        let management = self.amqp.management(self.management_url.as_deref())?;
        let state = management.queue(score).await?;
        Ok((state, management.queue(dead).await?.ready))
    }
}

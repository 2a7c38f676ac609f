//! `windrow queue`: shows the depth and the message rates of the scoring queue.

use clap::Args;
use serde_json::json;
use windrow_queue::{AmqpArgs, QueueNames, QueueState, Reconnect, Risk};

use crate::broker::BrokerError;
use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::show;

#[derive(Args, Debug)]
#[command(after_help = "\
The figures come from RabbitMQ's management API, which samples every five seconds. A line that begins with WARN
names a policy that can lose messages, or a queue without a majority of its nodes.
Example:
  windrow queue --amqp-url amqp://windrow:…@broker")]
pub(crate) struct QueueArgs {
    #[command(flatten)]
    amqp: AmqpArgs,
    #[command(flatten)]
    output: OutputArg,
}

impl QueueArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let amqp = self
            .amqp
            .queue("windrow queue", Reconnect::Never)
            .map_err(BrokerError::from)?;
        let names = amqp.names();
        let look = self.look(names).await?;
        let Look { score, dead, risks } = &look;
        let no_majority = score.no_majority().or_else(|| dead.no_majority());
        if self.output.output == OutputFormat::Json {
            return show::json(&json!({
                "queue": names.score,
                "ready": score.ready,
                "unacked": score.unacked,
                "consumers": score.consumers,
                "published_per_second": score.published_per_second,
                "delivered_per_second": score.delivered_per_second,
                "acked_per_second": score.acked_per_second,
                "redelivered": score.redelivered,
                "dead_letters": dead.ready,
                "no_majority": no_majority,
                "policy_risks": risks,
            }));
        }
        let rate = |rate: f64| format!("{rate:.0} messages/s");
        show::facts(&[
            ("queue", names.score.clone()),
            ("ready", show::count(score.ready)),
            ("unacked", show::count(score.unacked)),
            ("consumers", show::count(score.consumers)),
            ("published", rate(score.published_per_second)),
            ("delivered", rate(score.delivered_per_second)),
            ("acked", rate(score.acked_per_second)),
            ("redelivered", show::count(score.redelivered)),
            ("dead letters", show::count(dead.ready)),
        ])?;
        if let Some(no_majority) = no_majority {
            show::line(&format!(
                "WARN {no_majority}; nothing is taken or delivered, and the figures are old"
            ))?;
        }
        for risk in risks {
            show::line(&format!("WARN {risk}"))?;
        }
        Ok(())
    }

    async fn look(&self, names: &QueueNames) -> Result<Look, BrokerError> {
        let management = self.amqp.management()?;
        let score = management.queue(&names.score).await?;
        let dead = management.queue(&names.dead).await?;
        let mut risks = score.policy.risks(&names.score, names);
        risks.extend(dead.policy.risks(&names.dead, names));
        Ok(Look { score, dead, risks })
    }
}

/// What the management API says.
struct Look {
    score: QueueState,
    dead: QueueState,
    /// The policies that can lose messages of either queue.
    risks: Vec<Risk>,
}

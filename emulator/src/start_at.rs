//! The position where a receiver starts to read, from the selector filter of its source.

use fe2o3_amqp::types::messaging::Source;
use fe2o3_amqp::types::primitives::Value;

/// A position in a partition where a receiver asks to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StartAt {
    /// At the oldest event kept.
    Earliest,
    /// At the next event to arrive.
    Latest,
    /// At an offset, or after it.
    Offset(Bound),
    /// At a sequence number, or after it.
    Sequence(Bound),
    /// At an arrival time in milliseconds since 1970, or after it.
    EnqueuedTime(Bound),
}

/// A value to start at, or after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// The value the client gave.
    pub(crate) value: i64,
    /// Whether to include an event of exactly this value.
    pub(crate) inclusive: bool,
}

impl Bound {
    /// Returns the smallest value to include.
    pub(crate) fn first(self) -> i64 {
        if self.inclusive {
            self.value
        } else {
            self.value.saturating_add(1)
        }
    }
}

impl StartAt {
    /// Returns the position that the source's filters ask for, or the earliest without a filter.
    ///
    /// The error is the refused expression.
    pub(crate) fn of_source(source: &Source) -> Result<Self, String> {
        let Some(filter) = &source.filter else {
            return Ok(Self::Earliest);
        };
        for (_, value) in filter.iter() {
            let value = match value {
                Value::Described(described) => &described.value,
                bare => bare,
            };
            if let Value::String(expression) = value {
                return Self::parse(expression).ok_or_else(|| expression.clone());
            }
        }
        Ok(Self::Earliest)
    }

    /// Reads an expression such as `amqp.annotation.x-opt-offset >= '42'`.
    fn parse(expression: &str) -> Option<Self> {
        let rest = expression.trim().strip_prefix("amqp.annotation.x-opt-")?;
        let (field, rest) = rest.split_once('>')?;
        let (rest, inclusive) = match rest.strip_prefix('=') {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let value = rest.trim().strip_prefix('\'')?.strip_suffix('\'')?;
        let bound = |value: &str| {
            let value = value.parse().ok()?;
            Some(Bound { value, inclusive })
        };
        match (field.trim(), value) {
            ("offset", "@latest") => Some(Self::Latest),
            ("offset", "-1") => Some(Self::Earliest),
            ("offset", value) => bound(value).map(Self::Offset),
            ("sequence-number", value) => bound(value).map(Self::Sequence),
            ("enqueued-time", value) => bound(value).map(Self::EnqueuedTime),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_of_the_official_client_is_understood() {
        let bound = |value, inclusive| Bound { value, inclusive };
        for (expression, position) in [
            ("amqp.annotation.x-opt-offset > '-1'", StartAt::Earliest),
            ("amqp.annotation.x-opt-offset > '@latest'", StartAt::Latest),
            (
                "amqp.annotation.x-opt-offset >'12'",
                StartAt::Offset(bound(12, false)),
            ),
            (
                "amqp.annotation.x-opt-sequence-number >='7'",
                StartAt::Sequence(bound(7, true)),
            ),
            (
                "amqp.annotation.x-opt-enqueued-time >'1700000000000'",
                StartAt::EnqueuedTime(bound(1_700_000_000_000, false)),
            ),
        ] {
            assert_eq!(StartAt::parse(expression), Some(position), "{expression}");
        }
    }

    #[test]
    fn any_other_expression_is_refused() {
        for expression in [
            "",
            "amqp.annotation.x-opt-offset < '1'",
            "amqp.annotation.x-opt-offset > 1",
            "amqp.annotation.x-opt-offset > 'one'",
            "amqp.annotation.x-opt-colour > '1'",
        ] {
            assert_eq!(StartAt::parse(expression), None, "{expression}");
        }
    }
}

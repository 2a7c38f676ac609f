//! W3C trace context (<https://www.w3.org/TR/trace-context/>), which connects a worker's log lines to the producer's.

use windrow_common::random;

use crate::Message;

/// A trace of everything that is dispatched together. Its messages are its spans.
#[derive(Clone, Debug)]
pub struct Trace {
    id: u128,
    span: u64,
}

impl Trace {
    /// Starts a trace with a new id.
    pub fn begin() -> Self {
        Self {
            // The specification forbids an id of all zeros, so one bit is always set.
            id: (u128::from(random()) << 64 | u128::from(random())) | 1,
            span: random(),
        }
    }

    /// Returns the trace id, which is part of every `traceparent` of this trace.
    pub fn id(&self) -> String {
        format!("{:032x}", self.id)
    }

    /// Returns the `traceparent` of the next span, marked as sampled.
    pub fn next_parent(&mut self) -> String {
        self.span = self.span.wrapping_add(1).max(1);
        format!("00-{}-{:016x}-01", self.id(), self.span)
    }
}

impl Message {
    /// Returns the id of the message's trace, which its publisher has from [`Trace::id`]. `None` without a `traceparent`, or
    /// with one of another form.
    pub fn trace_id(&self) -> Option<&str> {
        let id = self.traceparent.as_deref()?.split('-').nth(1)?;
        (id.len() == 32).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::message;

    #[test]
    fn a_message_tells_the_trace_that_it_belongs_to() {
        let mut trace = Trace::begin();
        let mut message = message("a");
        message.traceparent = Some(trace.next_parent());
        assert_eq!(message.trace_id(), Some(&*trace.id()));
        for other in [None, Some(String::new()), Some("00-aa-bb-01".to_owned())] {
            message.traceparent = other;
            assert_eq!(message.trace_id(), None);
        }
    }

    #[test]
    fn spans_of_a_trace_share_its_id_and_have_their_own() {
        let mut trace = Trace::begin();
        let (first, second) = (trace.next_parent(), trace.next_parent());
        assert_eq!(first.len(), 55);
        assert_eq!(first[..36], second[..36]);
        assert_ne!(first, second);
        assert_ne!(Trace::begin().next_parent()[..36], first[..36]);
    }
}

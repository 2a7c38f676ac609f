//! W3C trace context (<https://www.w3.org/TR/trace-context/>): what lets a log line of a worker be found from the
//! producer's.

use windrow_common::random;

/// One trace: everything that is dispatched together. Its messages are spans of it.
#[derive(Clone, Debug)]
pub struct Trace {
    id: u128,
    span: u64,
}

impl Trace {
    /// A trace with an id of its own.
    pub fn begin() -> Self {
        Self {
            // All zeros is not allowed, and one bit costs nothing.
            id: (u128::from(random()) << 64 | u128::from(random())) | 1,
            span: random(),
        }
    }

    /// The trace id, as it stands in every `traceparent` of this trace.
    pub fn id(&self) -> String {
        format!("{:032x}", self.id)
    }

    /// The `traceparent` of its next span, sampled.
    pub fn next_parent(&mut self) -> String {
        self.span = self.span.wrapping_add(1).max(1);
        format!("00-{}-{:016x}-01", self.id(), self.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

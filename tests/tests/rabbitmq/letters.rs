//! The dead-letter queue as an operator meets it.

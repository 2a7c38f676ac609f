//! Windrow's crates used as libraries. Each example is a program: `cargo run --example score_a_window`.

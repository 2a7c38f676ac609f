//! What surrounds the programs where they are deployed: the compose file, and a store in the cloud.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod blobs;
mod compose;
mod identity;

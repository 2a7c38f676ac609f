//! Tests the programs as they are deployed: from the compose file, with a cloud store, logged in by identity.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod blobs;
mod compose;
mod gateway;
mod identity;
mod one_blob;

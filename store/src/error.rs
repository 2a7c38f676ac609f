//! What can go wrong with a store.

use std::path::PathBuf;

use super::MAX_BLOB_BYTES;
use windrow_common::{HasRemedy, Remedy, one_line};

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL cannot be used.
    #[error(
        "`{url}` is not a store: {why} (write a folder, file:///folder, az://container/prefix, s3://bucket/prefix or gs://bucket/prefix)"
    )]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A folder store whose folder is not there.
    #[error("the store folder {} does not exist", .0.display())]
    Missing(PathBuf),
    /// A folder store whose folder cannot be made or written.
    #[error("the store folder {} cannot be written: {source}", .folder.display())]
    Unwritable {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A cloud store whose container or bucket is not there.
    #[error("the store {url} is not there: it has no such container or bucket")]
    NoContainer {
        /// The store.
        url: String,
    },
    /// A cloud store does not let us in, or not do this.
    #[error("the store {url} refuses this identity: {}", one_line(&.source.to_string()))]
    Refused {
        /// The store.
        url: String,
        /// What it said.
        source: Box<object_store::Error>,
    },
    /// Someone else wrote the blob since it was read.
    #[error("{path} in {url} was changed by another process since it was read")]
    Conflict {
        /// The blob.
        path: String,
        /// The store.
        url: String,
    },
    /// A blob is too large to read.
    #[error("{path} has {bytes} bytes; at most {MAX_BLOB_BYTES} are read")]
    TooLarge {
        /// The blob.
        path: String,
        /// Its size.
        bytes: u64,
    },
    /// An operation failed.
    #[error("cannot {action} {path} in {url}: {}", one_line(&.source.to_string()))]
    Operation {
        /// Read, write, list or delete.
        action: &'static str,
        /// The blob or prefix.
        path: String,
        /// The store.
        url: String,
        /// What the store said.
        source: Box<object_store::Error>,
    },
    /// The store as a whole is not there at the moment, as a folder that is not mounted.
    #[error("the store {url} is away: its folder is not there, or is another")]
    Away {
        /// The store.
        url: String,
    },
    /// What is to be written cannot be encoded.
    #[error("{path} cannot be encoded")]
    Unencodable {
        /// The blob.
        path: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A blob exists but is not what it should be.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The blob.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

impl HasRemedy for StoreError {
    /// A store that is away, slow or full may come back; wrong names and contents stay wrong. A cloud's rights and
    /// containers come and go (keys are rotated, roles take minutes) and concern all blobs: work in hand then waits for a
    /// person instead of being given up blob by blob.
    fn remedy(&self) -> Remedy {
        use object_store::Error as E;
        match self {
            Self::Url { .. } | Self::Missing(_) | Self::Unwritable { .. } => Remedy::FixConfig,
            Self::Away { .. } | Self::NoContainer { .. } | Self::Refused { .. } => Remedy::Wait,
            Self::Operation { source, .. } => match **source {
                E::NotFound { .. }
                | E::InvalidPath { .. }
                | E::NotSupported { .. }
                | E::NotModified { .. }
                | E::PermissionDenied { .. }
                | E::Unauthenticated { .. }
                | E::UnknownConfigurationKey { .. } => Remedy::GiveUp,
                _ => Remedy::Wait,
            },
            Self::Conflict { .. }
            | Self::TooLarge { .. }
            | Self::Unencodable { .. }
            | Self::Damaged { .. } => Remedy::GiveUp,
        }
    }
}

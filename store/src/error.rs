//! The errors of a store.

use std::path::PathBuf;

use super::MAX_BLOB_BYTES;
use windrow_common::{HasRemedy, Remedy, one_line};

/// An error of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL cannot be used.
    #[error(
        "`{url}` is not a store: {why} (write a folder, file:///folder, az://container/prefix, s3://bucket/prefix or \
         gs://bucket/prefix)"
    )]
    Url {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The folder of a folder store does not exist.
    #[error("the store folder {} does not exist", .0.display())]
    Missing(PathBuf),
    /// The folder of a folder store cannot be created or written.
    #[error("the store folder {} cannot be written: {source}", .folder.display())]
    Unwritable {
        /// The folder.
        folder: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The container or bucket of a cloud store does not exist.
    #[error("the store {url} cannot be found: the account has no such container or bucket")]
    NoContainer {
        /// The store.
        url: String,
    },
    /// A cloud store refuses the credentials, or does not permit the operation.
    #[error("the store {url} refuses this identity: {}", one_line(&.source.to_string()))]
    Refused {
        /// The store.
        url: String,
        /// The store's error.
        source: Box<object_store::Error>,
    },
    /// Another process has written the blob since it was read.
    #[error("{path} in {url} was changed by another process since it was read")]
    Conflict {
        /// The blob.
        path: String,
        /// The store.
        url: String,
    },
    /// The store's folder ignores case and holds this name in another case.
    #[error(
        "cannot use {path} in {url}: the folder ignores case and already holds {there}; rename the \
         device, tag or source, or move the store to a folder where case counts"
    )]
    OtherCase {
        /// The blob.
        path: String,
        /// The start of its path, as it is spelled in the folder.
        there: String,
        /// The store.
        url: String,
    },
    /// A blob is too large to read.
    #[error("cannot read {path}: it has {bytes} bytes; at most {MAX_BLOB_BYTES} are allowed")]
    TooLarge {
        /// The blob.
        path: String,
        /// Its size.
        bytes: u64,
    },
    /// An operation failed.
    #[error("cannot {action} {path} in {url}: {}", one_line(&.source.to_string()))]
    Operation {
        /// The operation, such as read, write, list or delete.
        action: &'static str,
        /// The blob or prefix.
        path: String,
        /// The store.
        url: String,
        /// The store's error.
        source: Box<object_store::Error>,
    },
    /// The whole store is unavailable at the moment, such as a folder that is not mounted.
    #[error("the store {url} is unavailable: its folder is missing, or is not the one that was opened")]
    Away {
        /// The store.
        url: String,
    },
    /// The contents of a blob cannot be encoded.
    #[error("cannot encode {path}")]
    Unencodable {
        /// The blob.
        path: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A blob exists, but its contents are invalid.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The blob.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

impl HasRemedy for StoreError {
    /// An unavailable, slow or full store may recover; wrong names and contents stay wrong. A cloud's permissions and
    /// containers can change at any time (keys are rotated, roles take minutes to apply), and they affect all blobs.
    /// Work in flight then waits for a person, instead of failing blob by blob.
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
            | Self::OtherCase { .. }
            | Self::TooLarge { .. }
            | Self::Unencodable { .. }
            | Self::Damaged { .. } => Remedy::GiveUp,
        }
    }
}

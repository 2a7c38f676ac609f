//! The errors of a store.

use std::fmt;
use std::path::PathBuf;

use super::MAX_BLOB_BYTES;
use super::meaning::{Meaning, meaning};
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
    /// The folder's file system lacks something that a store needs.
    #[error("the folder {} cannot be a store: {why}", .folder.display())]
    Unfit {
        /// The folder.
        folder: PathBuf,
        /// What it lacks, and what to do.
        why: String,
    },
    /// The file system of a folder store does not answer.
    #[error(
        "the file system of the store folder {} has not answered for some seconds, as NFS does without a lock service, or \
         just after its server has started; mount it with locks (NFS 4, or NFS 3 with rpc.statd and without nolock), or use \
         a cloud store",
        .folder.display()
    )]
    SilentFolder {
        /// The folder.
        folder: PathBuf,
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
    /// Something in front of a cloud store answers in its place.
    #[error(
        "cannot {action} {path} in {url}: the answer is a 404 without a code of the service, so a proxy or gateway in front of \
         it does not reach it; mend that, or name the right endpoint: {}",
        start_of(&.source.to_string())
    )]
    NotOfService {
        /// The operation, such as read, write, list or delete.
        action: &'static str,
        /// The blob or prefix.
        path: String,
        /// The store.
        url: String,
        /// The client's error, with the answer.
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
    /// The blob is archived, and cannot be read until somebody restores it.
    #[error(
        "cannot read {path} in {url}: it is archived; move it back to a tier that can be read, and keep lifecycle rules \
         away from it"
    )]
    Archived {
        /// The blob.
        path: String,
        /// The store.
        url: String,
    },
    /// Somebody holds a lease on the blob.
    #[error("cannot write {path} in {url}: it is leased by someone {lease}")]
    Leased {
        /// The blob.
        path: String,
        /// The store.
        url: String,
        /// What is known of the lease.
        lease: BlobLease,
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
            Self::Url { .. } | Self::Missing(_) | Self::Unwritable { .. } | Self::Unfit { .. } => {
                Remedy::FixConfig
            }
            Self::Away { .. }
            | Self::SilentFolder { .. }
            | Self::NoContainer { .. }
            | Self::NotOfService { .. }
            | Self::Leased { .. } => Remedy::Wait,
            Self::Refused { .. } => Remedy::GrantAccess,
            Self::Operation { source, .. } if meaning(source) == Meaning::Name => Remedy::GiveUp,
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
            Self::Archived { .. }
            | Self::Conflict { .. }
            | Self::OtherCase { .. }
            | Self::TooLarge { .. }
            | Self::Unencodable { .. }
            | Self::Damaged { .. } => Remedy::GiveUp,
        }
    }
}

impl StoreError {
    /// Returns whether the error affects a single blob and does not pass with time. An outage affects all blobs.
    pub fn is_of_one_blob(&self) -> bool {
        match self {
            Self::Archived { .. }
            | Self::OtherCase { .. }
            | Self::TooLarge { .. }
            | Self::Unencodable { .. }
            | Self::Damaged { .. } => true,
            Self::Operation { source, .. } => meaning(source) == Meaning::Name,
            _ => false,
        }
    }
}

/// Returns the first characters of a text, on one line: the answer may be a page of any size.
fn start_of(text: &str) -> String {
    const CHARACTERS: usize = 400;
    let line = one_line(text);
    match line.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// What is known of a lease on a blob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlobLease {
    /// Whether it ends by itself, unless its holder renews it; absent if the store did not say.
    pub(super) ends: Option<bool>,
    /// The command that ends it.
    pub(super) broken_by: Option<String>,
}

impl fmt::Display for BlobLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.ends {
            Some(true) => "until a minute has passed in which they do not renew it",
            Some(false) => "until they release it",
            None => "who has not released it",
        })?;
        match &self.broken_by {
            Some(command) => write!(f, "; stop what holds it, or break the lease: {command}"),
            None => f.write_str("; stop what holds it, or break the lease"),
        }
    }
}

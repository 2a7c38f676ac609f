//! Classifies the errors of an object store. The client distinguishes HTTP statuses, but one status can mean several
//! things: the code in the service's answer decides.
//!
//! A 404 without a code of the service comes from something in front of it, such as a proxy without a route, and says nothing
//! about a blob. An answer to HEAD has no body and hence no code on S3, so no blob in a cloud is ever looked at with HEAD.

use std::error::Error;
use std::io::{self, ErrorKind};

use object_store::Error as E;

/// The meaning of an error, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The service did not find the container or bucket itself.
    NoContainer,
    /// The store has no such blob.
    NoBlob,
    /// Something in front of the service says 404 in its place.
    NotOfService,
    /// The service refuses the credentials or the operation.
    Refused,
    /// The blob was moved to a tier from which it has to be brought back before it can be read.
    Archived,
    /// Somebody holds a lease on the blob, and only they may change it.
    Leased,
    /// A rule keeps the blob from being changed or deleted.
    Immutable,
    /// The file system does not allow such a name, or something else already uses it.
    Name,
    Other,
}

/// The codes of Azure, S3 and Google Cloud Storage, which uses those of S3
/// (<https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes>,
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>,
/// <https://docs.cloud.google.com/storage/docs/xml-api/reference-status>).
const CODES: [(&str, Meaning); 11] = [
    ("BlobNotFound", Meaning::NoBlob),
    ("ResourceNotFound", Meaning::NoBlob),
    ("NoSuchKey", Meaning::NoBlob),
    ("ContainerNotFound", Meaning::NoContainer),
    ("NoSuchBucket", Meaning::NoContainer),
    ("BlobArchived", Meaning::Archived),
    ("BlobBeingRehydrated", Meaning::Archived),
    ("InvalidObjectState", Meaning::Archived),
    ("LeaseIdMissing", Meaning::Leased),
    ("BlobImmutableDueToPolicy", Meaning::Immutable),
    ("BlobImmutableDueToLegalHold", Meaning::Immutable),
];

/// Returns what `error` means.
pub(super) fn meaning(error: &E) -> Meaning {
    let answer = error.to_string();
    // A path cannot be mistaken for a code, because `<` is encoded in paths.
    let code = answer
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"));
    let known = code.and_then(|(code, _)| CODES.iter().find(|(known, _)| *known == code.trim()));
    if let Some((_, meaning)) = known {
        return *meaning;
    }
    // For a listing, only the text of the error names the status.
    let says = |status: u16| answer.contains(&format!("status code: {status} "));
    let refused =
        matches!(error, E::PermissionDenied { .. } | E::Unauthenticated { .. }) || says(401) || says(403);
    match system_error(error) {
        _ if refused => Meaning::Refused,
        _ if says(404) => Meaning::NotOfService,
        // This error does not come from an HTTP status, but from a folder, from memory, or from one blob in an answer
        // about many.
        _ if matches!(error, E::NotFound { .. }) => Meaning::NoBlob,
        Some(kind) if IS_OF_A_NAME.contains(&kind) => Meaning::Name,
        _ => Meaning::Other,
    }
}

/// The errors of a file system for a name that it cannot store: `ENAMETOOLONG`, `EINVAL`, `EISDIR`, `ENOTDIR`.
const IS_OF_A_NAME: [ErrorKind; 4] = [
    ErrorKind::InvalidFilename,
    ErrorKind::InvalidInput,
    ErrorKind::IsADirectory,
    ErrorKind::NotADirectory,
];

/// Returns the kind of the system's error, if a folder's file system caused the error.
fn system_error(error: &E) -> Option<ErrorKind> {
    // The same number from a socket, a lock or a key's file says nothing about a blob.
    if !matches!(
        error,
        E::Generic {
            store: "LocalFileSystem" | "folder",
            ..
        }
    ) {
        return None;
    }
    let first: &(dyn Error + 'static) = error;
    let causes = std::iter::successors(Some(first), |&error| error.source());
    let system = causes
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .last()?;
    // Without an OS error number, the error comes from a library, not from the system.
    system.raw_os_error().map(|_| system.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_status_has_several_meanings() {
        let of = |code: &str| {
            let source =
                format!("Server returned non-2xx status code: 409 Conflict: <Error><Code>{code}</Code>");
            let path = "models/a/t/current".to_owned();
            meaning(&E::AlreadyExists {
                path,
                source: source.into(),
            })
        };
        assert_eq!(of("BlobAlreadyExists"), Meaning::Other);
        assert_eq!(of("BlobArchived"), Meaning::Archived);
        assert_eq!(of("LeaseIdMissing"), Meaning::Leased);
        let source = "Server returned non-2xx status code: 403 Forbidden: <Code>InvalidObjectState</Code>";
        let path = String::new();
        let error = E::PermissionDenied {
            path,
            source: source.into(),
        };
        assert_eq!(meaning(&error), Meaning::Archived);
    }

    #[test]
    fn only_a_code_of_the_service_says_that_there_is_no_blob() {
        let of = |body: &str| {
            let source = format!("Server returned non-2xx status code: 404 Not Found: {body}");
            let path = "models/a/t/current".to_owned();
            let source = source.into();
            [
                meaning(&E::NotFound { path, source }),
                // The client takes the 404 of a conditional write to S3 for a failed condition, and names no kind for a listing.
                meaning(&E::Precondition {
                    path: String::new(),
                    source: format!("404: {body}, status code: 404 Not Found").into(),
                }),
                meaning(&E::Generic {
                    store: "S3",
                    source: format!("status code: 404 Not Found: {body}").into(),
                }),
            ]
        };
        for code in ["BlobNotFound", "NoSuchKey", "ResourceNotFound"] {
            let body = format!("<?xml version='1.0'?><Error><Code>{code}</Code></Error>");
            assert_eq!(of(&body), [Meaning::NoBlob; 3], "{code}");
        }
        for body in [
            "",
            "<h1>404 Not Found</h1><hr>nginx",
            "<Error><Code>404</Code></Error>",
        ] {
            assert_eq!(of(body), [Meaning::NotOfService; 3], "{body}");
        }
        let path = String::new();
        let source = "Bulk delete request failed for key a: gone (code: 404)".into();
        assert_eq!(meaning(&E::NotFound { path, source }), Meaning::NoBlob);
    }

    #[test]
    fn only_what_a_file_system_says_of_a_name_is_about_the_name() {
        let of = |number: i32| {
            meaning(&E::Generic {
                store: "folder",
                source: io::Error::from_raw_os_error(number).into(),
            })
        };
        let (no_entry, input, access, directory, invalid, no_space, too_long) = (2, 5, 13, 21, 22, 28, 36);
        for number in [directory, invalid, too_long] {
            assert_eq!(of(number), Meaning::Name, "{number}");
        }
        for number in [no_entry, input, access, no_space] {
            assert_eq!(of(number), Meaning::Other, "{number}");
        }
        for elsewhere in ["MicrosoftAzure", "S3", "lock file"] {
            let source = io::Error::from_raw_os_error(invalid).into();
            let store = elsewhere;
            assert_eq!(
                meaning(&E::Generic { store, source }),
                Meaning::Other,
                "{elsewhere}"
            );
        }
    }
}

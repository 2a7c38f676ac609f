//! What receivers that are told over HTTP share.

use std::time::Duration;

use windrow_common::sentence;

use super::DeliveryError;

/// How long a receiver may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// An address that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{option} `{address}` cannot be used: {why}")]
pub struct AddressError {
    pub(super) option: &'static str,
    pub(super) address: String,
    pub(super) why: String,
}

/// Parses the address of a receiver.
pub(super) fn address(option: &'static str, text: &str) -> Result<reqwest::Url, AddressError> {
    let wrong = |why: String| AddressError {
        option,
        // The part that may hold a password stays out.
        address: text.rsplit('@').next().unwrap_or_default().to_owned(),
        why,
    };
    let url = reqwest::Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(wrong(
            "write http://host:port/path or https://host/path".to_owned(),
        )),
    }
}

/// Returns an address without user and password, for people.
pub(super) fn shown(url: &reqwest::Url) -> String {
    let mut url = url.clone();
    // An address without a host has no user either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string()
}

pub(super) fn client() -> Result<reqwest::Client, reqwest::Error> {
    windrow_store::choose_tls();
    reqwest::Client::builder().timeout(ANSWERS_WITHIN).build()
}

/// Sends a request; an answer that is no success is an error.
pub(super) async fn send(request: reqwest::RequestBuilder, receiver: &str) -> Result<(), DeliveryError> {
    let away = |error: reqwest::Error| DeliveryError::Away {
        receiver: receiver.to_owned(),
        why: sentence(&error.without_url()),
    };
    let response = request.send().await.map_err(away)?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let text = response.text().await.unwrap_or_default();
    Err(DeliveryError::Refused {
        receiver: receiver.to_owned(),
        status: status.as_u16(),
        text: windrow_common::one_line(&text.chars().take(200).collect::<String>()),
    })
}

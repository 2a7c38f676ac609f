//! What receivers that are told over HTTP share.

use std::time::Duration;

use windrow_common::sentence;

use super::DeliveryError;

/// How long a receiver may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// An address that cannot be used. The text does not contain it, since it may hold a password or a token.
#[derive(Debug, thiserror::Error)]
#[error("{option} cannot be used: {why}")]
pub struct AddressError {
    pub(super) option: &'static str,
    pub(super) why: String,
}

/// Parses the address of a receiver.
pub(super) fn address(option: &'static str, text: &str) -> Result<reqwest::Url, AddressError> {
    let wrong = |why: String| AddressError { option, why };
    let url = reqwest::Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(wrong(
            "write http://host:port/path or https://host/path".to_owned(),
        )),
    }
}

/// Returns what people may see of an address: passwords stand before the host, and tokens in the path.
pub(super) fn shown(url: &reqwest::Url) -> String {
    url.origin().ascii_serialization()
}

pub(super) fn client() -> Result<reqwest::Client, reqwest::Error> {
    windrow_store::choose_tls();
    // A POST that is redirected would become a GET that says nothing, and its answer would count.
    let redirects = reqwest::redirect::Policy::none();
    reqwest::Client::builder()
        .timeout(ANSWERS_WITHIN)
        .redirect(redirects)
        .build()
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

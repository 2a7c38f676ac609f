//! A client of Azure Resource Manager, as thin as the scale set needs it.

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use windrow_common::sentence;
use windrow_identity::NoToken;
use windrow_store::choose_tls;

use crate::fleet::FleetError;

/// How long to wait when ARM asks to wait and does not say for how long.
const UNSTATED_WAIT: Duration = Duration::from_secs(10);
/// Longest wait that ARM may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(900);
/// Size limit of an answer. An instance with its view has a few kilobytes.
const MAX_ANSWER: usize = 32 << 20;
/// Number of pages of a list that are read. A scale set has at most 1,000 instances.
const MAX_PAGES: usize = 100;
/// Length to which ARM's error messages are cut.
const MAX_WORDS: usize = 400;
/// A space becomes `%20`: not every part of ARM reads `+` as one.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'/');

/// A client of Azure Resource Manager.
pub(super) struct Arm {
    client: reqwest::Client,
    endpoint: Url,
    scope: String,
    credential: Arc<dyn TokenCredential>,
    /// What errors call the fleet.
    fleet: String,
    /// ARM asked not to be asked before.
    not_before: Option<Instant>,
}

/// An answer of ARM that is not an error.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Where to ask how the operation goes that the request began.
    pub(super) operation: Option<Url>,
    pub(super) etag: Option<String>,
    /// Whether the operation goes on.
    pub(super) accepted: bool,
    pub(super) wait: Option<Duration>,
    pub(super) body: Value,
}

/// Why ARM did not do what it was asked.
pub(super) enum ArmError {
    Fleet(FleetError),
    /// The scale set changed since it was read.
    Changed,
    /// The request names something that does not exist, such as a deleted instance.
    Unfit(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<T> {
    value: Vec<T>,
    next_link: Option<String>,
}

impl Arm {
    /// Creates a client of the ARM at `endpoint`. `patience` is how long one request may take.
    pub(super) fn new(
        endpoint: &str,
        credential: Arc<dyn TokenCredential>,
        fleet: String,
        patience: Duration,
    ) -> Result<Self, FleetError> {
        let refused = |why: String| FleetError::Refused {
            action: "use the scale set",
            fleet: fleet.clone(),
            why,
        };
        let parsed = Url::parse(endpoint)
            .map_err(|error| refused(format!("the endpoint `{endpoint}` is not a URL: {error}")))?;
        let is_local = matches!(parsed.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if parsed.scheme() != "https" && !(parsed.scheme() == "http" && is_local) {
            return Err(refused(format!(
                "the endpoint `{endpoint}` is not encrypted, and a token would cross the network; write https://"
            )));
        }
        let audience = match is_local {
            true => "https://management.azure.com",
            false => endpoint.trim_end_matches('/'),
        };
        choose_tls();
        let client = reqwest::Client::builder()
            .timeout(patience)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| refused(sentence(&error)))?;
        Ok(Self {
            client,
            scope: format!("{audience}/.default"),
            endpoint: parsed,
            credential,
            fleet,
            not_before: None,
        })
    }

    /// Returns the URL of a resource.
    pub(super) fn url(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.endpoint.clone();
        url.set_path(path);
        let pair = |(name, value): &(&str, &str)| format!("{name}={}", utf8_percent_encode(value, QUERY));
        url.set_query(Some(&query.iter().map(pair).collect::<Vec<_>>().join("&")));
        url
    }

    /// Reads a resource, with its ETag.
    pub(super) async fn get<T: DeserializeOwned>(
        &mut self,
        action: &'static str,
        url: Url,
    ) -> Result<(T, Option<String>), FleetError> {
        let answer = self.send(action, Method::GET, url, None, None).await;
        let answer = answer.map_err(|error| self.fleet_error(action, error))?;
        Ok((self.parse(action, answer.body)?, answer.etag))
    }

    /// Reads all pages of a list.
    pub(super) async fn list<T: DeserializeOwned>(
        &mut self,
        action: &'static str,
        url: Url,
    ) -> Result<Vec<T>, FleetError> {
        let mut next = Some(url);
        let mut all = Vec::new();
        for _ in 0..MAX_PAGES {
            let Some(url) = next.take() else { break };
            let (page, _): (Page<T>, _) = self.get(action, url).await?;
            all.extend(page.value);
            next = match page.next_link.filter(|link| !link.is_empty()) {
                Some(link) => Some(self.own(&link).ok_or_else(|| {
                    self.away(action, format!("the next page is at `{link}`, which is not ARM"))
                })?),
                None => None,
            };
        }
        match next {
            // A list that is cut short would make existing instances look deleted.
            Some(_) => Err(self.away(action, format!("the list has more than {MAX_PAGES} pages"))),
            None => Ok(all),
        }
    }

    /// Sends a request. ARM is not asked while it asks to be left alone.
    pub(super) async fn send(
        &mut self,
        action: &'static str,
        method: Method,
        url: Url,
        if_match: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, ArmError> {
        if let Some(after) = self.not_before.map(|until| until - Instant::now())
            && !after.is_zero()
        {
            return Err(ArmError::Fleet(self.throttled(action, after)));
        }
        let scopes = [self.scope.as_str()];
        let token = self.credential.get_token(&scopes, None).await;
        let token = token.map_err(|error| ArmError::Fleet(self.no_token(action, &error)))?;
        let mut request = self
            .client
            .request(method.clone(), url)
            .bearer_auth(token.token.secret());
        if let Some(etag) = if_match {
            request = request.header("If-Match", etag);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let unanswered =
            |error: reqwest::Error| ArmError::Fleet(self.away(action, sentence(&error.without_url())));
        let mut response = request.send().await.map_err(unanswered)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER {
                let why = format!("the answer has more than {MAX_ANSWER} bytes");
                return Err(ArmError::Fleet(self.away(action, why)));
            }
        }
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(self.answer(status, &headers, body));
        }
        Err(self.error(action, &method, status, &headers, &body))
    }

    fn answer(&self, status: StatusCode, headers: &HeaderMap, body: Value) -> Answer {
        let operation = header(headers, "Azure-AsyncOperation").or_else(|| header(headers, "Location"));
        Answer {
            operation: operation.and_then(|link| self.own(link)),
            etag: header(headers, "ETag").map(str::to_owned),
            accepted: status == StatusCode::ACCEPTED,
            wait: retry_after(headers),
            body,
        }
    }

    fn error(
        &mut self,
        action: &'static str,
        method: &Method,
        status: StatusCode,
        headers: &HeaderMap,
        body: &Value,
    ) -> ArmError {
        let why = words(status, body);
        let wait = retry_after(headers);
        ArmError::Fleet(match status.as_u16() {
            412 => return ArmError::Changed,
            429 | 503 if wait.is_some() || status == StatusCode::TOO_MANY_REQUESTS => {
                let after = wait.unwrap_or(UNSTATED_WAIT).min(LONGEST_WAIT);
                self.not_before = Some(Instant::now() + after);
                self.throttled(action, after)
            }
            401 => self.refused(
                action,
                format!("{why}; the identity needs a token of this tenant"),
            ),
            403 => {
                let role = "grant the identity the role Virtual Machine Contributor on the resource group";
                self.refused(action, format!("{why}; {role}"))
            }
            404 if *method == Method::GET => {
                self.refused(action, format!("{why}; check the subscription, group and name"))
            }
            400 | 404 | 409 if *method == Method::POST => return ArmError::Unfit(why),
            400 => self.refused(action, why),
            _ => self.away(action, why),
        })
    }

    pub(super) fn fleet_error(&self, action: &'static str, error: ArmError) -> FleetError {
        match error {
            ArmError::Fleet(error) => error,
            ArmError::Changed => self.away(action, "it changed meanwhile".to_owned()),
            ArmError::Unfit(why) => self.away(action, why),
        }
    }

    fn no_token(&self, action: &'static str, error: &azure_core::Error) -> FleetError {
        let NoToken { refused, why } = NoToken::of(error);
        let why = format!("no token: {why}");
        match refused {
            true => self.refused(action, why),
            false => self.away(action, why),
        }
    }

    /// Returns a link if it leads to this ARM. The token goes nowhere else.
    fn own(&self, link: &str) -> Option<Url> {
        let url = Url::parse(link).ok()?;
        (url.origin() == self.endpoint.origin()).then_some(url)
    }

    fn parse<T: DeserializeOwned>(&self, action: &'static str, body: Value) -> Result<T, FleetError> {
        serde_json::from_value(body)
            .map_err(|error| self.away(action, format!("cannot read the answer: {error}")))
    }

    /// Runs a step that may take `patience`.
    pub(super) async fn bounded<T>(
        fleet: &str,
        action: &'static str,
        patience: Duration,
        step: impl Future<Output = Result<T, FleetError>>,
    ) -> Result<T, FleetError> {
        timeout(patience, step).await.unwrap_or_else(|_| {
            Err(FleetError::Away {
                action,
                fleet: fleet.to_owned(),
                why: format!("no answer for {patience:?}"),
            })
        })
    }

    pub(super) fn away(&self, action: &'static str, why: String) -> FleetError {
        let fleet = self.fleet.clone();
        FleetError::Away { action, fleet, why }
    }

    pub(super) fn refused(&self, action: &'static str, why: String) -> FleetError {
        let fleet = self.fleet.clone();
        FleetError::Refused { action, fleet, why }
    }

    fn throttled(&self, action: &'static str, after: Duration) -> FleetError {
        let fleet = self.fleet.clone();
        FleetError::Throttled { action, fleet, after }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().filter(|text| !text.is_empty())
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = header(headers, "Retry-After")?;
    // ARM writes seconds; a date, which HTTP also allows, counts as a wait of unstated length.
    Some(seconds.parse().map_or(UNSTATED_WAIT, Duration::from_secs))
}

/// Returns the code and message of an ARM error, on one line
/// (<https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors>).
pub(super) fn words(status: StatusCode, body: &Value) -> String {
    let part = |name: &str| body["error"][name].as_str().filter(|text| !text.is_empty());
    let said = match (part("code"), part("message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(said), None) | (None, Some(said)) => said.to_owned(),
        (None, None) => return format!("status {status}"),
    };
    windrow_common::one_line(&said).chars().take(MAX_WORDS).collect()
}

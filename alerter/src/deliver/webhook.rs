//! A generic webhook: each event is one `POST` of JSON.
//!
//! `Idempotency-Key` is the same each time an event is sent. With a secret, `Windrow-Signature` is
//! `sha256=HEX`, the HMAC-SHA256 (RFC 2104) of `Windrow-Timestamp`, a dot and the body.

use std::fmt;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use windrow_common::EventTime;
use windrow_store::SecretFile;

use super::http::{AddressError, address, client, send, shown};
use super::{DeliveryError, Receiver, Told};
use crate::Event;

/// How long events are told in one go.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Answers that say that this event will never be accepted.
const NEVER: [u16; 3] = [400, 413, 422];

/// A webhook.
pub struct Webhook {
    url: reqwest::Url,
    shown: String,
    secret: Option<SecretFile>,
    client: reqwest::Client,
}

/// Leaves out the address, which may hold a token.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Webhook").field(&self.shown).finish()
    }
}

impl Webhook {
    /// Creates the webhook at `url`. `secret` is a file that holds the key of the signature.
    pub fn new(url: &str, secret: Option<SecretFile>) -> Result<Self, AddressError> {
        let option = "--webhook";
        let url = address(option, url)?;
        let wrong = |why: String| AddressError { option, why };
        let client = client().map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            shown: shown(&url),
            url,
            secret,
            client,
        })
    }

    async fn post(&self, event: &Event) -> Result<(), DeliveryError> {
        let body = serde_json::to_string(event).unwrap_or_default();
        let timestamp = (EventTime::now().as_millis() / 1_000).to_string();
        let mut request = self
            .client
            .post(self.url.clone())
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", hex(&Sha256::digest(&event.id)[..16]))
            .header("Windrow-Timestamp", &timestamp);
        if let Some(secret) = &self.secret {
            let signature = signature(secret.read()?.as_bytes(), &timestamp, &body);
            request = request.header("Windrow-Signature", format!("sha256={signature}"));
        }
        send(request.body(body), &self.shown).await
    }
}

fn signature(secret: &[u8], timestamp: &str, body: &str) -> String {
    // A key of any length is accepted; the error is of other algorithms.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        return String::new();
    };
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    hex(&mac.finalize().into_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[async_trait]
impl Receiver for Webhook {
    fn name(&self) -> &str {
        "webhook"
    }

    async fn tell(&self, events: &[Event], _: &[Event]) -> Told {
        let mut told = Told::default();
        let begun = Instant::now();
        for event in events {
            // The rest has its turn later: others wait, too.
            if begun.elapsed() > AT_ONCE {
                break;
            }
            match self.post(event).await {
                Ok(()) => {}
                Err(DeliveryError::Refused { status, text, .. }) if NEVER.contains(&status) => {
                    tracing::error!(
                        event = event.id,
                        status,
                        text,
                        webhook = self.shown,
                        "the webhook will never accept this event, which is dropped"
                    );
                    told.refused += 1;
                }
                Err(failure) => {
                    told.failure = Some(failure);
                    return told;
                }
            }
            told.taken += 1;
        }
        told
    }

    fn reminds_every(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_openssl_computes() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
        assert_eq!(
            signature(b"key", "1700000000", "{\"a\":1}"),
            "a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03"
        );
    }
}

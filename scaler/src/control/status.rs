//! The last decision, served to those that act on it themselves: KEDA's `metrics-api` scaler, and people.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::Shown;

/// The last decision. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<Mutex<Option<Shown>>>);

impl Status {
    /// Returns the last decision.
    pub fn shown(&self) -> Option<Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows a decision. Without one, the previous decision stays.
    pub(super) fn show(&self, decision: Option<Shown>) {
        if decision.is_some() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = decision;
        }
    }

    /// Returns the route `/scale`: `{"at":"…","workers":7,"reason":"…"}`, or 503 before the first decision. A scaler that
    /// follows another one answers with that one's.
    pub fn routes(&self) -> axum::Router {
        let status = self.clone();
        let answer = async move || -> Response {
            match status.shown() {
                Some(shown) => Json(shown).into_response(),
                None => (StatusCode::SERVICE_UNAVAILABLE, "nothing is decided yet\n").into_response(),
            }
        };
        axum::Router::new().route("/scale", axum::routing::get(answer))
    }
}

//! Serves `/healthz`, `/readyz` and `/metrics`.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::{Endpoints, Readiness};
use crate::{Failure, Shutdown};

struct Served {
    registry: Registry,
    readiness: Readiness,
    shutdown: Shutdown,
}

/// Serves the endpoints from now until the process ends.
pub(super) async fn serve(
    listen: SocketAddr,
    endpoints: Endpoints,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let Endpoints {
        mut registry,
        readiness,
        routes,
    } = endpoints;
    readiness.register(&mut registry);
    let served = Arc::new(Served {
        registry,
        readiness,
        shutdown,
    });
    let (ready, metrics) = (Arc::clone(&served), served);
    let routes = routes
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || ready.ready()))
        .route("/metrics", get(async move || metrics.metrics()));
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .map_err(|error| Failure::usage(format!("--listen {listen}: {error}")))?;
    tracing::info!(address = %listener.local_addr().unwrap_or(listen), "serving health and metrics");
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "health and metrics are no longer served");
        }
    });
    Ok(())
}

impl Served {
    fn ready(&self) -> impl IntoResponse + use<> {
        let mut outages = String::new();
        for (name, outage) in self.readiness.look() {
            if let Some(outage) = outage {
                // Writing to a string does not fail.
                _ = writeln!(outages, "{name}: {outage}");
            }
        }
        if self.shutdown.is_stopping() {
            outages.push_str("stopping\n");
        }
        if outages.is_empty() {
            (StatusCode::OK, "ready\n".to_owned())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, outages)
        }
    }

    fn metrics(&self) -> impl IntoResponse + use<> {
        self.readiness.export();
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                ([(header::CONTENT_TYPE, kind)], text).into_response()
            }
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

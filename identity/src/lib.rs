//! Microsoft Entra ID: the identity that a process uses in Azure, and the tokens it gets with it.

use std::error::Error;
use std::sync::Arc;

use azure_core::credentials::TokenCredential;
use azure_core::http::StatusCode;
use azure_identity::{
    DeveloperToolsCredential, ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
    WorkloadIdentityCredential,
};

/// Longest chain of causes that is followed.
const DEPTH: usize = 16;

/// The Entra ID identity that a process uses, as an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum IdentityKind {
    /// The pod's federated token, from the AZURE_* variables that AKS sets
    WorkloadIdentity,
    /// The machine's managed identity; if it has several, the one whose client id is in AZURE_CLIENT_ID
    ManagedIdentity,
    /// The account logged in with the Azure CLI or azd
    Cli,
}

/// Where an Entra ID token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntraLogin {
    /// From the pod's federated token, through the variables that AKS sets.
    WorkloadIdentity,
    /// From the machine: its system-assigned identity, or the user-assigned identity with this client id.
    ManagedIdentity(Option<String>),
    /// From the account logged in with the Azure CLI or azd.
    Cli,
}

impl EntraLogin {
    /// Returns the login that an option names. Without an option it is the pod's identity where AKS set its variables,
    /// and otherwise the machine's.
    pub fn of(kind: Option<IdentityKind>) -> Self {
        Self::choose(kind, |name| {
            std::env::var(name).ok().filter(|value| !value.is_empty())
        })
    }

    fn choose(kind: Option<IdentityKind>, set: impl Fn(&str) -> Option<String>) -> Self {
        let default = || match set("AZURE_FEDERATED_TOKEN_FILE") {
            Some(_) => IdentityKind::WorkloadIdentity,
            None => IdentityKind::ManagedIdentity,
        };
        match kind.unwrap_or_else(default) {
            IdentityKind::WorkloadIdentity => Self::WorkloadIdentity,
            IdentityKind::ManagedIdentity => Self::ManagedIdentity(set("AZURE_CLIENT_ID")),
            IdentityKind::Cli => Self::Cli,
        }
    }

    /// Creates the credential that issues tokens for this login. It keeps a token until shortly before it expires.
    pub fn credential(&self) -> azure_core::Result<Arc<dyn TokenCredential>> {
        Ok(match self {
            Self::WorkloadIdentity => WorkloadIdentityCredential::new(None)?,
            Self::ManagedIdentity(client_id) => {
                let options = ManagedIdentityCredentialOptions {
                    user_assigned_id: client_id.clone().map(UserAssignedId::ClientId),
                    ..ManagedIdentityCredentialOptions::default()
                };
                ManagedIdentityCredential::new(Some(options))?
            }
            Self::Cli => DeveloperToolsCredential::new(None)?,
        })
    }
}

/// Why a process got no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoToken {
    /// Whether the issuer refused the identity; otherwise it could not be reached.
    pub refused: bool,
    /// What the credential says.
    pub why: String,
}

impl NoToken {
    /// Classifies the error of a credential.
    pub fn of(error: &azure_core::Error) -> Self {
        let causes = std::iter::successors(Some(error as &(dyn Error + 'static)), |&error| error.source());
        let status = causes
            .take(DEPTH)
            .find_map(|cause| cause.downcast_ref::<azure_core::Error>()?.http_status());
        let refused = matches!(
            status,
            Some(StatusCode::BadRequest | StatusCode::Unauthorized | StatusCode::Forbidden)
        );
        // The first line says what failed; the lines after it only link to documentation.
        let why = error.to_string();
        let why = why.lines().next().unwrap_or_default().to_owned();
        Self { refused, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_uses_its_federated_token_and_a_machine_its_own_identity_unless_told_otherwise() {
        let aks = |name: &str| (name == "AZURE_FEDERATED_TOKEN_FILE").then(|| "/token".to_owned());
        let machine = |_: &str| None;
        let several = |name: &str| (name == "AZURE_CLIENT_ID").then(|| "6666".to_owned());
        assert_eq!(EntraLogin::choose(None, aks), EntraLogin::WorkloadIdentity);
        assert_eq!(
            EntraLogin::choose(None, machine),
            EntraLogin::ManagedIdentity(None)
        );
        assert_eq!(
            EntraLogin::choose(None, several),
            EntraLogin::ManagedIdentity(Some("6666".to_owned()))
        );
        assert_eq!(
            EntraLogin::choose(Some(IdentityKind::ManagedIdentity), aks),
            EntraLogin::ManagedIdentity(None)
        );
        assert_eq!(EntraLogin::choose(Some(IdentityKind::Cli), aks), EntraLogin::Cli);
    }
}

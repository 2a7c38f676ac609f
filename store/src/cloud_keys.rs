//! Keys of clouds that come from files, as variables such as `AZURE_STORAGE_ACCOUNT_KEY_FILE` name them. They are read
//! again for each request, so a rotated key is used at once.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
use object_store::azure::{AzureAccessKey, AzureConfigKey, AzureCredential, MicrosoftAzureBuilder};

use crate::open::wrong;
use crate::{SecretFile, StoreError};

const AZURE_KEY: &str = "AZURE_STORAGE_ACCOUNT_KEY_FILE";
const AWS_ID: &str = "AWS_ACCESS_KEY_ID_FILE";
const AWS_SECRET: &str = "AWS_SECRET_ACCESS_KEY_FILE";

/// Uses the account's key in the file that `AZURE_STORAGE_ACCOUNT_KEY_FILE` names, if it is set.
pub(super) fn of_azure(
    url: &str,
    builder: MicrosoftAzureBuilder,
) -> Result<MicrosoftAzureBuilder, StoreError> {
    let Some(file) = named(AZURE_KEY) else {
        return Ok(builder);
    };
    not_both(
        url,
        AZURE_KEY,
        builder.get_config_value(&AzureConfigKey::AccessKey),
    )?;
    let key = AzureKey { file };
    key.read().map_err(|error| wrong(url, &error))?;
    Ok(builder.with_credentials(Arc::new(key)))
}

/// Uses the key in the files that `AWS_ACCESS_KEY_ID_FILE` and `AWS_SECRET_ACCESS_KEY_FILE` name. The id may also be in
/// `AWS_ACCESS_KEY_ID`.
pub(super) fn of_aws(url: &str, builder: AmazonS3Builder) -> Result<AmazonS3Builder, StoreError> {
    let Some(secret) = named(AWS_SECRET) else {
        return match named(AWS_ID) {
            Some(_) => Err(wrong(url, &format!("{AWS_ID} needs {AWS_SECRET}"))),
            None => Ok(builder),
        };
    };
    not_both(
        url,
        AWS_SECRET,
        builder.get_config_value(&AmazonS3ConfigKey::SecretAccessKey),
    )?;
    let given = |key| builder.get_config_value(&key).filter(|value| !value.is_empty());
    let id = match (named(AWS_ID), given(AmazonS3ConfigKey::AccessKeyId)) {
        (Some(file), None) => KeyId::File(file),
        (None, Some(id)) => KeyId::Given(id),
        (file, _) => {
            let how = if file.is_some() { "only one" } else { "one" };
            let why = format!("{AWS_SECRET} needs {how} of AWS_ACCESS_KEY_ID and {AWS_ID}");
            return Err(wrong(url, &why));
        }
    };
    let token = given(AmazonS3ConfigKey::Token);
    let key = AwsKey { id, secret, token };
    key.read().map_err(|error| wrong(url, &error))?;
    Ok(builder.with_credentials(Arc::new(key)))
}

/// Returns the file that a variable names. Compose files set unused variables to the empty string.
fn named(variable: &'static str) -> Option<SecretFile> {
    let path = std::env::var_os(variable).filter(|path| !path.is_empty())?;
    Some(SecretFile::new(variable, Path::new(&path)))
}

fn not_both(url: &str, file: &str, given: Option<String>) -> Result<(), StoreError> {
    match given {
        Some(key) if !key.is_empty() => {
            let variable = file.trim_end_matches("_FILE");
            Err(wrong(url, &format!("set {variable} or {file}, not both")))
        }
        _ => Ok(()),
    }
}

type Unusable = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
struct AzureKey {
    file: SecretFile,
}

impl AzureKey {
    fn read(&self) -> Result<AzureCredential, Unusable> {
        let key = AzureAccessKey::try_new(self.file.read()?.trim());
        // The client's error repeats a part of the key.
        let key = key.map_err(|_| format!("{AZURE_KEY}: the file holds no key in base64"))?;
        Ok(AzureCredential::AccessKey(key))
    }
}

#[async_trait]
impl CredentialProvider for AzureKey {
    type Credential = AzureCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AzureCredential>> {
        self.read()
            .map(Arc::new)
            .map_err(|source| object_store::Error::Generic {
                store: "MicrosoftAzure",
                source,
            })
    }
}

enum KeyId {
    Given(String),
    File(SecretFile),
}

struct AwsKey {
    id: KeyId,
    secret: SecretFile,
    token: Option<String>,
}

impl fmt::Debug for AwsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsKey")
            .field("secret", &self.secret)
            .finish_non_exhaustive()
    }
}

impl AwsKey {
    fn read(&self) -> Result<AwsCredential, Unusable> {
        let key_id = match &self.id {
            KeyId::Given(id) => id.clone(),
            KeyId::File(file) => one_line(AWS_ID, file)?,
        };
        Ok(AwsCredential {
            key_id,
            secret_key: one_line(AWS_SECRET, &self.secret)?,
            token: self.token.clone(),
        })
    }
}

/// Reads a key that is one line. The client would panic at a line break in a header.
fn one_line(variable: &str, file: &SecretFile) -> Result<String, Unusable> {
    let text = file.read()?;
    let key = text.trim();
    match key.is_empty() || key.contains(|sign: char| !sign.is_ascii_graphic()) {
        true => Err(format!("{variable}: the file holds no key of one line").into()),
        false => Ok(key.to_owned()),
    }
}

#[async_trait]
impl CredentialProvider for AwsKey {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.read()
            .map(Arc::new)
            .map_err(|source| object_store::Error::Generic { store: "S3", source })
    }
}

//! Handles `UseDevelopmentEmulator=true` in a connection string: Microsoft's emulator speaks AMQP without TLS.

use crate::client::PLAIN_PORT;

/// Returns the endpoint of an emulator, such as `amqp://localhost:5672`; `None` if the connection string is not for an
/// emulator.
pub(crate) fn endpoint_of(connection_string: &str) -> Option<String> {
    let value = |wanted: &str| {
        let mut parts = connection_string
            .split(';')
            .filter_map(|part| part.split_once('='));
        parts
            .find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.trim())
    };
    value("UseDevelopmentEmulator").filter(|value| value.eq_ignore_ascii_case("true"))?;
    let endpoint = url::Url::parse(value("Endpoint")?).ok()?;
    let host = endpoint.host_str()?;
    Some(format!("amqp://{host}:{}", endpoint.port().unwrap_or(PLAIN_PORT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_string_of_an_emulator_names_another_endpoint() {
        let key = "SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=SAS_KEY_VALUE";
        let of = |endpoint: &str, end: &str| endpoint_of(&format!("Endpoint=sb://{endpoint};{key}{end}"));
        let emulator = ";UseDevelopmentEmulator=true;";
        assert_eq!(
            of("localhost", emulator).as_deref(),
            Some("amqp://localhost:5672")
        );
        assert_eq!(of("hub/", emulator).as_deref(), Some("amqp://hub:5672"));
        assert_eq!(
            of("hub:5999", ";usedevelopmentemulator=TRUE").as_deref(),
            Some("amqp://hub:5999")
        );
        assert_eq!(of("hub", ""), None);
        assert_eq!(of("hub", ";UseDevelopmentEmulator=false"), None);
    }
}

//! Named sets of options for the shapes that common programs write.

use clap::ValueEnum;

use super::mapping::ColumnMapping;

/// A program whose messages or files are read; each is a set of options, and any of them can be given beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// Telemetry sent to Azure IoT Hub: an object with several measurements
    /// [--column-time timeCreated --tags '*' --ignore messageId,deviceId]
    IotHub,
    /// A data export of Azure IoT Central
    /// [--column-time enqueuedTime --column-device deviceId --tags 'telemetry.*']
    IotCentral,
    /// Samples of Microsoft's OPC Publisher [--column-time Value.SourceTimestamp --column-device ApplicationUri
    /// --column-tag DisplayName --column-value Value.Value]
    OpcPublisher,
    /// JSON of Telegraf [--column-time timestamp --column-device tags.host --tags 'fields.*']
    Telegraf,
    /// Sparkplug B as JSON [--column-time metrics[].timestamp --device-from segment:topic:-1
    /// --column-tag metrics[].name --column-value metrics[].value]
    Sparkplug,
    /// Annotated CSV of InfluxDB [--column-time _time --column-device host --column-tag _field --column-value _value]
    InfluxCsv,
    /// Recorded values of the PI Web API [--column-time Items[].Items[].Timestamp --device-from const:pi
    /// --column-tag Items[].Name --column-value Items[].Items[].Value --where Items[].Items[].Good=true]
    Pi,
}

/// Options as they are written on a command line.
struct Options {
    time: &'static str,
    device: &'static str,
    device_from: &'static str,
    tag: &'static str,
    value: &'static str,
    tags: &'static str,
    ignore: &'static [&'static str],
    condition: &'static str,
}

const NONE: Options = Options {
    time: "",
    device: "",
    device_from: "",
    tag: "",
    value: "",
    tags: "",
    ignore: &[],
    condition: "",
};

impl Preset {
    const fn options(self) -> Options {
        match self {
            Self::IotHub => Options {
                time: "timeCreated",
                tags: "*",
                ignore: &["messageId", "deviceId"],
                ..NONE
            },
            Self::IotCentral => Options {
                time: "enqueuedTime",
                device: "deviceId",
                tags: "telemetry.*",
                ..NONE
            },
            Self::OpcPublisher => Options {
                time: "Value.SourceTimestamp",
                device: "ApplicationUri",
                tag: "DisplayName",
                value: "Value.Value",
                ..NONE
            },
            Self::Telegraf => Options {
                time: "timestamp",
                device: "tags.host",
                tags: "fields.*",
                ..NONE
            },
            Self::Sparkplug => Options {
                time: "metrics[].timestamp",
                device_from: "segment:topic:-1",
                tag: "metrics[].name",
                value: "metrics[].value",
                ..NONE
            },
            Self::InfluxCsv => Options {
                time: "_time",
                device: "host",
                tag: "_field",
                value: "_value",
                ..NONE
            },
            Self::Pi => Options {
                time: "Items[].Items[].Timestamp",
                device_from: "const:pi",
                tag: "Items[].Name",
                value: "Items[].Items[].Value",
                condition: "Items[].Items[].Good=true",
                ..NONE
            },
        }
    }

    /// Fills in the options of `given` that it does not have.
    pub fn complete(self, mut given: ColumnMapping) -> ColumnMapping {
        let options = self.options();
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        given.timestamp = given.timestamp.or_else(|| text(options.time));
        if given.device.is_none() && given.device_from.is_none() {
            given.device = text(options.device);
            given.device_from = options.device_from.parse().ok();
        }
        if given.tags.is_empty() && given.tag.is_none() && given.value.is_none() {
            given.tags = options.tags.parse().into_iter().collect();
        }
        if given.tags.is_empty() {
            given.tag = given.tag.or_else(|| text(options.tag));
            given.value = given.value.or_else(|| text(options.value));
        } else if given.ignore.is_empty() {
            given.ignore = options.ignore.iter().map(ToString::to_string).collect();
        }
        if given.conditions.is_empty() {
            given.conditions = options.condition.parse().into_iter().collect();
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The help shows what a preset stands for.
    #[test]
    fn each_preset_says_its_options() {
        for preset in Preset::value_variants() {
            let help = preset.to_possible_value().unwrap();
            let help = help.get_help().unwrap().to_string().replace('\'', "");
            let mapping = preset.complete(ColumnMapping::default());
            for (option, value) in crate::checkpoint::column_options(&mapping) {
                assert!(
                    help.contains(&format!("{option} {value}")),
                    "{preset:?}: {option} {value}"
                );
            }
            mapping.check().unwrap();
        }
    }

    #[test]
    fn given_options_win() {
        let given = ColumnMapping {
            device: Some("tags.device".to_owned()),
            ..ColumnMapping::default()
        };
        let mapping = Preset::Telegraf.complete(given);
        assert_eq!(mapping.device.as_deref(), Some("tags.device"));
        assert_eq!(mapping.timestamp.as_deref(), Some("timestamp"));
        let given = ColumnMapping {
            device_from: Some("file".parse().unwrap()),
            tags: vec!["fields.temp".parse().unwrap()],
            ..ColumnMapping::default()
        };
        let mapping = Preset::Telegraf.complete(given);
        assert_eq!((mapping.device, mapping.tags.len()), (None, 1));
    }
}

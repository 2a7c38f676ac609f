//! The names and the time of a reading that are in the properties or annotations of its event, not in the body.

use std::borrow::Cow;
use std::sync::Once;

use super::field_source::{FieldPlace, FieldSource};
use super::json_object::DefaultNames;
use super::mapping::ColumnMapping;
use super::pattern::DeviceFrom;

/// The annotation in which IoT Hub names the device that sent an event. The device cannot forge it.
pub(super) const IOT_HUB_DEVICE: &str = "iothub-connection-device-id";
/// The annotation in which IoT Hub tells when it received an event.
pub(super) const IOT_HUB_TIME: &str = "iothub-enqueuedtime";

/// The annotation with the key that decided an event's partition.
const PARTITION_KEY: &str = "x-opt-partition-key";

/// The properties and annotations that come with a body, of an event in a hub or of its record in a file.
pub trait Carrier {
    /// Returns the name or the time in a property that the sender set. The case of the property's name does not matter.
    fn property(&self, name: &str) -> Option<Cow<'_, str>>;
    /// Returns the name or the time in an annotation that the service set.
    fn annotation(&self, name: &str) -> Option<Cow<'_, str>>;
}

/// What an event's properties and annotations are read for.
pub struct EventNames {
    device_from: Option<FieldSource>,
    time_from: Option<FieldSource>,
    /// The names of the fields that an object may lack.
    device: String,
    tag: String,
    time: Option<String>,
}

/// The device, tag and time that an event supplies to objects that lack them.
#[derive(Default)]
pub struct Found<'a> {
    device: Option<Cow<'a, str>>,
    tag: Option<Cow<'a, str>>,
    time: Option<Cow<'a, str>>,
    /// Whether the device comes from IoT Hub's annotation although no option asks for it.
    pub is_guessed: bool,
}

impl Found<'_> {
    /// Returns it as an object's reader takes it.
    pub fn names(&self) -> DefaultNames<'_> {
        DefaultNames {
            device: self.device.as_deref(),
            tag: self.tag.as_deref(),
            time: self.time.as_deref(),
        }
    }
}

impl EventNames {
    /// Creates the names for the roles that `mapping` maps.
    pub fn new(mapping: &ColumnMapping) -> Self {
        let name = |given: &Option<String>, default: &str| given.as_deref().unwrap_or(default).to_owned();
        Self {
            device_from: mapping
                .device_from
                .as_ref()
                .and_then(DeviceFrom::of_event)
                .cloned(),
            time_from: mapping.time_from.clone(),
            device: name(&mapping.device, "device"),
            tag: name(&mapping.tag, "tag"),
            time: mapping.timestamp.clone(),
        }
    }

    /// Returns the mapping for bodies. A field that is outside of the body gets a name that no field of a body can
    /// have, and that messages show.
    pub fn of_bodies(mapping: &ColumnMapping) -> ColumnMapping {
        let mut mapping = mapping.clone();
        if let Some(DeviceFrom::Event(from)) = &mapping.device_from {
            mapping.device = Some(from.to_string());
            mapping.device_from = None;
        }
        if let Some(from) = &mapping.time_from {
            mapping.timestamp = Some(from.to_string());
        }
        mapping
    }

    /// Returns what an event has.
    pub fn find<'a>(&self, event: &'a impl Carrier) -> Found<'a> {
        let named = |name: &str| event.property(name).or_else(|| event.annotation(name));
        let at = |from: &FieldSource| match from.place()? {
            FieldPlace::Property(name) => event.property(name),
            FieldPlace::Annotation(name) => event.annotation(name),
        };
        let mut found = Found {
            tag: named(&self.tag),
            time: match (&self.time_from, &self.time) {
                (Some(from), _) => at(from),
                (None, Some(name)) => named(name),
                (None, None) => None,
            },
            ..Found::default()
        };
        found.device = match &self.device_from {
            Some(from) => at(from),
            None => named(&self.device),
        };
        if self.device_from.is_none() && found.device.is_none() {
            found.device = event.annotation(IOT_HUB_DEVICE);
            found.is_guessed = found.device.is_some();
            found.device = found.device.or_else(|| event.annotation(PARTITION_KEY));
        }
        found
    }

    /// Returns the time that IoT Hub gave the event, unless the options name another place.
    pub fn iot_hub_time<'a>(&self, event: &'a impl Carrier) -> Option<Cow<'a, str>> {
        match self.time_from {
            Some(_) => None,
            None => event.annotation(IOT_HUB_TIME),
        }
    }
}

/// A hint to append to the error about an object without a time.
pub const TIME_HINT: &str = "; --time-from annotation:iothub-enqueuedtime takes the time of IoT Hub";

/// Tells a person, once, that devices are those of IoT Hub.
pub fn say_guess() {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::info!(
            "bodies name no device, so it is taken from IoT Hub's annotation; \
             set --device-from annotation:{IOT_HUB_DEVICE} to make this explicit"
        );
    });
}

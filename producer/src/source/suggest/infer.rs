//! Infers the role of each field from its name and its texts.

use windrow_common::EventTime;

use crate::source::decode::{ColumnMapping, Role, TimeFormat, TimeReader, patterns_of};

use super::sample::{Field, Sample};

/// Parts of the names of fields that hold a time, from the likeliest on.
const TIME_NAMES: [&str; 4] = ["timestamp", "time", "date", "stamp"];
/// Names of fields that hold a device.
const DEVICE_NAMES: [&str; 16] = [
    "device",
    "deviceid",
    "machine",
    "asset",
    "equipment",
    "station",
    "host",
    "hostname",
    "node",
    "turbine",
    "unit",
    "pump",
    "engine",
    "serial",
    "vsn",
    "applicationuri",
];
/// Names of fields that hold a tag.
const TAG_NAMES: [&str; 14] = [
    "tag",
    "tagname",
    "sensor",
    "metric",
    "name",
    "displayname",
    "signal",
    "variable",
    "point",
    "channel",
    "parameter",
    "item",
    "measure",
    "_field",
];
/// Names of fields that hold a value.
const VALUE_NAMES: [&str; 6] = ["value", "reading", "val", "_value", "v", "measurement"];
/// Forms of time that are tried when none of the usual ones fits.
const NAMED_FORMS: [&str; 8] = [
    "%Y%m%d%H%M%S",
    "%Y%m%d%H%M",
    "%Y%m%d",
    "excel",
    "datenum",
    "labview",
    "filetime",
    "ticks",
];

/// How many fields are tried for each role: the combinations grow with its fourth power.
const MOST_TRIED: usize = 5;

/// Returns mappings that may find readings, the likeliest first. What `given` says stays.
pub(super) fn mappings(sample: &Sample, given: &ColumnMapping) -> Vec<ColumnMapping> {
    let mut found = Vec::new();
    for (time, format) in times(sample, given).into_iter().take(MOST_TRIED) {
        for mut mapping in shapes(sample, given, &time) {
            mapping.timestamp = usual_or(Role::Timestamp, sample, given, &time);
            mapping.time_format = format.clone();
            found.push(mapping);
        }
    }
    found
}

/// Returns the name if an option has to give it, because it is not the only field with a default name.
fn usual_or(role: Role, sample: &Sample, given: &ColumnMapping, name: &str) -> Option<String> {
    if given.given(role).is_some() {
        return given.given(role).map(str::to_owned);
    }
    let is_usual = |name: &str| {
        role.usual_names()
            .iter()
            .any(|usual| usual.eq_ignore_ascii_case(name))
    };
    let usual = sample.fields.iter().filter(|field| is_usual(&field.path)).count();
    let is_pair = role == Role::Timestamp && !sample.is_json && name.eq_ignore_ascii_case("date+time");
    (!is_pair && (!is_usual(name) || usual > 1)).then(|| name.to_owned())
}

/// Returns the fields that may hold the time, with the form that reads them.
fn times(sample: &Sample, given: &ColumnMapping) -> Vec<(String, Option<TimeFormat>)> {
    let mut found = Vec::new();
    let mut add = |path: String, texts: &[String]| {
        found.extend(forms(texts, given).into_iter().map(|form| (path.clone(), form)));
    };
    if let Some(name) = &given.timestamp {
        if let Some(texts) = texts_of(sample, name) {
            add(name.clone(), &texts);
        }
        return found;
    }
    for pair in ["date+time", "day+time"] {
        if let Some(texts) = texts_of(sample, pair) {
            add(pair.to_owned(), &texts);
        }
    }
    let usual = Role::Timestamp.usual_names();
    let ranked = |field: &&Field| {
        let key = field.key().to_ascii_lowercase();
        let exact = usual
            .iter()
            .position(|name| *name == key && field.parent().is_none());
        let part = TIME_NAMES.iter().position(|part| key.contains(part));
        exact.or(part.map(|at| usual.len() + at))
    };
    let mut fields: Vec<_> = sample
        .fields
        .iter()
        .filter(|field| ranked(field).is_some())
        .collect();
    // Deeper fields are closer to the value.
    fields.sort_by_key(|field| (ranked(field), usize::MAX - field.path.matches('.').count()));
    for field in fields {
        add(field.path.clone(), &field.texts);
    }
    for field in sample
        .fields
        .iter()
        .filter(|field| ranked(field).is_none() && !field.is_number())
    {
        add(field.path.clone(), &field.texts);
    }
    found
}

fn texts_of(sample: &Sample, name: &str) -> Option<Vec<String>> {
    let field = |name: &str| {
        sample
            .fields
            .iter()
            .find(|field| field.path.eq_ignore_ascii_case(name.trim()))
    };
    match (field(name), name.split_once('+')) {
        (Some(field), _) => Some(field.texts.clone()),
        (None, Some((date, time))) => {
            let pairs = field(date)?.texts.iter().zip(&field(time)?.texts);
            Some(pairs.map(|(date, time)| format!("{date} {time}")).collect())
        }
        (None, None) => None,
    }
}

/// Returns the forms in which all these texts are times up to now; `None` stands for the usual ones.
fn forms(texts: &[String], given: &ColumnMapping) -> Vec<Option<TimeFormat>> {
    let (Some(first), now) = (texts.first(), EventTime::now()) else {
        return Vec::new();
    };
    let fits = |form: Option<&TimeFormat>| {
        let mut reader = TimeReader::new(form, given.timezone.as_deref());
        let is_known = |text: &String| {
            let time = reader.read(text.trim().as_bytes());
            time.is_ok_and(|time| time.as_millis() > 315_532_800_000 && time <= now)
        };
        // A few bad rows do not rule out a form.
        let known = texts.iter().map(is_known).filter(|known| *known).count();
        known > 0 && known * 10 >= texts.len() * 9
    };
    if let Some(format) = &given.time_format {
        return if fits(Some(format)) {
            vec![Some(format.clone())]
        } else {
            Vec::new()
        };
    }
    if fits(None) {
        return vec![None];
    }
    let patterns = patterns_of(first.trim())
        .into_iter()
        .chain(NAMED_FORMS.map(str::to_owned));
    let formats = patterns.filter_map(|form| form.parse::<TimeFormat>().ok());
    formats.filter(|form| fits(Some(form))).map(Some).collect()
}

/// Returns mappings without a time: one reading to a row, or several.
fn shapes(sample: &Sample, given: &ColumnMapping, time: &str) -> Vec<ColumnMapping> {
    let is_time = |field: &Field| time.split('+').any(|part| part.eq_ignore_ascii_case(&field.path));
    let fields: Vec<_> = sample.fields.iter().filter(|field| !is_time(field)).collect();
    let mut shapes = Vec::new();
    for device in devices(&fields, sample, given).into_iter().take(MOST_TRIED) {
        let fields: Vec<_> = fields
            .iter()
            .copied()
            .filter(|field| Some(&field.path) != device.device.as_ref().or(device.usual.as_ref()))
            .collect();
        let base = ColumnMapping {
            device: device.device.clone(),
            device_from: device.from.clone(),
            ..given.clone()
        };
        shapes.extend(long(&fields, sample, given, &base));
        if given.tag.is_none() && given.value.is_none() {
            shapes.extend(wide(&fields, sample, given, &base));
        }
    }
    shapes
}

/// Where the device may be.
struct DeviceOption {
    device: Option<String>,
    from: Option<crate::source::decode::DeviceFrom>,
    /// The field, if its name is usual and need not be given.
    usual: Option<String>,
}

fn devices(fields: &[&Field], sample: &Sample, given: &ColumnMapping) -> Vec<DeviceOption> {
    if given.device.is_some() || given.device_from.is_some() {
        return vec![DeviceOption {
            device: given.device.clone(),
            from: given.device_from.clone(),
            usual: None,
        }];
    }
    let rank = |field: &&&Field| {
        let key = field.key().to_ascii_lowercase().replace(['_', '-', ' '], "");
        if key == "nodeid" {
            // In OPC UA, this is the tag.
            return None;
        }
        let key = key.strip_suffix("id").unwrap_or(&key).to_owned();
        DEVICE_NAMES
            .iter()
            .position(|name| name.strip_suffix("id").unwrap_or(name) == key)
    };
    let mut named: Vec<_> = fields.iter().filter(|field| rank(field).is_some()).collect();
    named.sort_by_key(|field| (rank(field), usize::MAX - field.distinct(), field.path.len()));
    let mut options: Vec<_> = named
        .into_iter()
        .take(MOST_TRIED - 2)
        .map(|field| DeviceOption {
            device: usual_or(Role::Device, sample, given, &field.path),
            from: None,
            usual: Some(field.path.clone()),
        })
        .collect();
    let has_parts =
        |field: &&&Field| field.texts.iter().all(|text| text.contains('/')) && field.key().contains("topic");
    options.extend(fields.iter().filter(has_parts).take(1).map(|field| DeviceOption {
        device: None,
        from: format!("segment:{}:-1", field.path).parse().ok(),
        usual: Some(field.path.clone()),
    }));
    options.push(DeviceOption {
        device: None,
        from: "file".parse().ok(),
        usual: None,
    });
    options
}

/// Returns the mapping of rows with one reading each.
fn long(
    fields: &[&Field],
    sample: &Sample,
    given: &ColumnMapping,
    base: &ColumnMapping,
) -> Vec<ColumnMapping> {
    if !given.tags.is_empty() {
        return Vec::new();
    }
    let ranked = |names: &'static [&'static str], given: Option<&str>, number: bool| {
        let rank = |field: &&&Field| match given {
            Some(given) => field.path.eq_ignore_ascii_case(given).then_some(0),
            None => names
                .iter()
                .position(|name| field.key().eq_ignore_ascii_case(name)),
        };
        let mut found: Vec<&Field> = fields
            .iter()
            .filter(|field| rank(field).is_some() && (!number || field.is_number()))
            .copied()
            .collect();
        found.sort_by_key(|field| (usize::MAX - field.distinct(), rank(&field)));
        found
    };
    let tags = ranked(&TAG_NAMES, given.tag.as_deref(), false);
    let values = ranked(&VALUE_NAMES, given.value.as_deref(), true);
    let mut found = Vec::new();
    for tag in tags.iter().take(MOST_TRIED) {
        let others = values.iter().filter(|value| value.path != tag.path);
        for value in others.take(MOST_TRIED) {
            found.push(ColumnMapping {
                tag: usual_or(Role::Tag, sample, given, &tag.path),
                value: usual_or(Role::Value, sample, given, &value.path),
                ..base.clone()
            });
        }
    }
    found
}

/// Returns the mappings of rows with several measurements.
fn wide(
    fields: &[&Field],
    sample: &Sample,
    given: &ColumnMapping,
    base: &ColumnMapping,
) -> Vec<ColumnMapping> {
    if !given.tags.is_empty() {
        return vec![base.clone()];
    }
    let mut groups: Vec<(String, Vec<&Field>)> = Vec::new();
    for field in fields.iter().filter(|field| !field.path.is_empty()) {
        let pattern = match (sample.is_json, field.parent()) {
            (true, Some(parent)) => format!("{parent}.*"),
            _ => "*".to_owned(),
        };
        let mut patterns = vec![pattern];
        // A value and its like for each of several names.
        if let (true, Some((outer, _))) = (
            sample.is_json,
            field.parent().and_then(|parent| parent.rsplit_once('.')),
        ) {
            patterns.push(format!("{outer}.*.{}", field.key()));
        }
        for pattern in patterns {
            match groups.iter_mut().find(|(other, _)| *other == pattern) {
                Some((_, fields)) => fields.push(field),
                None => groups.push((pattern, vec![field])),
            }
        }
    }
    groups.retain(|(_, fields)| fields.iter().any(|field| field.is_number()));
    groups.sort_by_key(|(_, fields)| usize::MAX - fields.iter().filter(|field| field.is_number()).count());
    let mapping = |(pattern, fields): (String, Vec<&Field>)| {
        let ignore = fields
            .iter()
            .filter(|field| !field.is_number() && !field.texts.is_empty());
        let ignored = given.conditions.iter().map(|condition| &condition.column);
        let ignore: Vec<_> = ignore
            .map(|field| field.key().to_owned())
            .filter(|name| !ignored.clone().any(|column| column.eq_ignore_ascii_case(name)))
            .collect();
        ColumnMapping {
            tags: pattern.parse().into_iter().collect(),
            ignore: if given.ignore.is_empty() {
                ignore
            } else {
                given.ignore.clone()
            },
            ..base.clone()
        }
    };
    groups.into_iter().take(MOST_TRIED).map(mapping).collect()
}

//! Where a row of a table holds what: a mapping applied to the names of the columns.

use std::fmt::Write;
use std::path::Path;

use crate::source::SourceError;

use super::mapping::{ColumnMapping, Role};
use super::pattern::{Condition, DeviceFrom, TagPattern, matches};

/// Where the cells of a row are. Places are indices of columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source) struct Plan {
    /// The column of the time, or that of the date.
    pub(in crate::source) time: usize,
    /// The column of the time of the day, if it is apart from the date.
    pub(in crate::source) time_of_day: Option<usize>,
    pub(in crate::source) device: Device,
    pub(in crate::source) values: Values,
    /// The columns that decide whether a row is read.
    pub(in crate::source) conditions: Vec<(usize, Condition)>,
}

/// Where a row names its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source) enum Device {
    Column(usize),
    /// A part of the column's text, split at slashes.
    Segment(usize, i32),
    /// The same for every row.
    Fixed(String),
}

/// Where a row has its measurements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source) enum Values {
    /// One, whose tag is in a column.
    Long { tag: usize, value: usize },
    /// One for each of these columns, with their tags.
    Wide(Vec<(usize, String)>),
}

impl Plan {
    /// Returns the columns of the four roles, if a row needs nothing else.
    pub(in crate::source) fn plain(&self) -> Option<[usize; 4]> {
        match (self.time_of_day, &self.device, &self.values) {
            (None, &Device::Column(device), &Values::Long { tag, value }) if self.conditions.is_empty() => {
                Some([self.time, device, tag, value])
            }
            _ => None,
        }
    }
}

impl Plan {
    /// Returns which column is what, for a person.
    pub(in crate::source) fn summary<S: AsRef<str>>(&self, names: &[S], mapping: &ColumnMapping) -> String {
        let name = |place: usize| names[place].as_ref().trim();
        let mut text = format!("time `{}`", name(self.time));
        if let Some(place) = self.time_of_day {
            let _ = write!(text, " and `{}`", name(place));
        }
        if let Some(format) = &mapping.time_format {
            let _ = write!(text, " as {format}");
        }
        let _ = match &self.device {
            Device::Column(place) => write!(text, ", device `{}`", name(*place)),
            Device::Segment(place, part) => write!(text, ", device part {part} of `{}`", name(*place)),
            Device::Fixed(_) => write!(text, ", device from the file"),
        };
        let _ = match &self.values {
            Values::Long { tag, value } => write!(text, ", tag `{}`, value `{}`", name(*tag), name(*value)),
            Values::Wide(columns) => {
                let tags: Vec<_> = columns.iter().take(20).map(|(_, tag)| tag.as_str()).collect();
                let more = if columns.len() > tags.len() { ", …" } else { "" };
                write!(text, ", {} tags: {}{more}", columns.len(), tags.join(", "))
            }
        };
        text
    }
}

impl ColumnMapping {
    /// Finds the columns of the file `name` at `path` among the names `found`.
    pub(in crate::source) fn plan<S: AsRef<str>>(
        &self,
        path: &Path,
        name: &str,
        found: &[S],
    ) -> Result<Plan, SourceError> {
        let columns = Columns {
            mapping: self,
            path,
            found: found.iter().map(|name| name.as_ref().trim()).collect(),
        };
        let (time, time_of_day) = columns.time()?;
        let device = match &self.device_from {
            None => Device::Column(columns.of(Role::Device)?),
            Some(DeviceFrom::Segment(column, part)) => {
                Device::Segment(columns.named(column, "device")?, *part)
            }
            Some(from) => match from.of_file(name) {
                Some(Ok(name)) => Device::Fixed(name),
                Some(Err(why)) => return Err(columns.refuse(why)),
                None => Device::Column(columns.of(Role::Device)?),
            },
        };
        let conditions = self.conditions.iter().map(|condition| {
            Ok((
                columns.named(&condition.column, "condition --where")?,
                condition.clone(),
            ))
        });
        let mut plan = Plan {
            time,
            time_of_day,
            device,
            values: Values::Wide(Vec::new()),
            conditions: conditions.collect::<Result<_, SourceError>>()?,
        };
        plan.values = match self.tags.is_empty() {
            true => Values::Long {
                tag: columns.of(Role::Tag)?,
                value: columns.of(Role::Value)?,
            },
            false => Values::Wide(columns.measurements(&plan)?),
        };
        Ok(plan)
    }

    /// Returns the columns of the four roles, for sources that need one for each.
    pub(in crate::source) fn resolve<S: AsRef<str>>(
        &self,
        path: &Path,
        found: &[S],
    ) -> Result<[usize; 4], SourceError> {
        let plan = self.plan(path, "", found)?;
        plan.plain().ok_or_else(|| SourceError::Options {
            path: path.to_owned(),
            why: "options for wide rows, for the device, for two columns of time and --where do not apply to this kind of \
                  file yet"
                .to_owned(),
        })
    }
}

/// The columns of a file.
struct Columns<'a> {
    mapping: &'a ColumnMapping,
    path: &'a Path,
    found: Vec<&'a str>,
}

impl Columns<'_> {
    fn refuse(&self, why: String) -> SourceError {
        SourceError::Options {
            path: self.path.to_owned(),
            why,
        }
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.found
            .iter()
            .position(|found| found.eq_ignore_ascii_case(name))
    }

    fn named(&self, name: &str, role: &'static str) -> Result<usize, SourceError> {
        self.place(name).ok_or_else(|| SourceError::MissingColumn {
            path: self.path.to_owned(),
            role,
            wanted: name.to_owned(),
            found: self.found.join(", "),
        })
    }

    /// Returns the column of a role; an error if there is none, or if there are two that it could be.
    fn of(&self, role: Role) -> Result<usize, SourceError> {
        if let Some(name) = self.mapping.given(role) {
            return self
                .place(name)
                .ok_or_else(|| self.mapping.missing(self.path, role, &self.found));
        }
        let mut usual = (0..self.found.len()).filter(|&place| self.is_usual(place, role));
        let first = usual
            .next()
            .ok_or_else(|| self.mapping.missing(self.path, role, &self.found))?;
        match usual.next() {
            None => Ok(first),
            Some(second) => Err(SourceError::TwoColumns {
                path: self.path.to_owned(),
                role: role.name(),
                one: self.found[first].to_owned(),
                other: self.found[second].to_owned(),
                option: role.option(),
            }),
        }
    }

    fn is_usual(&self, place: usize, role: Role) -> bool {
        self.mapping
            .role_of(self.found[place])
            .is_some_and(|(of, _)| of == role)
    }

    /// Returns the column of the time, and that of the time of the day if the date is apart.
    fn time(&self) -> Result<(usize, Option<usize>), SourceError> {
        if let Some((date, time)) = self
            .mapping
            .timestamp
            .as_deref()
            .and_then(|given| given.split_once('+'))
            && self.place(self.mapping.shown_name(Role::Timestamp)).is_none()
        {
            let places = (
                self.named(date.trim(), "date")?,
                self.named(time.trim(), "time of the day")?,
            );
            return Ok((places.0, Some(places.1)));
        }
        if self.mapping.timestamp.is_none()
            && let (Some(date), Some(time)) = (self.place("date"), self.place("time"))
        {
            return Ok((date, Some(time)));
        }
        Ok((self.of(Role::Timestamp)?, None))
    }

    /// Returns the columns that hold a measurement each, with their tags.
    fn measurements(&self, plan: &Plan) -> Result<Vec<(usize, String)>, SourceError> {
        let device = match plan.device {
            Device::Column(place) | Device::Segment(place, _) => Some(place),
            Device::Fixed(_) => None,
        };
        let is_taken = |place: usize| {
            place == plan.time
                || Some(place) == plan.time_of_day
                || Some(place) == device
                || plan.conditions.iter().any(|(column, _)| *column == place)
        };
        let mut measurements: Vec<(usize, String)> = Vec::new();
        for TagPattern { name, pattern } in &self.mapping.tags {
            let before = measurements.len();
            for (place, &column) in self.found.iter().enumerate() {
                let is_meant = matches(pattern, column)
                    && (!pattern.contains('*')
                        || (!is_taken(place) && !column.is_empty() && !self.is_ignored(column)));
                if is_meant && !measurements.iter().any(|(known, _)| *known == place) {
                    measurements.push((place, name.as_deref().unwrap_or(column).to_owned()));
                }
            }
            if measurements.len() == before && !pattern.contains('*') {
                self.named(pattern, "tag")?;
            }
        }
        if measurements.is_empty() {
            return Err(self.refuse(format!(
                "no column is a measurement by --tags {}; the file has {}",
                tags_text(&self.mapping.tags),
                self.found.join(", ")
            )));
        }
        for (at, (_, tag)) in measurements.iter().enumerate() {
            if measurements[..at].iter().any(|(_, other)| other == tag) {
                return Err(self.refuse(format!(
                    "two columns would give the tag `{tag}`; name them apart with --tags TAG=COLUMN"
                )));
            }
        }
        measurements.sort_unstable_by_key(|(place, _)| *place);
        Ok(measurements)
    }

    fn is_ignored(&self, column: &str) -> bool {
        self.mapping.ignore.iter().any(|pattern| matches(pattern, column))
    }
}

/// Returns patterns as `--tags` takes them.
pub(in crate::source) fn tags_text(tags: &[TagPattern]) -> String {
    let tags: Vec<_> = tags.iter().map(ToString::to_string).collect();
    tags.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(mapping: &ColumnMapping, found: &[&str]) -> Result<[usize; 4], SourceError> {
        mapping.resolve(Path::new("f.csv"), found)
    }

    #[test]
    fn usual_names_are_found_in_any_case_and_order() {
        let usual = ColumnMapping::default();
        assert_eq!(
            resolve(&usual, &["TS", "Device", "Tag", "Value"]).unwrap(),
            [0, 1, 2, 3]
        );
        assert_eq!(
            resolve(
                &usual,
                &["reading", "quality", "DeviceId", "Sensor", " event_time "]
            )
            .unwrap(),
            [4, 2, 3, 0]
        );
    }

    #[test]
    fn two_usual_names_for_one_role_are_refused_with_the_option_that_decides() {
        let usual = ColumnMapping::default();
        let error = resolve(&usual, &["ts", "device", "sensor", "metric", "value"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "f.csv: both `sensor` and `metric` could be the tag; say which with --column-tag sensor or --column-tag metric"
        );
        let given = ColumnMapping {
            tag: Some("metric".into()),
            ..ColumnMapping::default()
        };
        let columns = resolve(&given, &["ts", "device", "sensor", "metric", "value"]).unwrap();
        assert_eq!(columns, [0, 1, 3, 4]);
    }

    fn plan(mapping: &ColumnMapping, found: &[&str]) -> Result<Plan, String> {
        let plan = mapping.plan(Path::new("f.csv"), "line 2/pump-7.csv", found);
        plan.map_err(|error| error.to_string())
    }

    fn wide(tags: &[&str]) -> ColumnMapping {
        ColumnMapping {
            tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
            ..ColumnMapping::default()
        }
    }

    #[test]
    fn a_date_and_a_time_are_two_columns_of_one_role() {
        let found = ["Date", "Time", "device", "tag", "value"];
        let planned = plan(&ColumnMapping::default(), &found).unwrap();
        assert_eq!((planned.time, planned.time_of_day), (0, Some(1)));
        let given = ColumnMapping {
            timestamp: Some("day+clock".into()),
            ..ColumnMapping::default()
        };
        let planned = plan(&given, &["clock", "device", "tag", "value", "day"]).unwrap();
        assert_eq!((planned.time, planned.time_of_day), (4, Some(0)));
    }

    #[test]
    fn wide_columns_become_tags() {
        let found = ["ts", "device", "temp", "press", "quality", "note", ""];
        let tags = |mapping: &ColumnMapping| match plan(mapping, &found).map(|plan| plan.values) {
            Ok(Values::Wide(columns)) => columns
                .into_iter()
                .map(|(_, tag)| tag)
                .collect::<Vec<_>>()
                .join(" "),
            other => format!("{other:?}"),
        };
        assert_eq!(tags(&wide(&["press", "temp"])), "temp press");
        assert_eq!(tags(&wide(&["oil=temp", "p*"])), "oil press");
        let mut all = wide(&["*"]);
        all.ignore = vec!["note".to_owned()];
        all.conditions = vec!["quality=Good".parse().unwrap()];
        assert_eq!(tags(&all), "temp press");
        assert!(tags(&wide(&["flow"])).contains("no column `flow` for the tag"));
        assert!(tags(&wide(&["x*"])).contains("no column is a measurement by --tags x*"));
        assert!(tags(&wide(&["a=temp", "a=press"])).contains("two columns would give the tag `a`"));
    }

    #[test]
    fn a_device_comes_from_the_file_or_from_a_part_of_a_column() {
        let mut mapping = wide(&["temp"]);
        let mut device = |from: &str| {
            mapping.device_from = Some(from.parse().unwrap());
            plan(&mapping, &["ts", "temp", "topic"]).map(|plan| plan.device)
        };
        assert_eq!(device("file"), Ok(Device::Fixed("pump-7".to_owned())));
        assert_eq!(device("path:1"), Ok(Device::Fixed("line 2".to_owned())));
        assert_eq!(device("segment:topic:-1"), Ok(Device::Segment(2, -1)));
        assert!(device("segment:x:1").unwrap_err().contains("no column `x`"));
        assert!(device("path:9").unwrap_err().contains("has no such part"));
    }

    #[test]
    fn options_are_saved_and_read_back() {
        let mut mapping = wide(&["oil=temp", "p*"]);
        mapping.device_from = Some("segment:topic:2".parse().unwrap());
        mapping.conditions = vec!["q!=Bad".parse().unwrap()];
        mapping.time_format = Some("%d.%m.%Y".parse().unwrap());
        mapping.delimiter = Some(';');
        let json = serde_json::to_string(&mapping).unwrap();
        assert_eq!(serde_json::from_str::<ColumnMapping>(&json).unwrap(), mapping);
        assert_eq!(serde_json::to_string(&ColumnMapping::default()).unwrap(), "{}");
    }

    #[test]
    fn a_given_name_is_the_only_one_looked_for() {
        let mapping = ColumnMapping {
            value: Some("Pressure".into()),
            ..ColumnMapping::default()
        };
        assert_eq!(
            resolve(&mapping, &["ts", "device", "tag", "value", "pressure"]).unwrap()[3],
            4
        );
        let error = resolve(&mapping, &["ts", "device", "tag", "value"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "f.csv: no column `Pressure` for the value; the file has ts, device, tag, value"
        );
    }

    #[test]
    fn a_column_given_to_one_role_is_not_taken_for_another() {
        let mapping = ColumnMapping {
            device: Some("sensor".into()),
            ..ColumnMapping::default()
        };
        let error = resolve(&mapping, &["ts", "sensor", "value"]).unwrap_err();
        assert!(
            error.to_string().contains("`tag | sensor | metric` for the tag"),
            "{error}"
        );
    }
}

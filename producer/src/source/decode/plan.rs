//! Where a row of a table holds what: a mapping applied to the names of the columns.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
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

    /// Returns the columns that it needs, in order, each once.
    pub(in crate::source) fn places(&self) -> Vec<usize> {
        let mut places = vec![self.time];
        places.extend(self.time_of_day);
        match self.device {
            Device::Column(place) | Device::Segment(place, _) => places.push(place),
            Device::Fixed(_) => {}
        }
        match &self.values {
            Values::Long { tag, value } => places.extend([tag, value]),
            Values::Wide(columns) => places.extend(columns.iter().map(|(place, _)| place)),
        }
        places.extend(self.conditions.iter().map(|(place, _)| place));
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Returns the same plan for columns at other places.
    pub(in crate::source) fn renumbered(self, place: impl Fn(usize) -> usize) -> Self {
        Self {
            time: place(self.time),
            time_of_day: self.time_of_day.map(&place),
            device: match self.device {
                Device::Column(at) => Device::Column(place(at)),
                Device::Segment(at, part) => Device::Segment(place(at), part),
                fixed @ Device::Fixed(_) => fixed,
            },
            values: match self.values {
                Values::Long { tag, value } => Values::Long {
                    tag: place(tag),
                    value: place(value),
                },
                Values::Wide(columns) => {
                    Values::Wide(columns.into_iter().map(|(at, tag)| (place(at), tag)).collect())
                }
            },
            conditions: self
                .conditions
                .into_iter()
                .map(|(at, condition)| (place(at), condition))
                .collect(),
        }
    }

    /// Returns the column of a role, if it has one.
    pub(in crate::source) fn place_of(&self, role: Role) -> Option<usize> {
        match (role, &self.device, &self.values) {
            (Role::Timestamp, ..) => Some(self.time),
            (Role::Device, &Device::Column(place) | &Device::Segment(place, _), _) => Some(place),
            (Role::Tag, _, &Values::Long { tag, .. }) => Some(tag),
            (Role::Value, _, &Values::Long { value, .. }) => Some(value),
            _ => None,
        }
    }

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
            own: found.len(),
            columns_are_typed: false,
        };
        columns.plan(name)
    }

    /// Does the same for a file whose columns have types. Only the first `own` are the file's: what its path names is no
    /// measurement, unless an option says so.
    pub(in crate::source) fn plan_of_typed<S: AsRef<str>>(
        &self,
        path: &Path,
        name: &str,
        found: &[S],
        own: usize,
    ) -> Result<Plan, SourceError> {
        let columns = Columns {
            mapping: self,
            path,
            found: found.iter().map(|name| name.as_ref().trim()).collect(),
            own,
            columns_are_typed: true,
        };
        columns.plan(name)
    }

    /// Returns the columns of the four roles, for sources that need one for each.
    pub(in crate::source) fn resolve<S: AsRef<str>>(
        &self,
        path: &Path,
        found: &[S],
    ) -> Result<[usize; 4], SourceError> {
        let plan = self.plan_of_typed(path, "", found, found.len())?;
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
    /// How many of them are the file's own, and not names in its path.
    own: usize,
    /// Whether a time is known by its column's type, so that it is never in two.
    columns_are_typed: bool,
}

impl Columns<'_> {
    /// Finds the columns of the file `name`.
    fn plan(&self, name: &str) -> Result<Plan, SourceError> {
        let (time, time_of_day) = self.time()?;
        let device = match &self.mapping.device_from {
            None => Device::Column(self.of(Role::Device)?),
            Some(DeviceFrom::Segment(column, part)) => Device::Segment(self.named(column, "device")?, *part),
            Some(from) => match from.of_file(name) {
                Some(Ok(name)) => Device::Fixed(name),
                Some(Err(why)) => return Err(self.refuse(why)),
                None => Device::Column(self.of(Role::Device)?),
            },
        };
        let conditions = self.mapping.conditions.iter().map(|condition| {
            Ok((
                self.named(&condition.column, "condition --where")?,
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
        plan.values = match self.mapping.tags.is_empty() {
            true => Values::Long {
                tag: self.of(Role::Tag)?,
                value: self.of(Role::Value)?,
            },
            false => Values::Wide(self.measurements(&plan)?),
        };
        Ok(plan)
    }

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
        let others = |place: &usize| {
            self.is_usual(*place, Role::Timestamp) && !self.found[*place].eq_ignore_ascii_case("time")
        };
        if self.mapping.timestamp.is_none()
            && !self.columns_are_typed
            && !(0..self.found.len()).any(|place| others(&place))
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
        let mut known = vec![false; self.found.len()];
        for TagPattern { name, pattern } in &self.mapping.tags {
            let before = measurements.len();
            for (place, &column) in self.found.iter().enumerate() {
                let is_meant = matches(pattern, column)
                    && (!pattern.contains('*')
                        || (place < self.own
                            && !is_taken(place)
                            && !column.is_empty()
                            && !self.is_ignored(column)));
                if is_meant && !std::mem::replace(&mut known[place], true) {
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
        let mut tags = HashSet::with_capacity(measurements.len());
        for (_, tag) in &measurements {
            if !tags.insert(tag) {
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

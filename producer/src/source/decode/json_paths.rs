//! The paths of a mapping, put together to a tree that a walk through a JSON document follows.

use super::mapping::{ColumnMapping, Role};
use super::pattern::{DeviceFrom, Step, matches, steps};

/// What a field at the end of a path holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Time,
    TimeOfDay,
    Device,
    Tag,
    Value,
    /// A measurement, by the pattern of this index in [`ColumnMapping::tags`].
    Measurement(usize),
    /// What the condition of this index looks at.
    Condition(usize),
}

/// A place in the tree of paths.
#[derive(Debug, Default)]
pub(super) struct Node {
    fields: Vec<Field>,
    each: Option<usize>,
    pub(super) ends: Vec<Slot>,
}

#[derive(Debug)]
struct Field {
    name: String,
    is_pattern: bool,
    node: usize,
}

/// The paths of a mapping as a tree; the first node is the document.
#[derive(Debug)]
pub(super) struct Paths {
    nodes: Vec<Node>,
}

impl Paths {
    pub(super) const ROOT: usize = 0;

    pub(super) fn of(mapping: &ColumnMapping) -> Self {
        let mut paths = Self {
            nodes: vec![Node::default()],
        };
        match mapping
            .timestamp
            .as_deref()
            .and_then(|given| given.split_once('+'))
        {
            Some((date, time)) => {
                paths.add(date.trim(), Slot::Time);
                paths.add(time.trim(), Slot::TimeOfDay);
            }
            None => paths.add_role(mapping, Role::Timestamp, Slot::Time),
        }
        match &mapping.device_from {
            None => paths.add_role(mapping, Role::Device, Slot::Device),
            Some(DeviceFrom::Segment(field, _)) => paths.add(field, Slot::Device),
            Some(_) => {}
        }
        if mapping.tags.is_empty() {
            paths.add_role(mapping, Role::Tag, Slot::Tag);
            paths.add_role(mapping, Role::Value, Slot::Value);
        }
        for (index, tag) in mapping.tags.iter().enumerate() {
            paths.add(&tag.pattern, Slot::Measurement(index));
        }
        for (index, condition) in mapping.conditions.iter().enumerate() {
            paths.add(&condition.column, Slot::Condition(index));
        }
        paths
    }

    fn add_role(&mut self, mapping: &ColumnMapping, role: Role, slot: Slot) {
        match mapping.given(role) {
            Some(path) => self.add(path, slot),
            None => role.usual_names().iter().for_each(|name| self.add(name, slot)),
        }
    }

    fn add(&mut self, path: &str, slot: Slot) {
        let mut at = Self::ROOT;
        for step in steps(path) {
            at = match step {
                Step::Field(name) => self.field(at, &name),
                Step::Each => self.each_of(at),
            };
        }
        self.end(at, slot);
        // A key may contain what marks a path.
        if path.contains(['.', '[']) && !path.contains('*') {
            let at = self.field(Self::ROOT, path);
            self.end(at, slot);
        }
    }

    fn end(&mut self, at: usize, slot: Slot) {
        if !self.nodes[at].ends.contains(&slot) {
            self.nodes[at].ends.push(slot);
        }
    }

    fn field(&mut self, at: usize, name: &str) -> usize {
        let mut known = self.nodes[at].fields.iter();
        if let Some(field) = known.find(|field| field.name.eq_ignore_ascii_case(name)) {
            return field.node;
        }
        let node = self.push();
        self.nodes[at].fields.push(Field {
            name: name.to_owned(),
            is_pattern: name.contains('*'),
            node,
        });
        node
    }

    fn each_of(&mut self, at: usize) -> usize {
        if let Some(node) = self.nodes[at].each {
            return node;
        }
        let node = self.push();
        self.nodes[at].each = Some(node);
        node
    }

    fn push(&mut self) -> usize {
        self.nodes.push(Node::default());
        self.nodes.len() - 1
    }

    pub(super) fn node(&self, at: usize) -> &Node {
        &self.nodes[at]
    }
}

impl Node {
    /// Returns the nodes below a field of this name, and whether a pattern has led there.
    pub(super) fn below<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (usize, bool)> + 'a {
        let fields = self.fields.iter();
        fields
            .filter(move |field| match field.is_pattern {
                false => field.name.eq_ignore_ascii_case(name),
                true => matches(&field.name, name),
            })
            .map(|field| (field.node, field.is_pattern))
    }

    /// Returns the node below each element of an array.
    pub(super) fn element(&self) -> Option<usize> {
        self.each
    }
}

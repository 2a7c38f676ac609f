//! Walks through a JSON document along the paths of a mapping, and collects the fields at their ends.

use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json_paths::{Paths, Slot};

/// A field at the end of a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    pub(super) slot: Slot,
    /// The field, counted in the document: several paths may end at one.
    pub(super) field: usize,
    /// The innermost array element or key of a pattern that its path leads through.
    pub(super) scope: usize,
    pub(super) value: LeafValue,
}

/// The value of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum LeafValue {
    Null,
    Bool(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    /// A text, as the start and end of a range of [`Walk::text`].
    Text(usize, usize),
    /// An array or object.
    Nested,
}

/// An element of an array, or a key that a pattern stands for.
#[derive(Clone, Debug)]
struct Scope {
    outer: usize,
    key: Option<Range<usize>>,
}

/// What a walk has collected; reused from document to document.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) leaves: Vec<Leaf>,
    pub(super) text: String,
    scopes: Vec<Scope>,
    fields: usize,
    /// The nodes of the tree that the walk is at, with their scopes: those of the innermost value are last.
    active: Vec<(usize, usize)>,
}

/// The scope of what is outside of arrays and patterns.
pub(super) const WHOLE: usize = 0;

impl Walk {
    /// Walks through one document.
    pub(super) fn through(&mut self, document: &str, paths: &Paths) -> Result<(), serde_json::Error> {
        self.leaves.clear();
        self.text.clear();
        self.scopes.clear();
        self.active.clear();
        self.fields = 0;
        self.scopes.push(Scope {
            outer: WHOLE,
            key: None,
        });
        self.active.push((Paths::ROOT, WHOLE));
        let mut json = serde_json::Deserializer::from_str(document);
        At {
            walk: self,
            paths,
            from: 0,
        }
        .deserialize(&mut json)?;
        json.end()
    }

    /// Returns the number of scopes.
    pub(super) fn scopes(&self) -> usize {
        self.scopes.len()
    }

    /// Returns a scope and those around it, from the innermost on.
    pub(super) fn around(&self, scope: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(Some(scope), |&inner| {
            (inner != WHOLE).then(|| self.scopes[inner].outer)
        })
    }

    /// Returns the key that the innermost pattern stands for.
    pub(super) fn innermost_key(&self, scope: usize) -> &str {
        let key = self
            .around(scope)
            .find_map(|scope| self.scopes[scope].key.clone());
        key.map_or("", |range| &self.text[range])
    }

    /// Returns the keys that the patterns of a path stand for, joined by points in `scratch` if they are several.
    pub(super) fn key<'a>(&'a self, scope: usize, scratch: &'a mut String) -> &'a str {
        let keys = || {
            self.around(scope)
                .filter_map(|scope| self.scopes[scope].key.clone())
        };
        if keys().nth(1).is_none() {
            return self.innermost_key(scope);
        }
        scratch.clear();
        for range in keys() {
            let point = if scratch.is_empty() { "" } else { "." };
            scratch.insert_str(0, point);
            scratch.insert_str(0, &self.text[range]);
        }
        scratch
    }

    fn enter(&mut self, outer: usize, key: Option<Range<usize>>) -> usize {
        self.scopes.push(Scope { outer, key });
        self.scopes.len() - 1
    }
}

/// The walk at a value, whose nodes are those of [`Walk::active`] from an index on.
struct At<'a> {
    walk: &'a mut Walk,
    paths: &'a Paths,
    from: usize,
}

impl At<'_> {
    fn is_end(&self) -> bool {
        let mut active = self.walk.active[self.from..].iter();
        active.any(|(node, _)| !self.paths.node(*node).ends.is_empty())
    }

    fn leaf(self, value: LeafValue) {
        let field = self.walk.fields;
        self.walk.fields += 1;
        for at in self.from..self.walk.active.len() {
            let (node, scope) = self.walk.active[at];
            for &slot in &self.paths.node(node).ends {
                self.walk.leaves.push(Leaf {
                    slot,
                    field,
                    scope,
                    value,
                });
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.walk.active.len() == self.from {
            true => json.deserialize_ignored_any(IgnoredAny).map(drop),
            false => json.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.leaf(LeafValue::Bool(value));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.leaf(LeafValue::Integer(value));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.leaf(LeafValue::Unsigned(value));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.leaf(LeafValue::Float(value));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if self.is_end() {
            let from = self.walk.text.len();
            self.walk.text.push_str(text);
            let to = self.walk.text.len();
            self.leaf(LeafValue::Text(from, to));
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.leaf(LeafValue::Null);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let Self { walk, paths, from } = self;
        let to = walk.active.len();
        loop {
            for at in from..to {
                let (node, scope) = walk.active[at];
                if let Some(below) = paths.node(node).element() {
                    let scope = walk.enter(scope, None);
                    walk.active.push((below, scope));
                }
            }
            let element = At {
                walk,
                paths,
                from: to,
            };
            let more = array.next_element_seed(element)?.is_some();
            walk.active.truncate(to);
            if !more {
                break;
            }
        }
        At { walk, paths, from }.leaf(LeafValue::Nested);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { walk, paths, from } = self;
        let to = walk.active.len();
        let key = |walk: &mut Walk, name: &str| {
            let mut kept = None;
            for at in from..to {
                let (node, scope) = walk.active[at];
                for (below, by_pattern) in paths.node(node).below(name) {
                    let mut scope = scope;
                    if by_pattern {
                        let key = kept.get_or_insert_with(|| {
                            let start = walk.text.len();
                            walk.text.push_str(name);
                            start..walk.text.len()
                        });
                        scope = walk.enter(scope, Some(key.clone()));
                    }
                    walk.active.push((below, scope));
                }
            }
        };
        while map.next_key_seed(Key(&mut |name| key(walk, name)))?.is_some() {
            map.next_value_seed(At {
                walk,
                paths,
                from: to,
            })?;
            walk.active.truncate(to);
        }
        At { walk, paths, from }.leaf(LeafValue::Nested);
        Ok(())
    }
}

/// Passes a key on.
struct Key<'a>(&'a mut dyn FnMut(&str));

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, key: &str) -> Result<(), E> {
        (self.0)(key);
        Ok(())
    }
}

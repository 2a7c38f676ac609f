//! Splits one JSON object into cells with serde, without a map and mostly without copies.

use std::fmt::{self, Write};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::mapping::{ColumnMapping, Role};

/// The cells of an object, by [`Role`].
#[derive(Default)]
pub(in crate::source) struct JsonRow<'de> {
    pub(in crate::source) cells: [Cell<'de>; 4],
    ranks: [Option<u8>; 4],
    /// A role that two fields could have, with their names' ranks.
    pub(in crate::source) ambiguous: Option<(Role, [u8; 2])>,
}

/// The value of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::source) enum Cell<'de> {
    /// The object has no such field.
    #[default]
    Missing,
    Null,
    Bool(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Text(&'de str),
    /// A text with escapes, as the start and end of a range of the scratch text.
    Scratch(usize, usize),
    /// An array or object.
    Nested,
}

impl<'de> Cell<'de> {
    /// Returns the cell as text; a number is written into `text`.
    #[inline]
    pub(in crate::source) fn text<'a>(
        self,
        scratch: &'a str,
        text: &'a mut String,
    ) -> Result<&'a [u8], String>
    where
        'de: 'a,
    {
        text.clear();
        // Writing to a string cannot fail.
        let _ = match self {
            Cell::Text(text) => return Ok(text.as_bytes()),
            Cell::Scratch(from, to) => return Ok(&scratch.as_bytes()[from..to]),
            Cell::Integer(number) => write!(text, "{number}"),
            Cell::Unsigned(number) => write!(text, "{number}"),
            Cell::Float(number) => write!(text, "{number}"),
            other => return Err(other.complaint("text or a number")),
        };
        Ok(text.as_bytes())
    }

    /// Returns the message for a cell that is not what was `wanted`.
    #[cold]
    pub(in crate::source) fn complaint(self, wanted: &str) -> String {
        let is = match self {
            Cell::Missing => return "is missing".to_owned(),
            Cell::Null => "null",
            Cell::Bool(_) => "true or false",
            Cell::Integer(_) | Cell::Unsigned(_) | Cell::Float(_) => "a number",
            Cell::Text(_) | Cell::Scratch(..) => "text",
            Cell::Nested => "an array or object",
        };
        format!("is {is}, not {wanted}")
    }
}

/// The keys of the last object in order, with their meanings. The next object tends to have the same keys.
#[derive(Default)]
pub(in crate::source) struct KeyOrder {
    keys: Vec<(String, Meaning)>,
}

/// The role of a key, and the rank of its name for that role.
pub(in crate::source) type Meaning = Option<(Role, u8)>;

impl KeyOrder {
    /// Keys after this many are looked up each time, so that a row cannot make the list grow without bound.
    const KEPT: usize = 64;

    /// Returns the known keys, in order.
    pub(in crate::source) fn known(&self) -> &[(String, Meaning)] {
        &self.keys
    }

    #[inline]
    pub(in crate::source) fn meaning(&mut self, place: usize, key: &str, mapping: &ColumnMapping) -> Meaning {
        match self.keys.get(place) {
            Some((known, meaning)) if known == key => *meaning,
            _ => self.learn(place, key, mapping),
        }
    }

    #[cold]
    fn learn(&mut self, place: usize, key: &str, mapping: &ColumnMapping) -> Meaning {
        let meaning = mapping.role_of(key);
        if place < Self::KEPT && key.len() <= 256 {
            if self.keys.len() <= place {
                self.keys.resize(place + 1, (String::new(), None));
            }
            let (known, kept) = &mut self.keys[place];
            known.clear();
            known.push_str(key);
            *kept = meaning;
        }
        meaning
    }
}

/// Fills a [`JsonRow`] from an object.
pub(in crate::source) struct RowSeed<'a, 'de> {
    pub(in crate::source) row: &'a mut JsonRow<'de>,
    pub(in crate::source) mapping: &'a ColumnMapping,
    pub(in crate::source) keys: &'a mut KeyOrder,
    pub(in crate::source) scratch: &'a mut String,
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_, 'de> {
    type Value = ();

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut place = 0;
        loop {
            let key = KeySeed {
                place,
                mapping: self.mapping,
                keys: self.keys,
            };
            match map.next_key_seed(key)? {
                None => return Ok(()),
                Some(Some((role, rank))) if self.row.ranks[role as usize].is_none() => {
                    self.row.ranks[role as usize] = Some(rank);
                    self.row.cells[role as usize] = map.next_value_seed(CellSeed {
                        scratch: self.scratch,
                    })?;
                }
                Some(meaning) => {
                    if let Some((role, rank)) = meaning
                        && let Some(other) = self.row.ranks[role as usize].filter(|other| *other != rank)
                    {
                        self.row.ambiguous = Some((role, [other, rank]));
                    }
                    map.next_value::<IgnoredAny>()?;
                }
            }
            place += 1;
        }
    }
}

struct KeySeed<'a> {
    place: usize,
    mapping: &'a ColumnMapping,
    keys: &'a mut KeyOrder,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Meaning;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Meaning, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Meaning;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    #[inline]
    fn visit_str<E>(self, key: &str) -> Result<Meaning, E> {
        Ok(self.keys.meaning(self.place, key, self.mapping))
    }
}

struct CellSeed<'a> {
    scratch: &'a mut String,
}

impl<'de> DeserializeSeed<'de> for CellSeed<'_> {
    type Value = Cell<'de>;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cell<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CellSeed<'_> {
    type Value = Cell<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    #[inline]
    fn visit_bool<E>(self, value: bool) -> Result<Cell<'de>, E> {
        Ok(Cell::Bool(value))
    }

    #[inline]
    fn visit_i64<E>(self, value: i64) -> Result<Cell<'de>, E> {
        Ok(Cell::Integer(value))
    }

    #[inline]
    fn visit_u64<E>(self, value: u64) -> Result<Cell<'de>, E> {
        Ok(Cell::Unsigned(value))
    }

    #[inline]
    fn visit_f64<E>(self, value: f64) -> Result<Cell<'de>, E> {
        Ok(Cell::Float(value))
    }

    #[inline]
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cell<'de>, E> {
        Ok(Cell::Text(text))
    }

    #[inline]
    fn visit_str<E>(self, text: &str) -> Result<Cell<'de>, E> {
        let from = self.scratch.len();
        self.scratch.push_str(text);
        Ok(Cell::Scratch(from, self.scratch.len()))
    }

    #[inline]
    fn visit_unit<E>(self) -> Result<Cell<'de>, E> {
        Ok(Cell::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Cell<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Cell::Nested)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cell<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Cell::Nested)
    }
}

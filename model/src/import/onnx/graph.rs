//! The graph of an ONNX file: nodes with attributes, and constants.
//!
//! The numbers of the fields are those of `onnx.proto`.

use std::collections::HashMap;

use super::super::ImportError;
use super::proto::{Fields, Wire};

/// Most nodes; a forest of 100 trees has some 3,000.
const MAX_NODES: usize = 1 << 16;

/// A graph.
#[derive(Default)]
pub(super) struct Graph<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) constants: HashMap<&'a str, Tensor>,
    /// The inputs, and how many columns each has if the graph says so.
    pub(super) inputs: Vec<(&'a str, Option<usize>)>,
    pub(super) outputs: Vec<&'a str>,
}

/// An operation.
#[derive(Default)]
pub(super) struct Node<'a> {
    pub(super) operator: &'a str,
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    attributes: HashMap<&'a str, Attribute<'a>>,
}

#[derive(Default)]
struct Attribute<'a> {
    numbers: Vec<f64>,
    texts: Vec<&'a [u8]>,
}

/// An array of numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Tensor {
    pub(super) shape: Vec<usize>,
    pub(super) numbers: Vec<f64>,
}

/// Reads a model: the graph, and what wrote it.
pub(super) fn read(file: &[u8]) -> Result<(Graph<'_>, String), ImportError> {
    let (mut graph, mut producer) = (None, [""; 2]);
    for field in Fields::of(file) {
        match field? {
            (2, text) => producer[0] = text.text()?,
            (3, text) => producer[1] = text.text()?,
            (7, message) => graph = Some(Graph::read(message.bytes()?)?),
            _ => {}
        }
    }
    let graph = graph.ok_or(ImportError::NotAPickle)?;
    Ok((graph, super::super::shown(&producer.join(" "))))
}

impl<'a> Graph<'a> {
    fn read(message: &'a [u8]) -> Result<Self, ImportError> {
        let mut graph = Self::default();
        for field in Fields::of(message) {
            match field? {
                (1, node) => graph.nodes.push(Node::read(node.bytes()?)?),
                (5, tensor) => {
                    let (name, tensor) = Tensor::read(tensor.bytes()?)?;
                    graph.constants.insert(name, tensor);
                }
                (11, value) => graph.inputs.push(name_of(value.bytes()?)?),
                (12, value) => graph.outputs.push(name_of(value.bytes()?)?.0),
                _ => {}
            }
            if graph.nodes.len() > MAX_NODES {
                return Err(ImportError::TooLong);
            }
        }
        Ok(graph)
    }
}

/// Returns the name of an input or output, and its last dimension.
fn name_of(message: &[u8]) -> Result<(&str, Option<usize>), ImportError> {
    let (mut name, mut columns) = ("", None);
    for field in Fields::of(message) {
        match field? {
            (1, text) => name = text.text()?,
            (2, kind) => columns = last_dimension(kind.bytes()?)?,
            _ => {}
        }
    }
    Ok((name, columns))
}

/// Returns the last dimension of a type: of its tensor (field 1), the shape (2), its last dimension (1), its number
/// (1).
fn last_dimension(message: &[u8]) -> Result<Option<usize>, ImportError> {
    let mut found = message;
    for wanted in [1, 2, 1] {
        let mut inner = None;
        for field in Fields::of(found) {
            if let (number, Wire::Bytes(bytes)) = field?
                && number == wanted
            {
                inner = Some(bytes);
            }
        }
        let Some(inner) = inner else {
            return Ok(None);
        };
        found = inner;
    }
    for field in Fields::of(found) {
        if let (1, Wire::Number(number)) = field? {
            return Ok(usize::try_from(number).ok());
        }
    }
    Ok(None)
}

impl<'a> Node<'a> {
    fn read(message: &'a [u8]) -> Result<Self, ImportError> {
        let mut node = Self::default();
        for field in Fields::of(message) {
            match field? {
                (1, name) => node.inputs.push(name.text()?),
                (2, name) => node.outputs.push(name.text()?),
                (4, name) => node.operator = name.text()?,
                (5, message) => {
                    let (name, attribute) = Attribute::read(message.bytes()?)?;
                    node.attributes.insert(name, attribute);
                }
                _ => {}
            }
        }
        Ok(node)
    }

    /// Returns the numbers of an attribute; none if it is missing.
    pub(super) fn numbers(&self, name: &str) -> &[f64] {
        self.attributes
            .get(name)
            .map_or(&[], |attribute| &attribute.numbers)
    }

    /// Returns the texts of an attribute; none if it is missing.
    pub(super) fn texts(&self, name: &str) -> &[&'a [u8]] {
        self.attributes
            .get(name)
            .map_or(&[], |attribute| &attribute.texts)
    }
}

impl<'a> Attribute<'a> {
    fn read(message: &'a [u8]) -> Result<(&'a str, Self), ImportError> {
        let (mut name, mut attribute) = ("", Self::default());
        for field in Fields::of(message) {
            match field? {
                (1, text) => name = text.text()?,
                (2, Wire::Four(float)) => attribute.numbers.push(f32::from_le_bytes(float).into()),
                (3 | 8, number) => number.whole(&mut attribute.numbers)?,
                (4 | 9, text) => attribute.texts.push(text.bytes()?),
                (7, floats) => floats.floats(&mut attribute.numbers)?,
                // Newer opsets hold long lists as a tensor.
                (5, tensor) => attribute.numbers = Tensor::read(tensor.bytes()?)?.1.numbers,
                _ => {}
            }
        }
        Ok((name, attribute))
    }
}

impl Tensor {
    fn read(message: &[u8]) -> Result<(&str, Self), ImportError> {
        let (mut name, mut shape, mut numbers) = ("", Vec::new(), Vec::new());
        let (mut kind, mut raw) = (0, None);
        for field in Fields::of(message) {
            match field? {
                (1, number) => number.whole(&mut shape)?,
                (2, Wire::Number(number)) => kind = number,
                (4, floats) => floats.floats(&mut numbers)?,
                (5 | 7, number) => number.whole(&mut numbers)?,
                (8, text) => name = text.text()?,
                (9, bytes) => raw = Some(bytes.bytes()?),
                (10, floats) => floats.doubles(&mut numbers)?,
                (14, Wire::Number(1)) => {
                    return Err(ImportError::Onnx("keeps its numbers in another file".into()));
                }
                _ => {}
            }
        }
        if let Some(bytes) = raw {
            numbers = raw_numbers(kind, bytes)?;
        }
        // As above; what is out of range does not fit the numbers.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let shape = shape.into_iter().map(|length| length as usize).collect();
        Ok((name, Self { shape, numbers }))
    }
}

/// Converts bytes of a type to numbers.
fn raw_numbers(kind: u64, bytes: &[u8]) -> Result<Vec<f64>, ImportError> {
    Ok(match kind {
        1 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes).into())
            .collect(),
        6 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|bytes| i32::from_le_bytes(*bytes).into())
            .collect(),
        #[allow(clippy::cast_precision_loss)] // Indices.
        7 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|bytes| i64::from_le_bytes(*bytes) as f64)
            .collect(),
        11 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f64::from_le_bytes(*bytes))
            .collect(),
        // Text and flags, which no number is read from.
        _ => Vec::new(),
    })
}

//! Models as skl2onnx writes them, read as data: no graph is ever run.
//!
//! The nodes are followed from the input on. What scalers and PCA become is a chain of operations with constants, which
//! are steps; then comes a `SVMRegressor`, a product with a vector, or the trees and arithmetic of an isolation forest.

mod forest;
mod graph;
mod proto;

use std::collections::HashMap;
use std::rc::Rc;

use super::parts::Parts;
use super::{ImportError, shown};
use crate::{Detector, Kernel, ModelError, OneClassSvm, Projection, Scaler, Step, Stretch};
use forest::{Forest, TreePart};
use graph::{Graph, Node, Tensor};

/// How a file begins: the key of its version.
pub(super) const FIRST_BYTE: u8 = 0x08;

/// Most numbers of a constant in a step: a matrix of ten features has a hundred.
const MAX_CONSTANT: usize = 256;

/// Most steps of a graph; a scaler and PCA take six.
const MAX_STEPS: usize = 24;

/// What a name in the graph stands for.
#[derive(Clone, Debug)]
enum Value {
    /// Rows, after steps from the input on.
    Rows(Vec<Step>),
    Constant(Tensor),
    /// The decision of a detector after steps.
    Decision(Vec<Step>, Rc<Detector>),
    /// Something inside a forest.
    Tree(TreePart),
    /// Labels, and whatever follows from a decision.
    Other,
}

/// Adds the model of a graph.
pub(super) fn add(parts: &mut Parts, file: &[u8]) -> Result<(), ImportError> {
    let (graph, producer) = graph::read(file)?;
    let mut values: HashMap<&str, Value> = HashMap::new();
    for (name, tensor) in &graph.constants {
        // Long constants are no part of a step. They would be copied for each node that names them.
        if tensor.numbers.len() <= MAX_CONSTANT {
            values.insert(name, Value::Constant(tensor.clone()));
        }
    }
    let inputs = graph
        .inputs
        .iter()
        .filter(|(name, _)| !graph.constants.contains_key(name));
    let inputs: Vec<&(&str, Option<usize>)> = inputs.collect();
    let [(input, columns)] = inputs[..] else {
        return Err(ImportError::Onnx(format!(
            "has {} inputs instead of one",
            inputs.len()
        )));
    };
    values.insert(input, Value::Rows(Vec::new()));
    let mut forest = Forest::new(*columns);
    for node in &graph.nodes {
        let inputs = node
            .inputs
            .iter()
            .map(|name| values.get(name).unwrap_or(&Value::Other));
        let inputs: Vec<&Value> = inputs.collect();
        let output = follow(node, &inputs, &mut forest, *columns)?;
        // The nodes that are followed have one output.
        if let Some(name) = node.outputs.first() {
            values.insert(name, output);
        }
    }
    let (steps, detector) = decision(&graph, &values, forest)?;
    parts.steps.extend(steps);
    parts.detector = Some(detector);
    parts.provenance = format!("ONNX, {producer}");
    Ok(())
}

/// Returns the steps and the detector whose decision is an output of the graph.
fn decision(
    graph: &Graph<'_>,
    values: &HashMap<&str, Value>,
    forest: Forest,
) -> Result<(Vec<Step>, Detector), ImportError> {
    for name in &graph.outputs {
        match values.get(name) {
            Some(Value::Decision(steps, detector)) => return Ok((steps.clone(), (**detector).clone())),
            // A linear model ends in one number a row, which is its decision.
            Some(Value::Rows(steps)) if steps.last().is_some_and(|step| step.outputs() == 1) => {
                let own = OneClassSvm::new(1, vec![1.0], vec![1.0], 0.0, Kernel::Linear)?;
                return Ok((steps.clone(), own.into()));
            }
            Some(Value::Tree(TreePart::Score { scale, offset })) => return forest.detector(*scale, *offset),
            _ => {}
        }
    }
    Err(ImportError::Onnx("has no output that is a decision".into()))
}

/// Returns what a node's output stands for.
fn follow(
    node: &Node<'_>,
    inputs: &[&Value],
    forest: &mut Forest,
    columns: Option<usize>,
) -> Result<Value, ImportError> {
    if let Some(value) = forest.follow(node, inputs)? {
        return Ok(value);
    }
    Ok(match (node.operator, inputs) {
        ("Cast" | "Identity", [value]) => (*value).clone(),
        ("Sqrt", [Value::Constant(tensor)]) => Value::Constant(Tensor {
            shape: tensor.shape.clone(),
            numbers: tensor.numbers.iter().map(|number| number.sqrt()).collect(),
        }),
        ("SVMRegressor", [Value::Rows(steps)]) => Value::Decision(steps.clone(), Rc::new(svm(node)?.into())),
        (operator, [Value::Rows(steps), rest @ ..]) => {
            let mut steps = steps.clone();
            let constant = match rest {
                [] => None,
                [Value::Constant(tensor)] => Some(tensor),
                _ => return Err(unknown(operator)),
            };
            // `Sign` makes labels of a linear model's decisions.
            if operator == "Sign" {
                return Ok(Value::Other);
            }
            let width = steps.last().map(Step::outputs).or(columns);
            steps.extend(prepared(node, constant, width)?);
            if steps.len() > MAX_STEPS {
                return Err(ModelError::TooManySteps(steps.len()).into());
            }
            Value::Rows(steps)
        }
        (operator, inputs) if inputs.iter().any(|input| matches!(input, Value::Rows(_))) => {
            return Err(unknown(operator));
        }
        _ => Value::Other,
    })
}

/// Returns the steps of an operation on rows.
fn prepared(
    node: &Node<'_>,
    constant: Option<&Tensor>,
    width: Option<usize>,
) -> Result<Vec<Step>, ImportError> {
    let scale = |mean, scale| Ok::<_, ImportError>(Step::Scale(Scaler::new(mean, scale)?));
    let stretch = |factor, offset| Ok::<_, ImportError>(Step::Stretch(Stretch::new(factor, offset)?));
    let same = |numbers: &[f64], number: f64| vec![number; numbers.len()];
    Ok(match (node.operator, constant) {
        ("Scaler", None) => {
            let (offset, factor) = (node.numbers("offset").to_vec(), node.numbers("scale").to_vec());
            let (ones, zeros) = (same(&offset, 1.0), same(&factor, 0.0));
            vec![scale(offset, ones)?, stretch(factor, zeros)?]
        }
        ("Sub", Some(Tensor { numbers, .. })) => vec![scale(numbers.clone(), same(numbers, 1.0))?],
        ("Div", Some(Tensor { numbers, .. })) => vec![scale(same(numbers, 0.0), numbers.clone())?],
        ("Add", Some(Tensor { numbers, .. })) => vec![stretch(same(numbers, 1.0), numbers.clone())?],
        ("Mul", Some(Tensor { numbers, .. })) => vec![stretch(numbers.clone(), same(numbers, 0.0))?],
        ("MatMul", Some(tensor)) => vec![projection(tensor)?],
        ("Gather" | "ArrayFeatureExtractor", Some(Tensor { numbers, .. })) => {
            // All columns in order, as before a tree, need no step; their number is that of the rows.
            if numbers
                .iter()
                .enumerate()
                .all(|(at, number)| index(*number) == Some(at))
                && width.is_none_or(|width| width == numbers.len())
            {
                return Ok(Vec::new());
            }
            let columns: Option<Vec<usize>> = numbers.iter().map(|number| index(*number)).collect();
            let (Some(columns), Some(width)) = (columns, width) else {
                return Err(unknown(node.operator));
            };
            vec![Step::Project(Projection::select(width, &columns)?)]
        }
        _ => return Err(unknown(node.operator)),
    })
}

/// Returns the product with a matrix, which holds the weights column by column.
fn projection(tensor: &Tensor) -> Result<Step, ImportError> {
    let (inputs, outputs) = match *tensor.shape {
        [inputs] => (inputs, 1),
        [inputs, outputs] => (inputs, outputs),
        _ => {
            return Err(ImportError::Onnx(
                "has a matrix of more than two dimensions".into(),
            ));
        }
    };
    if inputs.checked_mul(outputs) != Some(tensor.numbers.len()) {
        return Err(ImportError::Protobuf(
            "a matrix does not hold as many numbers as it says",
        ));
    }
    let weights = (0..outputs)
        .flat_map(|output| (0..inputs).map(move |input| tensor.numbers[input * outputs + output]));
    Ok(Step::Project(Projection::new(inputs, weights.collect())?))
}

fn svm(node: &Node<'_>) -> Result<OneClassSvm, ImportError> {
    let coefficients = node.numbers("coefficients").to_vec();
    let vectors = node.numbers("support_vectors").to_vec();
    let (&[gamma, coef0, degree], &[rho]) = (node.numbers("kernel_params"), node.numbers("rho")) else {
        return Err(ImportError::Onnx(
            "has a SVMRegressor without the parameters of one-class SVMs".into(),
        ));
    };
    let kernel = match node.texts("kernel_type") {
        [b"LINEAR"] => Kernel::Linear,
        [b"RBF"] => Kernel::Rbf { gamma },
        [b"POLY"] => {
            let degree = index(degree).and_then(|degree| u32::try_from(degree).ok());
            let degree = degree.ok_or(ModelError::Degree(-1))?;
            Kernel::Polynomial { gamma, coef0, degree }
        }
        [b"SIGMOID"] => Kernel::Sigmoid { gamma, coef0 },
        _ => {
            return Err(ImportError::Onnx(
                "has a SVMRegressor with an unknown kernel".into(),
            ));
        }
    };
    let dimension = vectors.len() / coefficients.len().max(1);
    Ok(OneClassSvm::new(dimension, vectors, coefficients, rho, kernel)?)
}

/// Converts a number that is an index.
fn index(number: f64) -> Option<usize> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    match number as usize {
        index if index as f64 == number => Some(index),
        _ => None,
    }
}

fn unknown(operator: &str) -> ImportError {
    ImportError::Onnx(format!(
        "has the operator `{}` where none can be imported",
        shown(operator)
    ))
}

//! The isolation forest as skl2onnx writes it.
//!
//! Each tree returns the number of a leaf. Two tables turn it into the leaf's training rows and its depth, from which
//! the graph computes what scikit-learn computes. Then the depths are summed, divided by the scale, and made a score:
//! −2^(−depth) + 1/2.

use std::collections::HashMap;

use super::graph::Node;
use super::{ImportError, Value, index};
use crate::detector::average_depth;
use crate::{Detector, IsolationForest, ModelError, Step, Tree, TreeNode};

/// What a name stands for inside a forest.
#[derive(Clone, Copy, Debug)]
pub(super) enum TreePart {
    /// The leaf of a tree.
    Leaf(usize),
    /// The training rows or the depth of a tree's leaf, and whatever is computed from them for one tree.
    OfLeaf,
    /// The sum of the depths.
    Depths,
    /// The depth that is divided by the scale, and what becomes of it.
    Scaled { scale: f64 },
    /// The decision.
    Score { scale: f64, offset: f64 },
}

/// The trees so far.
pub(super) struct Forest {
    /// Number of columns of the graph's input, if it says so.
    columns: Option<usize>,
    steps: Vec<Step>,
    trees: Vec<RawTree>,
}

#[derive(Default)]
struct RawTree {
    nodes: Vec<RawNode>,
    dimension: usize,
    rows: HashMap<i64, f64>,
    depths: HashMap<i64, f64>,
}

enum RawNode {
    Split {
        feature: u32,
        threshold: f64,
        left: u32,
        right: u32,
    },
    Leaf {
        number: i64,
    },
}

impl Forest {
    pub(super) fn new(columns: Option<usize>) -> Self {
        Self {
            columns,
            steps: Vec::new(),
            trees: Vec::new(),
        }
    }

    /// Returns what a node's output stands for if it belongs to a forest.
    pub(super) fn follow(
        &mut self,
        node: &Node<'_>,
        inputs: &[&Value],
    ) -> Result<Option<Value>, ImportError> {
        let part = match (node.operator, inputs) {
            ("TreeEnsembleRegressor", [Value::Rows(steps)]) => {
                if !self.trees.is_empty() && *steps != self.steps {
                    return Err(ImportError::Onnx(
                        "prepares the rows differently for its trees".into(),
                    ));
                }
                self.steps.clone_from(steps);
                self.trees.push(RawTree::read(node)?);
                TreePart::Leaf(self.trees.len() - 1)
            }
            ("Cast", [Value::Tree(part)]) => *part,
            ("LabelEncoder", [Value::Tree(TreePart::Leaf(tree))]) => {
                self.label(*tree, node)?;
                TreePart::OfLeaf
            }
            ("Sum", [Value::Tree(TreePart::OfLeaf), ..]) => TreePart::Depths,
            ("Div", [Value::Tree(TreePart::Depths), Value::Constant(tensor)]) => match *tensor.numbers {
                [scale] => TreePart::Scaled { scale },
                _ => {
                    return Err(ImportError::Onnx(
                        "divides the depths of its trees by several numbers".into(),
                    ));
                }
            },
            ("Neg", [Value::Tree(part @ TreePart::Scaled { .. })])
            | ("Pow", [Value::Constant(_), Value::Tree(part @ TreePart::Scaled { .. })]) => *part,
            ("Add", [Value::Tree(TreePart::Scaled { scale }), Value::Constant(tensor)]) => {
                match *tensor.numbers {
                    [number] => TreePart::Score {
                        scale: *scale,
                        offset: -number,
                    },
                    _ => {
                        return Err(ImportError::Onnx(
                            "adds several numbers to the score of its trees".into(),
                        ));
                    }
                }
            }
            (_, inputs)
                if inputs
                    .iter()
                    .any(|input| matches!(input, Value::Tree(TreePart::OfLeaf))) =>
            {
                TreePart::OfLeaf
            }
            _ => return Ok(None),
        };
        Ok(Some(Value::Tree(part)))
    }

    /// Reads a table of a tree's leaves.
    fn label(&mut self, tree: usize, node: &Node<'_>) -> Result<(), ImportError> {
        let (keys, values) = (node.numbers("keys_int64s"), node.numbers("values_floats"));
        let Some(tree) = self.trees.get_mut(tree).filter(|_| keys.len() == values.len()) else {
            return Err(ImportError::Onnx("has a table of leaves without values".into()));
        };
        #[allow(clippy::cast_possible_truncation)] // Numbers of leaves.
        let table = keys
            .iter()
            .map(|key| *key as i64)
            .zip(values.iter().copied())
            .collect();
        // skl2onnx names the two tables for what they hold.
        match node.outputs.first() {
            Some(name) if name.starts_with("path_length") => tree.depths = table,
            Some(name) if name.starts_with("node_sample") => tree.rows = table,
            _ => {
                return Err(ImportError::Onnx(
                    "has a table of leaves that skl2onnx does not write".into(),
                ));
            }
        }
        Ok(())
    }

    /// Returns the steps and the detector of a forest.
    pub(super) fn detector(self, scale: f64, offset: f64) -> Result<(Vec<Step>, Detector), ImportError> {
        let dimension = self.trees.iter().map(|tree| tree.dimension).max().unwrap_or(0);
        let width = self.steps.last().map(Step::outputs).or(self.columns);
        let dimension = width.unwrap_or(dimension);
        let trees: Result<Vec<Tree>, ImportError> = self.trees.iter().map(RawTree::tree).collect();
        let forest = IsolationForest::new(dimension, trees?, scale, offset)?;
        Ok((self.steps, Detector::IsolationForest(forest)))
    }
}

impl RawTree {
    fn read(node: &Node<'_>) -> Result<Self, ImportError> {
        let damaged = || ImportError::Onnx("has a tree that skl2onnx does not write".into());
        let ids = node.numbers("nodes_nodeids");
        let column = |name: &str| {
            Some(node.numbers(name))
                .filter(|column| column.len() == ids.len())
                .ok_or_else(damaged)
        };
        let (features, thresholds) = (column("nodes_featureids")?, column("nodes_values")?);
        let (left, right) = (column("nodes_truenodeids")?, column("nodes_falsenodeids")?);
        let modes = node.texts("nodes_modes");
        let targets = node
            .numbers("target_nodeids")
            .iter()
            .zip(node.numbers("target_weights"));
        #[allow(clippy::cast_possible_truncation)] // Numbers of nodes and leaves.
        let leaves: HashMap<i64, i64> = targets.map(|(id, weight)| (*id as i64, *weight as i64)).collect();
        if modes.len() != ids.len() {
            return Err(damaged());
        }
        let mut nodes = Vec::with_capacity(ids.len());
        for at in 0..ids.len() {
            let number = |number: f64| {
                index(number)
                    .and_then(|index| u32::try_from(index).ok())
                    .ok_or_else(damaged)
            };
            if number(ids[at])? as usize != at {
                return Err(damaged());
            }
            nodes.push(match modes[at] {
                b"LEAF" => RawNode::Leaf {
                    number: *leaves.get(&i64::from(number(ids[at])?)).ok_or_else(damaged)?,
                },
                b"BRANCH_LEQ" => RawNode::Split {
                    feature: number(features[at])?,
                    threshold: thresholds[at],
                    left: number(left[at])?,
                    right: number(right[at])?,
                },
                _ => return Err(damaged()),
            });
        }
        let dimension = features
            .iter()
            .filter_map(|feature| index(*feature))
            .max()
            .map_or(1, |most| most + 1);
        Ok(Self {
            nodes,
            dimension,
            ..Self::default()
        })
    }

    fn tree(&self) -> Result<Tree, ImportError> {
        let nodes = self.nodes.iter().map(|node| match *node {
            RawNode::Split {
                feature,
                threshold,
                left,
                right,
            } => Ok(TreeNode::Split {
                feature,
                threshold,
                left,
                right,
            }),
            RawNode::Leaf { number } => match (self.depths.get(&number), self.rows.get(&number)) {
                (Some(depth), Some(rows)) => Ok(TreeNode::Leaf {
                    depth: depth + average_depth(*rows) - 1.0,
                }),
                _ => Err(ImportError::Model(ModelError::Tree {
                    tree: 0,
                    problem: "has a leaf without a depth",
                })),
            },
        });
        nodes.collect()
    }
}

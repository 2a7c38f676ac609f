//! The isolation forest.
//!
//! Liu, Ting and Zhou, "Isolation Forest" (2008), as scikit-learn's `IsolationForest` computes it: rows are rounded to
//! 32 bits, and the depths are summed and scaled in 64.

use crate::{Feature, ModelError};

/// Most nodes of all trees together: with so many, a model takes 64 MiB.
pub const MAX_NODES: usize = 1 << 21;

/// A node of a tree, in the order in which scikit-learn stores them: parents before their children.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TreeNode {
    /// Goes left if the feature is at most the threshold, and right otherwise.
    Split {
        /// Index of the feature in the row.
        feature: u32,
        /// The threshold.
        threshold: f64,
        /// Index of the left node in the tree.
        left: u32,
        /// Index of the right node in the tree.
        right: u32,
    },
    /// The end, with what it adds to the depth.
    Leaf {
        /// Steps to the leaf, and the steps that its training rows would still take.
        depth: f64,
    },
}

/// A tree: its nodes, of which the first is the root.
pub type Tree = Vec<TreeNode>;

/// An isolation forest: decision(x) = −2^(−Σ depth / scale) − offset.
#[derive(Clone, Debug, PartialEq)]
pub struct IsolationForest {
    dimension: usize,
    trees: Box<[Box<[TreeNode]>]>,
    scale: f64,
    offset: f64,
}

/// Returns how deep a row falls on average in a tree of `rows` rows.
pub(crate) fn average_depth(rows: f64) -> f64 {
    /// Euler's constant.
    const EULER: f64 = 0.577_215_664_901_532_9;
    if rows <= 1.0 {
        0.0
    } else if rows <= 2.0 {
        1.0
    } else {
        2.0 * ((rows - 1.0).ln() + EULER) - 2.0 * (rows - 1.0) / rows
    }
}

impl IsolationForest {
    /// Creates a forest from its trees; `scale` is what the sum of the depths is divided by, or 0 if every score is
    /// 1/2.
    pub fn new(dimension: usize, trees: Vec<Tree>, scale: f64, offset: f64) -> Result<Self, ModelError> {
        if dimension == 0 || dimension > Feature::ALL.len() {
            return Err(ModelError::Dimension(dimension));
        }
        let nodes: usize = trees.iter().map(Vec::len).sum();
        if nodes == 0 || nodes > MAX_NODES {
            return Err(ModelError::Nodes(nodes));
        }
        for (what, number) in [("the forest's scale", scale), ("the offset", offset)] {
            if !number.is_finite() {
                return Err(ModelError::NotFinite(what));
            }
        }
        for (at, tree) in trees.iter().enumerate() {
            check_tree(tree, dimension).map_err(|problem| ModelError::Tree { tree: at, problem })?;
        }
        Ok(Self {
            dimension,
            trees: trees.into_iter().map(Into::into).collect(),
            scale,
            offset,
        })
    }

    /// Returns the length of a row to score.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Returns the trees.
    pub fn trees(&self) -> &[Box<[TreeNode]>] {
        &self.trees
    }

    /// Returns what the sum of the depths is divided by.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Returns the score of the boundary.
    pub fn offset(&self) -> f64 {
        self.offset
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let trees = self.trees.iter().map(|tree| size_of_val(&**tree));
        trees.sum::<usize>() + size_of_val(&*self.trees)
    }

    /// Writes for each row how easily it is isolated, between 0 and 1.
    pub(crate) fn measure(&self, rows: &[f64], measures: &mut [f64]) {
        for (row, measure) in rows.chunks_exact(self.dimension).zip(measures) {
            let mut narrow = [0.0_f32; Feature::ALL.len()];
            for (narrow, value) in narrow.iter_mut().zip(row) {
                #[allow(clippy::cast_possible_truncation)] // scikit-learn's trees compare 32-bit values.
                let value = *value as f32;
                *narrow = value;
            }
            // scikit-learn refuses what 32 bits cannot hold.
            if !narrow.iter().all(|value| value.is_finite()) {
                *measure = f64::NAN;
                continue;
            }
            let depths: f64 = self.trees.iter().map(|tree| depth(tree, &narrow)).sum();
            let depth = if self.scale == 0.0 {
                1.0
            } else {
                depths / self.scale
            };
            *measure = (-depth).exp2();
        }
    }
}

/// Returns what the leaf of a row adds to the depth.
fn depth(tree: &[TreeNode], row: &[f32]) -> f64 {
    let mut at = 0;
    loop {
        match tree[at] {
            TreeNode::Leaf { depth } => return depth,
            TreeNode::Split {
                feature,
                threshold,
                left,
                right,
            } => {
                let goes_left = f64::from(row[feature as usize]) <= threshold;
                at = if goes_left { left } else { right } as usize;
            }
        }
    }
}

/// Checks that every node exists, and that children come after their parents, so that every path ends.
fn check_tree(tree: &[TreeNode], dimension: usize) -> Result<(), &'static str> {
    if tree.is_empty() {
        return Err("has no nodes");
    }
    for (at, node) in tree.iter().enumerate() {
        match *node {
            TreeNode::Leaf { depth } if !depth.is_finite() => return Err("has a depth that is not finite"),
            TreeNode::Leaf { .. } => {}
            TreeNode::Split {
                feature,
                threshold,
                left,
                right,
            } => {
                if feature as usize >= dimension {
                    return Err("reads a feature that does not exist");
                }
                if threshold.is_nan() {
                    return Err("has a threshold that is not a number");
                }
                let child = |index: u32| index as usize > at && (index as usize) < tree.len();
                if !child(left) || !child(right) {
                    return Err("has a node whose child does not exist or comes before it");
                }
            }
        }
    }
    Ok(())
}

//! An isolation forest over one number (Liu, Ting and Zhou, "Isolation Forest", 2008): 100 trees of 256 samples.

const TREES: usize = 100;
const SAMPLES: usize = 256;
/// The mean depth at which a sample of 256 is alone.
const DEPTH: u32 = 8;

/// A node: a leaf, or a split with the positions of its children.
#[derive(Clone, Copy)]
enum Node {
    Leaf(f64),
    Split { at: f64, below: u32, above: u32 },
}

pub(crate) struct Forest {
    trees: Vec<Vec<Node>>,
    /// The mean path length that scores are relative to.
    usual: f64,
}

impl Forest {
    pub(crate) fn fit(values: &[f64]) -> Self {
        let mut random = Random(values.len() as u64);
        let samples = SAMPLES.min(values.len());
        let trees = (0..TREES)
            .map(|_| {
                let mut sample: Vec<f64> = (0..samples).map(|_| values[random.below(values.len())]).collect();
                let mut nodes = Vec::new();
                grow(&mut sample, 0, &mut random, &mut nodes);
                nodes
            })
            .collect();
        Self {
            trees,
            usual: mean_path(samples),
        }
    }

    /// Returns the anomaly score, 0 to 1.
    pub(crate) fn score(&self, value: f64) -> f64 {
        let paths = self.trees.iter().map(|tree| path(tree, value)).sum::<f64>();
        2f64.powf(-paths / self.trees.len() as f64 / self.usual)
    }
}

fn path(tree: &[Node], value: f64) -> f64 {
    let (mut at, mut depth) = (0, 0.0);
    loop {
        match tree[at] {
            Node::Leaf(rest) => return depth + rest,
            Node::Split {
                at: split,
                below,
                above,
            } => {
                at = if value < split {
                    below as usize
                } else {
                    above as usize
                };
                depth += 1.0;
            }
        }
    }
}

fn grow(sample: &mut [f64], depth: u32, random: &mut Random, nodes: &mut Vec<Node>) -> u32 {
    let here = nodes.len();
    nodes.push(Node::Leaf(mean_path(sample.len())));
    let (low, high) = sample.iter().fold((f64::MAX, f64::MIN), |(low, high), value| {
        (low.min(*value), high.max(*value))
    });
    if depth < DEPTH && sample.len() > 1 && low < high {
        let at = low + (high - low) * random.unit();
        let mut below_count = 0;
        for index in 0..sample.len() {
            if sample[index] < at {
                sample.swap(index, below_count);
                below_count += 1;
            }
        }
        let (left, right) = sample.split_at_mut(below_count);
        let below = grow(left, depth + 1, random, nodes);
        let above = grow(right, depth + 1, random, nodes);
        nodes[here] = Node::Split { at, below, above };
    }
    here as u32
}

/// Returns the mean path length of an unsuccessful search in a tree of this many values.
fn mean_path(count: usize) -> f64 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    match count {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => {
            let n = count as f64;
            2.0 * ((n - 1.0).ln() + EULER) - 2.0 * (n - 1.0) / n
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, count: usize) -> usize {
        (self.unit() * count as f64) as usize
    }
}

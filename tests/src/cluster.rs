//! Starts a RabbitMQ cluster on this machine, whose nodes tests can kill and restart.

use std::sync::Arc;
use std::thread;

use crate::broker::{Broker, Membership};
use crate::free_port;

/// A cluster of RabbitMQ nodes. A queue has a copy on each of the first three.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Arc<Broker>>,
}

impl Cluster {
    /// Starts a cluster of `size` nodes.
    pub fn start(size: usize) -> Self {
        let names_port = free_port();
        let ports: Vec<_> = (0..size).map(|_| free_port()).collect();
        let membership = Membership { names_port, ports };
        let nodes: Vec<_> = membership
            .ports
            .iter()
            .map(|port| Arc::new(Broker::member(*port, &membership)))
            .collect();
        thread::scope(|scope| {
            for node in &nodes {
                scope.spawn(|| node.restart());
            }
        });
        let cluster = Self { nodes };
        cluster.nodes[0].control(&["await_online_nodes", &size.to_string()]);
        cluster
    }

    /// Returns a node, counted from 0.
    pub fn node(&self, number: usize) -> &Arc<Broker> {
        &self.nodes[number]
    }
}

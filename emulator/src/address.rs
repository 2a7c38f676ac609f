//! Link addresses, such as `amqps://host/hub/ConsumerGroups/$Default/Partitions/0`.

/// A node that a link's address names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// `$cbs`, where clients put their tokens.
    Cbs,
    /// `$management`, where clients read the hub's properties.
    Management,
    /// `<hub>`: events for the partition that their key selects.
    Hub {
        /// Name of the event hub.
        hub: String,
    },
    /// `<hub>/Partitions/<n>`: events for one partition.
    Partition {
        /// Name of the event hub.
        hub: String,
        /// The partition as the client wrote it.
        partition: String,
    },
    /// `<hub>/ConsumerGroups/<group>/Partitions/<n>`: events from one partition.
    Consumer {
        /// Name of the event hub.
        hub: String,
        /// Name of the consumer group.
        group: String,
        /// The partition as the client wrote it.
        partition: String,
    },
}

impl Node {
    /// Reads an address with or without scheme and host; returns `None` for a form that the service does not have.
    pub(crate) fn parse(address: &str) -> Option<Self> {
        let path = match address.split_once("://") {
            // The host follows the scheme, and the path follows the host.
            Some((_, rest)) => rest.split_once('/')?.1,
            None => address,
        };
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        if segments.iter().any(|segment| segment.is_empty()) {
            return None;
        }
        match segments.as_slice() {
            ["$cbs"] => Some(Self::Cbs),
            ["$management"] | [_, "$management"] => Some(Self::Management),
            [hub] => Some(Self::Hub {
                hub: (*hub).to_owned(),
            }),
            [hub, word, partition] if word.eq_ignore_ascii_case("Partitions") => Some(Self::Partition {
                hub: (*hub).to_owned(),
                partition: (*partition).to_owned(),
            }),
            [hub, groups, group, word, partition]
                if groups.eq_ignore_ascii_case("ConsumerGroups")
                    && word.eq_ignore_ascii_case("Partitions") =>
            {
                Some(Self::Consumer {
                    hub: (*hub).to_owned(),
                    group: (*group).to_owned(),
                    partition: (*partition).to_owned(),
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_the_official_client_is_understood() {
        let hub = || "readings".to_owned();
        assert_eq!(Node::parse("$cbs"), Some(Node::Cbs));
        assert_eq!(Node::parse("$management"), Some(Node::Management));
        assert_eq!(
            Node::parse("amqps://localhost/readings"),
            Some(Node::Hub { hub: hub() })
        );
        assert_eq!(
            Node::parse("amqps://localhost/readings/Partitions/3"),
            Some(Node::Partition {
                hub: hub(),
                partition: "3".to_owned()
            })
        );
        assert_eq!(
            Node::parse("amqps://localhost/readings/ConsumerGroups/$Default/Partitions/3"),
            Some(Node::Consumer {
                hub: hub(),
                group: "$Default".to_owned(),
                partition: "3".to_owned()
            })
        );
    }

    #[test]
    fn a_malformed_address_names_nothing() {
        for address in [
            "",
            "/",
            "amqps://localhost",
            "readings//Partitions/0",
            "readings/Partitions",
            "readings/ConsumerGroups/a/b/0",
            "a/b/c/d/e/f",
        ] {
            assert_eq!(Node::parse(address), None, "{address}");
        }
    }
}

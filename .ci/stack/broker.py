"""What the rendered manifests promise about RabbitMQ: its cluster, who may log in to do what, and how to reach it."""

import re
from urllib.parse import urlsplit

from manifests import of_kind, pod_spec, pod_template, mounted, secrets, selects, settings, with_container

# Who each program logs in as. Each program's container has its name.
USERS = {"producer": "producer", "worker": "worker", "grouper": "producer", "cli": "cli", "scaler": "monitoring"}
OURS = {"windrow.score", "windrow.dead", "windrow.anomalies"}
# What each user needs, by the names of queues and exchanges; `amq.default` stands for the exchange without a name, which
# leads to a queue by its name. A queue with a dead-letter exchange may only be declared by who may read it.
RIGHTS = {
    "producer": {"configure": OURS, "write": {"amq.default"}, "read": {"windrow.score"}},
    "worker": {"configure": OURS, "write": {"amq.default", "windrow.anomalies"}, "read": {"windrow.score"}},
    "cli": {"configure": OURS, "write": {"amq.default"}, "read": {"windrow.score", "windrow.dead"}},
    "monitoring": {"configure": set(), "write": set(), "read": set()},
}
# Who asks the management API. Without the tag, it answers nothing.
OBSERVERS = {"cli", "monitoring"}
# Names that a pattern without both anchors, or with a dot that stands for any sign, also matches.
OTHERS = {"amq.topic", "windrow", "windrow.scores", "my.windrow.score", "windrowXscore", "my.amq.default", "amqXdefault"}
# AKS drains a node for 30 minutes at most.
LONGEST_GRACE = 1800


def clients(manifests):
    """Yields the manifests of the programs that log in to RabbitMQ, with their pods, programs and settings."""
    for program in USERS:
        for manifest, pod in with_container(manifests, program):
            yield manifest, pod, program, settings(manifests, manifest)


def wrong_logins(manifests):
    """Yields who logs in to RabbitMQ as another user than its own, or keeps a password in its environment."""
    created = {f"{user['metadata']['name']}-user-credentials" for user in of_kind(manifests, "User")}
    for manifest, pod, program, told in clients(manifests):
        secret = f"{USERS[program]}-user-credentials"
        for key in "username", "password":
            file = told.get(f"WINDROW_AMQP_{'USER' if key == 'username' else 'PASSWORD'}_FILE") or ""
            if mounted(pod, file) != (secret, key):
                yield manifest, f"the file {file!r} is not the {key} in {secret}"
        others = {name for name in secrets(pod) if name.endswith(("-user", "-user-credentials"))} - {secret}
        if others:
            yield manifest, f"reads {sorted(others)}, which is not its own user"
        address = urlsplit(told.get("WINDROW_AMQP_URL") or "")
        if "@" in address.netloc or not address.hostname or "WINDROW_AMQP_URL_FILE" in told:
            yield manifest, "needs WINDROW_AMQP_URL without a user, and no other URL"
        if of_kind(manifests, "RabbitmqCluster") and secret not in created:
            yield manifest, f"reads {secret}, but the users are those of {sorted(created)}"
    for manifest in of_kind(manifests, "TriggerAuthentication"):
        logins = {e["parameter"]: (e["name"], e["key"]) for e in manifest["spec"].get("secretTargetRef", [])}
        for key in "username", "password":
            if logins.get(key) != ("monitoring-user-credentials", key):
                yield manifest, f"KEDA's {key} is not that of the user `monitoring`"


def wrong_rights(manifests):
    """Yields users of RabbitMQ that may do more than they need, or less."""
    for user in of_kind(manifests, "User"):
        name = user["metadata"]["name"]
        wanted = ["monitoring"] if name in OBSERVERS else []
        if user["spec"].get("tags", []) != wanted:
            yield user, f"has the tags {user['spec'].get('tags', [])}, not {wanted}"
        permissions = [p["spec"] for p in of_kind(manifests, "Permission")]
        permissions = [p["permissions"] for p in permissions if p.get("userReference") == {"name": name}]
        # Without one, RabbitMQ does not let it into the virtual host, and shows it no queue.
        if len(permissions) != 1 or name not in RIGHTS:
            yield user, f"has {len(permissions)} permissions and needs one, with rights that are known here"
            continue
        for right, needed in RIGHTS[name].items():
            pattern = permissions[0].get(right, "")
            # To RabbitMQ, the empty pattern matches no name.
            granted = {r for r in OURS | OTHERS | {"amq.default"} if pattern and re.search(pattern, r)}
            if granted != needed:
                yield user, f"may {right} {sorted(granted)}, and needs {sorted(needed)}"


def fragile_clusters(manifests):
    """Yields RabbitMQ clusters that lose messages, or hold up whoever drains a node."""
    for manifest in of_kind(manifests, "RabbitmqCluster"):
        spec = manifest["spec"]
        config = spec.get("rabbitmq", {}).get("additionalConfig", "")
        lines = {line.replace(" ", "") for line in config.splitlines()}
        name = "quorum_queue.continuous_membership_reconciliation"
        # Otherwise, a queue that was created while a node was down never gets a member there.
        if not {f"{name}.enabled=true", f"{name}.target_group_size={spec.get('replicas', 1)}"} <= lines:
            yield manifest, f"additionalConfig lacks {name} to all replicas"
        disk = spec.get("persistence", {})
        if not disk.get("storageClassName") or str(disk.get("storage", "0")).startswith("0"):
            yield manifest, "persistence names no storage class, or no size"
        retention = spec.get("override", {}).get("statefulSet", {}).get("spec", {})
        if retention.get("persistentVolumeClaimRetentionPolicy", {}).get("whenDeleted") != "Retain":
            yield manifest, "its volumes are deleted together with it"
        # The default is a week.
        grace = spec.get("terminationGracePeriodSeconds", 604800)
        if not 60 <= grace <= LONGEST_GRACE:
            yield manifest, f"terminationGracePeriodSeconds {grace} is not between 60 and {LONGEST_GRACE}"
        resources = spec.get("resources", {})
        memory = [resources.get(kind, {}).get("memory") for kind in ("requests", "limits")]
        if None in memory or memory[0] != memory[1]:
            yield manifest, "its memory limit is not its request: it would accept messages that its node has no memory for"


def addresses(manifests):
    """Yields each address of RabbitMQ that somebody is told, with the manifest, its scheme and port over TLS, and without."""
    for manifest, _, _, told in clients(manifests):
        yield manifest, told.get("WINDROW_AMQP_URL"), ("amqps", 5671), ("amqp", 5672)
        yield manifest, told.get("WINDROW_MANAGEMENT_URL"), ("https", 15671), ("http", 15672)
    for manifest in of_kind(manifests, "ScaledObject"):
        for trigger in manifest["spec"]["triggers"]:
            if trigger["type"] == "rabbitmq":
                yield manifest, trigger["metadata"]["host"], ("https", 15671), ("http", 15672)


def unencrypted(manifests):
    """Yields what does not use TLS, or does not know the authority, and clusters that take anything else."""
    clusters = of_kind(manifests, "RabbitmqCluster")
    tls = clusters[0]["spec"].get("tls", {}) if clusters else {}
    for cluster in clusters:
        if not tls.get("secretName") or tls.get("disableNonTLSListeners") is not True:
            yield cluster, "takes connections without TLS"
        config = cluster["spec"].get("rabbitmq", {})
        if "{rabbitmq_prometheus,[{tcp_config,[]}]}" not in config.get("advancedConfig", "").replace(" ", ""):
            yield cluster, "serves its metrics without TLS, too"
        # `caSecretName` has RabbitMQ check certificates of clients, and from Erlang 29 on also ask for them.
        if "ssl_options.fail_if_no_peer_cert=false" not in config.get("additionalConfig", "").replace(" ", ""):
            yield cluster, "may refuse clients, because they present no certificate"
        # The Cluster Operator asks each node, and knows no other authority than the system's.
        if tls.get("caSecretName") != tls.get("secretName"):
            yield cluster, "caSecretName is not the secret of the certificate, from which the clients read the authority"
    for manifest, address, encrypted, plain in addresses(manifests):
        url = urlsplit(address or "")
        wanted = encrypted if clusters else plain
        if (url.scheme, url.port) != wanted or url.hostname != "rabbitmq.windrow.svc":
            yield manifest, f"is told {address!r}, which is not {wanted[0]} on port {wanted[1]} of rabbitmq.windrow.svc"
    if clusters:
        yield from unknown_authorities(manifests, (tls.get("secretName"), "ca.crt"))


def unknown_authorities(manifests, authority):
    """Yields who does not trust the authority in a key of a secret, and certificates that do not name RabbitMQ."""
    for manifest, pod, _, told in clients(manifests):
        if mounted(pod, told.get("WINDROW_AMQP_CA") or "") != authority:
            yield manifest, f"WINDROW_AMQP_CA {told.get('WINDROW_AMQP_CA')!r} is not {authority[1]} of {authority[0]}"
    for manifest in of_kind(manifests, "TriggerAuthentication"):
        authorities = {(e["name"], e["key"]) for e in manifest["spec"]["secretTargetRef"] if e["parameter"] == "ca"}
        switches = [e for e in manifest["spec"].get("configMapTargetRef", []) if e["parameter"] == "tls"]
        maps = {m["metadata"]["name"]: m.get("data", {}) for m in of_kind(manifests, "ConfigMap")}
        enabled = [maps.get(e["name"], {}).get(e["key"]) for e in switches]
        if authorities != {authority} or enabled != ["enable"]:
            yield manifest, "KEDA trusts an authority only with the parameters `ca` and `tls: enable`"
    for manifest in of_kind(manifests, "Certificate"):
        if manifest["spec"]["secretName"] != authority[0]:
            continue
        service, nodes = "rabbitmq.windrow.svc", "*.rabbitmq-nodes.windrow.svc"
        lacking = {service, nodes} | {f"{name}.cluster.local" for name in (service, nodes)}
        lacking -= set(manifest["spec"].get("dnsNames", []))
        if lacking:
            yield manifest, f"is not for {sorted(lacking)}"


def unreachable(manifests):
    """Yields who cannot reach RabbitMQ because of network policies, and ports that are open although nobody listens."""
    brokers = of_kind(manifests, "RabbitmqCluster") + of_kind(manifests, "StatefulSet", "rabbitmq")
    if not brokers:
        return
    broker, encrypted = brokers[0], brokers[0]["kind"] == "RabbitmqCluster"
    amqp, management, metrics = (5671, 15671, 15691) if encrypted else (5672, 15672, 15692)
    # The Cluster Operator sets these labels, and no others.
    labels = {"app.kubernetes.io/name": "rabbitmq", "app.kubernetes.io/component": "rabbitmq"}
    visitors = [({"ns": ns}, {}, management) for ns in ("keda", "kube-system")]
    visitors += [({"ns": ns}, {}, metrics) for ns in ("monitoring", "kube-system")]
    if encrypted:
        visitors.append(({"ns": "rabbitmq-system"}, {"app.kubernetes.io/component": "rabbitmq-operator"}, management))
    for manifest, _, _, _ in clients(manifests):
        own = pod_template(manifest)["metadata"]["labels"]
        visitors += [({}, own, amqp), ({}, own, management)]
        for port in amqp, management:
            if not admits(manifests, "egress", own, {}, labels, port):
                yield manifest, f"no NetworkPolicy lets it out to RabbitMQ's port {port}"
    for namespace, pod, port in visitors:
        if not admits(manifests, "ingress", labels, namespace, pod, port):
            yield broker, f"no NetworkPolicy admits {namespace.get('ns', pod)} to port {port}"
    closed = {5672, 15672, 15692} if encrypted else {5671, 15671, 15691}
    for manifest in of_kind(manifests, "NetworkPolicy"):
        if selects(manifest["spec"]["podSelector"], labels) and manifest["spec"]["podSelector"]:
            ports = {p.get("port") for rule in manifest["spec"].get("ingress", []) for p in rule.get("ports", [])}
            if ports & closed:
                yield manifest, f"opens {sorted(ports & closed)}, where RabbitMQ does not listen"


def admits(manifests, direction, own, namespace, pod, port):
    """Returns whether a policy for pods with the labels `own` admits a peer: `namespace` is {} for the same one."""
    for policy in of_kind(manifests, "NetworkPolicy"):
        if not selects(policy["spec"]["podSelector"], own):
            continue
        for rule in policy["spec"].get(direction, []):
            if {"protocol": "TCP", "port": port} not in rule.get("ports", []):
                continue
            for peer in rule.get("to" if direction == "egress" else "from", [{}]):
                spaces = peer.get("namespaceSelector")
                name = {"kubernetes.io/metadata.name": namespace.get("ns")}
                here = spaces is None if not namespace else spaces is not None and selects(spaces, name)
                if here and selects(peer.get("podSelector", {}), pod):
                    return True
    return False


CHECKS = [wrong_logins, wrong_rights, fragile_clusters, unencrypted, unreachable]

"""What the rendered manifests of Windrow promise beyond their schemas.

Each check takes all manifests of an overlay, and yields the manifest at fault and what is wrong with it.
"""

from urllib.parse import urlsplit

# The taints of a lost node. Without tolerations of its own, a pod is replaced after five minutes.
LOST_NODE = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
# In seconds.
LONGEST_TOLERATION = 60
# The exit code for a wrong configuration, in common/src/remedy.rs.
WRONG_CONFIGURATION = 2


def pod_spec(manifest):
    """Returns the spec of the pods that a manifest creates, or an empty one."""
    return pod_template(manifest).get("spec", {})


def pod_template(manifest):
    """Returns the template of the pods that a manifest creates, or an empty one."""
    spec = manifest.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    return spec.get("template", {})


def of_kind(manifests, kind, name=None):
    """Returns the manifests of a kind, and of a name if one is given."""
    return [m for m in manifests if m.get("kind") == kind and name in (None, m["metadata"]["name"])]


def with_container(manifests, *names):
    """Yields the manifests whose pods have a container of one of these names, with their pod specs."""
    for manifest in manifests:
        pod = pod_spec(manifest)
        if {container["name"] for container in pod.get("containers", [])} & set(names):
            yield manifest, pod


def settings(manifests, manifest):
    """Returns what a pod's first container is told as environment variables; secrets are None."""
    maps = {m["metadata"]["name"]: m.get("data", {}) for m in of_kind(manifests, "ConfigMap")}
    container = pod_spec(manifest)["containers"][0]
    told = {}
    for source in container.get("envFrom", []):
        told |= maps.get(source.get("configMapRef", {}).get("name"), {})
    return told | {variable["name"]: variable.get("value") for variable in container.get("env", [])}


def secrets(pod):
    """Returns the names of the secrets that a pod reads."""
    mounted = {volume["secret"]["secretName"] for volume in pod.get("volumes", []) if "secret" in volume}
    variables = [variable for container in pod.get("containers", []) for variable in container.get("env", [])]
    references = [variable.get("valueFrom", {}).get("secretKeyRef", {}) for variable in variables]
    return mounted | {reference["name"] for reference in references if reference}


def killed_while_draining(manifests):
    """Yields services that Kubernetes kills before their drain timeout."""
    for manifest, pod in with_container(manifests, "producer", "worker", "scaler"):
        grace = pod.get("terminationGracePeriodSeconds", 30)
        drain = settings(manifests, manifest).get("WINDROW_DRAIN_TIMEOUT")
        if drain is None or int(drain.removesuffix("s")) >= grace:
            yield manifest, f"terminationGracePeriodSeconds {grace} is not above WINDROW_DRAIN_TIMEOUT {drain}"


def short_of_members(manifests):
    """Yields RabbitMQ clusters that never add a node to the queues created while it was down."""
    for manifest in of_kind(manifests, "RabbitmqCluster"):
        if manifest["spec"].get("replicas", 1) > 1:
            config = manifest["spec"].get("rabbitmq", {}).get("additionalConfig", "")
            lines = {line.replace(" ", "") for line in config.splitlines()}
            name = "quorum_queue.continuous_membership_reconciliation"
            size = f"{name}.target_group_size={manifest['spec']['replicas']}"
            if not {f"{name}.enabled=true", size} <= lines:
                yield manifest, f"additionalConfig lacks {name} to all replicas"


def strange_registries(manifests):
    """Yields a manifest if our own images have more than one registry or version."""
    images = {}
    for manifest in manifests:
        pod = pod_spec(manifest)
        for container in pod.get("containers", []) + pod.get("initContainers", []):
            registry, ours, rest = container["image"].partition("windrow/")
            if ours:
                images.setdefault((registry, rest.partition(":")[2]), manifest)
    if len(images) > 1:
        yield list(images.values())[-1], f"images come from {sorted(images)}"


def unhardened(manifests):
    """Yields pods of our own images that have more rights than they need."""
    for manifest in manifests:
        pod = pod_spec(manifest)
        ours = [c for c in pod.get("containers", []) + pod.get("initContainers", []) if "windrow/" in c["image"]]
        for container in ours:
            of_pod, of_container = pod.get("securityContext", {}), container.get("securityContext", {})
            if not (
                of_pod.get("runAsNonRoot")
                and of_pod.get("seccompProfile") == {"type": "RuntimeDefault"}
                and of_container.get("readOnlyRootFilesystem")
                and of_container.get("allowPrivilegeEscalation") is False
                and of_container.get("capabilities") == {"drop": ["ALL"]}
                and pod.get("automountServiceAccountToken") is False
                and "memory" in container.get("resources", {}).get("limits", {})
            ):
                yield manifest, f"container {container['name']} is not restricted like the others"


def two_broker_urls(manifests):
    """Yields services that are told two URLs of the broker, which they refuse, or none."""
    for manifest, _ in with_container(manifests, "producer", "worker", "scaler", "cli"):
        told = {"WINDROW_AMQP_URL", "WINDROW_AMQP_URL_FILE"} & settings(manifests, manifest).keys()
        if len(told) != 1:
            yield manifest, f"has {len(told)} of WINDROW_AMQP_URL and WINDROW_AMQP_URL_FILE, not one"


def shared_users(manifests):
    """Yields who only observes the broker with a user that can take messages."""
    workers = set().union(*(secrets(pod) for _, pod in with_container(manifests, "producer", "worker", "cli")))
    observers = [(manifest, secrets(pod)) for manifest, pod in with_container(manifests, "scaler")]
    for manifest in of_kind(manifests, "TriggerAuthentication"):
        observers.append((manifest, {entry["name"] for entry in manifest["spec"].get("secretTargetRef", [])}))
    drawn = {f"{user['metadata']['name']}-user-credentials" for user in of_kind(manifests, "User")}
    for manifest, names in observers:
        if not names or names & workers:
            yield manifest, f"logs in to RabbitMQ with {sorted(names)}, which is not a user of its own"
        # Elsewhere, overlays/local/up creates the user.
        if of_kind(manifests, "RabbitmqCluster") and not names <= drawn:
            yield manifest, f"reads {sorted(names)}, but the users are those of {sorted(drawn)}"
    for user in of_kind(manifests, "User"):
        if user["spec"].get("tags") != ["monitoring"]:
            yield user, "has other tags than `monitoring`"
        rights = [p["spec"] for p in of_kind(manifests, "Permission")]
        rights = [p for p in rights if p.get("userReference") == {"name": user["metadata"]["name"]}]
        # Without an entry, RabbitMQ does not show the queue.
        if [p["permissions"] for p in rights] != [{"configure": "", "write": "", "read": ""}]:
            yield user, "needs one permission that enters the virtual host and matches no name"


def alone_or_together(manifests):
    """Yields producers that share a source of files, or leave an Event Hub in Azure to one pod or one zone."""
    for manifest, pod in with_container(of_kind(manifests, "Deployment"), "producer"):
        source = settings(manifests, manifest).get("WINDROW_SOURCE", "")
        replicas = manifest["spec"].get("replicas", 1)
        zones = [c for c in pod.get("topologySpreadConstraints", []) if c["topologyKey"].endswith("/zone")]
        if replicas > 1 and not source.startswith("eventhubs://"):
            yield manifest, f"replicas {replicas} share WINDROW_SOURCE {source!r}, which is not an Event Hub"
        if replicas < 2 and ".servicebus.windows.net" in source:
            yield manifest, f"replicas {replicas} of an Event Hub in Azure: the hub can be shared by two"
        if replicas > 1 and not zones:
            yield manifest, "producers are not spread over zones"
        if replicas > 1 and manifest["spec"].get("strategy", {}).get("type") == "Recreate":
            yield manifest, "an update stops all producers at once"


def slow_to_replace(manifests):
    """Yields pods that stay on a lost node for minutes."""
    for manifest, pod in with_container(manifests, "producer", "scaler"):
        short = {
            toleration["key"]
            for toleration in pod.get("tolerations", [])
            if toleration.get("effect") == "NoExecute"
            and 0 <= toleration.get("tolerationSeconds", LONGEST_TOLERATION + 1) <= LONGEST_TOLERATION
        }
        if not LOST_NODE <= short:
            yield manifest, f"has no tolerations of at most {LONGEST_TOLERATION} s for {sorted(LOST_NODE - short)}"


def wrong_retries(manifests):
    """Yields CronJobs of the producer that retry what no retry mends, or do not retry what one does."""
    for manifest, pod in with_container(of_kind(manifests, "CronJob"), "producer"):
        job = manifest["spec"]["jobTemplate"]["spec"]
        rules = job.get("podFailurePolicy", {}).get("rules", [])
        by_code = [(rule["action"], rule["onExitCodes"]) for rule in rules if "onExitCodes" in rule]
        codes = {"containerName": "producer", "operator": "In", "values": [WRONG_CONFIGURATION]}
        if by_code != [("FailJob", codes)]:
            yield manifest, f"podFailurePolicy does not fail the job on exit code {WRONG_CONFIGURATION}, and only on it"
        by_condition = [(rule["action"], rule["onPodConditions"]) for rule in rules if "onPodConditions" in rule]
        if by_condition != [("Ignore", [{"type": "DisruptionTarget", "status": "True"}])]:
            yield manifest, "podFailurePolicy counts an eviction as a failure"
        if job.get("backoffLimit", 6) < 1 or pod.get("restartPolicy") != "Never":
            yield manifest, "other failures are not retried in a new pod"


def wrong_bounds(manifests):
    """Yields ScaledObjects that reach zero between bursts, never reach it between batches, or reach it in an outage."""
    for manifest in of_kind(manifests, "ScaledObject"):
        spec = manifest["spec"]
        batches = list(with_container(of_kind(manifests, "CronJob"), "producer"))
        least = spec.get("minReplicaCount", 0)
        if (least == 0) != bool(batches):
            yield manifest, f"minReplicaCount {least}, but the producer runs {'by the hour' if batches else 'always'}"
        # KEDA takes an error for an empty queue if this is 0.
        if spec.get("fallback", {}).get("replicas", 0) < 1:
            yield manifest, "fallback.replicas is 0: KEDA stops all workers when it gets no answer"


def bypassed_scaler(manifests):
    """Yields what keeps KEDA from doing exactly what windrow-scaler says, where one is deployed."""
    scalers = list(with_container(of_kind(manifests, "Deployment"), "scaler"))
    for scaler, _ in scalers:
        told = settings(manifests, scaler)
        for manifest in of_kind(manifests, "ScaledObject"):
            for fault in against_the_scaler(manifest["spec"], told):
                yield manifest, fault
            for trigger in manifest["spec"]["triggers"]:
                if not reaches(manifests, scaler, trigger["metadata"].get("url", "")):
                    yield manifest, f"no Service, or no NetworkPolicy, leads KEDA to {trigger['metadata'].get('url')}"
        for manifest in of_kind(manifests, "TriggerAuthentication"):
            yield manifest, "KEDA needs no login to RabbitMQ: only the scaler asks it"
        for job, _ in with_container(of_kind(manifests, "CronJob"), "producer"):
            if told.get("WINDROW_NEXT_BATCH") != job["spec"]["schedule"]:
                yield scaler, f"WINDROW_NEXT_BATCH {told.get('WINDROW_NEXT_BATCH')} is not the CronJob's schedule"
        if told.get("WINDROW_FLEET") != "serve":
            yield scaler, f"WINDROW_FLEET is {told.get('WINDROW_FLEET')}, not serve"


def against_the_scaler(spec, told):
    """Yields what a ScaledObject does other than what the scaler says."""
    for bound, variable in (("minReplicaCount", "WINDROW_MIN_WORKERS"), ("maxReplicaCount", "WINDROW_MAX_WORKERS")):
        if told.get(variable) != str(spec.get(bound)):
            yield f"{bound} {spec.get(bound)} is not the scaler's {variable} {told.get(variable)}"
    triggers = spec["triggers"]
    wanted = {"valueLocation": "workers", "targetValue": "1", "activationTargetValue": "0"}
    if len(triggers) != 1 or not (
        triggers[0]["type"] == "metrics-api"
        and triggers[0].get("metricType") == "AverageValue"
        and wanted.items() <= triggers[0]["metadata"].items()
    ):
        yield f"its only trigger has to be metrics-api with AverageValue and {wanted}"
    if spec.get("fallback", {}).get("behavior") != "currentReplicas":
        yield "fallback.behavior is not currentReplicas: a scaler that is away would change the number of workers"
    if spec.get("cooldownPeriod", 300) != 0:
        yield "cooldownPeriod delays what the scaler says"
    behavior = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {}).get("behavior", {})
    for direction in "scaleUp", "scaleDown":
        rules = behavior.get(direction, {})
        steps = [p["value"] for p in rules.get("policies", []) if p["type"] == "Pods"]
        if rules.get("stabilizationWindowSeconds") != 0 or max(steps, default=0) < spec.get("maxReplicaCount", 100):
            yield f"{direction} has a window or a limit of its own"


def reaches(manifests, scaler, url):
    """Returns whether a URL names a Service of the scaler's pods, and KEDA may connect to them."""
    labels = pod_template(scaler)["metadata"]["labels"]
    port = pod_spec(scaler)["containers"][0]["ports"][0]
    address = urlsplit(url)
    services = [
        service
        for service in of_kind(manifests, "Service")
        if address.hostname == f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
        and service["spec"]["selector"].items() <= labels.items()
        and any((p["port"], p["targetPort"]) == (address.port, port["name"]) for p in service["spec"]["ports"])
    ]
    admitted = {
        namespace
        for policy in of_kind(manifests, "NetworkPolicy")
        if policy["spec"]["podSelector"].get("matchLabels", {"": ""}).items() <= labels.items()
        for rule in policy["spec"].get("ingress", [])
        if {"protocol": "TCP", "port": port["containerPort"]} in rule.get("ports", [])
        for peer in rule.get("from", [])
        for expression in peer.get("namespaceSelector", {}).get("matchExpressions", [])
        for namespace in expression["values"]
    }
    return bool(services) and address.path == "/scale" and {"keda", "kube-system"} <= admitted


CHECKS = [
    killed_while_draining,
    short_of_members,
    strange_registries,
    unhardened,
    two_broker_urls,
    shared_users,
    alone_or_together,
    slow_to_replace,
    wrong_retries,
    wrong_bounds,
    bypassed_scaler,
]

"""What the rendered manifests of Windrow promise beyond their schemas.

Each check takes all manifests of an overlay, and yields the manifest at fault and what is wrong with it.
"""

import re
from urllib.parse import urlsplit

from manifests import mounted, of_kind, pod_spec, pod_template, selects, settings, with_container

# The taints of a lost node. Without tolerations of its own, a pod is replaced after five minutes.
LOST_NODE = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
# In seconds.
LONGEST_TOLERATION = 60
# In seconds: what Azure announces before it takes a spot node back.
SPOT_NOTICE = 30
SPOT = {"key": "kubernetes.azure.com/scalesetpriority", "operator": "Equal", "value": "spot", "effect": "NoSchedule"}
# An image of a complete version, or of a digest; or one that an overlay names, or that `docker compose build` has built.
PINNED = re.compile(r":v?\d+\.\d+\.\d+[\w.-]*$|@sha256:[0-9a-f]{64}$|^windrow/[a-z-]+(:dev)?$")
# The exit code for a wrong configuration, in common/src/remedy.rs.
WRONG_CONFIGURATION = 2


def killed_while_draining(manifests):
    """Yields services that Kubernetes kills before their drain timeout."""
    for manifest, pod in with_container(manifests, "producer", "worker", "scaler", "alerter", "grouper"):
        grace = pod.get("terminationGracePeriodSeconds", 30)
        drain = settings(manifests, manifest).get("WINDROW_DRAIN_TIMEOUT")
        if drain is None or int(drain.removesuffix("s")) >= grace:
            yield manifest, f"terminationGracePeriodSeconds {grace} is not above WINDROW_DRAIN_TIMEOUT {drain}"


def images(manifests):
    """Yields the manifests that name an image, with the image; a RabbitmqCluster is one of them."""
    for manifest in manifests:
        pod = pod_spec(manifest)
        for container in pod.get("containers", []) + pod.get("initContainers", []):
            yield manifest, container["image"]
        if manifest["kind"] == "RabbitmqCluster":
            yield manifest, manifest["spec"].get("image", "")


def strange_images(manifests):
    """Yields images that may change under their name, and ours if they have more than one registry or version."""
    ours, versions, registries = {}, {}, {}
    for manifest, image in images(manifests):
        if not PINNED.search(image):
            yield manifest, f"{image!r} has neither a digest nor a complete version"
        registry, found, rest = image.partition("windrow/")
        if found:
            ours[registry] = manifest
            # Digests differ from image to image.
            if "@" not in rest:
                versions[rest.partition(":")[2]] = manifest
        elif manifest["kind"] == "RabbitmqCluster":
            registries[image.rpartition("/")[0] + "/"] = manifest
    for found, kind in ((ours, "registries"), (versions, "versions")):
        if len(found) > 1:
            yield list(found.values())[-1], f"our images have the {kind} {sorted(found)}"
    # A cluster that may only pull from its own registry has one place to name it.
    for registry, manifest in registries.items():
        if registry not in ours:
            yield manifest, f"its image comes from {registry!r}, unlike the others"


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
                and {"memory", "ephemeral-storage"} <= container.get("resources", {}).get("limits", {}).keys()
                and {"cpu", "memory", "ephemeral-storage"} <= container["resources"].get("requests", {}).keys()
            ):
                yield manifest, f"container {container['name']} is not restricted like the others"


def loose_namespaces(manifests):
    """Yields namespaces that admit pods with more rights than `restricted`."""
    for manifest in of_kind(manifests, "Namespace"):
        labels = manifest["metadata"].get("labels", {})
        if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
            yield manifest, "does not enforce the pod security standard `restricted`"


def changing_settings(manifests):
    """Yields ConfigMaps of settings that pods would read in two versions, because they can change under their name."""
    for manifest in of_kind(manifests, "ConfigMap"):
        if manifest["metadata"]["name"].startswith("windrow-") and manifest.get("immutable") is not True:
            yield manifest, "is not immutable"


def late_on_spot_nodes(manifests):
    """Yields what runs on spot nodes and must not be lost, or does not drain within Azure's notice."""
    for manifest in manifests:
        pod = pod_spec(manifest)
        keys = [toleration.get("key") for toleration in pod.get("tolerations", [])]
        if SPOT["key"] not in keys:
            continue
        if [container["name"] for container in pod["containers"]] != ["worker"] or SPOT not in pod["tolerations"]:
            yield manifest, "only workers may run on spot nodes"
        affinity = pod.get("affinity", {}).get("nodeAffinity", {})
        if "requiredDuringSchedulingIgnoredDuringExecution" in affinity or not affinity:
            yield manifest, "has to prefer spot nodes, and run elsewhere while there are none"
        grace = pod.get("terminationGracePeriodSeconds", 30)
        if grace > SPOT_NOTICE:
            yield manifest, f"terminationGracePeriodSeconds {grace} is more than the {SPOT_NOTICE} s that Azure announces"
        for budget in of_kind(manifests, "PodDisruptionBudget", manifest["metadata"]["name"]):
            if budget["spec"].get("maxUnavailable") != "100%":
                yield budget, "lets the workers of a lost spot node wait for each other"


def stale_keys(manifests):
    """Yields keys of an Event Hub in Azure that are in no secret, or in a file that a changed secret does not reach."""
    for manifest, pod in with_container(manifests, "producer"):
        told = settings(manifests, manifest)
        in_azure = ".servicebus.windows.net" in told.get("WINDROW_SOURCE", "")
        if in_azure and "WINDROW_EVENTHUBS_CONNECTION_STRING" in told:
            yield manifest, "WINDROW_EVENTHUBS_CONNECTION_STRING is no place for a key"
        file = told.get("WINDROW_EVENTHUBS_CONNECTION_STRING_FILE")
        if file is not None and mounted(pod, file) != ("eventhubs-key", "connection-string"):
            yield manifest, f"{file!r} is not in a folder that the secret eventhubs-key is mounted to"


def unmonitored(manifests):
    """Yields pods with metrics that no PodMonitor finds, where there are any, and monitors that cannot scrape RabbitMQ."""
    monitors = of_kind(manifests, "PodMonitor")
    for manifest, pod in with_container(manifests, "producer", "worker", "scaler") if monitors else []:
        ports = {port["name"] for port in pod["containers"][0]["ports"]}
        found = [m for m in monitors if selects(m["spec"]["selector"], pod_template(manifest)["metadata"]["labels"])]
        if not any(endpoint["port"] in ports for m in found for endpoint in m["spec"]["podMetricsEndpoints"]):
            yield manifest, "no PodMonitor scrapes it"
    for cluster in of_kind(manifests, "RabbitmqCluster") if monitors else []:
        ca = {"secret": {"name": cluster["spec"].get("tls", {}).get("secretName"), "key": "ca.crt"}}
        tls = {"serverName": "rabbitmq.windrow.svc", "ca": ca}
        wanted = {"port": "prometheus-tls", "scheme": "https", "tlsConfig": tls}
        found = [m for m in monitors if selects(m["spec"]["selector"], {"app.kubernetes.io/name": "rabbitmq"})]
        if not any(wanted.items() <= endpoint.items() for m in found for endpoint in m["spec"]["podMetricsEndpoints"]):
            yield cluster, "no PodMonitor scrapes it over TLS"


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
    """Yields CronJobs that retry what no retry mends, or do not retry what one does."""
    for manifest in of_kind(manifests, "CronJob"):
        pod = pod_spec(manifest)
        job = manifest["spec"]["jobTemplate"]["spec"]
        rules = job.get("podFailurePolicy", {}).get("rules", [])
        by_code = [(rule["action"], rule["onExitCodes"]) for rule in rules if "onExitCodes" in rule]
        codes = {"containerName": pod["containers"][0]["name"], "operator": "In", "values": [WRONG_CONFIGURATION]}
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


def missing_files(manifests):
    """Yields pods that are told of a file in /etc/windrow which no ConfigMap puts there."""
    maps = {m["metadata"]["name"]: m.get("data", {}) for m in of_kind(manifests, "ConfigMap")}
    for manifest in manifests:
        pod = pod_spec(manifest)
        if not pod.get("containers"):
            continue
        container = pod["containers"][0]
        told = [*settings(manifests, manifest).values(), *container.get("args", [])]
        volumes = {v["name"]: maps.get(v["configMap"]["name"], {}) for v in pod.get("volumes", []) if "configMap" in v}
        there = {
            f"{mount['mountPath']}/{file}"
            for mount in container.get("volumeMounts", [])
            for file in volumes.get(mount["name"], {})
        }
        for file in told:
            if file and file.startswith("/etc/windrow/") and file not in there:
                yield manifest, f"{file} is in none of its folders"


CHECKS = [
    killed_while_draining,
    strange_images,
    unhardened,
    loose_namespaces,
    changing_settings,
    late_on_spot_nodes,
    stale_keys,
    unmonitored,
    alone_or_together,
    slow_to_replace,
    wrong_retries,
    wrong_bounds,
    bypassed_scaler,
    missing_files,
]

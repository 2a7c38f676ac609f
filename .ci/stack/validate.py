"""Checks rendered manifests strictly: a field that the cluster does not know is an error, as is a missing one.

    kubectl kustomize OVERLAY | python validate.py

Kubernetes' own kinds are checked against its OpenAPI schema, custom ones against their definitions in k8s/schemas. And
what no schema knows: that pods are given longer to stop than Windrow takes to drain, that queues get all their members, that
our images are of one registry and version. Exits with 0 if all is well, with 2
if something is not.
"""

import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

# From the version in which all fields in use are stable (unhealthyPodEvictionPolicy, podFailurePolicy) to today's.
OLDEST, NEWEST = "1.31", "1.37"
SCHEMAS = pathlib.Path(__file__).parents[2] / "k8s" / "schemas"


def strict(schema):
    """An OpenAPI schema of a custom resource as JSON schema that knows no other fields than those it names."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(part) for key, part in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
        schema["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    return schema


def custom_schemas():
    """JSON schemas of the custom resources, by apiVersion and kind."""
    schemas = {}
    for file in sorted(SCHEMAS.glob("*.yaml")):
        spec = yaml.safe_load(file.read_text())["spec"]
        for version in spec["versions"]:
            key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
            schemas[key] = strict(version["schema"]["openAPIV3Schema"])
    return schemas


def faults(manifest, schemas):
    """What is wrong with one manifest."""
    schema = schemas.get((manifest.get("apiVersion"), manifest.get("kind")))
    if schema is not None:
        for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest):
            yield f"{error.json_path}: {error.message}"
        return
    for version in OLDEST, NEWEST:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(str(part) for part in error.path)
            yield f"Kubernetes {version}: {where}: {error.message}"
        except (kubernetes_validate.InvalidSchemaError, kubernetes_validate.SchemaNotFoundError) as error:
            yield f"Kubernetes {version}: {error}"


def pod_spec(manifest):
    """The pods that a manifest makes, if any."""
    spec = manifest.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    return spec.get("template", {}).get("spec", {})


def killed_while_draining(manifests):
    """Producers and workers that are killed before their drain is over."""
    settings = [m["data"] for m in manifests if m.get("kind") == "ConfigMap" and "WINDROW_DRAIN_TIMEOUT" in m["data"]]
    for manifest in manifests:
        pod = pod_spec(manifest)
        names = {container["name"] for container in pod.get("containers", [])}
        if names & {"producer", "worker"}:
            grace = pod.get("terminationGracePeriodSeconds", 30)
            drains = [int(data["WINDROW_DRAIN_TIMEOUT"].removesuffix("s")) for data in settings]
            if not drains or max(drains) >= grace:
                yield manifest, f"terminationGracePeriodSeconds {grace} is not above WINDROW_DRAIN_TIMEOUT {drains}"


def short_of_members(manifests):
    """Clusters of RabbitMQ whose queues stay without a member that was away when they were made."""
    for manifest in manifests:
        if manifest.get("kind") == "RabbitmqCluster" and manifest["spec"].get("replicas", 1) > 1:
            config = manifest["spec"].get("rabbitmq", {}).get("additionalConfig", "")
            lines = {line.replace(" ", "") for line in config.splitlines()}
            name = "quorum_queue.continuous_membership_reconciliation"
            size = f"{name}.target_group_size={manifest['spec']['replicas']}"
            if not {f"{name}.enabled=true", size} <= lines:
                yield manifest, f"additionalConfig lacks {name} to all replicas"


def strange_registries(manifests):
    """Our own images from more than one registry, or of more than one version."""
    images = {}
    for manifest in manifests:
        pod = pod_spec(manifest)
        for container in pod.get("containers", []) + pod.get("initContainers", []):
            registry, ours, rest = container["image"].partition("windrow/")
            if ours:
                images.setdefault((registry, rest.partition(":")[2]), manifest)
    if len(images) > 1:
        yield list(images.values())[-1], f"images come from {sorted(images)}"


def main():
    schemas = custom_schemas()
    manifests = [manifest for manifest in yaml.safe_load_all(sys.stdin) if manifest]
    found = [(manifest, fault) for manifest in manifests for fault in faults(manifest, schemas)]
    for check in killed_while_draining, short_of_members, strange_registries:
        found += check(manifests)
    wrong = [f"{manifest.get('kind')}/{manifest.get('metadata', {}).get('name')}: {fault}" for manifest, fault in found]
    if not manifests:
        wrong.append("nothing to check")
    if wrong:
        print(*wrong, sep="\n")
        return 2
    print(f"{len(manifests)} manifests are valid")
    return 0


if __name__ == "__main__":
    sys.exit(main())

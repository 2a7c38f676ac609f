"""Validates rendered manifests strictly: an unknown field is an error, and so is a missing required one.

    kubectl kustomize OVERLAY | python validate.py

Built-in kinds are checked against Kubernetes' OpenAPI schema, custom resources against their definitions in
k8s/schemas. Three checks go beyond the schemas: pods get more time to stop than Windrow takes to drain, queues get all
their members, and all our images have one registry and version. Exits with 0 if all manifests are valid, otherwise 2.
"""

import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

# From the first version in which all fields in use are stable (unhealthyPodEvictionPolicy, podFailurePolicy) to the
# newest.
OLDEST, NEWEST = "1.31", "1.37"
SCHEMAS = pathlib.Path(__file__).parents[2] / "k8s" / "schemas"


def strict(schema):
    """Converts a custom resource's OpenAPI schema to a JSON schema that refuses fields it does not name."""
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
    """Returns the JSON schemas of the custom resources, by apiVersion and kind."""
    schemas = {}
    for file in sorted(SCHEMAS.glob("*.yaml")):
        spec = yaml.safe_load(file.read_text())["spec"]
        for version in spec["versions"]:
            key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
            schemas[key] = strict(version["schema"]["openAPIV3Schema"])
    return schemas


def faults(manifest, schemas):
    """Yields the errors in one manifest."""
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
    """Returns the spec of the pods that a manifest creates, or an empty one."""
    spec = manifest.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    return spec.get("template", {}).get("spec", {})


def killed_while_draining(manifests):
    """Yields producers and workers that Kubernetes kills before their drain timeout."""
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
    """Yields RabbitMQ clusters that never add a node to the queues created while it was down."""
    for manifest in manifests:
        if manifest.get("kind") == "RabbitmqCluster" and manifest["spec"].get("replicas", 1) > 1:
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

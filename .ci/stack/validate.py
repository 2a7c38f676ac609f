"""Validates rendered manifests strictly: an unknown field is an error, and so is a missing required one.

    kubectl kustomize OVERLAY | python validate.py

Built-in kinds are checked against Kubernetes' OpenAPI schema, custom resources against their definitions in
k8s/schemas. What goes beyond the schemas is in promises.py, broker.py and memory.py. Exits with 0 if all manifests are valid, otherwise 2.
"""

import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

import broker
import memory
import promises

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


def main():
    schemas = custom_schemas()
    manifests = [manifest for manifest in yaml.safe_load_all(sys.stdin) if manifest]
    found = [(manifest, fault) for manifest in manifests for fault in faults(manifest, schemas)]
    # The promises rely on what the schemas require.
    for check in [] if found else promises.CHECKS + broker.CHECKS + memory.CHECKS:
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

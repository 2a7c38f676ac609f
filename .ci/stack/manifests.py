"""Finds what the checks look at in the rendered manifests of an overlay."""


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


def mounted(pod, path):
    """Returns the secret, and the key in it, that a pod's first container sees at a path; None if there is none."""
    for mount in pod["containers"][0].get("volumeMounts", []):
        folder, _, file = path.rpartition("/")
        if mount["mountPath"] != folder or "subPath" in mount:
            continue
        for volume in pod.get("volumes", []):
            secret = volume.get("secret")
            if secret and volume["name"] == mount["name"]:
                # Without items, each key is a file of its name.
                items = secret.get("items", [{"key": file, "path": file}])
                return next(((secret["secretName"], item["key"]) for item in items if item["path"] == file), None)
    return None


def secrets(pod):
    """Returns the names of the secrets that a pod reads."""
    mounts = {volume["secret"]["secretName"] for volume in pod.get("volumes", []) if "secret" in volume}
    variables = [variable for container in pod.get("containers", []) for variable in container.get("env", [])]
    references = [variable.get("valueFrom", {}).get("secretKeyRef", {}) for variable in variables]
    return mounts | {reference["name"] for reference in references if reference}


def selects(selector, labels):
    """Returns whether a label selector selects labels."""
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in selector.get("matchExpressions", [])
    )

"""Validates azure/main.json without Azure: evaluates it for several deployments, and checks each result.

    target/stack-tools/bin/python azure/validate.py --cloud-init-schema FILE [--write DIR] [TEMPLATE]

Resources are checked against the models of Microsoft's own Python clients, which are generated from the published
definition of the API: an unknown property, a missing required one, a wrong type, an unknown value or a read-only
property is an error, and so is an apiVersion other than that of the models. Expressions are evaluated as Azure does it,
so a misspelt parameter, variable, function or resource is an error in the deployment that meets it. Checks of our own
are below, each with its reason. What VMs get is checked against cloud-init's schema. `--write` puts it into DIR: for
each VM its setup.json, and a folder with its files. Exits with 0, or with 2 and the errors.
"""

import argparse
import base64
import functools
import importlib
import inspect
import ipaddress
import json
import pathlib
import re
import sys
import typing
import urllib.parse
import uuid

import jsonschema
import yaml

HERE = pathlib.Path(__file__).parent
SUBSCRIPTION = "/subscriptions/00000000-0000-4000-8000-000000000001"
GROUP = f"{SUBSCRIPTION}/resourceGroups/windrow-test"


class Fault(Exception):
    """What is wrong, in words."""


# -- Expressions -------------------------------------------------------------------------------------------------------


class Parser:
    """The language between [ and ]: calls, texts in single quotes, numbers, .property and [index]."""

    TOKEN = re.compile(r"\s*(?:('(?:[^']|'')*')|(-?\d+)|([A-Za-z_][A-Za-z0-9_]*)|(.))", re.S)

    def __init__(self, text):
        self.tokens = [match.groups() for match in self.TOKEN.finditer(text.strip())]
        self.at = 0

    def next(self):
        self.at += 1
        return self.tokens[self.at - 1] if self.at <= len(self.tokens) else (None, None, None, None)

    def sees(self, sign):
        if self.at < len(self.tokens) and self.tokens[self.at][3] == sign:
            self.at += 1
            return True
        return False

    def needs(self, sign):
        if not self.sees(sign):
            raise Fault(f"{sign} is missing")

    def whole(self):
        tree = self.term()
        if self.at != len(self.tokens):
            raise Fault("something follows the end of the expression")
        return tree

    def term(self):
        text, number, name, _ = self.next()
        if text is not None:
            tree = ("value", text[1:-1].replace("''", "'"))
        elif number is not None:
            tree = ("value", int(number))
        elif name is not None:
            self.needs("(")
            arguments = []
            while not self.sees(")"):
                if arguments:
                    self.needs(",")
                arguments.append(self.term())
            tree = ("call", name, arguments)
        else:
            raise Fault("a value is missing")
        while True:
            if self.sees("."):
                tree = ("index", tree, ("value", self.next()[2]))
            elif self.sees("["):
                tree = ("index", tree, self.term())
                self.needs("]")
            else:
                return tree


class Runtime:
    """What Azure knows only once a resource exists: every property of it is some id."""

    def __init__(self, resource):
        self.resource = resource

    def get(self, key):
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.resource}.{key}"))


def textual(value):
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def formatted(pattern, *values):
    def one(match):
        if match.group() in ("{{", "}}"):
            return match.group()[0]
        if int(match.group(1)) >= len(values):
            raise Fault(f"format has no value for {match.group()}")
        return textual(values[int(match.group(1))])

    return re.sub(r"\{\{|\}\}|\{(\d+)\}", one, pattern)


def joined(first, *rest):
    if isinstance(first, list):
        return sum(rest, first)
    return "".join(map(textual, (first, *rest)))


def merged(first, *rest):
    whole = dict(first)
    for each in rest:
        whole |= each
    return whole


def created(*arguments):
    if len(arguments) % 2:
        raise Fault("createObject has a key without a value")
    return dict(zip(arguments[::2], arguments[1::2]))


def resource_id(scope, kind, *names):
    provider, *types = kind.split("/")
    if len(types) != len(names):
        raise Fault(f"resourceId: {kind} has {len(types)} parts and {len(names)} names")
    return f"{scope}/providers/{provider}/" + "/".join(f"{t}/{n}" for t, n in zip(types, names))


FUNCTIONS = {
    "and": lambda *values: all(values),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "coalesce": lambda *values: next((value for value in values if value is not None), None),
    "concat": joined,
    "createArray": lambda *values: list(values),
    "createObject": created,
    "empty": lambda value: not value,
    "environment": lambda: {"suffixes": {"storage": "core.windows.net", "keyvaultDns": ".vault.azure.net"}},
    "equals": lambda first, second: first == second,
    "format": formatted,
    "greater": lambda first, second: first > second,
    "guid": lambda *names: str(uuid.uuid5(uuid.NAMESPACE_OID, "-".join(names))),
    "length": len,
    "mod": lambda first, second: first % second,
    "not": lambda value: not value,
    "null": lambda: None,
    "or": lambda *values: any(values),
    "replace": lambda text, old, new: text.replace(old, new),
    "resourceGroup": lambda: {"id": GROUP, "name": "windrow-test", "location": "westeurope"},
    "resourceId": lambda kind, *names: resource_id(GROUP, kind, *names),
    "string": textual,
    "subscription": lambda: {
        "id": SUBSCRIPTION,
        "subscriptionId": SUBSCRIPTION[15:],
        "tenantId": str(uuid.UUID(int=2)),
    },
    "take": lambda text, count: text[:count],
    "tryGet": lambda value, key: value.get(key),
    "union": merged,
    "uniqueString": lambda *names: base64.b32encode(uuid.uuid5(uuid.NAMESPACE_OID, "-".join(names)).bytes)
    .decode()
    .lower()[:13],
    "uriComponent": lambda text: urllib.parse.quote(text, safe=""),
}


class Deployment:
    """A template with the parameters of one deployment."""

    def __init__(self, template, given):
        self.template = template
        self.used = set()
        self.copies = []
        self.references = set()
        declared = template["parameters"]
        for name in given.keys() - declared.keys():
            raise Fault(f"there is no parameter {name}")
        self.parameters = {}
        for name, parameter in declared.items():
            if name not in given and "defaultValue" not in parameter:
                raise Fault(f"the parameter {name} has no default and was not given")
            self.parameters[name] = given[name] if name in given else self.value(parameter["defaultValue"])
            allowed = parameter.get("allowedValues")
            if allowed and self.parameters[name] not in allowed:
                raise Fault(f"the parameter {name} may not be {self.parameters[name]!r}")

    def value(self, node):
        """Returns a node with all its expressions evaluated."""
        if isinstance(node, list):
            return [self.value(part) for part in node]
        if isinstance(node, dict):
            whole = {self.value(key): self.value(part) for key, part in node.items() if key != "copy"}
            for loop in node.get("copy", []):
                whole[loop["name"]] = self.loop(loop["name"], self.value(loop["count"]), loop["input"])
            return whole
        if isinstance(node, str) and node.startswith("[") and node.endswith("]") and not node.startswith("[["):
            try:
                return self.run(Parser(node[1:-1]).whole())
            except Fault as fault:
                raise Fault(f"{fault}, in {node}") from None
            except (TypeError, KeyError, IndexError, AttributeError) as error:
                raise Fault(f"{type(error).__name__}: {error}, in {node}") from None
        return node

    def loop(self, name, count, node):
        results = []
        for index in range(count):
            self.copies.append((name, index))
            results.append(self.value(node))
            self.copies.pop()
        return results

    def run(self, tree):
        kind, *parts = tree
        if kind == "value":
            return parts[0]
        if kind == "index":
            whole, key = self.run(parts[0]), self.run(parts[1])
            if isinstance(whole, Runtime):
                return whole.get(key)
            if isinstance(whole, dict) and key not in whole:
                raise Fault(f"there is no property {key}")
            return whole[key]
        name, arguments = parts
        if name == "if":
            condition, yes, no = arguments
            return self.run(yes if self.run(condition) else no)
        values = [self.run(argument) for argument in arguments]
        if name in ("parameters", "variables"):
            self.used.add((name, values[0]))
            if name == "parameters":
                if values[0] not in self.parameters:
                    raise Fault(f"there is no parameter {values[0]}")
                return self.parameters[values[0]]
            if values[0] not in self.template["variables"]:
                raise Fault(f"there is no variable {values[0]}")
            return self.value(self.template["variables"][values[0]])
        if name == "copyIndex":
            found = [index for loop, index in self.copies if not values or loop == values[0]]
            if not found:
                raise Fault("copyIndex is outside of its loop")
            return found[-1]
        if name == "reference":
            if len(values) != 2:
                raise Fault("reference needs an id and an apiVersion")
            self.references.add(values[0])
            return Runtime(values[0])
        if name not in FUNCTIONS:
            raise Fault(f"there is no function {name}")
        return FUNCTIONS[name](*values)

    def resources(self):
        """Yields (symbol, resource) for each resource that is created, with loops unrolled."""
        for symbol, resource in self.template["resources"].items():
            try:
                loop = resource.get("copy")
                plain = {key: part for key, part in resource.items() if key not in ("copy", "condition")}
                # In Azure the condition of a loop is that of each of its rounds.
                if not self.value(resource.get("condition", True)):
                    continue
                if loop:
                    for each in self.loop(loop["name"], self.value(loop["count"]), plain):
                        yield symbol, each
                else:
                    yield symbol, self.value(plain)
            except Fault as fault:
                raise Fault(f"{symbol}: {fault}") from None


# -- Models ------------------------------------------------------------------------------------------------------------

# Resource type -> client package, model of the request's body, group and name of the operation.
TYPES = {
    "Microsoft.Authorization/roleAssignments": (
        "authorization.v2022_04_01",
        "RoleAssignmentCreateParameters",
        "role_assignments",
        "create",
    ),
    "Microsoft.Authorization/roleDefinitions": (
        "authorization.v2022_04_01",
        "RoleDefinition",
        "role_definitions",
        "create_or_update",
    ),
    "Microsoft.Compute/virtualMachineScaleSets": (
        "compute",
        "VirtualMachineScaleSet",
        "virtual_machine_scale_sets",
        "create_or_update",
    ),
    "Microsoft.Compute/virtualMachines": ("compute", "VirtualMachine", "virtual_machines", "create_or_update"),
    "Microsoft.EventHub/namespaces": ("eventhub", "EHNamespace", "namespaces", "create_or_update"),
    "Microsoft.EventHub/namespaces/eventhubs": ("eventhub", "Eventhub", "event_hubs", "create_or_update"),
    "Microsoft.EventHub/namespaces/eventhubs/consumergroups": (
        "eventhub",
        "ConsumerGroup",
        "consumer_groups",
        "create_or_update",
    ),
    "Microsoft.Insights/diagnosticSettings": (
        "monitor.v2021_05_01_preview",
        "DiagnosticSettingsResource",
        "diagnostic_settings",
        "create_or_update",
    ),
    "Microsoft.KeyVault/vaults": ("keyvault", "VaultCreateOrUpdateParameters", "vaults", "create_or_update"),
    "Microsoft.KeyVault/vaults/secrets": ("keyvault", "SecretCreateOrUpdateParameters", "secrets", "create_or_update"),
    "Microsoft.ManagedIdentity/userAssignedIdentities": (
        "msi.v2024_11_30",
        "Identity",
        "user_assigned_identities",
        "create_or_update",
    ),
    "Microsoft.Network/loadBalancers": ("network", "LoadBalancer", "load_balancers", "create_or_update"),
    "Microsoft.Network/natGateways": ("network", "NatGateway", "nat_gateways", "create_or_update"),
    "Microsoft.Network/networkInterfaces": ("network", "NetworkInterface", "network_interfaces", "create_or_update"),
    "Microsoft.Network/networkSecurityGroups": (
        "network",
        "NetworkSecurityGroup",
        "network_security_groups",
        "create_or_update",
    ),
    "Microsoft.Network/publicIPAddresses": ("network", "PublicIPAddress", "public_ip_addresses", "create_or_update"),
    "Microsoft.Network/virtualNetworks": ("network", "VirtualNetwork", "virtual_networks", "create_or_update"),
    "Microsoft.OperationalInsights/workspaces": ("loganalytics", "Workspace", "workspaces", "create_or_update"),
    "Microsoft.Storage/storageAccounts": ("storage", "StorageAccountCreateParameters", "storage_accounts", "create"),
    "Microsoft.Storage/storageAccounts/blobServices": (
        "storage",
        "BlobServiceProperties",
        "blob_services",
        "set_service_properties",
    ),
    "Microsoft.Storage/storageAccounts/blobServices/containers": (
        "storage",
        "BlobContainer",
        "blob_containers",
        "create",
    ),
}


@functools.cache
def api_version(package, group, operation):
    """Returns the version that the client sends with this operation."""
    module = f"azure.mgmt.{package}.operations"
    importlib.import_module(module)
    # Newer clients have all operations in one module, older ones a module for each group.
    whole, apart = sys.modules.get(f"{module}._operations"), sys.modules.get(f"{module}._{group}_operations")
    function = getattr(whole, f"build_{group}_{operation}_request", None) or getattr(
        apart, f"build_{operation}_request"
    )
    return re.search(r'"api-version", "([^"]+)"', inspect.getsource(function)).group(1)


@functools.cache
def fields(model):
    """Returns {name in JSON: (type, required, read-only)} of a model of either generation of clients."""
    if hasattr(model, "_attribute_map"):
        tree = {}
        for attribute, entry in model._attribute_map.items():
            *folders, name = re.split(r"(?<!\\)\.", entry["key"])
            rules = model._validation.get(attribute, {})
            here = tree
            for folder in folders:
                here = here.setdefault(folder, ({}, False, False))[0]
            here[name.replace("\\.", ".")] = (entry["type"], rules.get("required", False), rules.get("readonly", False))
        return tree
    model.__new__(model)
    package = sys.modules[model.__module__.rpartition(".")[0]]
    found = {}
    for attribute, field in model._attr_to_rest_field.items():
        owner = next(each for each in model.__mro__ if attribute in each.__dict__.get("__annotations__", {}))
        scope = vars(sys.modules[owner.__module__]) | {"_models": package}
        hint = owner.__annotations__[attribute]
        hint = eval(hint, scope) if isinstance(hint, str) else hint
        optional = type(None) in typing.get_args(hint)
        readonly = field._visibility == ["read"]
        found[field._rest_name] = ((hint, scope), not optional and not readonly, readonly)
    return found


def short(value):
    text = repr(value)
    return text if len(text) < 80 else text[:80] + "…"


def resolve(hint):
    hint, scope = hint
    hint = hint.__forward_arg__ if isinstance(hint, typing.ForwardRef) else hint
    return (eval(hint, scope) if isinstance(hint, str) else hint), scope


def faults(value, kind, where, package):
    """Yields the parts of a value that its type does not allow. A null counts as absent."""
    if value is None:
        return
    if isinstance(kind, dict):
        yield from members(value, kind, where, package)
    elif isinstance(kind, str):
        yield from old_faults(value, kind, where, package)
    else:
        hint, scope = resolve(kind)
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.Union:
            arguments = [each for each in arguments if each is not type(None)]
            resolved = [resolve((each, scope))[0] for each in arguments]
            enums = [each for each in resolved if hasattr(each, "__members__")]
            if enums:
                known = [member.value for member in enums[0]]
                if value not in known and enums[0].__name__ not in OPEN:
                    yield f"{where}: {short(value)} is none of {', '.join(map(str, known))}"
            else:
                results = [list(faults(value, (each, scope), where, package)) for each in arguments]
                if all(results):
                    yield from results[0]
        elif origin is list:
            if not isinstance(value, list):
                yield f"{where}: {short(value)} is not an array"
            else:
                for index, each in enumerate(value):
                    yield from faults(each, (arguments[0], scope), f"{where}[{index}]", package)
        elif origin is dict:
            for key, each in value.items():
                yield from faults(each, (arguments[1], scope), f"{where}.{key}", package)
        elif hint is typing.Any:
            return
        elif any(base.__name__ == "Model" for base in getattr(hint, "__mro__", ())):
            yield from members(value, fields(hint), where, package)
        elif hint in (int, float):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                yield f"{where}: {short(value)} is not a number"
        elif hint is bool:
            if not isinstance(value, bool):
                yield f"{where}: {short(value)} is not true or false"
        elif not isinstance(value, str):
            yield f"{where}: {short(value)} is not a text"


def old_faults(value, kind, where, package):
    if kind.startswith("["):
        if not isinstance(value, list):
            yield f"{where}: {short(value)} is not an array"
        else:
            for index, each in enumerate(value):
                yield from old_faults(each, kind[1:-1], f"{where}[{index}]", package)
    elif kind.startswith("{"):
        for key, each in value.items():
            yield from old_faults(each, kind[1:-1], f"{where}.{key}", package)
    elif kind in ("int", "float", "long"):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            yield f"{where}: {short(value)} is not a number"
    elif kind == "bool":
        if not isinstance(value, bool):
            yield f"{where}: {short(value)} is not true or false"
    elif kind[0].isupper():
        models = importlib.import_module(f"azure.mgmt.{package}.models")
        yield from members(value, fields(getattr(models, kind)), where, package)
    elif kind != "object" and not isinstance(value, str):
        yield f"{where}: {short(value)} is not a text"


def members(value, known, where, package):
    if not isinstance(value, dict):
        yield f"{where}: {short(value)} is not an object"
        return
    for name, each in value.items():
        if name not in known:
            yield f"{where}: there is no property {name}"
        elif known[name][2] and name != "id":
            yield f"{where}.{name}: is read-only"
        else:
            yield from faults(each, known[name][0], f"{where}.{name}", package)
    for name, (_, required, _) in known.items():
        if required and value.get(name) is None:
            yield f"{where}: the property {name} is missing"


# Sizes come faster than models.
OPEN = {"VirtualMachineSizeTypes"}

# What is not part of a request's body.
AROUND = {"type", "apiVersion", "name", "dependsOn", "scope"}


def against_models(symbol, resource):
    if resource["type"] not in TYPES:
        yield f"{symbol}: {resource['type']} is no type that is checked here"
        return
    package, model, *operation = TYPES[resource["type"]]
    wanted = api_version(package, *operation)
    if resource.get("apiVersion") != wanted:
        yield f"{symbol}: apiVersion is {resource.get('apiVersion')}, the models are of {wanted}"
    known = fields(getattr(importlib.import_module(f"azure.mgmt.{package}.models"), model))
    body = {key: value for key, value in resource.items() if key not in AROUND}
    yield from members(body, known, symbol, package)


# -- Checks of our own -------------------------------------------------------------------------------------------------

NAMES = {
    "Microsoft.Compute/virtualMachineScaleSets": r"[a-z][a-z0-9-]{0,61}[a-z0-9]",
    "Microsoft.EventHub/namespaces": r"[a-z][a-z0-9-]{4,48}[a-z0-9]",
    "Microsoft.KeyVault/vaults": r"[a-z][a-z0-9-]{1,22}[a-z0-9]",
    "Microsoft.Storage/storageAccounts": r"[a-z0-9]{3,24}",
    "Microsoft.Authorization/roleAssignments": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
}


def whole_id(resource):
    """Returns the resource id of a resource whose name has a part for each part of its type."""
    provider, *types = resource["type"].split("/")
    names = resource["name"].split("/")
    if len(types) != len(names):
        raise Fault(f"{resource['type']} has {len(types)} parts, its name {resource['name']} {len(names)}")
    scope = resource.get("scope", GROUP)
    return f"{scope}/providers/{provider}/" + "/".join(f"{t}/{n}" for t, n in zip(types, names))


def texts(node):
    if isinstance(node, dict):
        for key, value in node.items():
            yield from texts(key)
            yield from texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)
    elif isinstance(node, str):
        yield node


def declared(wanted, resources):
    """Returns the symbol of the resource that an id is of: its own, or that of a part of its properties."""
    for symbol, resource in resources:
        own = whole_id(resource)
        if wanted == own:
            return symbol
    for symbol, resource in resources:
        own = whole_id(resource)
        if wanted.startswith(own + "/"):
            kind, _, name = wanted[len(own) + 1 :].partition("/")
            if any(part.get("name") == name for part in resource["properties"].get(kind, [])):
                return symbol
    return None


def order(resources, template):
    """Yields ids of undeclared resources, and resources that could be created before what they name exists."""
    needs = {symbol: set(resource.get("dependsOn", [])) for symbol, resource in template["resources"].items()}
    for symbol, others in needs.items():
        for other in others - needs.keys():
            yield f"{symbol}: dependsOn names {other}, which is not declared"

    def before(symbol, seen):
        for other in needs.get(symbol, set()) - seen:
            seen.add(other)
            before(other, seen)
        return seen

    for symbol, resource in resources:
        places = [text for text in texts([resource.get("properties"), resource.get("identity"), resource.get("scope")])]
        for text in places:
            if not text.startswith(GROUP + "/"):
                continue
            target = declared(text, resources)
            if target is None:
                yield f"{symbol}: {text[len(GROUP):]} is not declared"
            elif target != symbol and target not in before(symbol, set()):
                yield f"{symbol}: dependsOn lacks {target}, which it names"


@functools.cache
def document(text):
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def given_to_vms(resources):
    """Yields (symbol, cloud-init text, setup) of each kind of VM."""
    for symbol, resource in resources:
        properties = resource.get("properties", {})
        data = properties.get("virtualMachineProfile", properties).get("userData")
        if data is None:
            continue
        text = base64.b64decode(data).decode()
        if len(data) > 65536:
            raise Fault(f"{symbol}: userData has {len(data)} bytes, Azure takes 65536")
        if re.search(r"@[A-Z_]+@", text):
            raise Fault(f"{symbol}: nothing was put in for {re.search(r'@[A-Z_]+@', text).group()}")
        files = {file["path"]: file["content"] for file in document(text)["write_files"]}
        yield symbol, text, json.loads(base64.b64decode(files["/etc/windrow/setup.json"])), files


def cloud_configs(resources, schema):
    """Yields what cloud-init would refuse, or skip without a word."""
    known = {"merge_how", "output"}
    for part in schema["allOf"]:
        known |= schema["$defs"][part["$ref"].rpartition("/")[2]].get("properties", {}).keys()
    for symbol, text, _, _ in given_to_vms(resources):
        for key in document(text).keys() - known:
            yield f"{symbol}: cloud-init knows no {key}"
        for error in jsonschema.Draft4Validator(schema).iter_errors(document(text)):
            yield f"{symbol}: cloud-init: {error.json_path}: {error.message[:200]}"


def seconds(text):
    number, unit = re.fullmatch(r"(?:PT)?(\d+)([smhSMH]?)", text).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600, "": 1}[unit.lower()]


def vms(resources):
    """Yields what would go wrong on VMs."""
    by_symbol = dict(resources)
    for symbol, text, setup, files in given_to_vms(resources):
        # A unit that nobody starts is as good as none. windrow-setup is started by those that require it.
        started = {unit for command in document(text).get("runcmd", []) for unit in command[1:]}
        names = {pathlib.PurePath(path).name for path in files}
        units = {name for name in names if name.endswith((".service", ".timer"))} - {"windrow-setup.service"}
        # A timer starts the service of its name.
        timed = {name.replace(".timer", ".service") for name in started if name.endswith(".timer")}
        for unit in units - started - timed:
            yield f"{symbol}: nothing starts {unit}"
        for unit in {unit for unit in started | timed if unit.endswith((".service", ".timer"))} - units:
            yield f"{symbol}: {unit} is started and not there"
        # windrow-setup ends a VM's start at an identity that it cannot resolve.
        named = [entry.get("identity", setup["fetch_as"]) for entry in setup["secrets"] + setup["settings"]]
        for name in {*named, setup["fetch_as"]} - setup["identities"].keys():
            yield f"{symbol}: setup names the identity {name}, and has no client id of it"
        # Without the identity on the VM, its metadata service gives no token.
        assigned = len(by_symbol[symbol]["identity"]["userAssignedIdentities"])
        if assigned != len(setup["identities"]):
            yield f"{symbol}: the VM has {assigned} identities, setup {len(setup['identities'])}"
        # With any other, workers get SIGKILL once the agent is killed, and not SIGTERM.
        for path, unit in files.items():
            if "windrow-scaler agent" in unit and not re.search(r"^KillMode=control-group$", unit, re.M):
                yield f"{symbol}: {path} lacks KillMode=control-group"
            if path.endswith(".service") and "Type=oneshot" not in unit and "\nRestart=always\n" not in unit:
                yield f"{symbol}: {path} lacks Restart=always"
        # A unit without its file does not start.
        prepared = {entry["file"] for entry in setup["secrets"] + setup["settings"]}
        for path, unit in files.items():
            for wanted in re.findall(r"^(?:EnvironmentFile=|LoadCredential=[^:]+:)(.+)$", unit, re.M):
                if wanted not in prepared:
                    yield f"{symbol}: {path} needs {wanted}, which nothing prepares"
        # systemd kills what drains longer than its patience, and messages in hand are scored twice.
        for entry in setup["settings"]:
            drain = entry["values"].get("WINDROW_DRAIN_TIMEOUT")
            reads = f"EnvironmentFile={entry['file']}\n"
            unit = next((unit for unit in files.values() if reads in unit), None)
            if unit is None:
                yield f"{symbol}: no unit reads {entry['file']}"
                continue
            patience = int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.M).group(1))
            if drain and seconds(drain) >= patience:
                yield f"{symbol}: WINDROW_DRAIN_TIMEOUT {drain} is not below TimeoutStopSec {patience}"
    profile = by_symbol["workers"]["properties"]["virtualMachineProfile"]
    drain = next(
        s["settings"][0]["values"]["WINDROW_DRAIN_TIMEOUT"] for n, _, s, _ in given_to_vms(resources) if n == "workers"
    )
    if profile["priority"] == "Spot":
        notice = 30
    else:
        notice = seconds(profile["scheduledEventsProfile"]["terminateNotificationProfile"]["notBeforeTimeout"])
    if seconds(drain) >= notice:
        yield f"workers: WINDROW_DRAIN_TIMEOUT {drain} is not below the {notice} s that Azure gives notice"


def network(resources):
    """Yields addresses outside of their subnet, and security groups that do not refuse what they do not name."""
    by_symbol = dict(resources)
    subnets = {
        subnet["name"]: ipaddress.ip_network(subnet["properties"]["addressPrefix"])
        for subnet in by_symbol["network"]["properties"]["subnets"]
    }
    hosts = ""
    for symbol, _, _, files in given_to_vms(resources):
        if symbol == "rabbitmq":
            hosts = files["/etc/hosts"]
    for symbol, resource in resources:
        for group in ("frontendIPConfigurations", "ipConfigurations"):
            for part in resource.get("properties", {}).get(group, []):
                address = part["properties"].get("privateIPAddress")
                subnet = part["properties"]["subnet"]["id"].rpartition("/")[2]
                if address and ipaddress.ip_address(address) not in subnets[subnet]:
                    yield f"{symbol}: {address} is not in the subnet {subnet}"
                # Azure keeps the first four and the last address of a subnet.
                if address and int(ipaddress.ip_address(address)) - int(subnets[subnet][0]) < 4:
                    yield f"{symbol}: {address} is one of Azure's own"
                if symbol == "rabbitmqInterfaces" and f"{address} {resource['name']}\n" not in hosts:
                    yield f"{symbol}: /etc/hosts of the nodes lacks {address} {resource['name']}"
        if resource["type"].endswith("/networkSecurityGroups"):
            rules = [rule["properties"] for rule in resource["properties"]["securityRules"]]
            last = max(rules, key=lambda rule: rule["priority"])
            everything = {"access": "Deny", "protocol": "*", "sourceAddressPrefix": "*", "destinationPortRange": "*"}
            if not everything.items() <= last.items():
                yield f"{symbol}: the last rule does not refuse the rest"
            for rule in rules:
                if rule["access"] == "Allow" and rule.get("sourceAddressPrefix") in ("*", "Internet", "VirtualNetwork"):
                    yield f"{symbol}: a rule admits {rule['sourceAddressPrefix']}"
            if len({rule["priority"] for rule in rules}) != len(rules):
                yield f"{symbol}: two rules have one priority"


def roles(resources):
    """Yields rights that are wider than needed: the reason to have identities at all."""
    for symbol, resource in resources:
        if resource["type"].endswith("/roleDefinitions"):
            for action in resource["properties"]["permissions"][0]["actions"]:
                if "*" in action:
                    yield f"{symbol}: the action {action} has a *"
        if resource["type"].endswith("/roleAssignments") and "scope" not in resource:
            yield f"{symbol}: the role is assigned on the whole resource group"
        if resource["type"].endswith("/storageAccounts"):
            wanted = {"allowSharedKeyAccess": False, "allowBlobPublicAccess": False, "minimumTlsVersion": "TLS1_2"}
            if not wanted.items() <= resource["properties"].items():
                yield f"{symbol}: lacks one of {wanted}"
        if resource["type"].endswith("/virtualMachineScaleSets"):
            for card in resource["properties"]["virtualMachineProfile"]["networkProfile"][
                "networkInterfaceConfigurations"
            ]:
                for part in card["properties"]["ipConfigurations"]:
                    if "publicIPAddressConfiguration" in part["properties"]:
                        yield f"{symbol}: has public addresses"


def secrets(resources, outputs, given):
    """Yields places outside the vault that hold a secret: anyone who may read the resource could read it there."""
    hidden = [value for value in given.get("brokerSecrets", {}).values()]
    shown = [(symbol, resource) for symbol, resource in resources if not resource["type"].endswith("/vaults/secrets")]
    shown += [(f"output {name}", output) for name, output in outputs.items()]
    shown += [(symbol, [text, setup]) for symbol, text, setup, _ in given_to_vms(resources)]
    for symbol, node in shown:
        for text in texts(node):
            if any(secret in text for secret in hidden):
                yield f"{symbol}: holds a secret in plain text"


@functools.cache
def known_options():
    """Returns {program: names of its environment variables} as docs/cli.md has them."""
    programs, program = {}, None
    for line in (HERE.parent / "docs" / "cli.md").read_text().splitlines():
        heading = re.match(r"#+ .*?`?(windrow[a-z -]*)`?", line)
        if heading:
            program = heading.group(1).strip()
        for name in re.findall(r"\[env: (WINDROW_[A-Z_]+)", line):
            programs.setdefault(program, set()).add(name)
    return programs


def options(resources):
    """Yields variables that the program which gets them does not know: it would ignore a misspelt one silently."""
    programs = known_options()
    readers = {
        "agent.env": ["windrow-scaler agent", "windrow-worker"],
        "producer.env": ["windrow-producer"],
        "scaler.env": ["windrow-scaler run"],
        "retrain.env": ["windrow retrain"],
    }
    for symbol, _, setup, _ in given_to_vms(resources):
        for entry in setup["settings"]:
            needed = readers[entry["file"].rpartition("/")[2]]
            if not programs.keys() >= set(needed):
                # An older tree without the program; `UNCHECKED` is printed once.
                UNCHECKED.update(set(needed) - programs.keys())
                continue
            known = set().union(*(programs[name] for name in needed)) | {"WINDROW_AMQP_URL_FILE"}
            for name in entry["values"]:
                if name.startswith("WINDROW_") and name not in known:
                    yield f"{symbol}: {entry['file']}: {' and '.join(needed)} do not know {name}"


UNCHECKED = set()


def unused(template, deployments):
    used = set().union(*(deployment.used for deployment in deployments))
    for section in "parameters", "variables":
        for name in template[section]:
            if (section, name) not in used:
                yield f"{section[:-1]} {name} is not used"


# -- Deployments that are tried ----------------------------------------------------------------------------------------

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJustForTheCheckNobodyHasThePrivateKeyOfThisOne check"
PASSWORDS = {name: f"hidden-{name}-0123456789" for name in ("worker", "producer", "scaler", "cookie")}
URLS = {name: f"amqps://{name}:hidden@broker.example:5671" for name in ("worker", "producer", "scaler")}
RELEASE = {"release": "windrow.tar.gz", "releaseSha256": "ab" * 32}
CASES = {
    "spot": {"sshPublicKey": KEY, "brokerSecrets": PASSWORDS, **RELEASE},
    "regular": {
        "retrain": True,
        "sshPublicKey": KEY,
        "brokerSecrets": PASSWORDS,
        "workerPriority": "Regular",
        "workerDisk": "managed",
        "workerSize": "Standard_D4as_v5",
        "zones": [],
        "sshSource": "192.0.2.0/24",
        "operatorId": str(uuid.UUID(int=3)),
        "operatorAddresses": ["192.0.2.7"],
        "nextBatch": "0 * * * *",
        "logAnalytics": True,
        "hubMaximumUnits": 1,
        **RELEASE,
    },
    "new passwords": {
        "sshPublicKey": KEY,
        "brokerSecrets": {name: password for name, password in PASSWORDS.items() if name != "cookie"},
        "workerInstances": 7,
        **RELEASE,
    },
    "again": {"sshPublicKey": KEY, "workerInstances": 7, **RELEASE},
    "external": {
        "sshPublicKey": KEY,
        "broker": "external",
        "brokerSecrets": URLS,
        "brokerManagementUrl": "https://broker.example:15671",
        "imageId": f"{SUBSCRIPTION}/resourceGroups/images/providers/Microsoft.Compute/galleries/g/images/windrow",
    },
}


def judge(template, given, schema):
    """Returns the deployment of one case, its resources and what is wrong with it."""
    deployment = Deployment(template, given)
    resources = list(deployment.resources())
    outputs = deployment.value(template["outputs"])
    # In a later deployment, the vault has the secrets of the first.
    earlier = (
        list(Deployment(template, given | {"brokerSecrets": PASSWORDS}).resources())
        if "workerInstances" in given
        else []
    )
    existing = resources + [(symbol, each) for symbol, each in earlier if each["type"].endswith("/vaults/secrets")]
    found = []
    for symbol, resource in resources:
        found += against_models(symbol, resource)
        pattern = NAMES.get(resource["type"])
        if pattern and not re.fullmatch(pattern, resource["name"]):
            found.append(f"{symbol}: {resource['name']} is no name that Azure allows")
    ids = [whole_id(resource).lower() for _, resource in resources]
    found += [f"{each} is declared twice" for each in set(ids) if ids.count(each) > 1]
    for each in deployment.references:
        if declared(each, existing) is None:
            found.append(f"reference: {each} is not declared")
    found += [fault for fault in order(existing, template)]
    for check in vms, network, roles, options:
        found += check(resources)
    found += secrets(resources, outputs, given)
    found += cloud_configs(resources, schema)
    return deployment, resources, found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("template", nargs="?", type=pathlib.Path, default=HERE / "main.json")
    parser.add_argument("--cloud-init-schema", type=pathlib.Path, required=True)
    parser.add_argument("--write", type=pathlib.Path)
    arguments = parser.parse_args()
    template = json.loads(arguments.template.read_text())
    schema = json.loads(arguments.cloud_init_schema.read_text())
    wrong, deployments, count = [], [], 0
    for case, given in CASES.items():
        try:
            deployment, resources, found = judge(template, given, schema)
            deployments.append(deployment)
            count += len(resources)
            wrong += [f"{case}: {fault}" for fault in found]
            if arguments.write:
                for symbol, _, setup, files in given_to_vms(resources):
                    (arguments.write / f"{case}-{symbol}.json").write_text(json.dumps(setup, indent=2))
                    for path, content in files.items():
                        file = arguments.write / f"{case}-{symbol}" / path[1:]
                        file.parent.mkdir(parents=True, exist_ok=True)
                        file.write_text(content)
        except Fault as fault:
            wrong.append(f"{case}: {fault}")
    if not wrong:
        wrong += unused(template, deployments)
    if wrong:
        print(*dict.fromkeys(wrong), sep="\n")
        return 2
    for program in sorted(UNCHECKED):
        print(f"NOT CHECKED: the settings of {program}; docs/cli.md does not describe it")
    print(f"{len(CASES)} deployments with {count} resources are valid")
    return 0


if __name__ == "__main__":
    sys.exit(main())

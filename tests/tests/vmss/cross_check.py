"""Drives ARM's stand-in with Microsoft's own client: URL, subscription, group, scale set, orchestration mode."""

import sys
import time

from azure.core import MatchConditions
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError, ResourceModifiedError
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.compute.models import (
    Sku,
    VirtualMachineScaleSetUpdate,
    VirtualMachineScaleSetVMInstanceRequiredIDs,
)

url, subscription, group, name, mode = sys.argv[1:]


class Static:
    def get_token(self, *scopes, **options):
        return AccessToken("static", int(time.time()) + 3600)


class Loopback(SansIOHTTPPolicy):
    """Lets the token go over http, which is loopback here."""

    def on_request(self, request):
        request.context.options["enforce_https"] = False


client = ComputeManagementClient(
    Static(),
    subscription,
    base_url=url,
    credential_scopes=["https://management.azure.com/.default"],
    per_call_policies=[Loopback()],
    polling_interval=0.02,
    retry_total=0,
)
sets = client.virtual_machine_scale_sets


def machines():
    if mode == "Uniform":
        return {one.instance_id: one for one in client.virtual_machine_scale_set_vms.list(group, name, expand="instanceView")}
    scale_set = sets.get(group, name).id
    listed = client.virtual_machines.list(group, filter=f"'virtualMachineScaleSet/id' eq '{scale_set}'", expand="instanceView")
    return {one.name: one for one in listed}


def wait(what, condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


found = sets.get(group, name)
assert (found.name, found.sku.capacity, found.orchestration_mode) == (name, 2, mode), found
wait("two machines", lambda: len(machines()) == 2)

grow = VirtualMachineScaleSetUpdate(sku=Sku(name=found.sku.name, capacity=5))
poller = sets.begin_update(group, name, grow, etag=found.etag, match_condition=MatchConditions.IfNotModified)
grown = poller.result(timeout=20)
assert poller.status() == "Succeeded", poller.status()
assert grown.sku.capacity == 5, grown
assert grown.etag != found.etag
# Five machines are more than one page.
wait("five machines", lambda: len(machines()) == 5)
try:
    sets.begin_update(group, name, grow, etag=found.etag, match_condition=MatchConditions.IfNotModified)
    raise SystemExit("a stale ETag was accepted")
except ResourceModifiedError as error:
    assert error.error.code == "PreconditionFailed", error


def power(machine):
    return [status.code for status in machine.instance_view.statuses if status.code.startswith("PowerState/")]


wait("all run", lambda: all(power(one) == ["PowerState/running"] for one in machines().values()))
assert all(one.provisioning_state == "Succeeded" and one.time_created for one in machines().values())

first, second = sorted(machines())[:2]
if mode == "Uniform":
    policy = client.virtual_machine_scale_set_vms.get(group, name, first).protection_policy
    assert policy.protect_from_scale_in is False, policy
poller = sets.begin_delete_instances(group, name, VirtualMachineScaleSetVMInstanceRequiredIDs(instance_ids=[first, second]))
poller.result(timeout=20)
assert poller.status() == "Succeeded", poller.status()
wait("three machines", lambda: len(machines()) == 3)
assert not {first, second} & set(machines())
assert sets.get(group, name).sku.capacity == 3
try:
    sets.begin_delete_instances(group, name, VirtualMachineScaleSetVMInstanceRequiredIDs(instance_ids=["none"]))
    raise SystemExit("an unknown instance was deleted")
except HttpResponseError as error:
    assert error.status_code == 400 and error.error.code == "InvalidParameter", error
print("agrees")

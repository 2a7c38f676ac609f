#!/usr/bin/env python3
"""Builds the images, starts docker-compose.yml on a Docker engine of its own, kills things, and audits.

    make test-containers        with the programs of `make test`, built outside; a few minutes
    make test-containers-full   everything in the Dockerfile, in release mode; the first time about half an hour

Nothing of it touches an engine, a network or a port of this machine, and nothing remains but the base images in
target/containers. With --can-run it only says whether this machine can do it. SUITE=sid takes RabbitMQ from that release
of Debian, COMPOSE="docker compose" uses another Compose, and TMPDIR=/dev/shm spares the disk.
"""

import base64
import contextlib
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import images
from engine import Engine, Failed, NotHere, run
from images import TARGETS, WORKSPACE
from stack import Stack

# A debug build trains for minutes on the default, a day.
HISTORY_OF_DEBUG_BUILDS = "1h"
COMPOSE = os.environ.get("COMPOSE", "docker-compose").split()
SUITE = os.environ.get("SUITE", "trixie")


def why_not_here():
    """Returns why this machine cannot run the test, whatever is installed; or nothing."""
    if os.geteuid() != 0:
        return "it has to run as root, because a Docker engine mounts file systems"
    namespaces = run(["unshare", "--mount", "--pid", "--net", "--fork", "--mount-proc", "true"], check=False)
    if namespaces.returncode != 0:
        return f"it needs namespaces for mounts, processes and networks: {namespaces.stderr.strip()}"
    return None


def what_is_missing():
    """Returns the programs that are not installed."""
    programs = ["docker", "dockerd", "containerd", "runc", "docker-init", "tini", "ip", "debootstrap", "nsenter", "setpriv",
                "ps", "strip", "git", COMPOSE[0]]
    return [program for program in programs if not shutil.which(program)]


class Steps:
    """Says what is done and how long it took."""

    def __init__(self):
        self.start = time.monotonic()

    @contextlib.contextmanager
    def step(self, what):
        """Runs one step; what it appends to the list is said, too."""
        found = []
        begin = time.monotonic()
        if sys.stdout.isatty():
            print(f"           {what} …", end="\r", flush=True)
        yield found
        said = "".join(f": {more}" for more in found if more)
        print(f"{time.monotonic() - begin:7.1f} s  {what}{said}", flush=True)


def build(step, engine, checkout, full):
    """Builds all images, on the host's network."""
    try:
        with step("start an engine to build on"):
            engine.start_for_building()
        with step("base images") as found:
            found.append(images.base_images(engine, WORKSPACE / "target/containers", SUITE))
    except Failed as failed:
        raise NotHere(failed) from None
    with step("this machine's Rust" if full else "programs of target/debug"):
        if full:
            images.rust(engine)
        else:
            images.stand_in_for_rust(engine, WORKSPACE / "target/debug")
    with step("build all targets of the Dockerfile") as found:
        images.windrow_images(engine, checkout)
        found.append(images.sizes(engine))
    if full:
        with step("each program lists its dependencies"):
            images.programs_list_their_dependencies(engine)
    else:
        # The short form shows it as well, without compiling everything once more.
        with step("dependencies stay built when sources and tests change"):
            changed = checkout.with_name("changed")
            shutil.copytree(checkout, changed)
            images.dependencies_stay_built(engine, changed)
            shutil.rmtree(changed)
    engine.stop()


def each_image_starts(engine):
    """Starts each program read-only, not as root, without capabilities and without a network."""
    for target, program in TARGETS.items():
        image = f"windrow/{target}:{images.TAG}"
        user = engine.docker("image", "inspect", "--format", "{{.Config.User}}", image).stdout.strip()
        if not user.split(":")[0].isdigit() or int(user.split(":")[0]) == 0:
            raise Failed(f"{image} runs as root: its user is '{user}'")
        said = engine.docker("run", "--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
                             "--network", "none", image, "--help").stdout
        if f"Usage: {program} " not in said:
            raise Failed(f"{image} --help does not say how {program} is used:\n{said}")


def disturb(step, stack):
    """Kills, restarts and scales; nothing may be lost."""
    with step("kill -9 a worker that holds messages") as found:
        found.append(f"{stack.kill_a_worker_in_its_work()} messages")
    with step("predictions go on"):
        stack.predictions_go_on()
    with step("restart the broker"):
        stack.compose("restart", "rabbitmq")
        stack.healthy("rabbitmq")
        stack.predictions_go_on()
    with step("4 workers"):
        stack.up("--scale", "worker=4")
        stack.healthy("worker", 4)
        stack.predictions_go_on()
    with step("the scaler instead of the service `worker`"):
        stack.scaler_instead_of_workers()
        stack.predictions_go_on()
    with step("1 worker"):
        stack.worker_instead_of_the_scaler()
        stack.predictions_go_on()


def account(step, stack):
    """Ends the readings and accounts for all of them."""
    with step("audit") as found:
        stack.compose("stop", "simulator")
        found.append(stack.audit_is_clean())


def run_stack(step, stack, keys):
    """Runs docker-compose.yml as it is."""
    up, look = stack.of_the_readme()
    with step(" ".join(up)):
        built = images.ids(stack.engine)
        stack.compose(*up)
        if images.ids(stack.engine) != built:
            raise Failed("`up --build` built again what the same Dockerfile had just built")
    with step(" ".join(look)) as found:
        found.append(f"{stack.anomalies_within_half_a_minute(look):.0f} s after that there are some")
    stack.healthy("worker", 2)
    with step("1 worker"):
        stack.up()
        stack.healthy("worker", 1)
    with step("predictions") as found:
        found.append(f"{stack.predictions_go_on()} windows")
    with step("incidents") as found:
        found.append(f"{stack.incidents()}")
    with step("windows of all tags of a device") as found:
        found.append(f"{stack.tags_together()}")
    with step("containers are hardened"):
        stack.hardened()
    with step("secrets are not shown"):
        stack.secrets_are_not_shown(keys)
    disturb(step, stack)
    account(step, stack)
    with step("down"):
        stack.down()


def run_encrypted(step, stack):
    """Runs it with docker-compose.tls.yml: everything that talks to the broker does so over TLS, or not at all."""
    with step("up, with docker-compose.tls.yml"):
        stack.compose("--profile", "groups", "up", "--detach")
        stack.healthy("grouper")
    with step("predictions over TLS") as found:
        found.append(f"{stack.predictions_go_on()} windows")
    with step("`windrow queue` over TLS"):
        stack.only_encrypted()
    account(step, stack)
    with step("down"):
        stack.down()


def settings(checkout, full):
    """Writes the .env file of a user with images and keys of their own; returns the keys by their files in the volume."""
    hub_key = base64.b64encode(secrets.token_bytes(32)).decode()
    # Azurite accepts no other; in quotes and with a comment, as people write.
    [store_key] = re.findall(r"^AZURE_STORAGE_ACCOUNT_KEY=(.*)$", (checkout / ".env.example").read_text(), re.MULTILINE)
    lines = [
        f"RABBITMQ_IMAGE={images.RABBITMQ}",
        f"AZURITE_IMAGE={images.AZURITE}",
        # `up --build` finds everything built.
        f"RUST_IMAGE={images.RUST}",
        f"AZURE_STORAGE_ACCOUNT_KEY='{store_key}'  # Azurite's",
        f"WINDROW_EVENTHUBS_CONNECTION_STRING=Endpoint=sb://localhost/;SharedAccessKeyName=own;SharedAccessKey={hub_key};EntityPath=readings",
    ]
    if not full:
        lines.append(f"DEMO_HISTORY={HISTORY_OF_DEBUG_BUILDS}")
    (checkout / ".env").write_text("".join(f"{line}\n" for line in lines))
    # As a careful user has it: root without capabilities could not read it.
    os.chown(checkout / ".env", 1000, 1000)
    (checkout / ".env").chmod(0o600)
    return {"eventhubs": hub_key, "account-key": store_key}


def main():
    reason = why_not_here()
    if reason:
        print(f"the containers cannot be run here: {reason}")
        return 3
    if sys.argv[1:] == ["--can-run"]:
        return 0
    if what_is_missing():
        print(f"these programs are missing, `make test-containers` installs them: {' '.join(what_is_missing())}", file=sys.stderr)
        return 3
    full = sys.argv[1:] == ["--full"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    steps = Steps()
    # Overlays cannot lie on an overlay; TMPDIR names another place.
    folder = Path(tempfile.mkdtemp(prefix="windrow-containers-"))
    engine = Engine(folder / "engine")
    checkout = folder / "windrow"
    stack = Stack(engine, COMPOSE, checkout)
    try:
        images.copy_checkout(checkout)
        build(steps.step, engine, checkout, full)
        with steps.step("start an engine with a network of its own"):
            engine.start_for_running()
        with steps.step("each image starts read-only, not as root, without capabilities"):
            each_image_starts(engine)
        keys = settings(checkout, full)
        run_stack(steps.step, stack, keys)
        stack = Stack(engine, COMPOSE, checkout, "docker-compose.yml", "docker-compose.tls.yml")
        run_encrypted(steps.step, stack)
    except NotHere as failed:
        print(f"\nno engine or no base images: {failed}", file=sys.stderr)
        return 3
    except Failed as failed:
        print(f"\nFAILED: {failed}", file=sys.stderr)
        if engine.process and engine.process.poll() is None:
            print(stack.tell(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        try:
            engine.stop()
        finally:
            run(["rm", "-rf", "--one-file-system", str(folder)])
    print(f"{time.monotonic() - steps.start:7.1f} s  in total")
    return 0


if __name__ == "__main__":
    sys.exit(main())

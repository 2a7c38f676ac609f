"""A private Docker engine: in its own namespaces, below one folder, and ended with this process."""

import os
import subprocess
import time
from pathlib import Path

# dockerd, containerd and all containers are processes below `unshare`. They are killed as one, also when this process is
# killed: `setpriv` passes that on to `unshare`, and `unshare` to the first process of the namespace.
NAMESPACES = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
# Orphans need a first process that reaps them. `oom_score = 0` and `--oom-score-adjust=0`: lower values need a capability
# that root does not have everywhere.
START = """
# Paths that they write to whatever their options say.
for path in /etc/docker /opt/containerd /run/containerd /run/docker; do
  mkdir -p "$path"
  mount -t tmpfs none "$path"
done
ip link set lo up
cat >containerd.toml <<C
version = 2
root = "$PWD/containerd/root"
state = "$PWD/containerd/state"
oom_score = 0
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$PWD/containerd.sock"
C
containerd --config containerd.toml >containerd.log 2>&1 &
# Otherwise it reads the machine's.
echo '{}' >daemon.json
until test -S containerd.sock; do kill -0 $!; sleep 0.1; done
exec dockerd --host="unix://$PWD/docker.sock" --containerd="$PWD/containerd.sock" \
  --data-root="$PWD/data" --exec-root="$PWD/exec" --pidfile="$PWD/docker.pid" --config-file="$PWD/daemon.json" \
  --storage-driver=overlay2 --iptables=false --ip6tables=false --oom-score-adjust=0 --log-level=warn "$@"
"""
STARTS_WITHIN = 60
# A busy machine loads all base images in half a minute, and builds them in five.
COMMAND_ENDS_WITHIN = 600


class Failed(Exception):
    """An expectation that was not met."""


class NotHere(Failed):
    """This machine or its package registries do not give what the test needs; that says nothing of Windrow."""


def wait(what, seconds, condition):
    """Calls `condition` until it returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(0.3)
    return answer


def run(words, check=True, **options):
    """Runs a program and returns its result; one that fails is an error with its output, unless `check` is false."""
    options = {"stdin": subprocess.DEVNULL, "timeout": COMMAND_ENDS_WITHIN} | options
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", **options)
    except subprocess.TimeoutExpired as late:
        said = b"".join(part for part in [late.stdout, late.stderr] if part).decode(errors="replace")
        raise Failed(f"{' '.join(map(str, words))} did not end within {late.timeout} s:\n{said[-8000:]}") from None
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout[-8000:]}{done.stderr[-8000:]}")
    return done


class Engine:
    """An engine that keeps its images in `folder` and can move between the host's network and one of its own."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir()
        self.process = None
        self.cgroup = f"/windrow-{os.getpid()}"
        # The older of the two builders: the newer one needs a plugin of the client that Debian does not package.
        self.environment = os.environ | {
            "DOCKER_HOST": f"unix://{self.folder}/docker.sock",
            "DOCKER_CONFIG": str(self.folder),
            "DOCKER_BUILDKIT": "0",
        }

    def start_for_building(self):
        """Starts on the host's network, which RUN steps need to reach the package registries."""
        self._start([], ["--bridge=none"])

    def start_for_running(self):
        """Starts on a network of its own, so that the containers' networks and ports are not those of the machine."""
        self._start(["--net"], [])

    def _start(self, namespaces, options):
        options = [f"--cgroup-parent={self.cgroup}", *options]
        log = open(self.folder / "dockerd.log", "w", encoding="utf-8")
        # A session of its own: Ctrl-C ends this process, which first wants to look after its containers.
        self.process = subprocess.Popen(
            [*NAMESPACES, *namespaces, "tini", "--", "sh", "-euc", START, "dockerd", *options],
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )
        try:
            wait("the engine answers", STARTS_WITHIN, self._answers)
        except Failed as failed:
            logs = [(self.folder / name).read_text(errors="replace") for name in ["dockerd.log", "containerd.log"]]
            raise Failed(f"{failed}:\n{logs[0][-4000:]}{logs[1][-2000:]}") from None

    def _answers(self):
        if self.process.poll() is not None:
            raise Failed(f"the engine ended with {self.process.returncode}")
        return self.docker("version", check=False).returncode == 0

    def stop(self):
        """Ends the engine with all its containers; their mounts and networks end with the namespaces."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        # All cgroups are empty now; the deepest go first.
        ours = ["(", "-path", f"*{self.cgroup}", "-o", "-path", f"*{self.cgroup}/*", ")"]
        for found in run(["find", "/sys/fs/cgroup", "-depth", "-type", "d", *ours], check=False).stdout.split():
            wait(f"{found} is empty", 30, lambda path=found: removed(path))
        for leftover in ["docker.pid", "docker.sock", "containerd.sock"]:
            (self.folder / leftover).unlink(missing_ok=True)

    def docker(self, *words, **options):
        """Runs the client."""
        return run(["docker", *map(str, words)], env=self.environment, **options)

    def enter(self, *words, **options):
        """Runs a program where the engine is: with its network and its process ids."""
        # `unshare` forks, so the first process of the namespaces is its child.
        first = run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)]).stdout.strip()
        return run(["nsenter", "--target", first, "--mount", "--pid", "--net", *map(str, words)], **options)


def removed(path):
    """Removes an empty folder; returns whether it is gone."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True

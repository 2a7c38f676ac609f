"""The project of docker-compose.yml on an engine, and what has to be true of its containers."""

import json
import re
import time

from engine import Failed, run, wait

# A minute for what happens every ten seconds, and for a machine that is busy with other things.
SOON = 120
# `up` waits for the images of the services before, and for the training.
COMPOSE_ENDS_WITHIN = 300
# Windrow's own services; the others run other people's images.
WINDROW = ["hub", "train", "simulator", "producer", "worker", "alerter", "grouper"]
LONG_RUNNING = ["hub", "simulator", "producer", "worker", "alerter", "grouper"]


class Stack:
    """The containers of a compose project."""

    def __init__(self, engine, compose, checkout, *files):
        self.engine = engine
        self.compose_program = compose
        self.checkout = checkout
        self.files = [word for file in files for word in ("--file", file)]

    def compose(self, *words, environment=(), **options):
        """Runs Compose as a user would, in the checkout."""
        options = {"timeout": COMPOSE_ENDS_WITHIN, "env": self.engine.environment | dict(environment)} | options
        return run([*self.compose_program, *self.files, *words], cwd=self.checkout, **options)

    def of_the_readme(self):
        """Returns the two commands of the README's section on Compose, without `docker compose`."""
        readme = (self.checkout / "README.md").read_text()
        commands = re.findall(r"^docker compose (.*)$", readme, re.MULTILINE)
        if len(commands) != 2 or "Half a minute later the second one shows anomalies" not in readme:
            raise Failed(f"the README's commands have changed: {commands}")
        return [command.split() for command in commands]

    def anomalies_within_half_a_minute(self, look):
        """Runs the README's second command until it shows anomalies; returns after how many seconds that was."""
        begin = time.monotonic()
        # No terminal here.
        words = [look[0], "-T", *look[1:]]
        wait("anomalies", SOON, lambda: len(self.compose(*words).stdout.splitlines()) > 1)
        return time.monotonic() - begin

    def windrow(self, *words, environment=(), check=True):
        """Runs a `windrow` command in a container of the service `cli`."""
        return self.compose("run", "--rm", "-T", *(word for one in environment for word in ("-e", one)), "cli", *words, check=check)

    def up(self, *words):
        """Starts what does not run yet."""
        self.compose("up", "--detach", *words)

    def down(self):
        """Deletes everything, and looks that nothing is left."""
        self.compose("--profile", "groups", "down", "--volumes")
        for what in [["ps", "--all"], ["volume", "ls"]]:
            left = self.engine.docker(*what, "--quiet").stdout
            if left:
                raise Failed(f"`down --volumes` left {' '.join(what)}: {left}")

    def containers(self, service=None):
        """Returns what `docker inspect` says of a service's containers, or of all."""
        label = ["--filter", f"label=com.docker.compose.service={service}"] if service else []
        ids = self.engine.docker("ps", "--all", "--quiet", *label).stdout.split()
        return json.loads(self.engine.docker("inspect", *ids).stdout) if ids else []

    def healthy(self, service, count=1):
        """Waits until a service has this many containers, all running and healthy."""
        def look():
            states = [container["State"] for container in self.containers(service)]
            return len(states) == count and all(
                state["Running"] and state.get("Health", {"Status": "healthy"})["Status"] == "healthy" for state in states)
        wait(f"{service} is healthy, {count} times", SOON, look)

    def predictions(self):
        """Returns how many windows have a prediction."""
        lines = self.windrow("predictions", "export", "--format", "csv").stdout.splitlines()
        return max(len(lines) - 1, 0)

    def predictions_go_on(self, at_least=1):
        """Waits for predictions beyond those of now; returns their number."""
        before = self.predictions()
        return wait("new predictions", SOON, lambda: (now := self.predictions()) >= before + at_least and now)

    def incidents(self):
        """Lists the incidents while the alerter runs; a simulated fleet may not have any this soon."""
        self.healthy("alerter")
        return len(json.loads(self.windrow("incidents", "list", "--output", "json").stdout))

    def tags_together(self):
        """Trains models of all tags of two devices as docs/models.md says, and waits until their windows are scored."""
        fleet = "sim:devices=2,tags=5,period=1s,seed=1,partitions=1,start=2026-03-02T00:00:00Z,duration=1h"
        self.windrow("models", "train", "--missing", "--group", "device", "--window", "10s", "--source", fleet)
        self.compose("--profile", "groups", "up", "--detach")
        self.healthy("grouper")

        def rows():
            said = self.windrow("predictions", "export", "--format", "csv").stdout
            return sum(",(group)," in line for line in said.splitlines())
        # A row needs half of the twenty windows that its columns are means of, which take 100 seconds to pass.
        return wait("predictions of all tags together", 2 * SOON, rows)

    def kill_a_worker_in_its_work(self):
        """Holds the worker until messages wait for it to settle them, kills it with SIGKILL, and waits for its successor."""
        [worker] = self.containers("worker")
        program = self.process(worker)
        self.engine.enter("kill", "-STOP", program)
        held = wait("the worker holds messages", SOON, lambda: self.queue()["unacked"])
        self.engine.enter("kill", "-KILL", program)

        def back():
            [now] = self.containers("worker")
            return now["RestartCount"] == worker["RestartCount"] + 1 and now["State"]["Running"]
        wait("the engine starts the worker again", SOON, back)
        self.healthy("worker")
        return held

    def scaler_instead_of_workers(self):
        """Starts the profile `scaler` as docs/operations.md says, and waits until it has started workers."""
        self.compose("--profile", "scaler", "up", "--detach", environment={"WORKERS": "0"})
        if self.containers("worker"):
            raise Failed("WORKERS=0 leaves workers")
        self.healthy("scaler")
        wait("workers of the scaler", SOON, lambda: self.queue()["consumers"])

    def worker_instead_of_the_scaler(self):
        """Ends the scaler, and starts a worker again."""
        self.compose("--profile", "scaler", "rm", "--stop", "--force", "scaler")
        self.up()
        self.healthy("worker")

    def process(self, container):
        """Returns the process id, in the engine's namespace, of the program under a container's init process."""
        return self.engine.enter("ps", "-o", "pid=", "--ppid", container["State"]["Pid"]).stdout.strip()

    def queue(self):
        """Returns what `windrow queue` says; it asks RabbitMQ's management API."""
        return json.loads(self.windrow("queue", "--output", "json").stdout)

    def audit_is_clean(self):
        """Waits until all that was dispatched is accounted for; returns the audit's last line but one."""
        def ask():
            audit = self.windrow("audit", check=False)
            # 5: messages are still waiting.
            if audit.returncode not in (0, 5):
                raise Failed(f"the audit ended with {audit.returncode}:\n{audit.stdout}{audit.stderr}")
            return audit.returncode == 0 and audit.stdout
        said = wait("a clean audit", SOON, ask)
        counts = re.search(r"([\d,]+) dispatched = ([\d,]+) predicted \+ 0 dead-lettered; 0 lost", said)
        if not counts or counts[1] == "0":
            raise Failed(f"the audit accounts for nothing:\n{said}")
        return counts[0]

    def hardened(self):
        """Looks at Windrow's containers: not root, no capabilities, a read-only file system, no new privileges."""
        for service in WINDROW:
            for container in self.containers(service):
                name, host = container["Name"], container["HostConfig"]
                if not host["ReadonlyRootfs"]:
                    raise Failed(f"{name} may write to its file system")
                if host["CapDrop"] != ["ALL"] or host["CapAdd"]:
                    raise Failed(f"{name} has capabilities: {host['CapDrop']} are dropped, {host['CapAdd']} added")
                if "no-new-privileges:true" not in (host["SecurityOpt"] or []) or host["Privileged"]:
                    raise Failed(f"{name} may gain privileges: {host['SecurityOpt']}")
        # What the kernel says of the processes themselves.
        for service in LONG_RUNNING:
            for container in self.containers(service):
                program = self.process(container)
                status = self.engine.enter("cat", f"/proc/{program}/status").stdout
                has = dict(re.findall(r"^(\w+):\s*(.*)$", status, re.MULTILINE))
                if "0" in has["Uid"].split() or int(has["CapBnd"], 16) or has["NoNewPrivs"] != "1":
                    raise Failed(f"{container['Name']} runs as user {has['Uid']} with {has['CapBnd']}, {has['NoNewPrivs']}")

    def secrets_are_not_shown(self, expected):
        """Looks for secrets where the engine shows them to everyone it lets in: in `docker inspect` and logs.

        `expected` are secrets of .env, by their file in the volume `secrets`. The service `secrets` may show the published
        keys that are the defaults in its command.
        """
        [defaults] = (json.dumps(container["Config"]["Cmd"][-1]) for container in self.containers("secrets"))
        [rabbitmq] = self.containers("rabbitmq")
        password, *others = (self.engine.docker("exec", rabbitmq["Id"], "cat", f"/run/windrow/{name}").stdout.strip()
                             for name in ["password", *expected])
        if len(password) < 20:
            raise Failed(f"the broker's password has {len(password)} characters")
        for (name, secret), found in zip(expected.items(), others):
            if secret not in found:
                raise Failed(f"the secret of .env is not in the file {name} of the volume")
        for container in self.containers():
            logs = self.engine.docker("logs", container["Id"])
            shown = json.dumps(container).replace(defaults, "")
            for secret in [password, *expected.values()]:
                if secret in shown:
                    raise Failed(f"`docker inspect {container['Name']}` shows the secret {secret[:4]}…")
                if secret in logs.stdout + logs.stderr:
                    raise Failed(f"`docker logs {container['Name']}` shows the secret {secret[:4]}…")

    def only_encrypted(self):
        """Looks that the broker listens with TLS only, and that the management API answers those who know its authority."""
        [rabbitmq] = self.containers("rabbitmq")
        listeners = self.engine.docker("exec", rabbitmq["Id"], "rabbitmq-diagnostics", "--quiet", "listeners").stdout
        ports = set(re.findall(r"port: (\d+), protocol: (\S+),", listeners))
        if not {("5671", "amqp/ssl"), ("15671", "https")} <= ports or {"5672", "15672"} & {port for port, _ in ports}:
            raise Failed(f"the broker does not listen with TLS only:\n{listeners}")
        if not self.queue()["consumers"]:
            raise Failed("`windrow queue` sees no consumer")
        # An authority that every Debian system trusts, but that has not signed the broker's certificate.
        another = "/usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt"
        stranger = self.windrow("queue", environment=[f"WINDROW_AMQP_CA={another}"], check=False)
        if stranger.returncode == 0 or "invalid peer certificate" not in stranger.stderr:
            raise Failed(f"the broker's certificate is not checked against --amqp-ca:\n{stranger.stdout}{stranger.stderr}")

    def tell(self, lines=60):
        """Returns the state and the last lines of every container, for a failure."""
        told = []
        for container in self.containers():
            state = container["State"]
            logs = self.engine.docker("logs", "--tail", lines, container["Id"], check=False)
            health = [probe["Output"] for probe in state.get("Health", {}).get("Log") or [] if probe["ExitCode"]]
            told.append(f"== {container['Name']}: {state['Status']}, exit code {state['ExitCode']}, "
                        f"{container['RestartCount']} restarts\n{''.join(health[-1:])}{logs.stdout}{logs.stderr}")
        return "\n".join(told)

"""Checks that the profile `scaler` of docker-compose.yml can take the place of the service `worker`.

    WORKERS=0 docker-compose config | python compose.py

Exits with 0 if it can, otherwise 2.
"""

import sys

import yaml


def faults(services):
    """Yields what the service `scaler` lacks, and what `worker` has too much."""
    worker, scaler = services["worker"], services["scaler"]
    # Its workers are processes that inherit its environment.
    for name, value in worker["environment"].items():
        if scaler["environment"].get(name) != value:
            yield f"scaler: {name} is not {value}, as for worker"
    if scaler.get("profiles") != ["scaler"]:
        yield "scaler: starts without its profile"
    if scaler["environment"].get("WINDROW_FLEET") != "process":
        yield "scaler: does not run workers in its container"
    if "cpus" in scaler:
        yield "scaler: its workers cannot use all cores"
    if worker.get("scale") != 0:
        yield "worker: WORKERS=0 does not remove it"


def main():
    wrong = list(faults(yaml.safe_load(sys.stdin)["services"]))
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 2 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""What the rendered manifests promise about memory: limits follow from settings and from measured sizes.

The sizes are in docs/operations.md#memory, where the arithmetic is too.
"""

import re

from manifests import settings, with_container

KB, MIB = 1000, 1 << 20
# What a limit has above what is needed, for fragments and bursts; it also covers what nobody has counted.
MARGIN = 1.25
# Windows in a message: an hour of minutes.
WINDOWS = 60

# A worker that holds no messages, with its threads and connections.
IDLE_WORKER = 50 * MIB
# A message of 60 windows, and a prediction, from its arrival to its ack.
MESSAGE = 9.2 * KB
PREDICTION = 1.2 * KB

# The fleet for which the producer's limits are made.
SENSORS = 100_000
# A producer with its connections, and with as many messages as may be unconfirmed.
BUSY_PRODUCER = 100 * MIB
# A sensor while a producer catches up: its open window, and those closed together with all others that are being
# published.
CATCHING_UP = 2.8 * KB
# A sensor of an hourly batch, and each of its open windows.
BATCHED, OPEN_WINDOW = 0.75 * KB, 150
# Event bodies that wait to be decoded, all partitions together.
BODIES = 64 * MIB
# An event of each partition waits for room among these bodies; a namespace takes none that are larger.
PARTITIONS, EVENT = 8, MIB
# What an alerter reads at once, what it holds of a window, and what it knows of a sensor.
PARTS_AT_ONCE, FLUSH_ROWS, PREDICTION_READ = 8, 100_000, 250
HELD_WINDOW, FOLLOWED_SENSOR = 80, 700
# What a grouper holds of a window.
GROUPED_WINDOW = 64


def of_worker(told):
    """Returns the bytes that a worker needs."""
    prefetch = int(told.get("WINDROW_PREFETCH", 10_000))
    flush_rows = int(told.get("WINDROW_FLUSH_ROWS", 100_000))
    # One part gathers while another is written.
    predictions = min(prefetch * WINDOWS, 2 * flush_rows)
    # Of larger messages, a consumer holds fewer.
    messages = max(prefetch * MESSAGE, int(told.get("WINDROW_PREFETCH_MIB", 128)) * MIB)
    in_hand = int(told.get("WINDROW_CONSUMERS", 1)) * (messages + predictions * PREDICTION)
    return IDLE_WORKER + int(told.get("WINDROW_MODEL_CACHE_MIB", 512)) * MIB + in_hand


def of_producer(told):
    """Returns the bytes that a producer needs, in a stream or for an hourly batch."""
    sensor = BATCHED + WINDOWS * OPEN_WINDOW if told.get("WINDROW_INTERVAL") == "1h" else CATCHING_UP
    fetched = int(told.get("WINDROW_EVENTHUBS_PREFETCH_MIB", 128)) * MIB + PARTITIONS * EVENT
    return BUSY_PRODUCER + SENSORS * sensor + BODIES + fetched


def of_alerter(told):
    """Returns the bytes that an alerter needs: the newest hour at least, whatever --most-held says."""
    held = max(int(told.get("WINDROW_MOST_HELD", 5_000_000)), SENSORS * WINDOWS)
    return IDLE_WORKER + PARTS_AT_ONCE * FLUSH_ROWS * PREDICTION_READ + held * HELD_WINDOW + SENSORS * FOLLOWED_SENSOR


def of_grouper(_told):
    """Returns the bytes that a grouper needs, with the default of --hold: an hour."""
    return IDLE_WORKER + PARTS_AT_ONCE * FLUSH_ROWS * PREDICTION_READ + SENSORS * WINDOWS * GROUPED_WINDOW


def quantity(text):
    """Returns the bytes of a Kubernetes quantity, such as 512Mi."""
    number, unit = re.fullmatch(r"(\d+)([KMG]i)?", text).groups()
    return int(number) << {None: 0, "Ki": 10, "Mi": 20, "Gi": 30}[unit]


def too_little(manifests):
    """Yields services whose limit lacks the margin above what their settings need, or whose request is below that."""
    for name, needs in (("worker", of_worker), ("producer", of_producer), ("alerter", of_alerter),
                        ("grouper", of_grouper)):
        for manifest, pod in with_container(manifests, name):
            needed = needs(settings(manifests, manifest))
            resources = pod["containers"][0]["resources"]
            for kind, factor in (("requests", 1), ("limits", MARGIN)):
                given = quantity(resources[kind]["memory"])
                if given < factor * needed:
                    mib = f"{given / MIB:.0f} MiB, and its settings need {factor * needed / MIB:.0f}"
                    yield manifest, f"resources.{kind}.memory is {mib}"


CHECKS = [too_little]

#!/usr/bin/env python3
"""Plants bugs, one after another, and says which simulated history finds each.

    make planted            all of them, in a copy of the checkout; takes a few minutes
    planted.py 3 7          only these

A bug is a place in the code and what stands there instead. If a place has changed, the bug has to be planted anew.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

SEEDS = 1_000
AT_A_TIME = 50
WINDOW, PRODUCER = "producer/src/window/", "producer/src/"

# What goes wrong, the file, the place, and what stands there instead.
BUGS = [
    ("a restart judges again what was set aside", WINDOW + "judge.rs",
     "|| partition.verdicts.was_set_aside(&batch.readings, index)", ""),
    ("a restart judges everything again", WINDOW + "verdicts.rs",
     "        offset < self.judged_before\n", "        offset < Offset(0) && offset < self.judged_before\n"),
    ("a restart resumes where the run before stopped", WINDOW + "mod.rs",
     "        open.chain(left).min().unwrap_or(next)", "        _ = open.chain(left).min();\n        next"),
    ("a replay closes intervals by the watermark", WINDOW + "live.rs",
     "        if self.partitions.iter().any(Partition::is_replaying) {\n            return;\n        }\n        let windowing",
     "        let windowing"),
    ("effects are seen before they are claimed", PRODUCER + "journal.rs",
     "        match leaves_traces {\n            true => self.save(&mut state).await,",
     "        match leaves_traces {\n            true => Ok(()),"),
    ("what was claimed as set aside is not written again", WINDOW + "verdicts.rs",
     "        let claim = self.claim.as_ref()?;\n        let reading",
     "        let claim = self.claim.as_ref().filter(|_| false)?;\n        let reading"),
    ("claimed intervals take further readings", WINDOW + "judge.rs",
     "let closed_through = dispatched_through.max(claimed_through);",
     "_ = claimed_through;\n            let closed_through = dispatched_through;"),
    ("a position moves before its messages are confirmed", PRODUCER + "dispatch.rs",
     "confirmer.confirm(confirmation).await?;", "drop(confirmation);"),
    ("a producer saves although it has lost its partition", PRODUCER + "checkpoint/blob.rs",
     "let write = || self.store.put_if(&self.path, json.clone(), self.version.as_ref());",
     "let write = || async { self.store.put(&self.path, json.clone()).await?; "
     "Ok(self.store.get_versioned(&self.path).await?.expect(\"it was written\").1) };"),
    ("readings that were set aside are not always written", PRODUCER + "dispatch.rs",
     "self.writer.write_lines(quarantine::TABLE, lines).await?;",
     "if emitted.messages.is_empty() { self.writer.write_lines(quarantine::TABLE, lines).await?; }"),
    ("a part whose write failed counts as written", "store/src/part.rs",
     'wait_out("writing a part", || self.store.put(path, bytes.clone())).await',
     "{ _ = self.store.put(path, bytes.clone()).await; Ok(()) }"),
    ("a message is acked before its predictions are written", "worker/src/persist.rs",
     "    for rows in writer.write_rows(predictions).await? {",
     "    let late = writer.clone();\n    tokio::spawn(async move {\n"
     "        tokio::time::sleep(std::time::Duration::from_secs(2)).await;\n"
     "        if windrow_common::random() % 2 == 0 { _ = late.write_rows(predictions).await; }\n    });\n"
     "    for rows in Vec::<usize>::new() {"),
    ("two sources share a checkpoint", PRODUCER + "checkpoint/origin.rs",
     "        if self.source != now.source {", "        if false {"),
    ("a file is known by its name", PRODUCER + "source/file/names.rs",
     "Some(content) => holds(file, content).unwrap_or(false),", "Some(_) => true,"),
    ("a renamed file is read again", PRODUCER + "source/file/names.rs",
     "let name = self.find(file)?;", "let name = self.find(file).filter(|_| false)?;"),
    ("a deleted file takes open windows along, and nobody says so", PRODUCER + "checkpoint/mod.rs",
     "position.resume < judged && !there.contains(name)", "_ = (judged, &there);\n            position.resume < position.resume && !name.is_empty()"),
]


def check(checkout):
    """Ends with an error if a bug can no longer be planted."""
    for number, (what, file, place, _) in enumerate(BUGS, 1):
        path = checkout / file
        if not path.exists() or place not in path.read_text():
            sys.exit(f"{number}. {what}: {file} has changed, plant the bug anew")


def simulation(tree):
    """Builds the simulation and returns its program."""
    build = subprocess.run(
        ["cargo", "test", "--quiet", "--workspace", "--test", "simulation", "--no-run", "--message-format=json"],
        cwd=tree, capture_output=True, text=True)
    if build.returncode != 0:
        sys.exit(f"does not compile:\n{build.stderr}")
    return re.findall(r'"executable":"([^"]*simulation[^"]*)"', build.stdout)[-1]


def search(program):
    """Returns the first seed that fails, and what it says."""
    for first in range(0, SEEDS, AT_A_TIME):
        seeds = dict(os.environ, WINDROW_SEEDS=f"{first}..{first + AT_A_TIME}")
        run = subprocess.run([program], env=seeds, capture_output=True, text=True)
        if run.returncode != 0:
            found = re.search(r"seed (\d+): (.*)", run.stdout + run.stderr)
            return found.groups() if found else (first, run.stderr)
    return None


def main():
    checkout = Path(__file__).resolve().parents[3]
    check(checkout)
    if sys.argv[1:] == ["--check"]:
        return
    os.environ.setdefault("CARGO_TARGET_DIR", str(checkout / "target/planted"))
    wanted = [int(number) for number in sys.argv[1:]] or range(1, len(BUGS) + 1)
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "windrow"
        subprocess.run(["git", "clone", "--quiet", checkout, tree], check=True)
        for number in wanted:
            what, file, place, instead = BUGS[number - 1]
            right = (tree / file).read_text()
            (tree / file).write_text(right.replace(place, instead, 1))
            found = search(simulation(tree))
            (tree / file).write_text(right)
            print(f"{number}. {what}:", f"seed {found[0]}, {found[1][:100]}" if found else "NOT FOUND", flush=True)
            missed += [] if found else [number]
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()

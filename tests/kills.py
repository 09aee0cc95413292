"""Kills runs at random and checks that they end as if nothing had happened.

    python tests/kills.py KILN [--kills 50] [--seed 1] [--keep FOLDER]

KILN is the program. Each run is done once without a break, and once more with SIGKILL after random times until it ends. Weights,
results and training metrics of both must be the same, bit for bit; times may differ. Needs Python alone.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = {
    "quickstart": ["seeds=[1,2]", "data.synthetic.train=2000", "data.synthetic.dev=200", "latency.repeats=1"],
    "recall": [
        "data.recall.train=1280", "data.recall.dev=100", "data.recall.test=200", "data.epoch=320", "train.epochs=4",
        "model.random.dropout=0.1", "train.accumulate=2",
    ],
}
TIMES = ("latency_ms", "seconds")


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [without_times(inner) for inner in value]
    return value


def contents(folder):
    """What must be the same: hashes of weights, results, and the lines of training metrics."""
    found = {}
    inner = (Path(at, name) for at, _, names in os.walk(folder, followlinks=True) for name in names)
    for path in sorted(inner):
        name = str(path.relative_to(folder))
        if path.suffix == ".safetensors":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "results.json":
            found[name] = without_times(json.loads(path.read_text()))
        elif path.name == "metrics.jsonl" and path.parent.name == "training":
            found[name] = path.read_text()
    return found


def start(kiln, recipe, keys, out):
    # Three owners of a stage that die in a row count as a failure, which --retry tries again.
    places = ["--out", str(out), "--store", f"{out}-store", "--retry"]
    command = [kiln, "run", recipe, *keys, "checkpoint.every=5 steps", *places]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process):
    _, error = process.communicate()
    if process.returncode != 0:
        sys.exit(f"exit code {process.returncode}: {error.decode(errors='replace').strip()}")


def broken(kiln, recipe, keys, out, kills, longest):
    """Runs to the end with at most so many kills; returns how many there were."""
    done = 0
    while True:
        process = start(kiln, recipe, keys, out)
        if done == kills:
            finish(process)
            return done
        try:
            process.wait(random.uniform(0.05, longest))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            done += 1
            continue
        finish(process)
        return done


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kiln")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    random.seed(args.seed)
    folder = args.keep or Path(tempfile.mkdtemp())
    each = args.kills // len(RUNS)
    for recipe, keys in RUNS.items():
        whole, parts = folder / f"{recipe}-whole", folder / f"{recipe}-parts"
        clock = time.monotonic()
        finish(start(args.kiln, recipe, keys, whole))
        seconds = time.monotonic() - clock
        expected, kills, runs = contents(whole), 0, 0
        while kills < each:
            for old in (parts, Path(f"{parts}-store")):
                shutil.rmtree(old, ignore_errors=True)
            kills += broken(args.kiln, recipe, keys, parts, each - kills, max(0.5, seconds / 4))
            runs += 1
            found = contents(parts)
            names = expected.keys() | found.keys()
            differ = sorted(name for name in names if expected.get(name) != found.get(name))
            if differ:
                sys.exit(f"{recipe}: after {kills} kills these differ: {', '.join(differ)} (in {folder})")
        print(f"{recipe}: {kills} kills in {runs} runs of {seconds:.0f} s; {len(expected)} files the same", flush=True)
    if not args.keep:
        shutil.rmtree(folder)


main()

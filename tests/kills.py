"""Kills runs at random and checks that they end as if nothing had happened.

    python tests/kills.py KILN [--kills 60] [--only NAME] [--seed 1] [--keep FOLDER]

KILN is the program. Each run is done once without a break, and once more with SIGKILL after random times until it ends: of the process
that works, or, in the sweep, of one of four, and now and then of the one that started them. Weights, results, predictions and training
metrics of both must be the same, bit for bit; times may differ. Needs Linux, and Python alone.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

QUICK = ["data.synthetic.train=2000", "data.synthetic.dev=200", "latency.repeats=1"]
RUNS = {
    "quickstart": ["run", "quickstart", "seeds=[1,2]", *QUICK],
    "recall": [
        "run", "recall", "data.recall.train=1280", "data.recall.dev=100", "data.recall.test=200", "data.epoch=320",
        "train.epochs=4", "model.random.dropout=0.1", "train.accumulate=2",
    ],
    "sweep": [
        "ablate", "quickstart", "arms=[]", "experts.order=importance,random,inverse", "experts.shared=0,4", "--seeds", "2",
        "--jobs", "4", *QUICK,
    ],
}
# What says what something took, and where; results.md has latencies.
TIMES = ("timings", "environment", "progress", "results.md")
SAME = (".safetensors", ".parquet", ".csv", ".md", ".json", ".jsonl", ".svg")
# Why a stage may fail here: three of its owners in a row were killed.
LOST = "the process ended without recording a failure"


def contents(folder):
    """What must be the same: hashes of weights, results, predictions and training metrics."""
    found = {}
    inner = (Path(at, name) for at, _, names in os.walk(folder, followlinks=True) for name in names)
    for path in sorted(inner):
        if path.suffix in SAME and path.name != "done.json" and not path.name.startswith(TIMES):
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def start(kiln, arguments, out):
    # Three owners of a stage that die in a row count as a failure, which --retry tries again.
    places = ["--out", str(out), "--store", f"{out}-store", "--retry", "--keep-going", "--ui", "none"]
    command = [kiln, *arguments, "checkpoint.every=5 steps", *places]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process):
    _, error = process.communicate()
    if process.returncode != 0:
        sys.exit(f"exit code {process.returncode}: {error.decode(errors='replace').strip()}")


def target(process):
    """A process that works: one that this one started, or itself."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    try:
        workers = [int(number) for number in children.read_text().split()]
    except OSError:
        workers = []
    return process.pid if not workers or random.random() < 0.1 else random.choice(workers)


def broken(kiln, arguments, out, kills, longest):
    """Runs to the end with at most so many kills; returns how many there were."""
    done = 0
    process = start(kiln, arguments, out)
    while done < kills:
        try:
            process.wait(random.uniform(0.05, longest))
        except subprocess.TimeoutExpired:
            killed = target(process)
            try:
                os.kill(killed, signal.SIGKILL)
            except ProcessLookupError:
                continue
            done += 1
            if killed != process.pid:
                continue
        _, error = process.communicate()
        if process.returncode == 0:
            return done
        if process.returncode != -signal.SIGKILL and LOST not in error.decode(errors="replace"):
            sys.exit(f"exit code {process.returncode}: {error.decode(errors='replace').strip()}")
        process = start(kiln, arguments, out)
    while process.wait() != 0:
        _, error = process.communicate()
        if LOST not in error.decode(errors="replace"):
            sys.exit(f"exit code {process.returncode}: {error.decode(errors='replace').strip()}")
        process = start(kiln, arguments, out)
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kiln")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--only", choices=RUNS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    random.seed(args.seed)
    folder = args.keep or Path(tempfile.mkdtemp())
    names = [args.only] if args.only else list(RUNS)
    each = args.kills // len(names)
    for name in names:
        whole, parts = folder / f"{name}-whole", folder / f"{name}-parts"
        clock = time.monotonic()
        finish(start(args.kiln, RUNS[name], whole))
        seconds = time.monotonic() - clock
        expected, kills, runs = contents(whole), 0, 0
        while kills < each:
            for old in (parts, Path(f"{parts}-store")):
                shutil.rmtree(old, ignore_errors=True)
            kills += broken(args.kiln, RUNS[name], parts, each - kills, max(0.5, seconds / 4))
            runs += 1
            found = contents(parts)
            paths = expected.keys() | found.keys()
            differ = sorted(path for path in paths if expected.get(path) != found.get(path))
            if differ:
                sys.exit(f"{name}: after {kills} kills these differ: {', '.join(differ)} (in {folder})")
        print(f"{name}: {kills} kills in {runs} runs of {seconds:.0f} s; {len(expected)} files the same", flush=True)
    if not args.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

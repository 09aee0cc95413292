"""Kiln and its peers, in turn, on one machine.

Each round measures a case in Kiln and then in every peer; the medians of the rounds are compared, and the
best setting of the best peer is what Kiln's ratio is to.
"""

import argparse
import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from statistics import median
from typing import Callable

import torch


@dataclass
class Comparison:
    """A case of a bench of Kiln, and the same work in peers."""

    bench: str
    case: str
    size: int = 0
    arguments: list[str] = field(default_factory=list)
    # By the peer's name, what makes the function that does the work once.
    peers: dict[str, Callable[[], Callable[[], object]]] = field(default_factory=dict)
    # By the peer's name, a program of its own that is given the seconds, and prints `median_ms`.
    programs: dict[str, list[str]] = field(default_factory=dict)


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("program", help="kiln, built with --release")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each case of each round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help="cases with this text in their name")
    return parser


def printed(command, threads):
    """What a program of Rust prints as JSON."""
    environment = dict(os.environ, RAYON_NUM_THREADS=str(threads))
    return json.loads(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)


def kiln(program, comparison, seconds, threads):
    """The median time of a case in milliseconds."""
    command = [program, "bench", comparison.bench, "--json", "--seconds", str(seconds)]
    command += ["--case", comparison.case, *comparison.arguments]
    for row in printed(command, threads)["rows"]:
        if row["name"] == comparison.case and row["size"] == comparison.size:
            return row["time"]["median_ms"]
    raise SystemExit(f"kiln measured no case `{comparison.case}` of size {comparison.size}")


def timed(run, seconds):
    """The median time of a function in milliseconds, after one call that does not count."""
    run()
    start, times = time.perf_counter(), []
    while len(times) < 3 or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        run()
        times.append((time.perf_counter() - before) * 1e3)
    return median(times)


def compare(comparisons, given):
    """Prints a line for each case: Kiln, every peer, and the best peer's time as a multiple of Kiln's."""
    torch.manual_seed(0)
    counts = sorted({1, given.threads})
    print(f"PyTorch {torch.__version__}; medians of {given.rounds} rounds, in milliseconds; Kiln with "
          f"{given.threads} threads, each peer with the best of {counts}")
    print("\n| case | size | Kiln | peers | ratio |\n|---|---:|---:|---|---:|")
    for comparison in comparisons:
        if given.only and given.only not in comparison.case:
            continue
        runs = {}
        for name, make in comparison.peers.items():
            try:
                runs[name] = make()
                runs[name]()
            except Exception as error:  # A peer that cannot do this work is named, and left out.
                runs.pop(name, None)
                print(f"<!-- {name}: {type(error).__name__}: {str(error).splitlines()[0][:120]} -->")
        names = [*runs, *comparison.programs]
        ours, theirs = [], {(name, count): [] for name in names for count in counts}
        for _ in range(given.rounds):
            ours.append(kiln(given.program, comparison, given.seconds, given.threads))
            for (name, count), times in theirs.items():
                if name in comparison.programs:
                    command = [*comparison.programs[name], str(given.seconds)]
                    times.append(printed(command, count)["median_ms"])
                else:
                    torch.set_num_threads(count)
                    times.append(timed(runs[name], given.seconds))
        best = {}
        for (name, count), times in theirs.items():
            best[name] = min(best.get(name, (float("inf"), 0)), (median(times), count))
        cells = ", ".join(f"{name} {ms:.2f}" + (f" ({count} thread)" if count == 1 else "")
                          for name, (ms, count) in best.items())
        ratio = min(best.values())[0] / median(ours) if best else float("nan")
        print(f"| {comparison.case} | {comparison.size or ''} | {median(ours):.2f} | {cells} | {ratio:.2f} |", flush=True)

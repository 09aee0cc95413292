"""The fused operations of Kiln against the same work in PyTorch, in turn, in one session.

    cargo bench --workspace --bench ops --no-run        (prints where the program lies)
    OMP_WAIT_POLICY=passive python ops.py PROGRAM [--threads 2] [--rounds 5] [--compile] [CASE..]

Each round runs a case for about a second in Kiln and then in PyTorch; the table has the medians of the
rounds in milliseconds, and how many times faster Kiln is. Needs torch.
"""

import argparse
import json
import subprocess
import time
from statistics import median

import torch
import torch.nn.functional as F

EPSILON = 1e-5
EXPERTS = 4


def gelu(approximate):
    return lambda x, bias: F.gelu(x + bias, approximate=approximate)


def layer_norm(x, gamma, beta):
    return F.layer_norm(x, gamma.shape[1:], gamma[0], beta[0], EPSILON)


def cross_entropy(targets):
    return lambda logits: F.cross_entropy(logits, targets, reduction="none")[:, None]


def linear_cross_entropy(targets):
    return lambda x, head: F.cross_entropy(F.linear(x, head), targets, reduction="none")[:, None]


def feed_forward(x, inner, inner_bias, outer, outer_bias):
    # PyTorch stores weights the other way round.
    return F.linear(F.gelu(F.linear(x, inner, inner_bias[0])), outer, outer_bias[0])


def embedding(ids):
    return lambda table: F.embedding(ids, table)


def experts(assigned):
    """Grouped by expert, as a model in PyTorch would have it."""

    def function(x, *tensors):
        output = torch.empty_like(x)
        for index in range(EXPERTS):
            inner, outer, inner_bias, outer_bias, gamma, beta = tensors[6 * index : 6 * index + 6]
            rows = (assigned == index).nonzero()[:, 0]
            tokens = x[rows]
            hidden = feed_forward(tokens, inner, inner_bias, outer, outer_bias)
            output = output.index_copy(0, rows, layer_norm(hidden + tokens, gamma, beta))
        return output

    return function


# The cases of ops.rs: the kind and its shape.
CASES = {
    "gelu": ("gelu", 1024, 3072, 0),
    "gelu-tanh": ("gelu-tanh", 1024, 3072, 0),
    "layer-norm": ("layer-norm", 1024, 3072, 0),
    "layer-norm-768": ("layer-norm", 4096, 768, 0),
    "layer-norm-128": ("layer-norm", 8192, 128, 0),
    "cross-entropy": ("cross-entropy", 1024, 30522, 0),
    "cross-entropy-bytes": ("cross-entropy", 8192, 257, 0),
    "linear-cross-entropy": ("linear-cross-entropy", 1024, 768, 50257),
    "linear-cross-entropy-bytes": ("linear-cross-entropy", 8192, 128, 257),
    "feed-forward-768": ("feed-forward", 1024, 768, 3072),
    "feed-forward-768-long": ("feed-forward", 8192, 768, 3072),
    "feed-forward-768-chunks": ("feed-forward", 8192, 768, 3072),
    "feed-forward-128": ("feed-forward", 1024, 128, 512),
    "feed-forward-128-long": ("feed-forward", 8192, 128, 512),
    "feed-forward-128-chunks": ("feed-forward", 8192, 128, 512),
    "embedding": ("embedding", 1024, 768, 30522),
    "experts-768": ("experts", 128, 768, 768),
    "experts-768-long": ("experts", 1024, 768, 768),
    "experts-64": ("experts", 128, 64, 8),
}


def make(kind, rows, width, inner):
    """The function of a case, its inputs, and the vector that its output is multiplied by."""
    below = inner or width
    targets = torch.tensor([row * 7919 % below for row in range(rows)])
    functions = {
        "gelu": (gelu("none"), [(rows, width), (1, width)], width),
        "gelu-tanh": (gelu("tanh"), [(rows, width), (1, width)], width),
        "layer-norm": (layer_norm, [(rows, width), (1, width), (1, width)], width),
        "cross-entropy": (cross_entropy(targets), [(rows, width)], 1),
        "linear-cross-entropy": (linear_cross_entropy(targets), [(rows, width), (inner, width)], 1),
        "feed-forward": (
            feed_forward,
            [(rows, width), (inner, width), (1, inner), (width, inner), (1, width)],
            width,
        ),
        "embedding": (embedding(targets), [(inner, width)], width),
        "experts": (
            experts(torch.tensor([row * 7919 // 13 % EXPERTS for row in range(rows)])),
            [(rows, width), *EXPERTS * [(inner, width), (width, inner), (1, inner), *3 * [(1, width)]]],
            width,
        ),
    }
    function, shapes, classes = functions[kind]
    inputs = [torch.randn(shape) * (1.0 if index == 0 else 0.02) for index, shape in enumerate(shapes)]
    return function, [x.requires_grad_() for x in inputs], torch.rand(classes, 1)


def timed(run):
    run()
    start, times = time.perf_counter(), []
    while len(times) < 3 or time.perf_counter() - start < 0.5:
        before = time.perf_counter()
        run()
        times.append((time.perf_counter() - before) * 1e3)
    return median(times)


def pytorch(function, inputs, end):
    def forward():
        with torch.inference_mode():
            function(*inputs)

    def both():
        for x in inputs:
            x.grad = None
        (function(*inputs) @ end).sum().backward()

    return {"forward": timed(forward), "both": timed(both)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    kiln = subprocess.Popen([arguments.program, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    print(f"PyTorch {torch.__version__}, {arguments.threads} threads")
    print("| case | Kiln | PyTorch | ratio | Kiln, with backward | PyTorch | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.cases or CASES:
        function, inputs, end = make(*CASES[name])
        if arguments.compile:
            function = torch.compile(function)
        rounds = []
        for _ in range(arguments.rounds):
            print(name, file=kiln.stdin, flush=True)
            ours = json.loads(kiln.stdout.readline())
            rounds.append((ours, pytorch(function, inputs, end)))
        cells = []
        for key in ["forward", "both"]:
            ours = median(kiln[key] for kiln, _ in rounds)
            theirs = median(peer[key] for _, peer in rounds)
            cells += [f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    kiln.stdin.close()
    kiln.wait()


if __name__ == "__main__":
    main()

"""The fused operations of Kiln against the same work in PyTorch.

    OMP_WAIT_POLICY=passive python ops.py KILN [--only gelu]
"""

import torch
import torch.nn.functional as F

from turns import Comparison, arguments, compare

EPSILON = 1e-5
EXPERTS = 4


def gelu(approximate):
    return lambda x, bias: F.gelu(x + bias, approximate=approximate)


def layer_norm(x, gamma, beta):
    return F.layer_norm(x, gamma.shape[1:], gamma[0], beta[0], EPSILON)


def softmax(x):
    return F.softmax(x, dim=1)


def cross_entropy(targets):
    return lambda logits: F.cross_entropy(logits, targets, reduction="none")[:, None]


def linear_cross_entropy(targets):
    return lambda x, head: F.cross_entropy(F.linear(x, head), targets)[None, None]


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


# Names as in `kiln bench ops`, with rows, width, and the second width.
CASES = [
    ("gelu 3072", "gelu", 1024, 3072, 0),
    ("gelu tanh 3072", "gelu-tanh", 1024, 3072, 0),
    ("layer norm 3072", "layer-norm", 1024, 3072, 0),
    ("layer norm 768", "layer-norm", 4096, 768, 0),
    ("layer norm 128", "layer-norm", 8192, 128, 0),
    ("softmax 3072", "softmax", 1024, 3072, 0),
    ("softmax 128", "softmax", 8192, 128, 0),
    ("cross entropy 30522", "cross-entropy", 1024, 30522, 0),
    ("cross entropy 257", "cross-entropy", 8192, 257, 0),
    ("linear cross entropy 768x50257", "linear-cross-entropy", 1024, 768, 50257),
    ("linear cross entropy 128x257", "linear-cross-entropy", 8192, 128, 257),
    ("feed-forward 768x3072", "feed-forward", 1024, 768, 3072),
    ("feed-forward 768x3072", "feed-forward", 8192, 768, 3072),
    ("feed-forward 768x3072 by 1024", "feed-forward", 8192, 768, 3072),
    ("feed-forward 128x512", "feed-forward", 8192, 128, 512),
    ("feed-forward 128x512 by 1024", "feed-forward", 8192, 128, 512),
    ("embedding 30522x768", "embedding", 1024, 768, 30522),
    ("4 experts 768x768", "experts", 128, 768, 768),
    ("4 experts 768x768", "experts", 1024, 768, 768),
    ("4 experts 64x8", "experts", 128, 64, 8),
]


def work(kind, rows, width, inner, training, compiled):
    def make():
        targets = torch.arange(rows) * 7919 % (inner or width)
        matrix, vector = (rows, width), (1, width)
        assigned = torch.arange(rows) * 7919 // 13 % EXPERTS
        expert = [(inner, width), (width, inner), (1, inner), vector, vector, vector]
        function, shapes, outputs = {
            "gelu": (gelu("none"), [matrix, vector], width),
            "gelu-tanh": (gelu("tanh"), [matrix, vector], width),
            "layer-norm": (layer_norm, [matrix, vector, vector], width),
            "softmax": (softmax, [matrix], width),
            "cross-entropy": (cross_entropy(targets), [matrix], 1),
            "linear-cross-entropy": (linear_cross_entropy(targets), [matrix, (inner, width)], 1),
            "embedding": (embedding(targets), [(inner, width)], width),
            "experts": (experts(assigned), [matrix, *EXPERTS * expert], width),
            "feed-forward": (feed_forward, [matrix, (inner, width), (1, inner), (width, inner), vector], width),
        }[kind]
        scales = [1.0 if index == 0 else 0.02 for index in range(len(shapes))]
        inputs = [torch.randn(shape) * scale for shape, scale in zip(shapes, scales)]
        inputs = [x.requires_grad_(training) for x in inputs]
        end = torch.rand(outputs, 1)
        call = torch.compile(function) if compiled else function

        def forward():
            with torch.inference_mode():
                return call(*inputs)

        def both():
            for x in inputs:
                x.grad = None
            (call(*inputs) @ end).sum().backward()

        return both if training else forward

    return make


def main():
    given = arguments(__doc__.splitlines()[0]).parse_args()
    comparisons = []
    for name, *case in CASES:
        for training in [False, True]:
            peers = {"eager": work(*case, training, False), "compiled": work(*case, training, True)}
            full = f"{name}, {'training' if training else 'forward'}"
            comparisons.append(Comparison("ops", full, case[1], peers=peers))
    compare(comparisons, given)


if __name__ == "__main__":
    main()

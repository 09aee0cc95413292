"""One causal attention layer, full and with a window, against PyTorch.

    OMP_WAIT_POLICY=passive python attention.py KILN [--lengths 1024,4096,8192] [--width 256]

PyTorch's settings: `scaled_dot_product_attention`, for a window with a band mask or without one (then it
computes too much, though often faster), and FlexAttention, compiled.
"""

import torch
import torch.nn.functional as F

from turns import Comparison, arguments, compare

HEADS, HEAD_WIDTH = 12, 64


def inputs(length, training):
    shape = (1, HEADS, length, HEAD_WIDTH)
    return [torch.randn(shape, requires_grad=training) for _ in range(3)], torch.randn(shape)


def work(attend, length, training):
    """Attention once, with the gradients of queries, keys and values in training."""

    def make():
        attention = attend(length)
        tensors, gradient = inputs(length, training)

        def forward():
            with torch.inference_mode():
                return attention(*tensors)

        def both():
            for tensor in tensors:
                tensor.grad = None
            (attention(*tensors) * gradient).sum().backward()

        return both if training else forward

    return make


def causal(_):
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)


def banded(width):
    def attend(length):
        distance = torch.arange(length)[:, None] - torch.arange(length)[None, :]
        mask = (distance >= 0) & (distance < width)
        return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    return attend


def flex(width):
    def attend(length):
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        def band(_batch, _head, query, key):
            return (query >= key) & (query - key < width)

        mask = create_block_mask(band, None, None, length, length, device="cpu")
        attention = torch.compile(flex_attention)
        return lambda q, k, v: attention(q, k, v, block_mask=mask)

    return attend


def main():
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--lengths", default="1024,4096,8192")
    parser.add_argument("--width", type=int, default=256)
    given = parser.parse_args()
    lengths = [int(length) for length in given.lengths.split(",")]
    comparisons = []
    for span in ["full", f"window:{given.width}"]:
        for training in [False, True]:
            for length in lengths:
                peers = {"causal": causal}
                if span != "full":
                    peers |= {"band": banded(given.width), "flex": flex(given.width)}
                comparisons.append(Comparison(
                    "attention",
                    f"{span}, {'training' if training else 'forward'}",
                    length,
                    ["--lengths", str(length), "--width", str(given.width)],
                    {name: work(attend, length, training) for name, attend in peers.items()},
                ))
    compare(comparisons, given)


if __name__ == "__main__":
    main()

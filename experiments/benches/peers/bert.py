"""A forward pass of BERT-base, and a step of training of MiniLM's size, against PyTorch, ONNX Runtime and candle.

    OMP_WAIT_POLICY=passive python bert.py KILN [--candle PROGRAM] [--only forward]

The models have random weights. PyTorch runs Transformers' BERT with its fused attention, as it is and
compiled, and AdamW as one fused operation. A layer of experts in PyTorch selects each expert's tokens,
computes them, and adds them to their places, as MoEBERT's published code does.
"""

import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from turns import Comparison, arguments, compare

EXPERTS = 4


def bert(hidden=768, layers=12, width=3072):
    config = BertConfig(
        hidden_size=hidden, num_hidden_layers=layers, intermediate_size=width, attn_implementation="sdpa"
    )
    return BertForSequenceClassification(config)


def ids(batch, length):
    return torch.randint(0, 30522, (batch, length), generator=torch.Generator().manual_seed(0))


class Experts(nn.Module):
    """Feed-forward experts, of which the token's id chooses one."""

    def __init__(self, hidden, width, table):
        super().__init__()
        self.inner = nn.ModuleList(nn.Linear(hidden, width) for _ in range(EXPERTS))
        self.outer = nn.ModuleList(nn.Linear(width, hidden) for _ in range(EXPERTS))
        self.register_buffer("table", table)
        self.tokens = None

    def forward(self, hidden):
        flat = hidden.flatten(0, 1)
        chosen = self.table[self.tokens.flatten()]
        output = torch.zeros_like(flat)
        for expert, (inner, outer) in enumerate(zip(self.inner, self.outer)):
            rows = (chosen == expert).nonzero(as_tuple=True)[0]
            output.index_add_(0, rows, outer(F.gelu(inner(flat[rows]))))
        return output.view_as(hidden)


class ExpertHalf(nn.Module):
    """The second half of a BERT layer with experts."""

    def __init__(self, layer, hidden, width, table):
        super().__init__()
        self.experts = Experts(hidden, width, table)
        self.norm = layer.output.LayerNorm
        self.dropout = layer.output.dropout

    def forward(self, hidden):
        return self.norm(self.dropout(self.experts(hidden)) + hidden)


def with_experts(model, width):
    hidden = model.config.hidden_size
    table = torch.randint(0, EXPERTS, (30522,), generator=torch.Generator().manual_seed(1))
    for layer in model.bert.encoder.layer:
        half = ExpertHalf(layer, hidden, width, table)
        layer.experts = half
        layer.feed_forward_chunk = half.forward
    return model


def route(model, tokens):
    for layer in model.bert.encoder.layer:
        if hasattr(layer, "experts"):
            layer.experts.experts.tokens = tokens


def forward(batch, length, width=None, compiled=False):
    def make():
        model = bert().eval()
        if width:
            model = with_experts(model, width)
        tokens = ids(batch, length)
        route(model, tokens)
        call = torch.compile(model) if compiled else model

        def run():
            with torch.inference_mode():
                return call(input_ids=tokens).logits

        return run

    return make


def onnx(batch, length, threads):
    def make():
        import onnxruntime

        model = bert().eval()
        path = Path(tempfile.mkdtemp()) / "bert.onnx"
        tokens = ids(batch, length)
        inputs = (tokens, torch.ones_like(tokens), torch.zeros_like(tokens))
        names = ["input_ids", "attention_mask", "token_type_ids"]
        torch.onnx.export(model, inputs, path, input_names=names, dynamo=True)
        sessions = {}
        for count in {1, threads}:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = count
            sessions[count] = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        known = {entry.name for entry in sessions[1].get_inputs()}
        fed = {name: value.numpy() for name, value in zip(names, inputs) if name in known}
        # Its threads are fixed with the session, those of PyTorch say which one is meant.
        return lambda: sessions[torch.get_num_threads()].run(None, fed)

    return make


def training(batch, length, compiled=False, distilled=False):
    def make():
        dense = bert(hidden=384, layers=6, width=1536)
        model = with_experts(bert(hidden=384, layers=6, width=1536), 384) if distilled else dense
        model.train()
        tokens = ids(batch, length)
        route(model, tokens)
        classes = torch.arange(batch) % 2
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01, fused=True)
        call = torch.compile(model) if compiled else model
        teacher = dense.eval() if distilled else None

        def run():
            output = call(input_ids=tokens, output_hidden_states=distilled)
            loss = F.cross_entropy(output.logits, classes)
            if distilled:
                with torch.no_grad():
                    target = teacher(input_ids=tokens, output_hidden_states=True)
                for state, wanted in zip(output.hidden_states, target.hidden_states):
                    loss = loss + F.mse_loss(state, wanted)
                p, q = output.logits.log_softmax(-1), target.logits.log_softmax(-1)
                loss = loss + ((p.exp() - q.exp()) * (p - q)).sum(-1).mean() / 2
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        return run

    return make


def main():
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--candle", help="candle-peer, built with --release")
    given = parser.parse_args()
    comparisons = []
    for batch in [1, 8]:
        length = 128
        sizes = ["--batches", str(batch), "--length", str(length)]
        programs = {"candle": [given.candle, str(batch), str(length)]} if given.candle else {}
        comparisons.append(Comparison("bert", "dense, forward", batch, sizes, {
            "eager": forward(batch, length),
            "compiled": forward(batch, length, compiled=True),
            "ONNX Runtime": onnx(batch, length, given.threads),
        }, programs))
        comparisons.append(Comparison("bert", "experts, forward", batch, sizes, {
            "eager": forward(batch, length, width=768),
        }))
    batch, length = 32, 64
    sizes = ["--batches", str(batch), "--length", str(length)]
    comparisons.append(Comparison("train", "dense, training", batch, sizes, {
        "eager": training(batch, length),
        "compiled": training(batch, length, compiled=True),
    }))
    comparisons.append(Comparison("train", "experts, distillation", batch, sizes, {
        "eager": training(batch, length, distilled=True),
    }))
    compare(comparisons, given)


if __name__ == "__main__":
    main()

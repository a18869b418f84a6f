"""The encoder and its loss in plain PyTorch, in float64: what every faster path is compared with.

Of the encoder it takes options and parameters, and none of its code. All positions have logits, autograd alone
makes the gradients, and whatever does not apply to an encoder is left out by an `if`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mlm.encoder import Encoder
from mlm.schedules import Pattern


def seen(pattern: Pattern, visible: Tensor) -> Tensor:
    """[rows, length] -> [rows, 1, length, length] bool: whether i attends to j, and all to themselves."""
    i, j = torch.meshgrid(*[torch.arange(visible.shape[1])] * 2, indexing="ij")
    found = visible[:, None, None, :] & ((j <= i) if pattern.causal else True)
    if pattern.window is not None:
        found = found & ((i - j).abs() <= (pattern.window if pattern.causal else pattern.window // 2))
    if pattern.group is not None:
        found = found & (i // pattern.group == j // pattern.group)
    return found | (i == j)


def angles(length: int, width: int) -> Tensor:
    """[length, width / 2]: position / 10000^(2i / width)."""
    i = torch.arange(width // 2, dtype=torch.float64)
    return torch.arange(length)[:, None] / 10000 ** (2 * i / width)


def rotated(x: Tensor) -> Tensor:
    """Each pair (x_i, x_{i + half}), as a complex number, turned by the angle of its position."""
    turned = torch.complex(*x.chunk(2, -1)) * torch.exp(1j * angles(*x.shape[-2:]))
    return torch.cat([turned.real, turned.imag], -1)


class PlainEncoder:
    def __init__(self, encoder: Encoder) -> None:
        self.options = encoder.options
        self.weights = {name: p.detach().double().requires_grad_() for name, p in encoder.named_parameters()}

    def loss(self, pattern: Pattern, inputs: Tensor, labels: Tensor, predicted: Tensor, visible: Tensor,
             segments: Tensor, related: Tensor | None) -> Tensor:  # fmt: skip
        """Mean over the predicted positions, and over the rows where they are pairs."""
        states = self.hidden(inputs, segments, seen(pattern, visible))
        logits = self.logits(states)
        if pattern.causal:  # each is predicted from the one before it
            logits, labels, predicted = logits[:, :-1], labels[:, 1:], predicted[:, 1:]
        summed = F.cross_entropy(logits[predicted], labels[predicted], reduction="sum")
        mean = summed / max(1, int(predicted.sum()))
        if related is None:
            return mean
        pooled = self.linear("pooler", states[:, 0]).tanh()
        return mean + F.cross_entropy(self.linear("relation_head", pooled), related)

    def hidden(self, inputs: Tensor, segments: Tensor, seen: Tensor) -> Tensor:
        """[rows, length, width] behind the last norm."""
        options, length = self.options, inputs.shape[1]
        x = self.weights["embedding"][inputs]
        if options.segments:
            x = x + self.weights["segment"][segments]
        if options.positions == "learned":
            x = x + self.weights["position"][:length]
        if options.positions == "sinusoidal":
            turned = angles(length, options.width)
            x = x + 0.02 * 2**0.5 * torch.cat([turned.sin(), turned.cos()], -1)
        if options.embedding_norm:
            x = self.norm("embedding_norm", x)
        for number in range(options.layers):
            block = f"blocks.{number}"
            if options.norm_place == "pre":
                x = x + self.attend(block, self.norm(f"{block}.attention_norm", x), seen)
                x = x + self.feed(block, self.norm(f"{block}.feedforward_norm", x))
            else:
                x = self.norm(f"{block}.attention_norm", x + self.attend(block, x, seen))
                x = self.norm(f"{block}.feedforward_norm", x + self.feed(block, x))
        return self.norm("final_norm", x) if options.norm_place == "pre" else x

    def attend(self, block: str, x: Tensor, seen: Tensor) -> Tensor:
        each = self.options.width // self.options.heads
        parts = self.linear(f"{block}.query_key_value", x).chunk(3, -1)
        query, key, value = (part.unflatten(-1, (-1, each)).transpose(1, 2) for part in parts)
        scale = 12 / each if self.options.query_key_norm else each**-0.5
        if self.options.query_key_norm:
            query, key = (F.rms_norm(part, (each,), eps=1e-6) for part in (query, key))
        if self.options.positions == "rotary":
            query, key = rotated(query), rotated(key)
        logits = (scale * query @ key.transpose(2, 3)).masked_fill(~seen, -torch.inf)
        mixed = logits.softmax(-1) @ value
        return self.linear(f"{block}.attention_output", mixed.transpose(1, 2).flatten(2))

    def feed(self, block: str, x: Tensor) -> Tensor:
        inner = self.linear(f"{block}.feedforward_in", x)
        inner = F.gelu(inner) if self.options.activation == "gelu" else inner.relu() ** 2
        return self.linear(f"{block}.feedforward_out", inner)

    def logits(self, x: Tensor) -> Tensor:
        if self.options.head_transform:
            x = self.norm("head_norm", F.gelu(self.linear("head_dense", x)))
        return F.linear(x, self.weights["embedding"], self.weights.get("head_bias"))

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def norm(self, name: str, x: Tensor) -> Tensor:
        if self.options.norm == "rms":
            return F.rms_norm(x, x.shape[-1:], eps=1e-6)
        return F.layer_norm(
            x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], 1e-12
        )

"""Corrupted tokens -> hidden states -> logits at the selected positions.

One small transformer with options; `config.PRESETS` names two settings of them: `bert` (Devlin et al.
2018) and `modern` (rotary positions, Su et al. 2021; query-key norm, Henry et al. 2020; pre-RMSNorm,
Zhang & Sennrich 2019; ReLU², So et al. 2021). Weights are kept in float32 and used in `dtype`.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mlm import config
from mlm.randomness import Purpose, Uniform, generator

INITIAL_DEVIATION = 0.02  # of BERT's truncated normal
QUERY_KEY_SCALE = 12.0  # logits between unit-norm queries and keys: 12 times their cosine


class Dropout:
    """Inverted dropout whose draws come from a stated source; without one it does nothing."""

    def __init__(self, rate: float, uniform: Uniform | None) -> None:
        self.rate, self.uniform = rate, uniform if rate > 0 else None

    def __call__(self, x: Tensor) -> Tensor:
        if self.uniform is None:
            return x
        kept = self.uniform(tuple(x.shape)).to(x.device) >= self.rate
        return x * kept / (1 - self.rate)


class _RMSNorm(torch.autograd.Function):
    """x / sqrt(mean(x²) + ε), without gain; the statistics in float32.

    Written out because the composed operations of autograd cost a fifth of a step on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = torch.rsqrt(norm * norm / x.shape[-1] + 1e-6)
        y = x * scale.to(x.dtype)
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        y, scale = ctx.saved_tensors
        along = (gradient * y).mean(-1, keepdim=True)
        result: Tensor = (gradient - y * along) * scale.to(gradient.dtype)
        return result


def rms_norm(x: Float[Tensor, "*places width"]) -> Float[Tensor, "*places width"]:
    """[…, width] -> the same with unit root mean square."""
    return _RMSNorm.apply(x)  # type: ignore[no-any-return, no-untyped-call]


class Norm(nn.Module):
    """LayerNorm with gain and bias, or RMSNorm without."""

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        self.layer = kind == "layer"
        if self.layer:
            self.weight = nn.Parameter(torch.ones(width))
            self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        if not self.layer:
            return rms_norm(x)
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return F.layer_norm(x, (x.shape[-1],), weight, bias, eps=1e-12)


class Linear(nn.Module):
    """x Wᵀ (+ b), computed in the type of x."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor, begin: int = 0, end: int | None = None) -> Tensor:
        """Use the output rows begin:end only."""
        bias = None if self.bias is None else self.bias[begin:end].to(x.dtype)
        return F.linear(x, self.weight[begin:end].to(x.dtype), bias)


def rotary_table(
    length: int, head_width: int
) -> tuple[Float[Tensor, "length half"], Float[Tensor, "length half"]]:
    """[length, head_width / 2] cosines and sines of position · 10000^(-2i / head_width)."""
    inverse = 10000.0 ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), inverse)
    return angles.cos().float(), angles.sin().float()


class _Rotate(torch.autograd.Function):
    """x ⊙ (cos, cos) + swapped(x) ⊙ (-sin, sin); its gradient is the rotation back.

    Whole rows at a time: on a CPU, halves of a head are too short a run for its vector units.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        cosines, sines = torch.cat([cosine, cosine], -1), torch.cat([-sine, sine], -1)
        ctx.save_for_backward(cosines, sines)
        return x.roll(x.shape[-1] // 2, -1).mul_(sines).addcmul_(x, cosines)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        cosines, sines = ctx.saved_tensors
        swapped = gradient.roll(gradient.shape[-1] // 2, -1)
        return swapped.mul_(-sines).addcmul_(gradient, cosines), None, None


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate the pairs (x_i, x_{i + half}) of the last dimension (Su et al. 2021, eq. 34)."""
    return _Rotate.apply(x, cosine, sine)  # type: ignore[no-any-return, no-untyped-call]


class _ReLUSquared(torch.autograd.Function):
    """max(x, 0)², with a gradient in two passes where autograd's own takes four."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = x.clamp_min(0)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (positive,) = ctx.saved_tensors
        result: Tensor = (gradient * positive).mul_(2)
        return result


def relu_squared(x: Tensor) -> Tensor:
    """max(x, 0)² (So et al. 2021)."""
    return _ReLUSquared.apply(x)  # type: ignore[no-any-return, no-untyped-call]


class Block(nn.Module):
    """Attention and feed-forward with residuals; norms before (pre) or behind (post) each."""

    def __init__(self, options: config.Encoder) -> None:
        super().__init__()
        width, inner, bias = options.width, options.feedforward_width, options.biases
        self.options = options
        self.query_key_value = Linear(width, 3 * width, bias)
        self.attention_output = Linear(width, width, bias)
        self.attention_norm = Norm(options.norm, width)
        self.feedforward_in = Linear(width, inner, bias)
        self.feedforward_out = Linear(inner, width, bias)
        self.feedforward_norm = Norm(options.norm, width)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, dropout: Dropout,
                at: Tensor | None = None, visible: Tensor | None = None) -> Tensor:  # fmt: skip
        """[rows, length, width] -> the same, or [rows, targets, width] where `at` selects positions.

        Args:
            rotary: cosines and sines of all positions, or None.
            at: [rows, targets] positions whose output is wanted. The result is that of computing all
                and selecting, since keys and values still come from every position.
            visible: [rows, length] bool, False at padding.
        """
        pre = self.options.norm_place == "pre"
        normed = self.attention_norm(x) if pre else x
        if at is not None:
            x = _rows(x, at)
        x = x + dropout(self.attention_output(self._attend(normed, rotary, dropout, at, visible)))
        if not pre:
            x = self.attention_norm(x)
        inner = self.feedforward_in(self.feedforward_norm(x) if pre else x)
        active = F.gelu(inner) if self.options.activation == "gelu" else relu_squared(inner)
        x = x + dropout(self.feedforward_out(active))
        return x if pre else self.feedforward_norm(x)

    def _attend(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, dropout: Dropout,
                at: Tensor | None, visible: Tensor | None) -> Tensor:  # fmt: skip
        rows, length, width = x.shape
        heads, projection = self.options.heads, self.query_key_value

        def split(y: Tensor, parts: int) -> Tensor:  # -> [parts, rows, heads, positions, head width]
            return y.view(rows, -1, parts, heads, width // heads).permute(2, 0, 3, 1, 4)

        if at is None:
            query, key, value = split(projection(x), 3)
        else:
            (query,) = split(projection(_rows(x, at), 0, width), 1)
            key, value = split(projection(x, width), 2)
        scale = (width // heads) ** -0.5
        if self.options.query_key_norm:
            query, key, scale = rms_norm(query), rms_norm(key), QUERY_KEY_SCALE / (width // heads)
        if rotary is not None:
            cosine, sine = (table[:length].to(x.dtype) for table in rotary)
            key = rotate(key, cosine, sine)
            if at is not None:
                cosine, sine = cosine[at][:, None], sine[at][:, None]
            query = rotate(query, cosine, sine)
        mixed = _attention(query, key, value, scale, dropout, visible)
        return mixed.transpose(1, 2).reshape(rows, -1, width)


def _rows(x: Tensor, at: Tensor) -> Tensor:
    """[rows, length, width] at [rows, targets] -> [rows, targets, width]."""
    return x.gather(1, at[:, :, None].expand(-1, -1, x.shape[-1]))


def _attention(query: Tensor, key: Tensor, value: Tensor, scale: float,
               dropout: Dropout, visible: Tensor | None) -> Tensor:  # fmt: skip
    """softmax(q kᵀ · scale) v over [rows, heads, positions, head width]."""
    mask = None if visible is None else visible[:, None, None, :]
    if query.is_cuda and dropout.uniform is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    # On a CPU two products and a softmax are half as slow again to write and 1.5 times as fast.
    logits = (query * scale) @ key.transpose(-1, -2)
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf)
    return dropout(logits.softmax(-1)) @ value


class Encoder(nn.Module):
    """Transformer encoder with a prediction head tied to its embedding.

    Args:
        options: resolved configuration.
        n_tokens: size of the vocabulary.
        seed: run seed; each parameter is drawn from its own (seed, name) stream.
        dtype: type of the activations; weights stay float32.
    """

    def __init__(self, options: config.Encoder, n_tokens: int, seed: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.options, self.n_tokens, self.dtype = options, n_tokens, dtype
        width = options.width
        self.embedding = nn.Parameter(torch.empty(n_tokens, width))
        if options.positions == "learned":
            self.position = nn.Parameter(torch.empty(options.max_positions, width))
        self.embedding_norm = Norm(options.norm, width)
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.layers))
        self.final_norm = Norm(options.norm, width) if options.norm_place == "pre" else nn.Identity()
        if options.head_transform:
            self.head_dense = Linear(width, width, options.biases)
            self.head_norm = Norm(options.norm, width)
        if options.biases:
            self.head_bias = nn.Parameter(torch.zeros(n_tokens))
        if options.positions == "rotary":
            cosine, sine = rotary_table(options.max_positions, width // options.heads)
            self.register_buffer("cosine", cosine, persistent=False)
            self.register_buffer("sine", sine, persistent=False)
        self._initialise(seed)

    @torch.no_grad()
    def _initialise(self, seed: int) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue  # gains stay at one, biases at zero
            draws = generator(seed, Purpose.INITIALISATION, name=name)
            values = torch.from_numpy(draws.standard_normal(tuple(parameter.shape), dtype="float32"))
            if self.options.norm_place == "post" or "embedding" in name or "position" in name:
                deviation = INITIAL_DEVIATION
            elif name.endswith(("attention_output.weight", "feedforward_out.weight")):
                deviation = 0.0  # every block begins as the identity
            else:
                deviation = parameter.shape[1] ** -0.5
            parameter.copy_(values.mul_(deviation))

    def hidden(self, tokens: Int[Tensor, "rows length"], *, at: Int[Tensor, "rows targets"] | None = None,
               visible: Bool[Tensor, "rows length"] | None = None,
               uniform: Uniform | None = None) -> list[Float[Tensor, "rows _ width"]]:  # fmt: skip
        """Hidden states behind the embedding and behind each layer: layers + 1 tensors.

        Args:
            tokens: [rows, length] int64.
            at: [rows, targets]: the last state is wanted at these positions only.
            visible: [rows, length] bool, False at padding, which then no position attends to.
            uniform: source of dropout's draws; None means no dropout.
        """
        dropout = Dropout(self.options.dropout, uniform)
        x = F.embedding(tokens, self.embedding)
        rotary = None
        if self.options.positions == "learned":
            x = x + self.position[: tokens.shape[1]]
        else:
            rotary = (self.cosine, self.sine)
        x = dropout(self.embedding_norm(x)).to(self.dtype)
        states = [x]
        for number, block in enumerate(self.blocks, start=1):
            last = number == len(self.blocks)
            x = block(x, rotary, dropout, at if last else None, visible)
            states.append(x)
        return states

    def logits(self, x: Float[Tensor, "*places width"]) -> Float[Tensor, "*places n_tokens"]:
        """[…, width] last hidden state -> […, n_tokens] logits, in the encoder's dtype."""
        x = self.final_norm(x)
        if self.options.head_transform:
            x = self.head_norm(F.gelu(self.head_dense(x)))
        bias = self.head_bias.to(x.dtype) if self.options.biases else None
        return F.linear(x, self.embedding.to(x.dtype), bias)

    def forward(self, tokens: Int[Tensor, "rows length"], *, at: Int[Tensor, "rows targets"] | None = None,
                visible: Bool[Tensor, "rows length"] | None = None,
                uniform: Uniform | None = None) -> Float[Tensor, "rows places n_tokens"]:  # fmt: skip
        """[rows, length] tokens -> [rows, length or targets, n_tokens] logits."""
        return self.logits(self.hidden(tokens, at=at, visible=visible, uniform=uniform)[-1])


def training_flops(options: config.Encoder, n_tokens: int, length: int) -> int:
    """Floating-point operations of one training token in the plain model.

    Three times the forward pass (Kaplan et al. 2020, arXiv 2001.08361): two operations a weight of
    every matrix a token passes through, the head included, and 4 · length · width a layer for
    attention's two products. What a shortcut saves is not subtracted.
    """
    width, inner = options.width, options.feedforward_width
    matrices = options.layers * (4 * width * width + 2 * width * inner) + n_tokens * width
    matrices += width * width if options.head_transform else 0
    return 3 * (2 * matrices + options.layers * 4 * length * width)

"""What a transformer is made of: norms, projections, rotary positions, attention, one block.

Pre- and post-norm, LayerNorm or RMSNorm (Zhang & Sennrich 2019), GELU or ReLU² (So et al. 2021), rotary
positions (Su et al. 2021), query-key norm (Henry et al. 2020). Weights are float32, used in the type of x.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mlm import config
from mlm.randomness import Uniform

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
    if torch.compiler.is_compiling():  # the compiler fuses the plain form, and cannot see into the other
        square = x.float().pow(2).mean(-1, keepdim=True)
        return x * torch.rsqrt(square + 1e-6).to(x.dtype)
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
    if torch.compiler.is_compiling():
        left, right = x.chunk(2, -1)
        return torch.cat([left * cosine - right * sine, right * cosine + left * sine], -1)
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
    if torch.compiler.is_compiling():
        return F.relu(x).square()
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
                at: Tensor | None = None, seen: Tensor | None = None) -> Tensor:  # fmt: skip
        """[rows, length, width] -> the same, or [rows, targets, width] where `at` selects positions.

        Args:
            rotary: cosines and sines of all positions, or None.
            at: [rows, targets] positions whose output is wanted. The result is that of computing all
                and selecting, since keys and values still come from every position.
            seen: bool, True where a position (of all, or of those `at`) attends to another; broadcasts to
                [rows, heads, positions, length]. None: every one to every other.
        """
        pre = self.options.norm_place == "pre"
        normed = self.attention_norm(x) if pre else x
        if at is not None:
            x = rows_at(x, at)
        x = x + dropout(self.attention_output(self._attend(normed, rotary, dropout, at, seen)))
        if not pre:
            x = self.attention_norm(x)
        inner = self.feedforward_in(self.feedforward_norm(x) if pre else x)
        active = F.gelu(inner) if self.options.activation == "gelu" else relu_squared(inner)
        x = x + dropout(self.feedforward_out(active))
        return x if pre else self.feedforward_norm(x)

    def _attend(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, dropout: Dropout,
                at: Tensor | None, seen: Tensor | None) -> Tensor:  # fmt: skip
        rows, length, width = x.shape
        heads, projection = self.options.heads, self.query_key_value

        def split(y: Tensor, parts: int) -> tuple[Tensor, ...]:  # each [rows, positions, heads, head width]
            return y.view(rows, -1, parts, heads, width // heads).unbind(2)

        if at is None:
            query, key, value = split(projection(x), 3)
        else:
            (query,) = split(projection(rows_at(x, at), 0, width), 1)
            key, value = split(projection(x, width), 2)
        scale = (width // heads) ** -0.5
        if self.options.query_key_norm:
            query, key, scale = rms_norm(query), rms_norm(key), QUERY_KEY_SCALE / (width // heads)
        if rotary is not None:
            cosine, sine = (table[:length, None].to(x.dtype) for table in rotary)
            key = rotate(key, cosine, sine)
            query = rotate(query, cosine, sine) if at is None else rotate(query, cosine[at], sine[at])
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        mixed = attention(query, key, value, scale, dropout, seen)
        return mixed.transpose(1, 2).reshape(rows, -1, width)


def rows_at(x: Tensor, at: Tensor) -> Tensor:
    """[rows, length, width] at [rows, targets] -> [rows, targets, width]."""
    return x.gather(1, at[:, :, None].expand(-1, -1, x.shape[-1]))


class _Attend(torch.autograd.Function):
    """softmax(q kᵀ) v over [rows, heads, positions, head width].

    The gradients are written out so that each comes in the order of what it is of: autograd's own makes
    that of k transposed, and putting it right costs more than the product.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> Tensor:
        # As stacks of matrices: the compiler would copy what is transposed between more dimensions.
        shape = query.shape
        query, key, value = (part.flatten(0, 1) for part in (query, key, value))
        logits = torch.bmm(query, key.transpose(1, 2)).view(*shape[:3], -1)
        if seen is not None:
            logits = logits.masked_fill(~seen, -math.inf)
        weights = logits.softmax(-1).flatten(0, 1)
        ctx.save_for_backward(query, key, value, weights)
        return torch.bmm(weights, value).view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key, value, weights = ctx.saved_tensors
        stack, gradient = gradient.shape[:2], gradient.flatten(0, 1)
        of_weights = torch.bmm(gradient, value.transpose(1, 2))
        of_logits = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_query = torch.bmm(of_logits, key)
        of_key = torch.bmm(of_logits.transpose(1, 2), query)
        of_value = torch.bmm(weights.transpose(1, 2), gradient)
        return *(part.view(*stack, *part.shape[1:]) for part in (of_query, of_key, of_value)), None


def attention(query: Tensor, key: Tensor, value: Tensor, scale: float,
              dropout: Dropout, seen: Tensor | None) -> Tensor:  # fmt: skip
    """softmax(q kᵀ · scale) v over [rows, heads, positions, head width]."""
    if query.is_cuda and dropout.uniform is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scale)
    # On a CPU two products and a softmax are half as slow again to write and 1.5 times as fast.
    if dropout.uniform is None:
        return _Attend.apply(query * scale, key, value, seen)  # type: ignore[no-any-return, no-untyped-call]
    logits = (query * scale) @ key.transpose(-1, -2)
    if seen is not None:
        logits = logits.masked_fill(~seen, -math.inf)
    return dropout(logits.softmax(-1)) @ value

"""Corrupted tokens -> hidden states -> logits at the selected positions.

One small transformer with options; `config.PRESETS` names two settings of them: `bert` (Devlin et al.
2018) and `modern` (rotary positions, Su et al. 2021; query-key norm, Henry et al. 2020; pre-RMSNorm,
Zhang & Sennrich 2019; ReLU², So et al. 2021). Weights are kept in float32 and used in `dtype`.
"""

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mlm import config
from mlm.block import Block, Dropout, Linear, Norm, rotary_table
from mlm.randomness import Purpose, Uniform, generator
from mlm.schedules import Pattern

INITIAL_DEVIATION = 0.02  # BERT's; its normal is cut off at two deviations, this one is not


@functools.lru_cache(maxsize=16)
def allowed(pattern: Pattern, length: int, device: torch.device) -> Bool[Tensor, "length length"] | None:
    """[length, length] bool: row i is True where position i may attend; None where it may everywhere.

    >>> allowed(Pattern(causal=True, window=1), 3, torch.device("cpu")).int().tolist()
    [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    >>> allowed(Pattern(group=2), 4, torch.device("cpu")).int().tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    """
    if pattern.everywhere(length):
        return None
    causal, window, group = pattern
    reach = length if window is None else window if causal else window // 2
    at = torch.arange(length, device=device)
    left = at[:, None] - at  # how far to the left of position i position j lies
    seen = left.abs() <= reach
    if causal:
        seen &= left >= 0
    if group is not None:
        seen &= at[:, None] // group == at // group
    return seen


def sinusoidal_table(length: int, width: int) -> Float[Tensor, "length width"]:
    """[length, width] sines, then cosines, of position · 10000^(-2i / width).

    Vaswani et al. 2017, section 3.5; as large as embeddings at first, where the paper enlarges those.
    """
    cosine, sine = rotary_table(length, width)
    return torch.cat([sine, cosine], -1) * (INITIAL_DEVIATION * math.sqrt(2))


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
        if options.segments:  # Devlin et al. 2018: their embeddings, and a judgement of the pair from [CLS]
            self.segment = nn.Parameter(torch.empty(2, width))
            self.pooler = Linear(width, width, bias=True)
            self.relation_head = Linear(width, 2, bias=True)
        self.embedding_norm = Norm(options.norm, width) if options.embedding_norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.layers))
        self.final_norm = Norm(options.norm, width) if options.norm_place == "pre" else nn.Identity()
        if options.head_transform:
            self.head_dense = Linear(width, width, options.biases)
            self.head_norm = Norm(options.norm, width)
        if options.biases:
            self.head_bias = nn.Parameter(torch.zeros(n_tokens))
        if options.positions == "sinusoidal":
            table = sinusoidal_table(options.max_positions, width)
            self.register_buffer("position", table, persistent=False)
        if options.positions == "rotary":
            cosine, sine = rotary_table(options.max_positions, width // options.heads)
            self.register_buffer("cosine", cosine, persistent=False)
            self.register_buffer("sine", sine, persistent=False)
        self.pattern = Pattern()
        """Which positions attend to which; belongs to the run and may change while it trains."""
        self.table: Tensor | None = None
        """The same as `allowed` gives it, for compiled code, which then is one for all patterns."""
        self._initialise(seed)

    @torch.no_grad()
    def _initialise(self, seed: int) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue  # gains stay at one, biases at zero
            draws = generator(seed, Purpose.INITIALISATION, name=name)
            values = torch.from_numpy(draws.standard_normal(tuple(parameter.shape), dtype="float32"))
            if self.options.norm_place == "post" or name in ("embedding", "position", "segment"):
                deviation = INITIAL_DEVIATION
            elif name.endswith(("attention_output.weight", "feedforward_out.weight")):
                deviation = 0.0  # every block begins as the identity
            else:
                deviation = parameter.shape[1] ** -0.5
            parameter.copy_(values.mul_(deviation))

    def hidden(self, tokens: Int[Tensor, "rows length"], *, at: Int[Tensor, "rows targets"] | None = None,
               visible: Bool[Tensor, "rows length"] | None = None,
               segments: Int[Tensor, "rows length"] | None = None,
               uniform: Uniform | None = None) -> list[Float[Tensor, "rows _ width"]]:  # fmt: skip
        """Hidden states behind the embedding and behind each layer: layers + 1 tensors.

        Args:
            tokens: [rows, length] int64.
            at: [rows, targets]: the last state is wanted at these positions only.
            visible: [rows, length] bool, False at padding, which then no position attends to.
            segments: [rows, length] 0 or 1; all 0 unless given.
            uniform: source of dropout's draws; None means no dropout.
        """
        dropout = Dropout(self.options.dropout, uniform)
        x = F.embedding(tokens, self.embedding)
        if self.options.segments:
            x = x + (self.segment[0] if segments is None else F.embedding(segments, self.segment))
        rotary = None
        if self.options.positions == "rotary":
            rotary = (self.cosine, self.sine)
        else:
            x = x + self.position[: tokens.shape[1]]
        x = dropout(self.embedding_norm(x)).to(self.dtype)
        seen, seen_at = self._seen(tokens, at, visible)
        states = [x]
        for block in self.blocks[:-1]:
            x = block(x, rotary, dropout, seen=seen)
            states.append(x)
        return [*states, self.blocks[-1](x, rotary, dropout, at, seen_at)]

    def _seen(self, tokens: Tensor, at: Tensor | None, visible: Tensor | None) -> tuple[Any, Any]:
        """What every position attends to, and what those `at` do, as `Block.forward` takes it."""
        if torch.compiler.is_compiling():
            pattern = self.table
        else:
            pattern = allowed(self.pattern, tokens.shape[1], tokens.device)
        keys = None if visible is None else visible[:, None, None, :]
        if pattern is None:
            return keys, keys
        chosen = pattern if at is None else pattern[at][:, None]
        if keys is None:
            return pattern, chosen
        # Every position sees itself: padding that saw nothing would be no number, and spread.
        itself = torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device)
        itself_at = itself if at is None else itself[at][:, None]
        return pattern & keys | itself, chosen & keys | itself_at

    def logits(self, x: Float[Tensor, "*places width"]) -> Float[Tensor, "*places n_tokens"]:
        """[…, width] last hidden state -> […, n_tokens] logits, in the encoder's dtype."""
        x = self.final_norm(x)
        if self.options.head_transform:
            x = self.head_norm(F.gelu(self.head_dense(x)))
        bias = self.head_bias.to(x.dtype) if self.options.biases else None
        return F.linear(x, self.embedding.to(x.dtype), bias)

    def relation(self, x: Float[Tensor, "rows width"]) -> Float[Tensor, "rows 2"]:
        """[rows, width] last hidden state of [CLS] -> logits that a pair is torn, and that it is one."""
        return self.relation_head(torch.tanh(self.pooler(self.final_norm(x))))  # type: ignore[no-any-return]

    def forward(self, tokens: Int[Tensor, "rows length"], *, at: Int[Tensor, "rows targets"] | None = None,
                visible: Bool[Tensor, "rows length"] | None = None,
                segments: Int[Tensor, "rows length"] | None = None,
                uniform: Uniform | None = None) -> Float[Tensor, "rows places n_tokens"]:  # fmt: skip
        """[rows, length] tokens -> [rows, length or targets, n_tokens] logits."""
        states = self.hidden(tokens, at=at, visible=visible, segments=segments, uniform=uniform)
        return self.logits(states[-1])

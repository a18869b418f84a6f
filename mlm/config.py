"""What a run is made of: every knob with its unit, default and limits. Loads no torch.

A resolved `Run` holds no name of an experiment or arm and no measure: two arms that ask for
the same training are the same run.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, Tag, model_validator

from mlm.config_encoder import PRESETS, SIZES, Encoder
from mlm.config_masking import YARDSTICK, Change, Masking, Span, Split
from mlm.fields import Count, CountOrZero, Name, PluginPath, Positive, Rise, Share, or_plugin, section_or, whole
from mlm.yaml_file import Strict

__all__ = [
    "PRESETS", "SIZES", "YARDSTICK", "Change", "Count", "Encoder", "Masking", "PluginPath", "Positive", "Share",
    "Span", "Split",
]  # fmt: skip
"""What is defined elsewhere and known as a part of this module."""

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Ids 0 to 4 of every vocabulary; never selected, never drawn."""
PAD, UNK, CLS, SEP, MASK = range(5)
N_SPECIAL = len(SPECIAL_TOKENS)


class Vocabulary(Strict):
    """A SentencePiece model of `size` pieces, the five special tokens included."""

    kind: Literal["unigram", "bpe", "char"] = "unigram"
    size: Annotated[int, BeforeValidator(whole), Field(gt=N_SPECIAL, le=2**31 - 1)] = 2048


class Optimizer(Strict):
    """AdamW (Loshchilov & Hutter 2019) under warm-up, constant and decay, all in tokens."""

    learning_rate: Positive = 3e-3
    warmup_tokens: CountOrZero = 0
    decay_tokens: CountOrZero = 0
    decay_shape: Rise = "linear"
    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.98
    epsilon: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    clip_norm: Positive = 1.0


class Curve(Strict):
    """Validation during training, on frozen masks: how often and on how many windows."""

    every_tokens: Count = 262_144
    sequences: Count = 256


class Numerics(Strict):
    """What decides the bits beside the configuration; detected once per study, then fixed."""

    device: Literal["cpu", "cuda"]
    dtype: Literal["float32", "bfloat16"]
    path: Literal["eager", "compiled"] = "eager"
    deterministic: bool = False
    """On CUDA: ask for deterministic kernels, as a study does unless told. On the CPU they always are."""
    processes: Count = 1
    """Of one run, each with a share of every batch: on the CPU cores, on CUDA devices (`mlm.distributed`)."""


class Growth(Strict):
    """A whole quantity that takes a few values one after another while a run trains."""

    shape: Annotated[str, or_plugin("staged", "linear", "cosine")]
    values: Annotated[list[Count], Field(min_length=2)]
    """Ascending; the last is what the run ends with."""
    ends: list[Share] = []
    """Of `staged`: the share of the run at which each value but the last ends; equal parts unless told."""
    until: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.8
    """Of the other shapes, rounded down to one of the values: the share at which the last is reached."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if any(a >= b for a, b in itertools.pairwise(self.values)):
            raise ValueError(f"values: {self.values} are not in ascending order; sort them, each once")
        if self.shape == "staged" and self.until != 0.8:
            raise ValueError("until: goes with the other shapes; of shape: staged, give `ends`")
        if self.ends and (self.shape != "staged" or len(self.ends) != len(self.values) - 1):
            raise ValueError("ends: go with shape: staged, one for each of the `values` but the last")
        if any(a >= b for a, b in itertools.pairwise(self.ends)):
            raise ValueError(f"ends: {self.ends} are not in ascending order; sort them, each once")
        return self


class Attention(Strict):
    """Which positions a position may attend to; all, unless told. Causal objectives see none to the right."""

    window: (
        Annotated[
            Annotated[Count, Tag("<number>")] | Annotated[Growth, Tag("<section>")],
            section_or("<number>", Growth),
        ]
        | None
    ) = None
    """Positions up to half of it away on either side; with a causal objective all of it to the left."""
    group: Count | None = None
    """Only the own group of so many neighbouring positions."""


class Spaced(Strict):
    """Moments in equal ratios, from `first` to the end of the budget."""

    first: Count
    number: Annotated[int, Field(ge=2, le=1000)]


OBJECTIVES = ("mlm", "causal", "nsp", "sop", "mlm+nsp", "mlm+sop")
RELATIONS = ("nsp", "sop")
PAIR_LENGTH = 5
"""Of the shortest [CLS] A [SEP] B [SEP]."""


class Run(Strict):
    """One training run, complete but for its data and code."""

    corpus: Name = "shakespeare"
    vocabulary: Vocabulary = Vocabulary()
    tokenizer: str | None = None
    """Folder of a Hugging Face tokenizer in the place of `vocabulary`."""
    init_from: str | None = None
    """Folder of a Hugging Face BERT to go on from; it brings `encoder` and `tokenizer` with it."""
    encoder: Encoder = Field(default_factory=lambda: Encoder.model_validate({}))
    objective: Annotated[str, or_plugin(*OBJECTIVES)] = "mlm"
    masking: Masking = Masking()
    attention: Attention = Attention()
    optimizer: Optimizer = Optimizer()
    curve: Curve = Curve()
    sequence_length: Annotated[int, BeforeValidator(whole), Field(ge=2)] = 64
    """The longest that is trained on, and what is evaluated."""
    lengths: Growth | None = None
    """Shorter sequences first: the same text at every step, cut into more of them."""
    stretch: Count | None = None
    """Sequences are made of unrelated stretches of so many tokens."""
    batch_size: Count = 64
    micro_batch: Count | None = None
    """Sequences of a forward pass, where a batch does not fit into memory; changes losses by rounding."""
    budget_tokens: Count = 2_621_440
    log_every_tokens: Count = 40_960
    checkpoints_at: Annotated[
        Annotated[list[Count], Tag("<list>")] | Annotated[Spaced, Tag("<section>")],
        section_or("<list>", Spaced),
    ] = []
    """Tokens after which the weights are kept, for measures over training."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @property
    def tokens_per_step(self) -> int:
        return self.sequence_length * self.batch_size

    @property
    def steps(self) -> int:
        """Whole optimizer steps within the budget."""
        return self.budget_tokens // self.tokens_per_step

    @property
    def curve_steps(self) -> int:
        """Steps between two evaluations."""
        return max(1, self.curve.every_tokens // self.tokens_per_step)

    @property
    def relation(self) -> Literal["nsp", "sop"] | None:
        """What the second of two segments is judged by, if the objective has sentence pairs."""
        for name in RELATIONS:
            if name in self.objective.split("+"):
                return name  # type: ignore[return-value]
        return None

    @property
    def causal(self) -> bool:
        return self.objective == "causal"

    @property
    def corrupts(self) -> bool:
        """Whether the objective has tokens corrupted at all; a plug-in's is taken to."""
        return self.objective not in ("causal", *RELATIONS)

    @property
    def predicts_tokens(self) -> bool:
        """Whether tokens are targets, and not the relation of two segments alone."""
        return self.objective not in RELATIONS

    @property
    def kept_steps(self) -> list[int]:
        """Steps done when weights are kept, ascending; the end of the run is not among them."""
        at = self.checkpoints_at
        if isinstance(at, Spaced):
            ratio = self.budget_tokens / at.first
            at = [round(at.first * ratio ** (k / (at.number - 1))) for k in range(at.number)]
        steps = {math.ceil(tokens / self.tokens_per_step) for tokens in at}
        return sorted(step for step in steps if step < self.steps)

    @property
    def plugins(self) -> dict[str, str]:
        """Key -> path of every plug-in that the run uses."""
        change, window = self.masking.change, self.attention.window
        named = {
            "masking.strategy": self.masking.strategy,
            "masking.change.shape": change and change.shape,
            "optimizer.decay_shape": self.optimizer.decay_shape,
            "lengths.shape": self.lengths and self.lengths.shape,
            "attention.window.shape": window.shape if isinstance(window, Growth) else None,
            "objective": self.objective,
            "encoder.architecture": self.encoder.architecture,
        }
        return {key: path for key, path in named.items() if path and ":" in path}

    @model_validator(mode="wrap")
    @classmethod
    def _of_the_objective(cls, given: Any, validated: Any) -> "Run":
        """What an objective leaves no choice about has one spelling."""
        if isinstance(given, dict) and set(RELATIONS) & set(str(given.get("objective")).split("+")):
            encoder = given.get("encoder", {})
            if isinstance(encoder, dict):
                given = {**given, "encoder": {"segments": True, **encoder}}
        run: Run = validated(given)
        if not run.corrupts:
            # Causal: every token is a target, and none is corrupted; of pairs alone there is none.
            own = Masking(rate=float(run.causal), split=Split(same=1.0))
            predicted = run.masking.predicted if run.causal else 1.0
            run = run.model_copy(update={"masking": own.model_copy(update={"predicted": predicted})})
        return run

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if found := list(self._problems()):
            raise ValueError("; ".join(found))
        return self

    def _targets(self) -> float:
        """Tokens to be predicted in the whole run, at the higher of the rates that it may change between."""
        rate = max(self.masking.rate, (self.masking.change and self.masking.change.rate) or 0.0)
        return rate * self.masking.predicted * self.steps * self.tokens_per_step

    def _problems(self) -> Iterator[str]:
        longest = self.sequence_length
        if longest > self.encoder.max_positions:
            yield (
                f"sequence_length {longest} exceeds encoder.max_positions "
                f"{self.encoder.max_positions}; shorten one or raise the other"
            )
        if self.steps < 1:
            yield (
                f"budget_tokens {self.budget_tokens} is less than one step of sequence_length × batch_size "
                f"= {self.tokens_per_step} tokens; raise it or shrink the batch"
            )
        shortest = self.lengths.values[0] if self.lengths else longest
        if self.masking.unit == "span" and self.masking.span.longest > shortest:
            key = "lengths.values" if self.lengths else "sequence_length"
            yield (
                f"masking.span.longest {self.masking.span.longest} words is longer than {key} {shortest}; "
                "shorten it"
            )
        ends = (self.masking.rate, self.masking.change.rate if self.masking.change else None)
        if 0.0 in ends and self.objective.split("+")[0] == "mlm":
            yield "masking.rate is 0, and nothing would be predicted; give a share above it"
        elif self.predicts_tokens and ":" not in self.objective and 0 < (targets := self._targets()) < 1:
            key = "masking.rate" if targets < self.masking.predicted else "masking.predicted"
            yield (
                f"{key}: of {self.steps * self.tokens_per_step} tokens less than one would be predicted "
                f"({targets:.2g}); raise it"
            )
        planned = self.optimizer.warmup_tokens + self.optimizer.decay_tokens
        if planned > self.budget_tokens:
            yield (
                f"optimizer.warmup_tokens + optimizer.decay_tokens = {planned} exceeds budget_tokens "
                f"{self.budget_tokens}; shorten one"
            )
        if self.lengths:
            if uneven := [value for value in self.lengths.values if longest % value]:
                yield (
                    f"lengths.values {', '.join(map(str, uneven))} do not divide sequence_length {longest}, so "
                    f"the {self.tokens_per_step} tokens of a step do not come out; use divisors of {longest}"
                )
            elif self.lengths.values[-1] != longest:
                yield (
                    f"lengths.values end at {self.lengths.values[-1]}; they end at sequence_length, {longest}"
                )
        parts = {
            "stretch": (self.stretch, "sequence_length", longest),
            "attention.group": (self.attention.group, "sequence_length", longest),
            "micro_batch": (self.micro_batch, "batch_size", self.batch_size),
        }
        for key, (part, name, of) in parts.items():
            if part and of % part:
                yield f"{key} {part} does not divide {name} {of}; use a divisor"
        if isinstance(self.checkpoints_at, list):
            if late := [tokens for tokens in self.checkpoints_at if tokens > self.budget_tokens]:
                yield f"checkpoints_at {late[0]} lies behind budget_tokens {self.budget_tokens}; leave it out"
        elif self.checkpoints_at.first >= self.budget_tokens:
            yield (
                f"checkpoints_at.first {self.checkpoints_at.first} lies behind budget_tokens "
                f"{self.budget_tokens}; begin earlier"
            )
        if self.relation:
            if longest < PAIR_LENGTH:
                yield (
                    f"sequence_length {longest} has no room for [CLS] A [SEP] B [SEP]; give at least "
                    f"{PAIR_LENGTH}"
                )
            if not self.encoder.segments:
                yield f"encoder.segments must be true for objective {self.objective}; leave it out"
            if self.lengths or self.stretch:
                yield (
                    f"objective {self.objective} builds its own sequences, [CLS] A [SEP] B [SEP]; take away "
                    f"{'lengths' if self.lengths else 'stretch'}"
                )

"""What a run is made of: every knob with its unit, default and limits. Loads no torch.

A resolved `Run` holds no name of an experiment or arm and no measure: two arms that ask for
the same training are the same run.
"""

import itertools
import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mlm.yaml_file import Strict

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Ids 0 to 4 of every vocabulary; never selected, never drawn."""
PAD, UNK, CLS, SEP, MASK = range(5)
N_SPECIAL = len(SPECIAL_TOKENS)

SIZES: dict[str, dict[str, int]] = {
    # Turc et al. 2019, "Well-read students learn better" (arXiv 1908.08962), table 1.
    "tiny": {"layers": 2, "width": 128},
    "mini": {"layers": 4, "width": 256},
    "small": {"layers": 4, "width": 512},
    "medium": {"layers": 8, "width": 512},
    "base": {"layers": 12, "width": 768},
}
PRESETS: dict[str, dict[str, Any]] = {
    "bert": {  # Devlin et al. 2018 (arXiv 1810.04805)
        "positions": "learned",
        "query_key_norm": False,
        "norm": "layer",
        "norm_place": "post",
        "activation": "gelu",
        "biases": True,
        "head_transform": True,
        "dropout": 0.1,
    },
    "modern": {  # rotary: Su et al. 2021; query-key norm: Henry et al. 2020; ReLU²: So et al. 2021
        "positions": "rotary",
        "query_key_norm": True,
        "norm": "rms",
        "norm_place": "pre",
        "activation": "relu_squared",
        "biases": False,
        "head_transform": False,
        "dropout": 0.0,
    },
}


def _whole(value: Any) -> Any:
    """Accept 2.5e6 as a count of tokens, refuse 2.5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
CountOrZero = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]

PLUGIN = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
PluginPath = Annotated[str, Field(pattern=PLUGIN)]
"""A Python object of the user's own, `module.of.theirs:name`; see mlm.plugins and docs/plugins.md."""


def _or_plugin(*names: str) -> AfterValidator:
    """One of a few names, or the path of a plug-in."""

    def check(value: str) -> str:
        if value not in names and not re.match(PLUGIN, value):
            raise ValueError(
                f"is {value!r}; choose one of {', '.join(names)}, or give your own as `module.of.yours:name`"
            )
        return value

    return AfterValidator(check)


Shape = Annotated[str, _or_plugin("linear", "cosine", "step")]
Rise = Annotated[str, _or_plugin("linear", "cosine")]


class Split(Strict):
    """How the selected tokens are corrupted, as shares of them: MASK/SAME/RND of BERT's table C.2."""

    mask: Share = 0.0
    same: Share = 0.0
    random: Share = 0.0

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        total = self.mask + self.same + self.random
        if abs(total - 1) > 1e-9:
            raise ValueError(
                f"mask + same + random = {total:g}; the shares of the selected tokens must add up to 1, "
                "for instance {mask: .8, same: .1, random: .1}"
            )
        return self


class Span(Strict):
    """Lengths of spans, in words (Joshi et al. 2020, SpanBERT, arXiv 1907.10529): geometric, clipped."""

    p: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """P(length = k) ∝ (1 - p)^(k - 1); what is longer than `longest` counts as `longest`."""
    longest: Count = 10


class Change(Strict):
    """Where rate and split go while a run trains; what is not given stays."""

    shape: Shape
    rate: Share | None = None
    split: Split | None = None
    at: Share = 0.5
    """Of `step`: the share of the run after which the new values hold."""

    @model_validator(mode="after")
    def _changes(self) -> Self:
        if self.rate is None and self.split is None:
            raise ValueError("changes nothing; give the `rate` or the `split` that the run ends with")
        return self


class Masking(Strict):
    """Which tokens are selected for prediction, and what stands in their place."""

    rate: Share = 0.15
    """Share of the ordinary tokens that is selected; at the beginning, where it changes."""
    selection: Literal["exact", "bernoulli"] = "exact"
    """`exact`: rate × length tokens a row, stochastically rounded; `bernoulli`: independent draws."""
    unit: Literal["token", "word", "span"] = "token"
    """What is selected as a whole: a token, all tokens of a word, or those of a stretch of words."""
    span: Span = Span()
    split: Split = Split(mask=0.8, same=0.1, random=0.1)
    change: Change | None = None
    predicted: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the selected tokens that is predicted; the others are only corrupted."""
    strategy: PluginPath | None = None
    """A function in the place of mlm.masking.corrupt."""

    @model_validator(mode="after")
    def _whole_units(self) -> Self:
        if self.unit != "token" and self.selection == "bernoulli":
            raise ValueError(f"selection: bernoulli draws tokens one by one; with unit: {self.unit} use exact")
        return self


YARDSTICK = Masking(rate=0.15, split=Split(mask=1.0))
"""The corruption under which all arms of all experiments are compared."""


class Vocabulary(Strict):
    """A SentencePiece model of `size` pieces, the five special tokens included."""

    kind: Literal["unigram", "bpe", "char"] = "unigram"
    size: Annotated[int, BeforeValidator(_whole), Field(gt=N_SPECIAL, le=2**31 - 1)] = 2048


class Encoder(Strict):
    """A transformer encoder, spelled out; `preset` and `size` fill in what is not given."""

    architecture: Annotated[str, _or_plugin("transformer")] = "transformer"
    layers: Count
    width: Count
    heads: Count
    feedforward_width: Count
    positions: Literal["learned", "rotary"]
    max_positions: Count = 512
    query_key_norm: bool
    norm: Literal["layer", "rms"]
    norm_place: Literal["pre", "post"]
    activation: Literal["gelu", "relu_squared"]
    biases: bool
    head_transform: bool
    segments: bool = False
    """Embeddings of two segments, and a head that judges how the second goes with the first."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)]

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        explicit = dict(given)
        preset, size = explicit.pop("preset", "modern"), explicit.pop("size", "tiny")
        for key, value, table in (("preset", preset, PRESETS), ("size", size, SIZES)):
            if not isinstance(value, str) or value not in table:
                raise ValueError(f"`{key}` is {value!r}; choose one of {', '.join(table)}")
        full = {**PRESETS[preset], **SIZES[size], **explicit}
        width = full["width"]
        if isinstance(width, int) and width > 0:
            full.setdefault("heads", max(1, width // 64))  # heads of 64, as in all of Turc's sizes
            full.setdefault("feedforward_width", 4 * width)
        return full

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by {self.heads} heads; change one")
        if self.positions == "rotary" and (self.width // self.heads) % 2:
            raise ValueError(
                f"rotary positions need an even head width; width / heads is {self.width // self.heads}"
            )
        return self


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
    path: Literal["eager"] = "eager"
    deterministic: bool = False
    """On CUDA: ask for deterministic kernels. On the CPU they always are."""


class Growth(Strict):
    """A whole quantity that takes a few values one after another while a run trains."""

    shape: Annotated[str, _or_plugin("staged", "linear", "cosine")]
    values: Annotated[list[Count], Field(min_length=2)]
    """Ascending; the last is what the run ends with."""
    ends: list[Share] = []
    """Of `staged`: the share of the run at which each value but the last ends; equal parts unless told."""
    until: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Of the other shapes, rounded down to one of the values: the share at which the last is reached."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if any(a >= b for a, b in itertools.pairwise(self.values)):
            raise ValueError(f"values: {self.values} are not in ascending order; sort them, each once")
        if self.ends and (self.shape != "staged" or len(self.ends) != len(self.values) - 1):
            raise ValueError("ends: go with shape: staged, one for each of the `values` but the last")
        if any(a >= b for a, b in itertools.pairwise(self.ends)):
            raise ValueError(f"ends: {self.ends} are not in ascending order; sort them, each once")
        return self


class Attention(Strict):
    """Which positions a position may attend to; all, unless told. Causal objectives see none to the right."""

    window: Count | Growth | None = None
    """Positions up to half of it away on either side; with a causal objective all of it to the left."""
    group: Count | None = None
    """Only the own group of so many neighbouring positions."""


class Spaced(Strict):
    """Moments in equal ratios, from `first` to the end of the budget."""

    first: Count
    number: Annotated[int, Field(ge=2)]


OBJECTIVES = ("mlm", "causal", "nsp", "sop", "mlm+nsp", "mlm+sop")
RELATIONS = ("nsp", "sop")


class Run(Strict):
    """One training run, complete but for its data and code."""

    corpus: str = "shakespeare"
    vocabulary: Vocabulary = Vocabulary()
    tokenizer: str | None = None
    """Folder of a Hugging Face tokenizer in the place of `vocabulary`."""
    init_from: str | None = None
    """Folder of a Hugging Face BERT to go on from; it brings `encoder` and `tokenizer` with it."""
    encoder: Encoder = Field(default_factory=lambda: Encoder.model_validate({}))
    objective: Annotated[str, _or_plugin(*OBJECTIVES)] = "mlm"
    masking: Masking = Masking()
    attention: Attention = Attention()
    optimizer: Optimizer = Optimizer()
    curve: Curve = Curve()
    sequence_length: Annotated[int, BeforeValidator(_whole), Field(ge=2)] = 64
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
    checkpoints_at: list[Count] | Spaced = []
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

    @model_validator(mode="before")
    @classmethod
    def _of_the_objective(cls, given: Any) -> Any:
        """What an objective leaves no choice about has one spelling."""
        if not isinstance(given, dict) or not isinstance(objective := given.get("objective"), str):
            return given
        masking, encoder = given.get("masking", {}), given.get("encoder", {})
        if objective in ("causal", *RELATIONS) and isinstance(masking, dict):
            kept = {key: value for key, value in masking.items() if key == "predicted"}
            rate = float(objective == "causal")  # every token is a target; of pairs alone, none
            given = {**given, "masking": {"rate": rate, "split": {"same": 1.0}, **kept}}
        if set(RELATIONS) & set(objective.split("+")) and isinstance(encoder, dict):
            given = {**given, "encoder": {"segments": True, **encoder}}
        return given

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if found := list(self._problems()):
            raise ValueError("; ".join(found))
        return self

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
        if self.masking.unit == "span" and self.masking.span.longest > longest:
            yield (
                f"masking.span.longest {self.masking.span.longest} words is longer than sequence_length "
                f"{longest}; shorten it"
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
                    f"lengths.values end at {self.lengths.values[-1]}; they must end at sequence_length {longest}"
                )
        parts = {
            "stretch": (self.stretch, "sequence_length", longest),
            "attention.group": (self.attention.group, "sequence_length", longest),
            "micro_batch": (self.micro_batch, "batch_size", self.batch_size),
        }
        for key, (part, name, whole) in parts.items():
            if part and whole % part:
                yield f"{key} {part} does not divide {name} {whole}; use a divisor"
        if isinstance(self.checkpoints_at, list):
            if late := [tokens for tokens in self.checkpoints_at if tokens > self.budget_tokens]:
                yield f"checkpoints_at {late[0]} lies behind budget_tokens {self.budget_tokens}; leave it out"
        elif self.checkpoints_at.first >= self.budget_tokens:
            yield (
                f"checkpoints_at.first {self.checkpoints_at.first} lies behind budget_tokens "
                f"{self.budget_tokens}; begin earlier"
            )
        if self.relation:
            if not self.encoder.segments:
                yield f"encoder.segments must be true for objective {self.objective}; leave it out"
            if self.lengths or self.stretch:
                yield (
                    f"objective {self.objective} builds its own sequences, [CLS] A [SEP] B [SEP]; take away "
                    f"{'lengths' if self.lengths else 'stretch'}"
                )

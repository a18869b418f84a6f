"""The names of everything that can be measured on a run, so that a contrast can be checked early.

Names read from the general to the special, with the unit last:
`test.yardstick.loss_nats`, `validation.own.random.accuracy`, `probe.layer_2.accuracy`.
"""

import fnmatch
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from mlm import config, schedules

SPLITS = ("validation", "test")
CORRUPTIONS = ("yardstick", "own")
"""`yardstick`: 15 %, all [MASK], the same for every arm; `own`: as the arm was trained."""
KINDS = ("mask", "same", "random")
QUANTITIES = ("loss_nats", "accuracy")
COSTS = ("tokens", "flops", "seconds", "censored")
"""Of reaching a loss; censored is 1 where it was not seen to be reached. Seconds, which differ between
machines, are kept apart."""
OBSERVED = ("begun", "observed_tokens")
"""Beside the costs of coming so far below the unigram entropy: whether a run was past that when first
evaluated, and how many tokens it was looked at for."""
BESIDE = ("untrained", "reference", "count")
"""What the names of values begin with that belong to no arm."""
RESERVED = (
    *SPLITS, *BESIDE, "train", "training", "realised", "probe", "pairs", "finetune", "reach", "corruption",
    "radius", "bits",
)  # fmt: skip
"""First words of names, which a probe of the user's own cannot have."""


BITS_PER_BYTE = "bits.per_byte"
"""What a causal run pays for a text, comparable across vocabularies."""


def reach(loss_nats: float) -> str:
    """What the cost of a loss is called.

    >>> reach(4.40)
    'reach.4.4'
    """
    return f"reach.{loss_nats:g}"


def below_unigram(nats: float) -> str:
    """What the cost of a loss is called that lies so far below the unigram entropy.

    >>> below_unigram(0.5)
    'reach.unigram-0.5'
    """
    return f"reach.unigram-{nats:g}"


def under(arm: str) -> str:
    """What the loss under an arm's corruption is called; the arm is all between the first and the last point.

    >>> under("rate-0.4"), f"{under('rate-0.4')}.loss_nats".partition(".")[2].rpartition(".")[0]
    ('corruption.rate-0.4', 'rate-0.4')
    """
    return f"corruption.{arm}"


def radius(distance: int | None) -> str:
    """What the loss is called where the text beyond a distance is resampled; None where none is.

    >>> radius(8), radius(None)
    ('radius.8', 'radius.all')
    """
    return f"radius.{'all' if distance is None else distance}"


def unknown(told: Iterable[str], names: Iterable[str]) -> list[str]:
    """Those that are not among the names a run can have; `*` stands for what a plug-in alone knows.

    >>> unknown(["mine.depth", "probe.accuracy", "probe.depth"], ["probe.accuracy", "mine.*"])
    ['probe.depth']
    """
    exact = set(names)
    patterns = [one for one in exact if "*" in one]
    return [
        name
        for name in told
        if name not in exact and not any(fnmatch.fnmatchcase(name, one) for one in patterns)
    ]


def known(name: str, names: Iterable[str]) -> bool:
    """Whether a name is among those a run can have, as `unknown` tells."""
    return not unknown([name], names)


def better(measure: str) -> Literal["higher", "lower"]:
    """Which way is good."""
    last = measure.rsplit(".", 1)[-1]
    return "lower" if measure == BITS_PER_BYTE or last in ("loss_nats", *COSTS, *OBSERVED) else "higher"


def flatten(prefix: str, result: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """('test.own', {...}) -> ('test.own.loss_nats', 4.2), ('test.own.mask.loss_nats', 4.6), …"""
    for name, value in result.items():
        if isinstance(value, dict):
            yield from flatten(f"{prefix}.{name}", value)
        else:
            yield f"{prefix}.{name}", value


MOMENTS = 10_000
"""Of a run, at most, that a changing rate is averaged over."""


def corruption(run: config.Run) -> tuple[float, dict[str, float]]:
    """The rate, and what stands at the selected tokens as shares of them, asked for over the whole run."""
    moments = min(run.steps, MOMENTS) if run.masking.change else 1
    asked = [schedules.masking(run.masking, schedules.progress(k, moments)) for k in range(moments)]
    rates = sum(one.rate for one in asked)
    shares = {kind: sum(one.rate * getattr(one.split, kind) for one in asked) for kind in KINDS}
    return rates / moments, {kind: share / rates if rates else 0.0 for kind, share in shares.items()}

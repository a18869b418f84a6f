"""The prompts of the corpus as the arms fill them, for a page: what `mlm.colour` says, as spans."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from analysis import runs
from analysis.study import Study
from mlm import colour

Kind = Literal["right", "wrong", "context"]
KINDS: dict[str, Kind] = {colour.RIGHT: "right", colour.WRONG: "wrong", colour.CONTEXT: "context"}
Prompt = tuple[tuple[Kind, str], ...]
"""Stretches of text, each with what it is."""


@dataclass(frozen=True)
class Fills:
    """The prompts as the first seed of an arm fills them at the end of its training."""

    arm: str
    seed: int
    prompts: tuple[Prompt, ...]
    right: int
    masked: int


def of(study: Study, name: str) -> Iterator[Fills]:
    """The fills of each arm, in order; an arm whose first run has none yet is left out.

    Raises:
        Damaged: a run's metrics.jsonl is not what the run ended with.
    """
    for cell in study.first_cells(name):
        record = runs.run(cell.digest)
        lines = runs.metrics(record) if record else []
        prompts = next((line["prompts"] for line in reversed(lines) if line["event"] == "fills"), None)
        if prompts:
            right, masked = (sum(counts) for counts in zip(*map(colour.score, prompts), strict=True))
            yield Fills(cell.arm, cell.seed, tuple(_spans(prompt) for prompt in prompts), right, masked)


def _spans(prompt: dict[str, Any]) -> Prompt:
    text = colour.coloured(prompt)
    pieces = [(KINDS[str(span.style)], text.plain[span.start : span.end]) for span in text.spans]
    return tuple(
        (kind, "".join(piece for _, piece in some)) for kind, some in groupby(pieces, lambda piece: piece[0])
    )

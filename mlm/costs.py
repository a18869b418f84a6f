"""What a study will cost, reckoned before it starts: seconds of each run, bytes on disk. Loads no torch.

The time of a run follows from its operations and a speed: that of runs of its kind that have ended here; where
there are none, of those most like it among runs with the same numerics; else one that is recorded for this kind
of machine. Every figure is an estimate, and says which of the three it stands on.
"""

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mlm import config, flops, identity, matching
from mlm.config import Numerics, Run
from mlm.layout import RESULTS
from mlm.measured import Measured, kind

Basis = Literal["same", "like", "recorded"]
BASES: dict[Basis, str] = {
    "same": "by runs of the same kind that ended here",
    "like": "by the operations a second of other runs that ended here",
    "recorded": "by a speed recorded for such a machine",
}
KIND = (
    "vocabulary", "tokenizer", "encoder", "objective", "masking", "attention", "sequence_length", "lengths",
    "stretch", "batch_size", "micro_batch",
)  # fmt: skip
"""Keys of a run that decide how long its steps take."""
RECORDED = {
    ("cpu", "bfloat16", "compiled"): 5.8e11,
    ("cpu", "bfloat16", "eager"): 3.0e11,
    ("cpu", "float32", "compiled"): 7.5e10,
    ("cpu", "float32", "eager"): 6.3e10,
    ("cuda", "bfloat16", "compiled"): 2.0e14,
    ("cuda", "bfloat16", "eager"): 2.0e14,
    ("cuda", "float32", "compiled"): 2.0e13,
    ("cuda", "float32", "eager"): 2.0e13,
}
"""Operations a second by (device, dtype, path). Of one core at the size `tiny`: bfloat16 on a Xeon with AMX
(docs/speed.md), float32 on an EPYC without it, other work on all cores. Of CUDA a fifth of an H100's peak in
bfloat16 and a tenth of that in float32, which nobody measured."""
START_SECONDS = 4.0
"""From a job's start to its first step or measure, and what a run does beside its steps."""
CHECK_SECONDS = 1.0
"""A measuring job that finds all taken by the run's training."""
MEASURE_SECONDS = {
    "evaluation": 2.0, "probe": 13.0, "pairs": 3.0, "tasks": 3.0, "finetune": 60.0, "reach": 0.1,
    "corruptions": 3.0, "radius": 3.0, "bits_per_byte": 3.0, "plugins": 3.0,
}  # fmt: skip
"""Of weights once, by the kind of measure: what they take at the scale `laptop`, roughly."""
KEPT_SHARE = {"probe": 0.6}
"""What a measure of weights kept on the way takes, of what it takes at the end: no layer is read by itself."""
COMPILE_SECONDS = 30.0
"""A shape of steps that no run has had yet; seen were 11 to 33, and up to 60 on crowded cores."""
MEASURED = 5
"""Runs of a kind whose measures are looked at: each has some files, and a study may have thousands of runs."""
BESIDE_WEIGHTS_BYTES = 300_000
"""What a run leaves beside its weights: its curve, its measures, its record for Weights & Biases."""


class Seconds(NamedTuple):
    """An estimate, and what it stands on."""

    seconds: float
    basis: Basis


@dataclass
class _Ended:
    """What runs of one kind told."""

    numerics: str
    objective: str
    flops_per_token: float
    speeds: list[float] = field(default_factory=list)
    """Operations a second of training."""
    beside: list[float] = field(default_factory=list)
    """Seconds of a run that were not training."""
    measures: dict[str, list[float]] = field(default_factory=dict)
    """Measure -> seconds for weights once."""


class History:
    """What the runs in results/runs that have ended took, to reckon others by."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Ended] = {}
        for path in sorted((RESULTS / "runs").glob("*/run.json")):
            try:
                self._add(path.parent, json.loads(path.read_bytes()))
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue  # damaged, or of an older version: no estimate stands or falls by one run

    def _add(self, folder: Path, ended: Mapping[str, Any]) -> None:
        record = json.loads((folder / "config.json").read_bytes())
        training, took = record["training"], float(ended["training_seconds"])
        if ended["status"] != "finished" or took <= 0:
            return
        found = self._kinds.setdefault(
            _kind(training, record["numerics"]),
            _Ended(_told(record["numerics"]), training["objective"], ended["flops"] / ended["tokens"]),
        )
        found.speeds.append(ended["flops"] / took)
        # Of a run that was resumed, the seconds from start to end are those of the last start.
        if (beside := ended["wall_seconds"] - took) > 0:
            found.beside.append(beside)
        if len(found.speeds) > MEASURED:
            return
        for path in folder.glob("*-*.json"):
            measure = json.loads(path.read_bytes())
            if "wall_seconds" in measure:
                found.measures.setdefault(measure["measure"], []).append(measure["wall_seconds"])

    def seconds(self, run: Run, numerics: Numerics) -> Seconds:
        """From the start of a run's training to its end, on a core or a GPU for each of its processes."""
        operations = operations_of(run)
        same = self._kinds.get(_kind(run.model_dump(), numerics.model_dump()))
        if same is not None:
            beside = statistics.median(same.beside) if same.beside else START_SECONDS
            return Seconds(operations / statistics.median(same.speeds) + beside, "same")
        if like := self._most_like(run, numerics, operations / run.budget_tokens):
            return Seconds(operations / statistics.median(like.speeds) + START_SECONDS, "like")
        speed = RECORDED[numerics.device, numerics.dtype, numerics.path] * numerics.processes
        return Seconds(operations / speed + START_SECONDS, "recorded")

    def _most_like(self, run: Run, numerics: Numerics, flops_per_token: float) -> _Ended | None:
        """Of the runs with the same numerics those of the same objective, then of the nearest size."""
        same = _told(numerics.model_dump())

        def apart(one: _Ended) -> tuple[bool, float]:
            return one.objective != run.objective, abs(math.log(one.flops_per_token / flops_per_token))

        return min((one for one in self._kinds.values() if one.numerics == same), key=apart, default=None)

    def measuring(
        self,
        taken: Iterable[Measured],
        run: Run,
        numerics: Numerics,
        trained: bool = True,
        loaded: bool = False,
    ) -> float:
        """Seconds that measures take of a run, or of its encoder before the first step; 0 of none.

        Args:
            loaded: whether they are taken by the process that trains the run.
        """
        same = self._kinds.get(_kind(run.model_dump(), numerics.model_dump()))
        seconds = 0.0
        for one in taken:
            told = same.measures.get(one.name) if same else None
            once = statistics.median(told) if told else MEASURE_SECONDS[kind(one.name)]
            kept = len(run.kept_steps) if one.over_training and trained else 0
            seconds += once * (1 + kept * KEPT_SHARE.get(kind(one.name), 1.0))
        return seconds + (CHECK_SECONDS if loaded else START_SECONDS) if seconds else 0.0


def _told(numerics: Mapping[str, Any]) -> str:
    stated = [numerics[key] for key in ("device", "dtype", "path")]
    return identity.digest([*stated, numerics.get("processes", 1)])


def _kind(training: Mapping[str, Any], numerics: Mapping[str, Any]) -> str:
    return identity.digest([{key: training[key] for key in KIND}, _told(numerics)])


def operations_of(run: Run) -> int:
    """Floating-point operations of a run."""
    return flops.of_run(run, matching.pieces(run))


def parameters(encoder: config.Encoder, pieces: int) -> int:
    """Of the encoder's matrices and embeddings; biases and norms are small beside them."""
    width, inner = encoder.width, encoder.feedforward_width
    found = encoder.layers * (4 * width * width + 2 * width * inner) + pieces * width
    found += width * width if encoder.head_transform else 0
    return found + (encoder.max_positions * width if encoder.positions == "learned" else 0)


def disk_bytes(run: Run) -> int:
    """What a finished run leaves: float32 weights at the end and at the moments that it keeps, and the rest."""
    weights = 4 * parameters(run.encoder, matching.pieces(run))
    return weights * (1 + len(run.kept_steps)) + BESIDE_WEIGHTS_BYTES

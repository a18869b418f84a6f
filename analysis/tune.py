"""Which of the learning rates that were tried suits each arm: a table, with a flag where the edge is best."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from analysis import outputs, tidy
from analysis.study import Experiment, Study
from mlm import measures
from mlm.errors import InputError


class Row(NamedTuple):
    """An arm at a learning rate."""

    arm: str
    learning_rate: float
    n: int
    """Seeds with a value: a run that diverged has none."""
    mean: float
    """Of the measure over the seeds; empty in the file unless all of them have a value."""
    sd: float
    best: bool
    edge: bool
    """It is the lowest or highest that was tried: a better one may lie beyond."""


def rows(experiment: Experiment, collected: tidy.Collected, seeds: int) -> Iterator[Row]:
    """Every arm at every rate, in the order of the file.

    Only rates at which no seed diverged can be the best.
    """
    tried: dict[str, dict[float, str]] = {}
    for name, (arm, rate) in experiment.tried.items():
        tried.setdefault(arm, {})[rate] = name
    lower = measures.better(experiment.primary_measure) == "lower"
    for arm, names in tried.items():
        found = {
            rate: collected.values(name, experiment.primary_measure).dropna() for rate, name in names.items()
        }
        whole = {rate: float(values.mean()) for rate, values in found.items() if len(values) == seeds}
        best = (min if lower else max)(sorted(whole), key=lambda rate: whole[rate], default=None)
        for rate, values in found.items():
            mean = whole.get(rate, float("nan"))
            edge = rate in (min(names), max(names))
            yield Row(arm, rate, len(values), mean, float(values.std()), rate == best, rate == best and edge)


def write(study: Study, name: str) -> list[str]:
    """Write an experiment's trials as CSV.

    Returns:
        What a person should know: the best rate of each arm, and where it lies at the edge.

    Raises:
        InputError: trials are not finished, so that the best rate may be one of theirs.
    """
    experiment, collected = study.experiment(name), tidy.load(study.scale, name)
    if collected.partial:
        again = f"`snakemake --cores all --config scale={study.scale} {name}`"
        raise InputError(f"{name}: not all of its trials are finished and measured; run {again}")
    found = list(rows(experiment, collected, len(study.seeds(name))))
    tidy.write_csv(Path(outputs.files("tune", study.scale, name)[0]), found, Row._fields)
    said = []
    for row in found:
        if row.best:
            edge = "; the edge of what was tried: try further" if row.edge else ""
            said.append(f"{row.arm}: {row.learning_rate:g} ({row.mean:.3f}){edge}")
    if none := [arm for arm in dict.fromkeys(row.arm for row in found) if not _has_best(found, arm)]:
        said += [f"{arm}: no rate at which every seed has a value" for arm in none]
    return said


def _has_best(found: list[Row], arm: str) -> bool:
    return any(row.best for row in found if row.arm == arm)

"""Which of the learning rates that were tried suits each arm, as table and figure; an edge is flagged."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from analysis import figure_rates, labels, marks, outputs, provenance, style, tidy
from analysis.study import Experiment, Study
from mlm import layout, measures
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
    """Write an experiment's trials as CSV and as a figure.

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
    provenance.forget("tune", study.scale, name)
    wrote = outputs.files("tune", study.scale, name)
    tidy.write_csv(Path(wrote[0]), found, Row._fields)
    with style.applied():
        figure = figure_rates.draw(experiment, collected, found)
        style.mark(figure, marks.of(study, collected))
        style.save(figure, layout.figures(study.scale, name), "rates")
    *read, _ = outputs.results(study.scale, name)  # there are no contrasts
    provenance.write("tune", study.scale, name, study=study.stated(name), read=read, wrote=wrote)
    return list(said(found))


def said(rows: Sequence[Row]) -> Iterator[str]:
    """The best rate of each arm in words, and where it lies at the edge of what was tried."""
    for arm in dict.fromkeys(row.arm for row in rows):
        best = next((row for row in rows if row.arm == arm and row.best), None)
        if best is None:
            yield f"{labels.arm(arm)}: no rate at which every seed has a value"
        else:
            edge = "; the edge of what was tried: try further" if best.edge else ""
            yield f"{labels.arm(arm)}: {best.learning_rate:g} ({best.mean:.3f}){edge}"

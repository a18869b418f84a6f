"""Before anything is spent: what an experiment's contrasts could show, by the spread that its pilot saw.

A pilot trains the arms that are compared on seeds that no contrast uses (`pilot:` in the experiment file), so
its pairs say how far pairs of seeds spread, and nothing of them is tested. Five seeds know a spread no better
than to a factor of two: every figure stands beside what it is at the ends of the spread's 95 % interval.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table
from scipy import stats

from analysis import labels, paired, power, tidy
from analysis.study import Contrast
from mlm import layout, planner, study
from mlm.errors import InputError
from mlm.experiment import LEAST_PILOT_SEEDS, MOST_SEEDS, PILOT

DASH = "–"


def spread(differences: NDArray[np.float64]) -> tuple[float, float, float]:
    """Standard deviation and the ends of its 95 % interval.

    Of normal differences (n - 1) sd² / σ² is χ² with n - 1 degrees of freedom.

    >>> [round(sd, 4) for sd in spread(np.array([0.01, 0.02, 0.03, 0.04, 0.05]))]
    [0.0158, 0.0095, 0.0454]

    Args:
        differences: [n], n >= 2.
    """
    free = len(differences) - 1
    sd = float(differences.std(ddof=1))
    low, high = (sd * math.sqrt(free / float(stats.chi2.ppf(p, free))) for p in (0.975, 0.025))
    return sd, low, high


class Row(NamedTuple):
    """A contrast, and how far its pairs spread."""

    contrast: Contrast
    family: int
    """Contrasts that Holm's correction runs over."""
    pilot: int
    """Pairs of the pilot that have the measure."""
    planned: int
    """Pairs that the experiment asks for."""
    spread: tuple[float, float, float] | None
    """As of `spread`; None where the pilot has too few pairs, or those do not differ at all."""
    primary: bool
    """Whether it is about the primary measure, whose unit a difference that is asked about has."""
    note: str
    """Which runs of the pilot are missing from its pairs, or count only up to somewhere."""


def rows(scale: str, name: str) -> list[Row]:
    """Every contrast of an experiment as it is stated now, by its pilot.

    Raises:
        InputError: there is no such experiment, it has no pilot, or that has not run or is of other runs.
    """
    planned = planner.load_study(scale, [name])
    experiment = planned.experiments[name]
    collected = _collected(planned, name)
    stated = [Contrast.model_validate(row) for row in planned.contrast_rows(name)]
    n = len({cell.seed for cell in planned.cells if cell.experiment == name})
    assert experiment.pilot is not None
    found = []
    for contrast in stated:
        compared = paired.of(contrast, collected)
        differences = compared.tested
        pairs = len(differences)
        told = spread(differences) if pairs >= LEAST_PILOT_SEEDS and np.ptp(differences) > 0 else None
        family = sum(other.family == contrast.family for other in stated)
        note = paired.note(contrast, collected, compared)
        found.append(
            Row(contrast, family, pairs, n, told, contrast.measure == experiment.primary_measure, note)
        )
    return found


def _collected(planned: study.Study, name: str) -> tidy.Collected:
    """The results of an experiment's pilot, which must be those of the runs that are planned now."""
    scale, pilot = planned.scale_name, name + PILOT
    again = f"run `snakemake --cores all --config scale={scale} {pilot}`"
    if planned.experiments[name].pilot is None:
        raise InputError(
            f"{layout.EXPERIMENTS / name}.yaml: pilot: is not there; give {LEAST_PILOT_SEEDS} seeds or more "
            f"that no contrast uses, for instance `pilot: [200, 201, 202, 203, 204]`, and {again}"
        )
    digests = {(cell.arm, cell.seed): cell.digest for cell in planned.cells if cell.experiment == pilot}
    if not (layout.tables(scale, pilot) / "collected.json").exists():
        raise InputError(f"{pilot}: its {len(digests)} runs have not been made; {again}")
    collected = tidy.load(scale, pilot)
    r = collected.trained
    found = {(str(arm), int(seed)): run for arm, seed, run in zip(r["arm"], r["seed"], r["run"], strict=True)}
    if found != digests:
        raise InputError(f"{pilot}: its results are not of the runs that are planned now; {again}")
    if collected.partial:
        raise InputError(f"{pilot}: not all of its {len(digests)} runs are finished and measured; {again}")
    return collected


def table(found: list[Row], name: str, difference: float | None) -> Table:
    """The rows as a person sees them.

    Args:
        difference: in the unit of the primary measure, and of contrasts in that alone: its power and the seeds
            it needs are told. Above 0.
    """
    planned = found[0].planned
    shown = Table(title=f"{name}: {planned} pairs are planned", title_justify="left", box=box.SIMPLE_HEAD)
    shown.add_column("contrast")
    for heading in ("pilot", "SD", "detectable", "asked for", "power", "seeds needed"):
        shown.add_column(heading, justify="right")
    for row in found:
        shown.add_row(*_cells(row, difference))
    return shown


EXPLAINED = (
    "pilot: pairs of seeds, none of them used again. SD: of a paired difference. detectable: the smallest "
    "difference (of an equivalence, the smallest margin where there is no difference) that the planned pairs "
    "show with a power of .8. In brackets: the same at the ends of the SD's 95 % interval. Simulated: normal "
    "differences, the exact sign-flip test at the level .05, the first step of Holm's correction."
)


def _cells(row: Row, difference: float | None) -> Iterator[str]:
    contrast, equivalence = row.contrast, row.contrast.margin is not None
    other = difference is not None and not equivalence and not row.primary
    told = [
        labels.measure(contrast.measure),
        f"{contrast.family}, {row.family} in the family" if row.family > 1 else contrast.family,
        *(["--difference is of the primary measure"] if other else []),
        *([row.note] if row.note else []),
    ]
    yield f"{labels.arm(contrast.arm)} − {labels.arm(contrast.against)}\n[dim]{'; '.join(told)}[/]"
    yield str(row.pilot)
    if row.spread is None:
        yield from (DASH,) * 5
        return
    digits = labels.digits(contrast.measure)
    smallest = power.detectable(row.planned, row.family, equivalence)
    yield _beside([labels.number(sd, digits and digits + 1) for sd in row.spread])
    yield (
        _beside([labels.number(smallest * sd, digits) for sd in row.spread])
        if smallest < math.inf
        else "nothing"
    )
    effect = contrast.margin or (None if other else difference)
    if effect is None:
        yield from (DASH,) * 3
        return
    yield f"within ±{effect:g}" if equivalence else f"{effect:g}"
    asked = [(effect / sd, row.family, equivalence) for sd in row.spread]
    yield _beside([f"{power.power(e, row.planned, family, eq):.2f}" for e, family, eq in asked])
    yield _beside([str(power.seeds_needed(*one) or f"> {MOST_SEEDS}") for one in asked])


def _beside(told: list[str]) -> str:
    """A figure, and in brackets what it is at the ends of the spread's interval."""
    return told[0] if len({*told}) == 1 else f"{told[0]} ({told[1]} to {told[2]})"

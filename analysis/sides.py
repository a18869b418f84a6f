"""A study to set beside another: one of this folder, of another folder, or one that is published.

All three have contrasts.csv and table.csv of each experiment, and what is or would be published of its runs.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis import outputs, publish, publish_page, published_runs, setup, study, tidy
from analysis.published_runs import Reference
from mlm import layout, scales
from mlm.errors import Damaged, InputError
from mlm.projection_study import WORDS

TEXT = (*WORDS, "row", "kind", "reached")


@dataclass(frozen=True)
class Part:
    """An experiment of a study."""

    contrasts: pd.DataFrame
    """contrasts.csv"""
    table: pd.DataFrame
    """table.csv"""
    told: dict[str, str]
    """What, and its value: code, commits, machine, numerics, versions, seeds, marks."""
    runs: Reference | None
    """None where an older version published it."""


@dataclass(frozen=True)
class Side:
    """A study: a name for people, and its experiments that have tables."""

    name: str
    experiments: dict[str, Part]


def load(name: str) -> Side:
    """A study by the name of its scale, its folder (elsewhere/results/laptop), or where it is published.

    Raises:
        InputError: there is none, or it has no tables yet.
    """
    place = Path(name)
    if (
        "/" not in name
        and not layout.study_file(name).exists()
        and not list(place.glob(f"*/{publish_page.FACTS}"))
    ):
        there = ", ".join(scales.begun()) or "none"
        raise InputError(
            f"{name}: no study of this name; give a scale that was run here ({there}), a folder such as "
            "elsewhere/results/laptop, or a published one such as docs/results/laptop"
        )
    if layout.study_file(name).exists():
        place = layout.study_file(name).parent
    if (place / "study.json").exists():
        return Side(name, _results(place))
    published = [one for one in publish_page.read(place) if one.tested]
    if not published:
        raise InputError(
            f"{place}: no study: it has neither a study.json, as results/SCALE has, nor experiments with a "
            f"{publish_page.FACTS}, as docs/results/SCALE has"
        )
    return Side(
        name, {one.facts.experiment: _published(place / one.facts.experiment, one) for one in published}
    )


def _results(place: Path) -> dict[str, Part]:
    """Of a scale's folder under results/, here or elsewhere."""
    top, scale = _root(place.absolute())
    with contextlib.chdir(top):
        planned = study.load(scale)
        found = {
            name: _experiment(planned, name)
            for name, one in planned.experiments.items()
            if not one.tried and all(Path(path).exists() for path in _tables(scale, name))
        }
    if not found:
        raise InputError(
            f"{place}: no experiment has tables yet; `snakemake --cores all --config scale={scale}` makes "
            f"them, and `python -m analysis partial {scale}` those of what there is"
        )
    return found


def _root(place: Path) -> tuple[Path, str]:
    """The root of a study and the name of the scale, from results/laptop or results/laptop/partial."""
    for parent in place.parents:
        if parent.name == layout.RESULTS.name:
            return parent.parent, place.relative_to(parent).as_posix()
    raise InputError(
        f"{place}: a study's folder lies in one called {layout.RESULTS}; put it back, or name another"
    )


def _tables(scale: str, name: str) -> list[str]:
    return [
        path for command in ("collect", "contrasts", "table") for path in outputs.files(command, scale, name)
    ]


def _experiment(planned: study.Study, name: str) -> Part:
    """Of the study in the current folder."""
    place, collected = layout.tables(planned.scale, name), tidy.load(planned.scale, name)
    runs = published_runs.of(planned, name)
    ended = setup.ended(planned, name)
    devices = {one.device for one in ended}
    seeds = planned.seeds(name)
    told = {
        "training code": str(collected.code or "none yet"),
        "commits": ", ".join(sorted({publish.commit(one.git) for one in ended})) or "none yet",
        "machine": _machine(runs, " or ".join(sorted(devices)) or "none yet"),
        "seeds": " ".join(map(str, seeds)),
        "state": "partial" if collected.partial else "complete",
    }
    return Part(table(place / "contrasts.csv"), table(place / "table.csv"), told, runs)


def _published(place: Path, one: publish_page.Published) -> Part:
    runs = published_runs.load(place)
    told = {
        "training code": one.facts.code,
        "commits": ", ".join(sorted(one.commits)),
        "machine": _machine(runs, one.facts.machine) if runs else one.facts.machine,
        "seeds": " ".join(map(str, one.seeds)),
        "state": "complete",
    }
    return Part(table(place / "contrasts.csv"), table(place / "table.csv"), told, runs)


def _machine(runs: Reference, device: str) -> str:
    n, torch = runs.numerics, runs.versions.get("torch", "of several versions")
    words = f"{device.partition(',')[0]}, {n['dtype']}, {n['path']}, torch {torch}"
    return f"{words}; {runs.machine or 'processor not recorded'}"


def table(path: Path) -> pd.DataFrame:
    """A table as it was written: empty numbers are NaN, and an arm may be called NA."""
    remedy = "make it again, or restore it"
    try:
        head = pd.read_csv(path, nrows=0).columns
        text = [name for name in TEXT if name in head]
        numbers = [name for name in head if name not in text]
        return pd.read_csv(
            path,
            dtype=dict.fromkeys(text, str) | dict.fromkeys(numbers, float),
            keep_default_na=False,
            na_values={name: [""] for name in numbers},
        )
    except (OSError, ValueError) as error:
        raise Damaged(f"{path}: missing or damaged ({error}); {remedy}") from None

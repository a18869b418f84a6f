"""results/<scale>/study.json -> the study as the analysis sees it: experiments, contrasts, index."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mlm import identity, layout, scales
from mlm.errors import Damaged, InputError
from mlm.experiment import Family
from mlm.figures import Figures
from mlm.files import read_json


class _Record(BaseModel):
    """Read from a file that this project wrote: keys may be added, none may be missing."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Contrast(_Record):
    """An arm against another on one measure, stated before the runs."""

    family: Family
    arm: str
    against: str
    measure: str
    expect: Literal["higher", "lower", "differ"] | None = None
    margin: float | None = None
    """Equivalences only: |arm - against| is claimed to be below it, in the measure's unit."""


class Change(_Record):
    """A change of the code's bits that was accepted: runs of these arms keep the names they had before."""

    why: str
    arms: tuple[str, ...]


class Experiment(_Record):
    """What an experiment file states, with defaults filled in."""

    title: str
    question: str
    claim: str
    reference: str
    baseline: str
    primary_measure: str
    arms: tuple[str, ...]
    measures: dict[str, tuple[str, ...]]
    """Arm -> every value that is measured of its runs; `name.*` where a plug-in names them."""
    measure_files: dict[str, str]
    """Measure -> file name inside a run's folder."""
    untrained_files: dict[str, str]
    """The same, of those that are taken of the encoder before its first step."""
    contrasts: tuple[Contrast, ...]
    tried: dict[str, tuple[str, float]] = {}
    """Of trials of learning rates: arm -> the arm that is tried, and its rate."""
    figures: Figures = []
    """Those made for its question."""
    cost: str = ""
    """As its file has it."""
    accepted: tuple[Change, ...] = ()


class Cell(_Record):
    """Which run an experiment's arm and seed came to."""

    experiment: str
    arm: str
    seed: int
    digest: str
    untrained: str


class Study(_Record):
    """Everything a scale compares."""

    scale: str
    evidence: bool
    """False: a smoke run, whose outputs are marked as no evidence."""
    named: tuple[str, ...] = ()
    """Experiments that the scale runs unless told otherwise."""
    experiments: dict[str, Experiment]
    index: tuple[Cell, ...]

    def experiment(self, name: str) -> Experiment:
        """An experiment by name.

        Raises:
            InputError: there is none of this name.
        """
        if name not in self.experiments:
            there = ", ".join(self.experiments) or "none"
            raise InputError(
                f"{layout.study_file(self.scale)}: experiments: no experiment is called {name!r}; "
                f"there are: {there}"
            )
        return self.experiments[name]

    def cells(self, name: str) -> list[Cell]:
        """The cells of an experiment, by arm in the order of its file, then by seed."""
        arms = self.experiment(name).arms
        mine = [cell for cell in self.index if cell.experiment == name]
        return sorted(mine, key=lambda cell: (arms.index(cell.arm), cell.seed))

    def first_cells(self, name: str) -> list[Cell]:
        """Of each arm the cell of its first seed, by arm in the order of its file."""
        first = {cell.arm: cell for cell in reversed(self.cells(name))}
        return [first[arm] for arm in self.experiment(name).arms if arm in first]

    def stated(self, name: str) -> str:
        """Digest of what the study says of an experiment: evidence or not, arms, contrasts, measures, runs."""
        cells = [cell.model_dump() for cell in self.index if cell.experiment == name]
        return identity.digest([self.evidence, self.experiment(name).model_dump(mode="json"), cells])

    def seeds(self, name: str) -> list[int]:
        """The experiment's seeds, in order."""
        return sorted({cell.seed for cell in self.cells(name)})


def load(scale: str) -> Study:
    """The study of a scale.

    Raises:
        InputError: no such study, or its file is damaged.
    """
    path = layout.study_file(scale)
    if not path.exists():
        raise InputError(f"{path}: missing; {scales.not_begun(scale)}")
    content = read_json(path, "delete it and plan the study again")
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        raise Damaged(*(f"{path}: {problem}; plan the study again" for problem in problems(error))) from None
    _check(path, study)
    return study


def problems(error: ValidationError) -> list[str]:
    """`key: what is wrong` for each problem pydantic found."""
    return [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]


def _check(path: Path, study: Study) -> None:
    found = []
    for name, experiment in study.experiments.items():
        stated = [(c.family == "equivalence", c.arm, c.against, c.measure) for c in experiment.contrasts]
        for row in dict.fromkeys(row for row in stated if stated.count(row) > 1):
            found.append(
                f"experiments/{name}.yaml: contrasts: {row[1]} against {row[2]} on {row[3]} is stated twice; "
                "remove one"
            )
        for contrast in experiment.contrasts:
            found += [
                f"{path}: experiments.{name}.contrasts: no arm is called {arm!r}; plan the study again"
                for arm in (contrast.arm, contrast.against)
                if arm not in experiment.arms
            ]
            if (contrast.family == "equivalence") != (contrast.margin is not None):
                found.append(
                    f"{path}: experiments.{name}.contrasts: {contrast.arm}: a margin belongs to equivalences; "
                    "plan the study again"
                )
    known = {(name, arm) for name, e in study.experiments.items() for arm in e.arms}
    for cell in study.index:
        if (cell.experiment, cell.arm) not in known:
            found.append(f"{path}: index: {cell.experiment} has no arm {cell.arm!r}; plan the study again")
    if found:
        raise InputError(*found)
